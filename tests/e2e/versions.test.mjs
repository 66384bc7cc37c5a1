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
