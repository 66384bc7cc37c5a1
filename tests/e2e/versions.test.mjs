// One version, wherever it is written.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const read = (file) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
const version = read('Cargo.toml').match(/^\[workspace\.package\]\nversion = "(.*)"$/m)[1];
const meta = JSON.parse(read('META.json'));

test('PGXN\'s META.json has the version of Cargo.toml', () => {
  assert.equal(meta.version, version);
  assert.deepEqual(Object.entries(meta.provides).map(([name, provided]) => [name, provided.version]), [['supabase_pat', version]]);
});

test('META.json names files that are there', () => {
  for (const { file, docfile } of Object.values(meta.provides)) {
    assert.ok(read(file) && read(docfile));
  }
});

test('META.json has the licence of Cargo.toml, and requires the oldest Postgres that can be built for', () => {
  const cargo = read('Cargo.toml');
  assert.equal(meta.license, cargo.match(/^license = "(.*)"$/m)[1].toLowerCase());
  const oldest = Math.min(...[...cargo.matchAll(/^pg(\d+) = /gm)].map(([, major]) => Number(major)));
  assert.equal(meta.prereqs.runtime.requires.PostgreSQL, `${oldest}.0.0`);
});

// https://pgxn.org/meta/spec.txt. What PGXN itself reads it with runs in `make release-check`.
test('META.json is what the specification of PGXN asks for', () => {
  const required = ['name', 'abstract', 'version', 'maintainer', 'license', 'provides', 'meta-spec'];
  const optional = ['description', 'generated_by', 'tags', 'no_index', 'prereqs', 'release_status', 'resources'];
  assert.deepEqual(required.filter((key) => !(key in meta)), []);
  assert.deepEqual(Object.keys(meta).filter((key) => ![...required, ...optional].includes(key) && !/^x_./i.test(key)), []);
  const semantic = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)$/;
  const term = /^[^/\\\s\p{Cc}]{2,}$/u;
  assert.match(meta['meta-spec'].version, /^1\.0\.\d+$/);
  assert.match(meta.version, semantic);
  assert.match(meta.name, term);
  assert.ok(['stable', 'testing', 'unstable'].includes(meta.release_status), meta.release_status);
  assert.ok(Object.keys(meta.provides).length > 0);
  for (const [name, provided] of Object.entries(meta.provides)) {
    assert.match(name, term);
    assert.match(provided.version, semantic);
    assert.deepEqual(Object.keys(provided).filter((key) => !['abstract', 'docfile', 'docpath', 'file', 'version'].includes(key)), []);
  }
  assert.ok(meta.tags.every((tag) => tag.length >= 2 && tag.length <= 255 && !/[/\\]/.test(tag)), meta.tags);
  assert.equal(new Set(meta.tags).size, meta.tags.length);
  for (const phase of Object.values(meta.prereqs)) {
    for (const range of Object.values(phase).flatMap(Object.values)) assert.match(range, semantic);
  }
  assert.deepEqual([meta.abstract, meta.description, meta.maintainer].filter((text) => typeof text !== 'string' || text === ''), []);
});

test('the control file and the lock file take their version from Cargo.toml', () => {
  assert.match(read('supabase_pat.control'), /^default_version = '@CARGO_VERSION@'$/m);
  for (const crate of ['supabase_pat', 'supabase_pat_core']) {
    assert.equal(read('Cargo.lock').match(new RegExp(`name = "${crate}"\nversion = "(.*)"`))?.[1], version, crate);
  }
});

test('the newest changes in the changelog are of this version, or unreleased', () => {
  const [newest, ...older] = [...read('CHANGELOG.md').matchAll(/^## \[?([^\]\s]+)/gm)].map(([, heading]) => heading);
  assert.ok(newest === version || newest === 'Unreleased', newest);
  for (const heading of older) {
    assert.ok(heading.localeCompare(version, 'en', { numeric: true }) <= 0, `${heading} is newer than ${version}`);
  }
});
