// A forgotten password, through the REST server, and whoever would guess the code.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import { ALICE, start } from './fixture.mjs';

const EMAIL = 'alice@example.com';

let world;
let db;
before(async () => {
  // A code of ten digits does not turn up in a log by chance.
  world = await start({ settings: { 'supabase_pat.reset_code_length': 10 } });
  db = await world.cluster.connect('postgres');
  await db.query('create extension pgcrypto');
});
beforeEach(async () => {
  await db.query('delete from pat.outbox');
  await db.query(`update auth.users set encrypted_password = crypt('old password', gen_salt('bf', 4)) where id = $1`, [ALICE]);
});
after(async () => {
  await db.end();
  world.stop();
});

const rpc = async (name, body, options = {}) => world.request('POST', `/rpc/${name}`, { body, ...options });
const value = async (sql, ...parameters) => Object.values((await db.query(sql, parameters)).rows[0])[0];
const issue = async () => (await db.query('select * from pat.issue_reset_code($1)', [EMAIL])).rows[0];
const wrong = (code) => String((Number(code) + 1) % 1e10).padStart(10, '0');
const hasPassword = (password) => value('select encrypted_password = crypt($1, encrypted_password) from auth.users where id = $2', password, ALICE);

test('somebody without a login resets a password', async () => {
  const { status, data: token } = await rpc('request_password_reset', { email: EMAIL });
  assert.equal(status, 200);
  const { code } = (await db.query('select * from pat.claim_messages()')).rows[0];
  assert.deepEqual((await rpc('verify_reset_code', { token, code: wrong(code) })).data, false);
  assert.deepEqual((await rpc('verify_reset_code', { token, code })).data, true);
  const refused = await rpc('reset_password', { token, code, new_password: 'short' });
  assert.equal(refused.status, 400);
  assert.equal(refused.data.message, 'the password must have at least 6 characters, and this one has 5');
  assert.deepEqual((await rpc('reset_password', { token, code, new_password: 'a new password' })).data, true);
  assert.equal(await hasPassword('a new password'), true);
  assert.deepEqual((await rpc('reset_password', { token, code, new_password: 'another password' })).data, false);
  assert.equal(await hasPassword('a new password'), true);
});

test('a GET cannot try a code', async () => {
  const { token, code } = await issue();
  const answer = await world.request('GET', `/rpc/verify_reset_code?token=${token}&code=${wrong(code)}`);
  assert.ok(answer.status >= 400, JSON.stringify(answer));
  assert.notEqual(answer.data, false);
});

test('the token of a code opens nothing at the REST server', async () => {
  for (const token of [(await issue()).token, (await rpc('request_password_reset', { email: EMAIL })).data]) {
    assert.equal((await world.request('GET', '/todos', { token })).status, 401);
  }
});

test('a hundred sessions that guess at once have five tries between them', async () => {
  const { token, code } = await issue();
  const clients = await Promise.all(Array.from({ length: 100 }, () => world.cluster.connect('postgres')));
  const guess = (client, text) => client.query('select verify_reset_code($1, $2) as right', [token, text]);
  const answers = await Promise.all(clients.map((client) => guess(client, wrong(code))));
  assert.ok(answers.every(({ rows }) => rows[0].right === false));
  // Five wrong ones count, and a sixth that says that there were more.
  assert.equal(await value('select attempts from pat.code_attempts where token_id = $1',
    await value(`select (pat.decode_jwt($1)).payload ->> 'jti'`, token)), 6);
  assert.equal(await value(`select count(*)::int from pat.events where detail like 'the code is wrong%' and happened_at > now() - interval '1 min'`) >= 5, true);
  assert.equal((await guess(clients[0], code)).rows[0].right, false);
  await Promise.all(clients.map((client) => client.end()));
});

test('a try counts although its transaction is rolled back', async () => {
  const { token, code } = await issue();
  for (let i = 0; i < 5; i += 1) {
    await db.query('begin');
    assert.equal(await value('select verify_reset_code($1, $2)', token, wrong(code)), false);
    await db.query('rollback');
  }
  assert.equal(await value('select count(*)::int from pat.code_attempts where token_id::text = (pat.decode_jwt($1)).payload ->> $2', token, 'jti'), 0);
  assert.equal(await value('select verify_reset_code($1, $2)', token, code), false);
  // Within one statement too, and under a snapshot that sees nothing of it.
  const other = await issue();
  await db.query('begin isolation level repeatable read');
  await db.query('select 1');
  for (let i = 0; i < 5; i += 1) {
    await db.query('savepoint s');
    assert.equal(await value('select verify_reset_code($1, $2)', other.token, wrong(other.code)), false);
    await db.query('rollback to s');
  }
  assert.equal(await value('select verify_reset_code($1, $2)', other.token, other.code), false);
  await db.query('rollback');
});

test('only one of two resets with the same code takes place', async () => {
  const { token, code } = await issue();
  const clients = await Promise.all([1, 2].map(() => world.cluster.connect('postgres')));
  const answers = await Promise.all(clients.map((client, i) => client.query('select reset_password($1, $2, $3) as done', [token, code, `new password ${i}`])));
  assert.deepEqual(answers.map(({ rows }) => rows[0].done).sort(), [false, true]);
  assert.equal(await hasPassword(`new password ${answers.findIndex(({ rows }) => rows[0].done)}`), true);
  await Promise.all(clients.map((client) => client.end()));
});

