// Sessions that have used up their memory, on servers where that has an end (`vm.overcommit_memory = 2`, `ulimit -v`).
import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { Cluster } from '../cluster/cluster.mjs';
import { prepare, SETTINGS } from './calls.mjs';
import { ALICE } from './fixture.mjs';

const MIB = 1024 * 1024;

let cluster;
let tokens;

before(async () => {
  cluster = await Cluster.start({ settings: SETTINGS });
  tokens = prepare(cluster);
  // A text that is neither compressed nor in line, so that reading it takes its length.
  cluster.psql('postgres', `
    create table texts (name text, body text);
    alter table texts alter body set storage external;
    insert into texts select 'x', repeat('x', ${32 * MIB}) union all select '1', repeat('1', ${32 * MIB});
    grant select on texts to anon`);
});

after(() => cluster?.stop());

/** A session of `anon` that has loaded the library, and may take so many bytes more. */
async function session(bytes) {
  const client = new pg.Client({ host: cluster.folder, port: cluster.port, user: 'postgres', database: 'postgres' });
  client.on('error', () => {});
  await client.connect();
  const { rows: [{ pid }] } = await client.query('select pg_backend_pid() as pid');
  await client.query('set jit = off; set role anon');
  await client.query('select pat.jwt_status($1), get_settings(), pat.url_decode($2), pat.gate()', [tokens.token, 'YWJj']);
  limit(pid, bytes);
  return client;
}

/** Lets a process take so many bytes more than it has. */
function limit(pid, bytes) {
  const [, size] = /^VmSize:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  const command = ['prlimit', '--pid', String(pid), `--as=${Number(size) * 1024 + bytes}`];
  // As whoever the server runs as: a limit is for its owner to set.
  if (process.getuid() === 0) command.unshift('runuser', '-u', 'postgres', '--');
  const done = spawnSync(command[0], command.slice(1), { encoding: 'utf8' });
  assert.equal(done.status, 0, done.stderr);
}

const X = "(select body from texts where name = 'x')";

test('what is too long is refused before it is copied', async () => {
  // Enough for the text, and not for two of it.
  const room = 44 * MIB;
  const first = await session(room);
  await assert.rejects(first.query(`select length(${X} || 'x')`), { code: '53200' });
  await first.end();
  for (const [call, expected] of [
    ['pat.jwt_status($)', 'malformed'],
    ['(pat.inspect_api_key($)).format', 'unknown'],
    ['pat.decode_jwt($)', '22023'],
    ['pat.jwt_expires_in($)', '22023'],
    ['has_scope($)', '22023'],
    ["reset_password('x', '1', $)", '22023'],
    ["verify_reset_code('x', $)", 'false'],
    ["verify_reset_code($, '1')", 'false'],
  ]) {
    const client = await session(room);
    const answer = await client.query(`select (${call.replace('$', X)})::text as answer`).then(({ rows }) => rows[0].answer, ({ code }) => code);
    assert.equal(answer, expected, call);
    assert.equal((await client.query('select pat.jwt_status($1) as status', [tokens.token])).rows[0].status, 'valid', call);
    await client.end();
  }
});

test('where there is no memory for an answer there is an error, and the session goes on', async () => {
  // The text twice, once as bytea, and its encoding, but not the encoding's copy, which is Postgres's own.
  const client = await session(130 * MIB);
  await assert.rejects(client.query(`select length(pat.url_encode(${X}::bytea) || 'x')`), { code: '53200' });
  assert.equal((await client.query("select pat.url_encode('a') as encoded")).rows[0].encoded, 'YQ');
  await client.end();
});

test('a result that is longer than a gigabyte is an error, and so are settings of any length', async () => {
  const client = await session(16 * 1024 * MIB);
  for (const [sql, code] of [
    ["select length(pat.url_encode(repeat('x', 810000000)::bytea))", 'XX000'],
    ["select get_settings(jsonb_build_object('a', repeat('x', 50000000)))", '22023'],
  ]) {
    const answer = await client.query(sql).then(() => undefined, (error) => error.code);
    assert.equal(answer, code, sql);
  }
  assert.equal((await client.query("select pat.url_encode('a') as encoded")).rows[0].encoded, 'YQ');
  await client.end();
});

