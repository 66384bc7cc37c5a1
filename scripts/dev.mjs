// Keeps a throwaway Postgres with the extension and a REST server, and builds and restarts them when a source changes.
// The extension goes into an installation of its own: the machine's stays as it is, and nothing of this needs root.
// Usage: node scripts/dev.mjs (make dev), until it is interrupted
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Cluster, RestServer, running } from '../tests/cluster/cluster.mjs';
import { Installation } from '../tests/cluster/installation.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const major = process.env.PG ?? '15';
const built = join(root, 'target', 'quick', `supabase_pat-pg${major}`);
const restLog = join(root, 'target', 'dev', 'rest.log');
const todos = readFileSync(join(root, 'tests', 'todos.sql'), 'utf8');
const FOLDERS = ['src', 'crates', 'sql'];
const FILES = ['Cargo.toml', 'Cargo.lock', 'supabase_pat.control'];
const ALICE = '11111111-1111-1111-1111-111111111111';
const DATABASE = 'dev';
/** How often the sources are looked at, in milliseconds. Reading the times of some 200 files takes 3 of them. */
const INTERVAL = 250;

const secret = randomBytes(32).toString('base64url');
const installation = new Installation({ major });
let cluster;
let rest;
/** The install SQL that the extension was created with. */
let installed;

process.once('exit', () => console.log('stopped'));
// Tests that are interrupted have failed; this is to be ended so.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.removeAllListeners(signal);
  process.on(signal, () => process.exit(0));
}

mkdirSync(dirname(restLog), { recursive: true });
for (let seen = times(), changed = ''; ; [seen, changed] = await change(seen)) {
  if (changed !== '') console.log(`\n${changed} changed`);
  try {
    if (await build()) await reload();
  } catch (error) {
    // What the server has logged is a part of it.
    console.log(`${error.message.trimEnd().split('\n').slice(-20).join('\n')}\n  it does not start`);
  }
  console.log('  watching for changes; Ctrl-C ends it');
}

/**
 * When each file of the sources was changed last. Node 18, which Debian bookworm has, cannot watch a folder on Linux
 * with all that is in it.
 */
function times() {
  const inFolders = FOLDERS.filter((folder) => existsSync(join(root, folder)))
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((file) => join(folder, file)))
    .filter((file) => /\.(rs|sql|toml)$/.test(file));
  const time = (file) => statSync(join(root, file), { throwIfNoEntry: false })?.mtimeMs;
  return new Map([...inFolders, ...FILES].map((file) => [file, time(file)]));
}

/**
 * Waits until files are others than they were `seen`, and then until they stay as they are, since an editor may save
 * many at once. Returns their times, and the names of those that have changed.
 */
async function change(seen) {
  const difference = (before, now) => [...new Set([...before.keys(), ...now.keys()])]
    .filter((file) => before.get(file) !== now.get(file));
  for (let before = times(); ; ) {
    await sleep(INTERVAL);
    const now = times();
    if (difference(before, now).length === 0 && difference(seen, now).length > 0) {
      return [now, difference(seen, now).join(', ')];
    }
    before = now;
  }
}

/** Makes the package, and says what is wrong if it cannot be made. */
async function build() {
  const started = Date.now();
  if (!cluster) console.log('building (some minutes the first time; target/build-quick.log tells how far it is)');
  // In a group of its own, so that what it starts ends with it.
  const child = spawn(join(root, 'scripts', 'build'), [major, '.', 'quick'], {
    detached: true, stdio: ['ignore', 'ignore', 'pipe'],
  });
  const task = { stop: () => process.kill(-child.pid) };
  running.add(task);
  let output = '';
  child.stderr.on('data', (chunk) => { output += chunk; });
  const status = await new Promise((resolve) => child.once('close', resolve));
  running.delete(task);
  if (status === 0) {
    console.log(`  built in ${since(started)}`);
    return true;
  }
  // What is wrong is told at the end, below the commands.
  console.log(output.slice(Math.max(output.search(/^(error|warning)/m), 0)).trimEnd());
  console.log(`  it does not build${cluster ? ': what was built before goes on running' : ''}`);
  return false;
}

/** Runs what has been built. */
async function reload() {
  const started = Date.now();
  const { isNew, sql } = installation.take(built);
  if (running.has(rest) && !isNew && sql === installed) {
    console.log('  the library and the install SQL are what they were');
    return;
  }
  const isFirst = cluster === undefined;
  rest?.stop();
  if (isFirst) {
    cluster = await Cluster.start({
      major,
      bin: installation.bin,
      settings: {
        shared_preload_libraries: 'supabase_pat',
        'supabase_pat.jwt_secret': secret,
        'supabase_pat.access_token_lifetime': '1d',
        'supabase_pat.enable_sign_up': 'on',
        'supabase_pat.enable_sign_in': 'on',
      },
    });
  } else {
    cluster.control('restart');
  }
  console.log(`  Postgres ${isFirst ? 'started' : 'restarted'} in ${since(started)}`);
  const isCreated = sql !== installed && create(sql);
  if (installed === undefined) return;
  rest = await RestServer.start(cluster.url(DATABASE, 'authenticator', cluster.password), secret, {
    log: restLog, port: rest?.port, env: { PGRST_DB_PRE_REQUEST: 'pat.gate' },
  });
  running.add(rest);
  if (isCreated) introduce();
}

/** Makes the database anew, or leaves it as it is if the install SQL fails. Returns whether it did. */
function create(sql) {
  const started = Date.now();
  const next = `${DATABASE}_next`;
  cluster.psql('postgres', `drop database if exists ${next}`);
  cluster.psql('postgres', `create database ${next}`);
  try {
    cluster.psql(next, `create extension supabase_pat;
      select pat.install_auth_schema();
      alter role authenticator password '${cluster.password}';
      ${todos}
      grant select, insert, update, delete on todos to authenticated;
      grant select on todos to anon;`);
  } catch (error) {
    console.log(error.message.trimEnd());
    console.log(`  the install SQL fails${installed ? ': the database stays as it was' : ''}`);
    return false;
  }
  cluster.psql('postgres', `drop database if exists ${DATABASE} with (force)`);
  cluster.psql('postgres', `alter database ${next} rename to ${DATABASE}`);
  if (installed) console.log(`  the install SQL has changed: the extension was created anew in ${since(started)}`);
  installed = sql;
  return true;
}

/** What is needed to try it. */
function introduce() {
  const value = (sql) => cluster.psql(DATABASE, sql);
  const token = value(`select token from mint_pat('${ALICE}', 'dev', kind => 'opaque')`);
  console.log(`
  psql '${cluster.url(DATABASE, 'postgres', cluster.password)}'
  curl '${rest.url}/todos?select=id,title' -H 'x-api-key: ${token}'

  API=${rest.url}
  ANON_KEY=${value(`select pat.mint_api_key('anon')`)}
  LOGIN=${value(`select access_token from pat.mint_session('${ALICE}')`)}
  TOKEN=${value(`select token from mint_pat('${ALICE}', 'dev')`)}

  LOGIN is Alice's for a day, as Supabase Auth gives it, and TOKEN a token of hers. Bob is there too.
  The REST server logs to target/dev/rest.log, Postgres to ${cluster.log}.`);
}

function since(started) {
  return `${((Date.now() - started) / 1000).toFixed(1)} s`;
}
