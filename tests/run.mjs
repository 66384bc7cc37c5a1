// Runs the suites that need a server: pg_regress, the isolation specs, and the tests in Node.
// Usage: node tests/run.mjs [regress] [isolation] [e2e] [-- NAME…]. Without a suite it runs all.
//    or: node tests/run.mjs accept NAME…, to take what regress files or isolation specs print as what is expected
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cluster, programs } from './cluster/cluster.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const output = join(here, '..', 'target', 'tests');
const major = process.env.PG ?? '15';
const words = process.argv.slice(2);
const accepts = words[0] === 'accept';
const split = accepts ? 0 : words.indexOf('--');
const only = split < 0 ? [] : words.slice(split + 1);
const suites = accepts ? ['regress', 'isolation'] : split < 0 ? words : words.slice(0, split);
const wants = (suite) => suites.length === 0 || suites.includes(suite);

const SECRET = 'the-secret-of-the-regression-tests-is-long-enough';
const pgxs = execFileSync(join(programs(major), 'pg_config'), ['--pgxs'], { encoding: 'utf8' }).trim();
const testPrograms = join(dirname(pgxs), '..', 'test');
let failed = 0;
let passed = 0;
let accepted = 0;

if (accepts && only.length === 0) {
  console.error('accept needs the names of tests: node tests/run.mjs accept NAME…');
  process.exit(2);
}
const found = {
  regress: namesIn('regress', 'pg_regress/sql', '.sql', (test, name) => test === name),
  isolation: namesIn('isolation', 'isolation/specs', '.spec', (test, name) => test === name),
  e2e: namesIn('e2e', 'e2e', '.test.mjs', (test, name) => `${test}.test.mjs`.startsWith(name)),
};
const unknown = only.filter((name) => !Object.values(found).some(({ known }) => known.has(name)));
if (unknown.length > 0) {
  console.error(`there is no test ${unknown.join(' and no ')}`);
  process.exit(2);
}
if (wants('regress')) {
  await suite('pg_regress', found.regress.tests, '.out', join(testPrograms, 'regress', 'pg_regress'));
}
if (wants('isolation')) {
  await suite('isolation', found.isolation.tests, '.out', join(testPrograms, 'isolation', 'pg_isolation_regress'));
}
if (wants('regress') || wants('isolation')) {
  console.log(`${passed} passed, ${failed} failed${accepts ? `, ${accepted} accepted` : ''}`);
}
// What these try is the same with each Postgres: of several that are tested, the first one is enough.
const OF_NO_POSTGRES = [
  'console', 'console_examples', 'console_types', 'dev', 'docker_image', 'guides', 'links', 'release_check', 'tutorial',
];
const tested = (process.env.TESTED ?? major).split(' ');
if (only.length === 0 && tested.includes(major) && tested[0] !== major) {
  found.e2e.tests = found.e2e.tests.filter((name) => !OF_NO_POSTGRES.includes(name));
  if (wants('e2e')) console.log(`tried with Postgres ${tested[0]} alone: ${OF_NO_POSTGRES.join(', ')}`);
}
if (found.e2e.tests.length > 0) {
  e2e(found.e2e.tests);
  // Some files run again through a pooler of transactions: those that show most of what it could mix up.
  const pooled = found.e2e.tests.filter((name) => ['gate', 'rest', 'sessions', 'supabase_js'].includes(name));
  if (pooled.length > 0) e2e(pooled, { POOLER: '1' });
}
process.exit(failed === 0 ? 0 : 1);

/** The tests of a suite that are to run, and which of the names that were given are known in it. */
function namesIn(suite, folder, suffix, isNamed) {
  if (!wants(suite)) return { tests: [], known: new Set() };
  const all = readdirSync(join(here, folder))
    .filter((file) => file.endsWith(suffix))
    .map((file) => file.slice(0, -suffix.length));
  return {
    tests: all.filter((test) => only.length === 0 || only.some((name) => isNamed(test, name))),
    known: new Set(only.filter((name) => all.some((test) => isNamed(test, name)))),
  };
}

function e2e(names, env = {}) {
  const files = names.map((name) => join(here, 'e2e', `${name}.test.mjs`));
  // Debian 12 has Node 18, which knows no such limit.
  const limit = Number.parseInt(process.versions.node, 10) < 20 ? [] : ['--test-timeout=1800000'];
  const done = spawnSync(process.execPath, ['--test', '--test-concurrency=1', ...limit, ...files], {
    stdio: 'inherit', env: { ...process.env, ...env },
  });
  if (done.status !== 0) failed += 1;
}

/** Runs each file in a database of its own, a copy of the template that setup.sql and todos.sql fill. */
async function suite(folder, names, outputSuffix, runner) {
  const root = join(here, folder);
  const results = join(output, folder);
  if (names.length === 0) return;
  const cluster = await Cluster.start({ major });
  cluster.secrets.push(SECRET);
  cluster.psql('postgres', 'create database template_tests');
  for (const file of ['pg_regress/setup.sql', 'todos.sql']) {
    cluster.psql('template_tests', readFileSync(join(here, file), 'utf8'));
  }
  rmSync(results, { recursive: true, force: true });
  mkdirSync(results, { recursive: true });
  for (const name of names) {
    const database = `test_${folder}`;
    cluster.psql('postgres', `drop database if exists ${database};
      create database ${database} template template_tests;
      alter database ${database} set "app.settings.jwt_secret" = '${SECRET}';`);
    const done = spawnSync(runner, [
      '--use-existing', `--bindir=${cluster.bin}`, `--host=${cluster.folder}`, `--port=${cluster.port}`,
      '--user=postgres', `--dbname=${database}`, `--inputdir=${root}`, `--outputdir=${results}`,
      // Postgres 15 looks for the expected output beside the input, and has no option for it.
      ...(major >= '16' ? [`--expecteddir=${root}`] : []), name,
    ], {
      cwd: results, encoding: 'utf8', env: { ...process.env, PGOPTIONS: '', PGTZ: 'UTC', PGISOLATIONTIMEOUT: '30', LANG: 'C.UTF-8' },
    });
    // pg_regress reports a test without expected output as passed.
    const expected = join(root, 'expected', `${name}${outputSuffix}`);
    const ok = done.status === 0 && existsSync(expected);
    console.log(`${ok ? 'ok    ' : 'FAILED'} ${folder}/${name}`);
    if (ok) {
      passed += 1;
      continue;
    }
    const isNew = !existsSync(expected);
    const diffs = join(results, 'regression.diffs');
    const printed = join(results, 'results', `${name}${outputSuffix}`);
    if (accepts && isNew && existsSync(printed)) console.log(readFileSync(printed, 'utf8'));
    else console.log(existsSync(diffs) ? readFileSync(diffs, 'utf8') : done.stdout + done.stderr);
    if (accepts && existsSync(printed)) {
      accepted += 1;
      copyFileSync(printed, expected);
      console.log(`it is what ${expected} says now: read it line by line before you commit it`);
      continue;
    }
    failed += 1;
    if (isNew) console.log(`there is no ${expected}`);
  }
  cluster.stop();
}
