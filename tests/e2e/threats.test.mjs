// What docs/threats.md names as the test of a threat exists.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const page = readFileSync(join(root, 'docs', 'threats.md'), 'utf8');
/** The cells of each row of the tables. */
const rows = page.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| threat |'))
  .map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
  .filter((cells) => cells.length === 3);

const read = (...path) => readFileSync(join(root, ...path), 'utf8');

function exists(name) {
  const [, suite, file, title] = /^(\w+)\/(\w+)(?:: (.+))?$/.exec(name) ?? [];
  switch (suite) {
    case 'e2e':
      // As it stands in the source, where it may be in a list or have a part that varies; and it must not be one that
      // is known to fail.
      return ["'", '"', '`'].some((quote) => {
        const [, after] = read('tests', 'e2e', `${file}.test.mjs`).split(quote + title + quote);
        return after !== undefined && !after.startsWith(', { todo');
      });
    case 'core':
      return [`${file}.rs`, join(file, 'tests.rs')].filter((name) => existsSync(join(root, 'crates', 'core', 'src', name)))
        .some((name) => read('crates', 'core', 'src', name).includes(`fn ${title}(`));
    case 'regress':
      return ['sql/*.sql', 'expected/*.out'].every((place) => existsSync(join(root, 'tests', 'pg_regress', place.replace('*', file))));
    case 'isolation':
      return ['specs/*.spec', 'expected/*.out'].every((place) => existsSync(join(root, 'tests', 'isolation', place.replace('*', file))));
    default:
      return false;
  }
}

test('each threat has a test that exists', () => {
  assert.ok(rows.length > 40, `${rows.length} threats`);
  for (const [threat, , tests] of rows) {
    const names = Array.from(tests.matchAll(/`([^`]+)`/g), ([, name]) => name);
    assert.ok(names.length > 0, `${threat} has no test`);
    for (const name of names) assert.ok(exists(name), `${threat}: there is no test ${name}`);
  }
});

test('a test that is not there is missed', () => {
  for (const name of ['e2e/attacks: no such title', 'e2e/attacks', 'core/scope: no_such_function', 'regress/no_such_test', 'isolation/nothing', 'unit/x', 'e2e']) {
    let found = false;
    try { found = exists(name); } catch { /* no such file */ }
    assert.equal(found, false, name);
  }
});
