// Guessing codes that are sent by e-mail: at many tokens, at many addresses, from many connections, in transactions that
// are rolled back. Each test has a database of its own, which has allowances of its own.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { ALICE, BOB, startCluster } from './fixture.mjs';

const EMAIL = 'alice@example.com';
const LONG = 16;

let cluster;
let name;
let number = 0;
let db;
const clients = [];
before(async () => {
  cluster = await startCluster({
    settings: { 'supabase_pat.trusted_proxies': 1, max_connections: 150 },
    sql: `update auth.users set email = case id when '${ALICE}' then '${EMAIL}' else 'bob@example.com' end;
      insert into auth.users (id, email, encrypted_password) select gen_random_uuid(), 'user' || n || '@example.com', 'x' from generate_series(1, 500) n`,
  });
});
beforeEach(async () => {
  await end();
  number += 1;
  name = `guessing_${number}`;
  cluster.psql('template1', `create database ${name} template postgres`);
  db = await connect();
});
after(async () => {
  await end();
  cluster.stop();
});

async function connect(database = name) {
  const client = await cluster.connect(database);
  clients.push(client);
  return client;
}

async function end() {
  await Promise.all(clients.splice(0).map((client) => client.end()));
}

const value = async (client, sql, ...parameters) => Object.values((await client.query(sql, parameters)).rows[0])[0];
const issue = async (email = EMAIL, client = db) => (await client.query('select * from pat.issue_reset_code($1)', [email])).rows[0];
const wrong = (code) => String((Number(code[0]) + 1) % 10) + code.slice(1);
const verify = (token, code, client = db) => value(client, 'select verify_reset_code($1, $2)', token, code);
const digits = async (token) => Number(await value(db, `select (pat.decode_jwt($1)).payload ->> 'digits'`, token));
const events = (detail) => value(db, 'select count(*)::int from pat.events where detail like $1', `${detail}%`);
/** Makes the client's requests those of somebody without a login, from an address. */
const asStranger = (client, address = '192.0.2.1') => client.query(
  `select set_config('role', 'anon', false), set_config('request.headers', $1, false)`, [JSON.stringify({ 'x-forwarded-for': address })],
);
const asOwner = (client) => client.query(`reset role; reset "request.headers"`);
/** So many wrong codes, five at each token. */
async function guess(count, { emails = [EMAIL], client = db, from, roll = false } = {}) {
  for (let left = count, i = 0; left > 0; left -= 5, i += 1) {
    const { token, code } = await issue(emails[i % emails.length]);
    if (from) await asStranger(client, from(i));
    for (let n = 0; n < Math.min(left, 5); n += 1) {
      if (roll) await client.query('begin');
      assert.equal(await verify(token, wrong(code), client), false);
      if (roll) await client.query('rollback');
    }
    if (from) await asOwner(client);
  }
}

test('a token beyond the limit is opened by no code', async () => {
  // The code is known, since it is that of the developers.
  await db.query(`set supabase_pat.debug_reset_code = '123456'`);
  const opened = [];
  const lengths = new Set();
  for (let i = 0; i < 8; i += 1) {
    const token = await value(db, `select request_password_reset($1) from set_config('role', 'anon', true)`, EMAIL);
    lengths.add(token.length);
    opened.push(await verify(token, '123456'));
  }
  assert.deepEqual(opened, [true, true, true, true, true, false, false, false]);
  assert.equal(lengths.size, 1);
  assert.equal(await value(db, 'select count(*)::int from pat.claim_messages()'), 5);
  // So with whoever signs up.
  await db.query(`set supabase_pat.enable_sign_up = on`);
  const confirmed = [];
  for (let i = 0; i < 8; i += 1) {
    await db.query('begin');
    await db.query(`set local role anon`);
    const token = await value(db, `select (sign_up('carol@example.com', 'a password')).confirmation_token`);
    await db.query('commit');
    await db.query('begin');
    confirmed.push(await value(db, 'select (confirm_sign_up($1, $2)).access_token is not null', token, '123456'));
    await db.query('rollback');
  }
  assert.deepEqual(confirmed, [true, true, true, true, true, false, false, false]);
});

