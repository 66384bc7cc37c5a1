// What the last stage of packaging/docker/Dockerfile does to Supabase's image, done to a made-up one: their Postgres has
// its libraries where a wrapper says, and a configuration with libraries of its own.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { owner, programs } from '../cluster/cluster.mjs';
import { root } from './releases.mjs';

const major = process.env.PG ?? '15';
const folder = mkdtempSync(join(tmpdir(), 'supabase_pat-image-'));
const at = (...parts) => join(folder, ...parts);
const [, stage] = readFileSync(join(root, 'packaging/docker/Dockerfile'), 'utf8').split(/^FROM supabase\/postgres:.*$/m);
const [putInPlace, tryIt] = [...stage.matchAll(/^RUN ((?:.*\\\n)*.*)$/gm)].map(([, command]) => command.replaceAll('\\\n', ''));
const LIBRARIES = "shared_preload_libraries = 'pg_stat_statements, pgaudit, supautils'\t# (change requires restart)";

/** Runs a step as the image's user would, with the folders of the image in ours. */
function step(command, env = {}) {
  const here = command.replaceAll('/usr/share/supabase_pat', at('out')).replaceAll('/etc/postgresql/postgresql.conf', at('postgresql.conf'))
    .replaceAll('/tmp/try', at('try'));
  const done = spawnSync('sh', ['-c', here], {
    encoding: 'utf8', cwd: folder, ...owner,
    env: { PATH: `${at('bin')}:${programs(major)}:${process.env.PATH}`, PG_MAJOR: major, HOME: folder, ...env },
  });
  return { status: done.status, printed: done.stdout + done.stderr };
}

const configuration = () => readFileSync(at('postgresql.conf'), 'utf8');

beforeEach(() => {
  rmSync(folder, { recursive: true, force: true });
  for (const path of ['out/licences', 'bin', 'lib', 'share/extension']) mkdirSync(at(path), { recursive: true });
  for (const file of ['supabase_pat.so', 'supabase_pat.control', 'supabase_pat--0.1.0--0.2.0.sql', 'supabase_pat--0.2.0.sql', 'licences/LICENSE']) {
    writeFileSync(at('out', file), file);
  }
  writeFileSync(at('postgresql.conf'), `listen_addresses = '*'\n${LIBRARIES}\njit = off\n`);
  writeFileSync(at('bin/postgres'), `#!/bin/sh\nexport NIX_PGLIBDIR='${at('lib')}'\nexec ${programs(major)}/postgres "$@"\n`);
  writeFileSync(at('bin/pg_config'), `#!/bin/sh\n[ "$1" = --sharedir ] && echo ${at('share')} || exec ${programs(major)}/pg_config "$@"\n`);
  for (const program of ['postgres', 'pg_config']) chmodSync(at('bin', program), 0o755);
  if (owner.uid !== undefined) {
    for (const path of ['', 'out', 'out/licences', 'lib', 'share', 'share/extension', 'postgresql.conf']) chownSync(at(path), owner.uid, owner.gid);
  }
});
after(() => rmSync(folder, { recursive: true, force: true }));

test('the files come to where that Postgres looks for them, and the licences stay', () => {
  const { status, printed } = step(putInPlace);
  assert.equal(status, 0, printed);
  assert.ok(existsSync(at('lib/supabase_pat.so')));
  for (const file of ['supabase_pat.control', 'supabase_pat--0.1.0--0.2.0.sql', 'supabase_pat--0.2.0.sql']) {
    assert.equal(readFileSync(at('share/extension', file), 'utf8'), file);
    assert.ok(!existsSync(at('out', file)), file);
  }
  assert.ok(existsSync(at('out/licences/LICENSE')));
});

test('the library is preloaded after theirs, and the REST server\'s login is guarded', () => {
  step(putInPlace);
  const lines = configuration().split('\n');
  assert.ok(lines.includes("shared_preload_libraries = 'pg_stat_statements, pgaudit, supautils, supabase_pat'\t# (change requires restart)"), configuration());
  assert.ok(lines.includes("supabase_pat.guarded_logins = 'authenticator'"), configuration());
  assert.ok(lines.includes("supabase_pat.jwt_secret_file = '/run/secrets/supabase_pat_jwt_secret'"), configuration());
  assert.deepEqual(lines.filter((line) => line.startsWith('shared_preload') || /^(listen|jit)/.test(line)).length, 3);
});

test('another major, or a configuration without their line, stops the build', () => {
  const other = step(putInPlace, { PG_MAJOR: '14' });
  assert.equal(other.status, 1);
  assert.match(other.printed, /this is not Postgres 14/);
  writeFileSync(at('postgresql.conf'), "jit = off\n");
  assert.notEqual(step(putInPlace).status, 0);
});

test('the image is tried: the extension can be created there, and the guard judges', () => {
  step(putInPlace);
  const { status, printed } = step(tryIt);
  assert.equal(status, 0, printed);
  assert.ok(!existsSync(at('try')) && !existsSync(at('try.sql')) && !existsSync(at('try.log')));
});

test('an image in which nothing would be guarded is not built', () => {
  step(putInPlace);
  writeFileSync(at('postgresql.conf'), configuration().replace("guarded_logins = 'authenticator'", "guarded_logins = ''"));
  const { status, printed } = step(tryIt);
  assert.equal(status, 1);
  assert.match(printed, /supabase_pat\.guarded_logins names nobody/);
});

test('a library that does not load stops the build', () => {
  step(putInPlace);
  const { status } = step(tryIt.replace('shared_preload_libraries=supabase_pat', 'shared_preload_libraries=supabase_pat_is_not_here'));
  assert.equal(status, 1);
});