test('a worker is told of a message, and not what is in it', async () => {
  const worker = await world.cluster.connect('postgres');
  await worker.query('listen supabase_pat_outbox');
  const told = new Promise((resolve) => { worker.once('notification', resolve); });
  await rpc('request_password_reset', { email: EMAIL });
  const { channel, payload } = await told;
  assert.deepEqual({ channel, payload }, { channel: 'supabase_pat_outbox', payload: '' });
  await worker.end();
});

test('asking for anybody and for nobody does the same work', async () => {
  const work = async (email) => {
    await db.query('delete from pat.outbox');
    const before = await value('select pg_current_wal_insert_lsn()');
    const { data } = await rpc('request_password_reset', { email });
    const bytes = await value('select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)::int', before);
    const { rows: [row] } = await db.query('select length(sealed) as sealed, pg_column_size(o) as size from pat.outbox o');
    return { token: data.length, bytes, ...row };
  };
  const known = [];
  const unknown = [];
  for (let i = 0; i < 10; i += 1) {
    known.push(await work(EMAIL));
    unknown.push(await work('nobod@example.com'));
  }
  // Now and then the server writes something of its own into the log.
  const least = (works) => ({ ...works[0], bytes: Math.min(...works.map(({ bytes }) => bytes)) });
  assert.deepEqual(least(known), least(unknown));
});

test('the code is in no log', async () => {
  const { cluster } = world;
  cluster.configure({ log_statement: 'all', log_min_messages: 'debug5', log_min_duration_statement: 0, debug_print_plan: 'on' });
  cluster.control('reload');
  await new Promise((resolve) => setTimeout(resolve, 500));
  const worker = await cluster.connect('postgres');
  const { data: token } = await rpc('request_password_reset', { email: EMAIL });
  const { rows: [{ code }] } = await worker.query('select * from pat.claim_messages()');
  assert.equal((await rpc('verify_reset_code', { token, code: wrong(code) })).data, false);
  const log = readFileSync(cluster.log, 'utf8');
  assert.ok(log.includes('pat.claim_messages'));
  assert.ok(!log.includes(code));
  await worker.end();
  cluster.configure({ log_statement: 'none', log_min_messages: 'warning', log_min_duration_statement: -1, debug_print_plan: 'off' });
  cluster.control('reload');
});

test('the code of the developers is loud in the log', async () => {
  const client = await world.cluster.connect('postgres');
  await client.query(`set supabase_pat.debug_reset_code = '0000000000'`);
  const { rows: [{ token, code }] } = await client.query('select * from pat.issue_reset_code($1)', [EMAIL]);
  assert.equal(code, '0000000000');
  const { rows: [{ right }] } = await client.query('select verify_reset_code($1, $2) as right', [token, code]);
  assert.equal(right, true);
  // Where it is not set, such a token is worth nothing.
  assert.equal(await value('select verify_reset_code($1, $2)', token, code), false);
  assert.match(readFileSync(world.cluster.log, 'utf8'), /LOG: {2}supabase_pat.debug_reset_code is set/);
  await client.end();
});

test('a standby says that it cannot', async () => {
  const standby = await world.cluster.standby();
  const { token, code } = await issue();
  await world.cluster.caughtUp(standby);
  for (const call of [`verify_reset_code('${token}', '${code}')`, `reset_password('${token}', '${code}', 'a new password')`,
    `request_password_reset('${EMAIL}')`, 'pat.claim_messages()']) {
    assert.throws(() => standby.psql('postgres', `select ${call}`), /is not possible in a read-only transaction[^]*Call it on the primary/);
  }
  // What only reads works there, and hears of a change of keys.
  await db.query(`select pat.add_signing_key('ES256', kid => 'a')`);
  await db.query(`select pat.rotate_signing_key('a')`);
  const signed = await value(`select pat.sign_jwt('{}', '1 hour')`);
  const client = await standby.connect('postgres');
  const status = async () => (await client.query('select pat.jwt_status($1) as status', [signed])).rows[0].status;
  await world.cluster.caughtUp(standby);
  await client.query('begin isolation level repeatable read');
  assert.equal(await status(), 'valid');
  await client.query(`select set_config('request.jwt.claims', $1, false)`,
    [JSON.stringify((await value('select (pat.decode_jwt(access_token)).payload from pat.mint_session($1)', ALICE)))]);
  await world.cluster.caughtUp(standby);
  const { rows: [{ is_active: isActive, email }] } = await client.query(`select is_active_session() as is_active, signed_in_user() ->> 'email' as email`);
  assert.deepEqual([isActive, email], [true, EMAIL]);
  await db.query(`select pat.add_signing_key('ES256', kid => 'b')`);
  await db.query(`select pat.rotate_signing_key('b')`);
  await db.query(`select pat.revoke_signing_key('a')`);
  await world.cluster.caughtUp(standby);
  assert.equal(await status(), 'revoked');
  await client.end();
  standby.stop();
});