test('wrong codes count for the address at whichever token they are tried', async () => {
  const open = await issue();
  await guess(20);
  assert.equal(await digits((await issue()).token), 6);
  await guess(1);
  // Whoever asks now gets a long one, and it works.
  const long = await issue();
  assert.equal(long.code.length, LONG);
  assert.equal(await digits(long.token), LONG);
  assert.equal(await verify(long.token, long.code.replace(/(....)/g, '$1 ')), true);
  // The short one that is out still has what is left.
  assert.equal(await verify(open.token, open.code), true);
  // Tries at long codes take nothing away.
  await guess(30);
  assert.equal(await verify(open.token, open.code), true);
  assert.equal(await value(db, 'select count(*)::int from pat.code_attempts where chance > 0'), 5);
  // Of another address it is not.
  assert.equal((await issue('bob@example.com')).code.length, 6);
});

test('an allowance counts over all tokens and purposes, also where the transaction is rolled back', async () => {
  await db.query(`set supabase_pat.enable_sign_up = on`);
  const open = [];
  for (let i = 0; i < 9; i += 1) open.push(await issue('user1@example.com'));
  await value(db, `select count(sign_up('dora@example.com', 'a password'))`);
  for (const { token, code } of open.slice(0, 8)) {
    for (let n = 0; n < 5; n += 1) {
      await db.query('begin');
      assert.equal(await verify(token, wrong(code)), false);
      await db.query('rollback');
    }
  }
  assert.equal(await value(db, 'select count(*)::int from pat.code_attempts'), 0);
  assert.equal(await verify(open[8].token, open[8].code), false);
  // It leaves no event: somebody with one token could write them without end.
  assert.equal(await value(db, `select count(*)::int from pat.events where event = 'reset_code_refused'`), 0);
  const long = await issue('user1@example.com');
  assert.equal(await verify(long.token, long.code), true);
  // Recovery of somebody who signs up, and confirming: one address.
  const tokens = [];
  for (let i = 0; i < 5; i += 1) tokens.push(await value(db, `select (sign_up('erik@example.com', 'a password')).confirmation_token`));
  for (const token of tokens.slice(0, 4)) for (let n = 0; n < 5; n += 1) await db.query(`select confirm_sign_up($1, '1')`, [token]);
  assert.equal((await issue('erik@example.com')).code.length, 6);
  await db.query(`select confirm_sign_up($1, '1')`, [tokens[4]]);
  assert.equal((await issue('erik@example.com')).code.length, LONG);
});

test('a hundred sessions that guess at the tokens of one address have forty tries between them', async () => {
  const tokens = [];
  for (let i = 0; i < 100; i += 1) tokens.push(await issue());
  const all = await Promise.all(tokens.map(() => connect()));
  for (let n = 0; n < 2; n += 1) {
    await Promise.all(all.map((client, i) => verify(tokens[i].token, wrong(tokens[i].code), client)));
  }
  assert.equal(await value(db, 'select sum(attempts)::int from pat.code_attempts'), 40);
  assert.equal(await value(db, 'select sum(attempts * chance)::int from pat.code_attempts'), 40_000_000);
  // Those that were looked at have left one each, and no other.
  assert.equal(await value(db, `select count(*)::int from pat.events where event = 'reset_code_refused'`), 40);
  const right = await Promise.all(all.map((client, i) => verify(tokens[i].token, tokens[i].code, client)));
  assert.ok(right.every((is) => is === false));
});

test('right codes take nothing away, however many are tried at once', async () => {
  const tokens = [];
  for (let i = 0; i < 10; i += 1) tokens.push(await issue());
  const all = await Promise.all(tokens.map(() => connect()));
  for (let n = 0; n < 10; n += 1) {
    const right = await Promise.all(all.map((client, i) => verify(tokens[i].token, tokens[i].code, client)));
    assert.ok(right.every((is) => is === true));
  }
  assert.equal((await issue()).code.length, 6);
});

test('all addresses together have an allowance, and whoever asks when it is used up gets a code that works', async () => {
  // A try at five digits is worth ten at six: there are 80.
  await db.query(`set supabase_pat.reset_code_length = 5`);
  const open = await issue('user500@example.com');
  const emails = Array.from({ length: 400 }, (_, i) => `user${i + 1}@example.com`);
  const tokens = [];
  for (const email of emails.slice(0, 120)) tokens.push(await issue(email));
  for (const [i, { token, code }] of tokens.entries()) {
    await asStranger(db, `192.0.2.${i}`);
    assert.equal(await verify(token, wrong(code)), false);
  }
  await asOwner(db);
  assert.equal(await value(db, 'select sum(attempts * chance)::int from pat.code_attempts'), 800_000_000);
  assert.equal(await verify(open.token, open.code), false);
  for (const email of ['user500@example.com', 'bob@example.com', EMAIL]) {
    const long = await issue(email);
    assert.equal(long.code.length, LONG);
    assert.equal(await verify(long.token, long.code), true);
  }
  assert.equal(await value(db, 'select pat.reset_code_digits()'), LONG);
  assert.match(await value(db, `select detail from pat.status() where "check" = 'reset codes' and not ok`), /wrong codes/);
  // Another database has its own.
  const other = await connect('postgres');
  assert.equal((await issue(EMAIL, other)).code.length, 6);
});