/** What `anon` may call with a text of their own. `$` is 32 MiB. */
const COPYING = [
  'length(pat.url_encode($::bytea))', 'length(pat.url_decode($))', "length(pat.sign(to_json($), 'secret'))",
  "length(pat.algorithm_sign($, 'secret', 'HS256'))", "(select valid from pat.verify($ || '.e30.x', 'secret'))",
  "(select valid from pat.verify('e30.e30.x', $))", 'length(pat.bearer_token($))',
  "get_settings(jsonb_build_object('temperature', $))", 'request_password_reset($)', "sign_in($, 'x')", "sign_in('a@example.com', $)",
  "sign_up($, 'correct horse')", "sign_up('new@example.com', 'correct horse', jsonb_build_object('a', $))", 'refresh_session($)',
  'verify_reset_code($, $)', "set_config('request.jwt.claims', json_build_object('sub', $)::text, true), pat.uid(), session_info()",
  `set_config('request.jwt.claims', json_build_object('sub', '${ALICE}', 'jti', '${ALICE}', 'type', 'personal_access_token', 'scope', $)::text, true), has_scope('a:b')`,
  "set_config('request.headers', json_build_object('x-api-key', $)::text, true), pat.gate()",
  "set_config('request.path', $, true), pat.gate()",
];

test('a session that has no memory left ends with an error, and takes nobody with it', async () => {
  const neighbour = await cluster.connect('postgres');
  neighbour.on('error', () => {});
  for (const call of COPYING) {
    for (let room = 36; room < 260; room += 48) {
      const client = await session(room * MIB);
      const sql = `select ${call.replaceAll('$', X)}`;
      const code = await client.query(sql).then(() => 'an answer', (error) => error.code ?? error.message);
      assert.match(code, /^(an answer|53200|22...|PT401|PT403)$/, `${call} with ${room} MiB`);
      await client.end().catch(() => {});
      assert.equal((await neighbour.query('select 1 as one')).rows[0].one, 1, call);
    }
  }
  await neighbour.end();
});

/** A session of a guarded login for which a request has been announced, and which has so many KiB left. */
async function announced(request, kilobytes) {
  const client = new pg.Client({ host: cluster.folder, port: cluster.port, user: 'authenticator', database: 'postgres' });
  client.on('error', () => {});
  await client.connect();
  const { rows: [{ pid }] } = await client.query('select pg_backend_pid() as pid');
  const set = (name, value) => client.query(`set ${name} = '${value}'`);
  for (let left = kilobytes; left > 0; left -= 256) await set(`room.of_${left}`, 'x'.repeat(Math.min(left, 256) * 1024));
  for (const [name, value] of Object.entries(request)) await set(name, value);
  limit(pid, 0);
  // Whatever the allocator still has is used up, and then a little is given back.
  let count = 0;
  for (let size = 512 * 1024; size >= 1024; size /= 2) {
    for (let isFull = false; !isFull;) {
      count += 1;
      isFull = await set(`used.up_${count}`, 'x'.repeat(size)).then(() => false, ({ code }) => assert.equal(code, '53200') ?? true);
    }
  }
  for (let left = kilobytes; left > 0; left -= 256) await set(`room.of_${left}`, '').catch(() => {});
  return client;
}

test('a request that there is no memory to judge gets nothing, and takes nobody with it', async () => {
  cluster.psql('postgres', `create table rows (n int); insert into rows values (1), (2); grant select on rows to authenticated`);
  const neighbour = await cluster.connect('postgres');
  neighbour.on('error', () => {});
  const counts = { passed: 0, 53200: 0, PT401: 0 };
  for (const padding of [100, 600_000]) {
    const claims = (text) => JSON.stringify({ ...JSON.parse(text), padding: 'x'.repeat(padding) });
    const headers = (key) => JSON.stringify({ 'x-api-key': key, padding: 'x'.repeat(padding) });
    for (const [what, request] of Object.entries({
      dead: { 'request.jwt.claims': claims(tokens.claims.dead) },
      'dead and opaque': { 'request.headers': headers(tokens.deadOpaque) },
      live: { 'request.jwt.claims': claims(tokens.claims.token) },
    })) {
      for (const kilobytes of [4, 32, 48, 64, 80, 96, 512, 2048]) {
        const client = await announced({ ...request, role: 'authenticated' }, kilobytes);
        const answer = await client.query('select n from rows').then(() => 'passed', ({ code }) => code ?? '53200');
        assert.ok(answer in counts, `${what} with ${kilobytes} KiB: ${answer}`);
        if (what !== 'live') assert.notEqual(answer, 'passed', `${what} with ${kilobytes} KiB`);
        counts[answer] += 1;
        await client.end().catch(() => {});
        assert.equal((await neighbour.query('select 1 as one')).rows[0].one, 1, what);
      }
    }
  }
  // So that it shows something: each of the ends has been seen.
  for (const [end, count] of Object.entries(counts)) assert.ok(count > 0, end);
  await neighbour.end();
});
