// Which module may use which: the block under "Directions" in CONTRIBUTING.md says it, and here it is compared with the
// sources. A line names a module and those that it may use.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The directions of a page: from each module to those that it may use, lowest first. */
function directions(page) {
  const [, block] = page.match(/^#+ Directions\n[^]*?^```\w*\n([^]*?)^```/m);
  return new Map(block.trim().split('\n').map((line) => {
    const [, name, used] = line.match(/^(\w+): *(.*)$/);
    return [name, used.split(' ').filter(Boolean)];
  }));
}

/** The modules that a Rust source uses, by `crate::` or `super::` from a folder's top. Comments may name any. */
const usesOf = (source) => new Set(source.replace(/^\s*\/\/.*$/gm, '')
  .match(/\bcrate::(?:\{[^}]*\}|\w+)/g)?.flatMap((use) => use.slice('crate::'.length).match(/\w+/g)) ?? []);

/** What is against the directions, each as "file uses module". `files` are paths below `src` with their sources. */
function violations(allowed, files) {
  return files.flatMap(([path, source]) => {
    const name = path.split('/')[0].replace(/\.rs$/, '');
    const may = allowed.get(name);
    if (!may) return [`${path} is of no module that has a direction`];
    return [...usesOf(source)].filter((used) => used !== name && allowed.has(used) && !may.includes(used)).map((used) => `${path} uses ${used}`);
  });
}

const page = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');
const sources = readdirSync(join(root, 'src'), { recursive: true })
  .filter((path) => path.endsWith('.rs') && path !== 'lib.rs')
  .map((path) => [path.replaceAll('\\', '/'), readFileSync(join(root, 'src', path), 'utf8')]);

test('no module uses one that stands above it', () => {
  const allowed = directions(page);
  assert.ok(sources.length > 50, `${sources.length} sources`);
  assert.deepEqual(violations(allowed, sources), []);
});

test('the directions have no circle: each module uses only what is written above it', () => {
  const above = new Set(['core']);
  for (const [name, used] of directions(page)) {
    for (const other of used) assert.ok(above.has(other), `${name} uses ${other}, which is not above it`);
    above.add(name);
  }
});

test('what is written as a direction is used', () => {
  const uses = new Map();
  for (const [path, source] of sources) {
    const name = path.split('/')[0].replace(/\.rs$/, '');
    uses.set(name, new Set([...(uses.get(name) ?? []), ...usesOf(source), ...(source.includes('supabase_pat_core') ? ['core'] : [])]));
  }
  for (const [name, used] of directions(page)) {
    for (const other of used) assert.ok(uses.get(name)?.has(other), `${name} does not use ${other}`);
  }
});

test('the core knows no Postgres', () => {
  const manifest = readFileSync(join(root, 'crates/core/Cargo.toml'), 'utf8');
  assert.doesNotMatch(manifest, /pgrx/);
});

test('a use upwards is found, in whatever form', () => {
  const allowed = new Map([['pg', ['core']], ['users', ['core', 'pg']]]);
  assert.deepEqual(violations(allowed, [['pg/scan.rs', '// crate::users\nuse crate::users::state;']]), ['pg/scan.rs uses users']);
  assert.deepEqual(violations(allowed, [['pg/scan.rs', 'fn f() { crate::users::lock() }']]), ['pg/scan.rs uses users']);
  assert.deepEqual(violations(allowed, [['pg/scan.rs', 'use crate::{pg::scan, users};']]), ['pg/scan.rs uses users']);
  assert.deepEqual(violations(allowed, [['new.rs', '']]), ['new.rs is of no module that has a direction']);
  assert.deepEqual(violations(allowed, [['users/mod.rs', 'use crate::pg::scan;']]), []);
});

test('each guard of pgrx\'s has room to carry an error of Postgres\'s out of it, or ends its process anyway', () => {
  // What is called while the server starts, while settings are read, and in processes of our own.
  const OTHERS = ['lib.rs', 'gate/worker.rs', 'pg/settings.rs', 'pg/guc.rs', 'gate/row_errors.rs'];
  let count = 0;
  for (const [path, source] of sources) {
    if (OTHERS.includes(path)) continue;
    for (const [, , name, body] of source.matchAll(/^( *)#\[(?:pgrx::)?pg_guard\]\n[^{;]*?\bfn (\S+?)\([^{]*\{\n([\s\S]*?\n)\1\}\n/gm)) {
      assert.match(body, /with_room\(|reported\(/, `${path}: ${name}`);
      count += 1;
    }
  }
  assert.ok(count >= 10, `${count} guards`);
});