test('one who guesses at many addresses does not use up what there is for all', async () => {
  const emails = Array.from({ length: 100 }, (_, i) => `user${i + 1}@example.com`);
  await guess(110, { emails, from: (i) => (i % 2 ? '2001:db8:1:2::1' : `2001:db8:1:2:3:4:5:${i}`) });
  assert.equal(await value(db, 'select sum(attempts)::int from pat.code_attempts'), 100);
  assert.equal(await value(db, 'select pat.reset_code_digits()'), 6);
  const { token, code } = await issue();
  await asStranger(db, '2001:db8:1:2::ffff');
  assert.equal(await verify(token, code), false);
  const long = await value(db, 'select request_password_reset($1)', EMAIL);
  assert.equal(await digits(long), LONG);
  await asStranger(db, '2001:db8:1:3::1');
  assert.equal(await verify(token, code), true);
  assert.equal(await digits(await value(db, 'select request_password_reset($1)', EMAIL)), 6);
});

test('a try that a timeout ends has counted', async () => {
  const { token, code } = await issue();
  // Somebody else has written a try at the same token, and has not committed it.
  const other = await connect();
  await other.query('begin');
  assert.equal(await verify(token, wrong(code), other), false);
  await db.query(`set statement_timeout = '100ms'`);
  for (let n = 0; n < 4; n += 1) await assert.rejects(verify(token, wrong(code)), { code: '57014' });
  await other.query('rollback');
  assert.equal(await verify(token, code), false);
});

test('nobody waits for a stranger who tries a code and does not end', async () => {
  const stranger = await connect();
  await stranger.query('begin');
  const { token, code } = await issue('bob@example.com');
  assert.equal(await verify(token, wrong(code), stranger), false);
  await db.query(`set lock_timeout = '2s'`);
  for (let i = 0; i < 20; i += 1) {
    const mine = await issue(`user${i + 1}@example.com`);
    assert.equal(await verify(mine.token, wrong(mine.code)), false);
    assert.equal(await verify(mine.token, mine.code), true);
  }
  await stranger.query('rollback');
});

test('nobody waits for a stranger who signs up and does not end, whoever has been deleted since they signed up', async () => {
  await db.query('insert into pat.pending_sign_ups select gen_random_uuid() from generate_series(1, 3)');
  const signUp = async (client, name, address) => {
    await client.query(`set supabase_pat.enable_sign_up = on; set supabase_pat.confirm_sign_up = on; set lock_timeout = '2s'`);
    await asStranger(client, address);
    return value(client, `select (sign_up($1, 'a password')).confirmation_token is not null`, `${name}@example.com`);
  };
  const stranger = await connect();
  await stranger.query('begin');
  assert.equal(await signUp(stranger, 'stranger', '192.0.2.1'), true);
  const mine = await connect();
  assert.equal(await signUp(mine, 'newcomer', '192.0.2.2'), true);
  await stranger.query('commit');
  // Those who are gone are forgotten all the same.
  assert.equal(await value(db, 'select count(*)::int from pat.pending_sign_ups'), 2);
});

test('what was committed counts after a restart', async () => {
  const { token, code } = await issue();
  const spent = await issue();
  for (let n = 0; n < 5; n += 1) assert.equal(await verify(spent.token, wrong(spent.code)), false);
  await guess(35);
  assert.equal(await verify(token, code), true);
  await end();
  cluster.control('restart');
  db = await connect();
  assert.equal(await verify(spent.token, spent.code), false);
  assert.equal((await issue()).code.length, LONG);
  assert.equal((await issue('bob@example.com')).code.length, 6);
});

