// What was released stays as it was, and what the library has to have for it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { installed, statements } from '../cluster/installation.mjs';
import { changelog, current, frozen, released, root, upgrades } from './releases.mjs';

const machine = installed(process.env.PG ?? '15');
const list = join(root, 'sql', 'releases', 'SHA256SUMS');
const lines = (text) => text.split('\n').filter(Boolean);
/** Whoever owns the files. */
const SAFE = ['-c', 'safe.directory=*'];
const run = (program, ...args) => {
  const done = spawnSync(program, args, { cwd: root, encoding: 'utf8', maxBuffer: 1e8 });
  assert.equal(done.status, 0, `${program}: ${done.error ?? done.stderr}`);
  return done.stdout;
};

test('the versions that the changelog declares are those that are frozen', () => {
  const declared = [...changelog.matchAll(/^## (\d\S*)/gm)].map(([, version]) => version);
  assert.deepEqual([...released].reverse(), declared);
});

test('the scripts of a version that was released do not change', () => {
  const scripts = Object.fromEntries([
    ...Object.entries(frozen).map(([version, sql]) => [`releases/supabase_pat--${version}.sql`, sql]),
    ...Object.entries(upgrades).map(([versions, sql]) => [`supabase_pat--${versions}.sql`, sql])
      .filter(([file]) => released.some((version) => file.endsWith(`--${version}.sql`))),
  ]);
  const sums = Object.entries(scripts).map(([file, sql]) => `${createHash('sha256').update(sql).digest('hex')}  ${file}`);
  assert.deepEqual(sums.sort(), existsSync(list) ? lines(readFileSync(list, 'utf8')).sort() : []);
});

test('nor do they together with their checksums: a tag remembers', (t) => {
  const tags = existsSync(join(root, '.git')) ? lines(run('git', ...SAFE, 'tag', '--list', 'v*')) : [];
  if (tags.length === 0) {
    t.skip('there are no tags here');
    return;
  }
  const now = existsSync(list) ? lines(readFileSync(list, 'utf8')) : [];
  for (const tag of tags) {
    assert.ok(released.includes(tag.slice(1)), `${tag} is not frozen`);
    const then = lines(run('git', ...SAFE, 'show', `${tag}:sql/releases/SHA256SUMS`));
    assert.deepEqual(then.filter((line) => !now.includes(line)), [], tag);
  }
});

test('a version that was released is what the sources make, until they make the next', (t) => {
  if (!released.includes(current)) {
    t.skip(`${current} has not been released`);
    return;
  }
  const made = statements(readFileSync(machine.script(current), 'utf8'));
  const was = statements(frozen[current]);
  const without = (some, others) => some.filter((statement) => !others.includes(statement));
  assert.deepEqual({ new: without(made, was), gone: without(was, made) }, { new: [], gone: [] },
    `the SQL has changed since ${current} was released: raise the version in Cargo.toml, and write sql/supabase_pat--${current}--….sql`);
});

test('every script in sql that is named for a version leads from one to another, and is installed as it is', () => {
  for (const [versions, sql] of Object.entries(upgrades)) {
    assert.match(versions, /^[^-]+--[^-]+$/, 'cargo pgrx installs no others');
    assert.equal(readFileSync(machine.upgrade(...versions.split('--')), 'utf8'), sql, versions);
  }
});

test('the library has every function that a script names, those of old versions too', () => {
  const exported = new Set(lines(run('nm', '--dynamic', '--defined-only', '--format=just-symbols', machine.library)));
  const scripts = { ...frozen, ...upgrades, [`${current}, as it is made`]: readFileSync(machine.script(current), 'utf8') };
  for (const [versions, sql] of Object.entries(scripts)) {
    const named = [...sql.matchAll(/'MODULE_PATHNAME'\s*,\s*'(\w+)'/g)].map(([, symbol]) => symbol);
    if (!versions.includes('--')) assert.ok(named.length > 40, `${versions} names ${named.length} functions`);
    const missing = named.filter((symbol) => !exported.has(symbol) || !exported.has(`pg_finfo_${symbol}`));
    assert.deepEqual(missing, [], `the library lacks functions of ${versions}: keep them, as long as there are databases of that version`);
  }
});
