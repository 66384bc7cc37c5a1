// What `make dev` keeps running follows the sources, and nothing of it is left when it is interrupted.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  appendFileSync, chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** What is changed is a copy. It has always the same place, by which cargo knows what it has built of it. */
const copy = join(root, 'target', 'dev-test');
const COPIED = ['src', 'crates', 'sql', 'scripts', 'Cargo.toml', 'Cargo.lock', 'supabase_pat.control'];
const LINKED = ['tests', 'bench', 'target'];
/** All that it writes besides, so that what is left can be seen. The server's user reads there too. */
/** It builds a good deal, and nothing of it depends on the major. */
const skip = (process.env.PG ?? '15') !== '15' && 'make dev is tried with Postgres 15';
const temporary = mkdtempSync(join(tmpdir(), 'supabase_pat-dev-'));
chmodSync(temporary, 0o755);

let dev;
let output = '';
/** How much of the output has been seen. */
let place = 0;

before(() => {
  if (skip) return;
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy, { recursive: true });
  for (const path of COPIED) cpSync(join(root, path), join(copy, path), { recursive: true });
  for (const path of LINKED) symlinkSync(join(root, path), join(copy, path));
  dev = spawn(process.execPath, [join(copy, 'scripts', 'dev.mjs')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PGRX_HOME: join(root, 'target', 'pgrx'), ...process.env, TMPDIR: temporary },
  });
  for (const stream of [dev.stdout, dev.stderr]) stream.on('data', (chunk) => { output += chunk; });
});
after(() => {
  dev?.kill();
  // The package that was made last is of the changed copy.
  const built = join(root, 'target', 'quick', `supabase_pat-pg${process.env.PG ?? '15'}`);
  for (const path of [copy, temporary, built]) rmSync(path, { recursive: true, force: true });
});

/**
 * Waits until it says something that it has not said before, and returns all that it said meanwhile. The first build
 * may take many minutes.
 */
async function says(pattern) {
  for (let waited = 0; waited < 1_500_000; waited += 100) {
    const said = output.slice(place);
    if (pattern.test(said)) {
      place = output.length;
      return said;
    }
    assert.equal(dev.exitCode, null, output);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`it does not say ${pattern}:\n${output}`);
}

const WATCHES = /watching for changes/;
const curlOf = (said) => said.match(/^ {2}(curl .*)$/m)[1];
const run = (command) => JSON.parse(execFileSync('sh', ['-c', `${command} --silent`], { encoding: 'utf8' }));
const ALICES = [{ id: 1, title: 'alice 1' }, { id: 2, title: 'alice 2' }];
const source = join(copy, 'src', 'lib.rs');
let curl;

test('it prints a call that works', { skip }, async () => {
  curl = curlOf(await says(WATCHES));
  assert.deepEqual(run(curl), ALICES);
});

test('a function that is added to the install SQL can be called, with the tokens that are printed then', { skip }, async () => {
  appendFileSync(join(copy, 'sql', 'grants.sql'), `
create function public.answer() returns int language sql as 'select 42';
grant execute on function public.answer() to authenticated;
`);
  const said = await says(WATCHES);
  assert.match(said, /^sql\/grants\.sql changed$/m);
  assert.match(said, /the install SQL has changed: the extension was created anew/);
  curl = curlOf(said);
  assert.deepEqual(run(curl), ALICES);
  assert.equal(run(curl.replace(/todos[^']*/, 'rpc/answer')), 42);
});

test('what does not build is shown, and what was built before goes on', { skip }, async () => {
  const before = readFileSync(source);
  appendFileSync(source, '\nfn unfinished(\n');
  const said = await says(WATCHES);
  assert.match(said, /error: this file contains an unclosed delimiter/);
  assert.match(said, /what was built before goes on running/);
  assert.deepEqual(run(curl), ALICES);
  writeFileSync(source, before);
  assert.match(await says(WATCHES), /built in/);
});

test('SQL that fails leaves the database as it was', { skip }, async () => {
  const file = join(copy, 'sql', 'grants.sql');
  const before = readFileSync(file);
  appendFileSync(file, 'select 1 / 0;\n');
  const said = await says(WATCHES);
  assert.match(said, /division by zero/);
  assert.match(said, /the database stays as it was/);
  assert.deepEqual(run(curl), ALICES);
  writeFileSync(file, before);
  await says(WATCHES);
});

test('another library with the same SQL keeps the database', { skip }, async () => {
  appendFileSync(source, '\n#[used]\nstatic ADDED: u32 = 42;\n');
  const said = await says(WATCHES);
  assert.match(said, /Postgres restarted in/);
  assert.doesNotMatch(said, /created anew/);
  assert.deepEqual(run(curl), ALICES);
});

/** The processes that have something on their command line or in their environment. */
const processesWith = (text) => readdirSync('/proc').filter((pid) => ['cmdline', 'environ'].some((file) => {
  try {
    return /^\d+$/.test(pid) && readFileSync(join('/proc', pid, file), 'utf8').includes(text);
  } catch {
    return false;
  }
}));

test('when it is interrupted, nothing is left', { skip }, async () => {
  const database = output.match(/127\.0\.0\.1:\d+\/dev/)[0];
  assert.ok(processesWith(temporary).length > 1 && processesWith(database).length > 0);
  const ended = new Promise((resolve) => dev.once('exit', resolve));
  dev.kill('SIGINT');
  dev.kill('SIGINT');
  assert.equal(await ended, 0, output);
  // The REST server was told to end, and is not waited for.
  for (let waited = 0; waited < 5000 && processesWith(database).length > 0; waited += 100) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.deepEqual([...processesWith(temporary), ...processesWith(database)], []);
  assert.deepEqual(readdirSync(temporary), []);
});