test('a code of a copy of the database opens nothing in the original', async () => {
  await end();
  cluster.psql('template1', `create database ${name}_copy template ${name}`);
  cluster.psql('template1', `alter database ${name}_copy set supabase_pat.debug_reset_code = '123456'`);
  const copy = await connect(`${name}_copy`);
  db = await connect();
  const forged = await issue(EMAIL, copy);
  assert.equal(forged.code, '123456');
  assert.equal(await verify(forged.token, '123456', copy), true);
  assert.equal(await verify(forged.token, '123456'), false);
  // A copy that was made file by file differs by the setting alone.
  const other = await connect();
  await other.query(`set supabase_pat.debug_reset_code = '123456'`);
  const { token } = await issue(EMAIL, other);
  assert.equal(await verify(token, '123456', other), true);
  assert.equal(await verify(token, '123456'), false);
  assert.equal(await value(db, `select reset_password($1, '123456', 'a new password')`, token), false);
});

test('strangers do not take the mails of a reset away from the owner of an address', async () => {
  const stranger = await connect();
  const owner = await connect();
  const ask = async (client, email = EMAIL) => {
    const count = () => value(db, 'select count(*)::int from pat.outbox');
    const before = await count();
    await client.query('select request_password_reset($1)', [email]);
    return await count() - before;
  };
  await asStranger(stranger, '198.51.100.1');
  await asStranger(owner, '203.0.113.1');
  const mails = [];
  for (let i = 0; i < 7; i += 1) mails.push(await ask(stranger));
  assert.deepEqual(mails, [1, 1, 1, 1, 1, 0, 0]);
  assert.equal(await ask(owner), 1);
  // Signing up, and a backend, have their own.
  await db.query(`set supabase_pat.enable_sign_up = on`);
  assert.equal(await value(db, `select (sign_up($1, 'a password')).confirmation_token is not null`, EMAIL), true);
  for (let i = 0; i < 10; i += 1) assert.equal(await verify(...Object.values(await issue()).slice(0, 2)), true);
  // Many strangers do not flood the mailbox either.
  let sent = 0;
  for (let i = 0; i < 30; i += 1) {
    await asStranger(stranger, `198.51.100.${i}`);
    sent += await ask(stranger);
  }
  assert.equal(sent, 20 - 6);
  // With a network of IPv6 it is one who asks.
  sent = 0;
  for (let i = 0; i < 10; i += 1) {
    await asStranger(stranger, `2001:db8::${i}`);
    sent += await ask(stranger, 'bob@example.com');
  }
  assert.equal(sent, 5);
  assert.equal(await ask(db), 1);
});

test('expired messages are forgotten a few at a time, and nobody waits for who does it', async () => {
  await db.query(`insert into pat.outbox (id, purpose, address_digest, sealed, is_deliverable, created_at, expires_at)
    select gen_random_uuid(), 'recovery', 'x', 'sealed', true, now() - interval '30 min', now() - interval '15 min' from generate_series(1, 2000)`);
  const sealed = () => value(db, 'select count(*)::int from pat.outbox where sealed is not null and expires_at < now()');
  const other = await connect();
  await other.query('begin');
  await other.query('select request_password_reset($1)', ['bob@example.com']);
  await db.query(`set lock_timeout = '1s'`);
  await db.query('select request_password_reset($1)', [EMAIL]);
  assert.equal(await sealed(), 1900);
  await other.query('commit');
  assert.equal(await sealed(), 1800);
  // A worker does the rest.
  assert.equal(await value(db, 'select count(*)::int from pat.claim_messages()'), 2);
  assert.equal(await sealed(), 0);
});

test('one mailbox has one address, and who has another one already gets in', async () => {
  await db.query(`set supabase_pat.enable_sign_up = on`);
  for (const address of ['carol@exam\u00adple.com', 'ca\u200brol@example.com', 'carol@\uff45xample.com', 'carol@example.com.', '"carol"@example.com']) {
    await assert.rejects(db.query(`select sign_up($1, 'a password')`, [address]), { code: '22023', message: 'the e-mail address is malformed' });
  }
  await db.query(`set supabase_pat.enable_sign_in = on`);
  await db.query('create extension pgcrypto');
  await db.query(`update auth.users set email = 'b\u00f6b@b\u00fccher.example', email_confirmed_at = now(), encrypted_password = crypt('a password', gen_salt('bf', 4)) where id = $1`, [BOB]);
  assert.equal(await value(db, `select (sign_in('B\u00d6B@b\u00fccher.example', 'a password')).access_token is not null`), true);
  const { token, code } = await issue('b\u00f6b@b\u00fccher.example');
  assert.equal(await value(db, `select reset_password($1, $2, 'another password')`, token, code), true);
});
