// Who may grant, renew and revoke: what holds when many do it at once, and what a client is told over REST.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { ALICE, start } from './fixture.mjs';

const CLIENTS = 8;
let world;
let db;
before(async () => {
  world = await start({ settings: { 'supabase_pat.max_keys_per_user': 100_000 } });
  db = await world.cluster.connect('postgres');
});
after(async () => {
  await db?.end();
  world?.stop();
});

const value = async (client, sql, ...parameters) => Object.values((await client.query(sql, parameters)).rows[0])[0];

/** Connections that make requests with those claims. */
async function connections(claims, count = CLIENTS) {
  return Promise.all(Array.from({ length: count }, async () => {
    const client = await world.cluster.connect('postgres');
    await client.query(`select set_config('request.jwt.claims', $1, false), set_config('role', 'authenticated', false)`,
      [JSON.stringify({ role: 'authenticated', sub: ALICE, ...claims })]);
    return client;
  }));
}

/** What the gate does before a request, here one for which a token needs no scope. */
const JUDGE = `select set_config('request.method', 'POST', true), set_config('request.path', '/rpc/revoke_pat', true); select pat.gate()`;

/** Calls `sql` over and over on each of the clients until it is refused, and returns the refusals. */
const untilRefused = (clients, sql, isolation, { judge = 'select' } = {}) => clients.map(async (client, number) => {
  for (;;) {
    try {
      await client.query(`begin isolation level ${isolation(number)}`);
      await client.query(judge);
      await client.query(sql(number));
      await client.query('commit');
    } catch (error) {
      await client.query('rollback');
      // As any transaction that lives in the past, it may have to be tried again; and what it renews may have been
      // renewed by another of them, or be too young for it to see.
      if (!['40001', '42704'].includes(error.code)) return error.message;
    }
  }
});

const LEVELS = ['read committed', 'repeatable read', 'serializable'];
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const ROUNDS = 12;

/** Repeats what fails with 40001, as a client of these isolation levels does. */
async function insist(call) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (error.code !== '40001') throw error;
    }
  }
}

test('of eight clients that mint with a leaked token none has a live one once its user has revoked all', { timeout: 120_000 }, async () => {
  let minted = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const scopes = '{tokens:read,tokens:write,tokens:delete}';
    const leaked = await value(db, `select id from mint_pat($1, 'leaked')`, ALICE);
    const thieves = await connections({ type: 'personal_access_token', jti: leaked, scope: 'tokens:read tokens:write tokens:delete' });
    const session = randomUUID();
    await db.query('insert into auth.sessions (id, user_id) values ($1, $2)', [session, ALICE]);
    const [owner] = await connections({ session_id: session }, 1);
    const one = `coalesce((select id from api_keys where is_active and id <> '${leaked}' order by random() limit 1), gen_random_uuid())`;
    const call = (number) => (number % 4 === 3
      ? `select rotate_pat(${one})`
      : `select mint_pat(name => 'child', scopes => '${scopes}')`);
    const refusals = untilRefused(thieves, call, (number) => LEVELS[number % LEVELS.length], { judge: JUDGE });
    await pause(20 + Math.random() * 60);
    await insist(async () => {
      try {
        await owner.query(`begin isolation level ${LEVELS[round % LEVELS.length]}; select count(*) from todos`);
        await pause(Math.random() * 20);
        await owner.query('select revoke_all_pats()');
        await owner.query('commit');
      } catch (error) {
        await owner.query('rollback');
        throw error;
      }
    });
    const alive = await value(db, `select count(*)::int from pat.api_keys where revoked_at is null and expires_at > now()`);
    for (const refusal of await Promise.all(refusals)) {
      assert.match(refusal, /^(this request was made with a personal access token that is not valid|the personal access token has been revoked)$/);
    }
    assert.equal(alive, 0, 'when it was answered');
    assert.equal(await value(db, `select count(*)::int from pat.api_keys where revoked_at is null and expires_at > now()`), 0);
    minted += await value(db, `select count(*)::int - 1 from pat.api_keys`);
    await db.query('delete from pat.api_keys');
    await Promise.all([owner, ...thieves].map((client) => client.end()));
  }
  assert.ok(minted > ROUNDS, `${minted} were minted`);
});

test('of eight clients of a login none mints after its session has ended', { timeout: 120_000 }, async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const session = randomUUID();
    await db.query('insert into auth.sessions (id, user_id) values ($1, $2)', [session, ALICE]);
    const clients = await connections({ session_id: session });
    const [owner] = await connections({ session_id: session }, 1);
    const refusals = untilRefused(clients, () => `select mint_pat(name => 'child')`, (number) => LEVELS[number % LEVELS.length]);
    await pause(20 + Math.random() * 60);
    // Supabase Auth deletes the row, and so do we.
    if (round % 2) await owner.query(`select sign_out('global')`);
    else await db.query('delete from auth.sessions where id = $1', [session]);
    const answered = await value(db, 'select clock_timestamp()::text');
    for (const refusal of await Promise.all(refusals)) assert.equal(refusal, 'the session of this login has ended');
    assert.equal(await value(db, 'select count(*)::int from pat.api_keys where created_at > $1', answered), 0);
    assert.ok(await value(db, 'select count(*)::int from pat.api_keys') > 0, 'nothing was minted at all');
    await db.query('delete from pat.api_keys');
    await Promise.all([owner, ...clients].map((client) => client.end()));
  }
});

test('a password that is reset while tokens are minted leaves none of them alive', { timeout: 120_000 }, async () => {
  await db.query(`update auth.users set email = 'alice@example.com', email_confirmed_at = now() where id = $1`, [ALICE]);
  for (let round = 0; round < 4; round++) {
    const session = randomUUID();
    await db.query('insert into auth.sessions (id, user_id) values ($1, $2)', [session, ALICE]);
    const clients = await connections({ session_id: session });
    const refusals = untilRefused(clients, () => `select mint_pat(name => 'child')`, (number) => LEVELS[number % LEVELS.length]);
    const { rows: [{ token, code }] } = await db.query(`select * from pat.issue_reset_code('alice@example.com')`);
    assert.equal(await value(db, 'select reset_password($1, $2, $3)', token, code, `a new password ${round}`), true);
    assert.equal(await value(db, `select count(*)::int from pat.api_keys where revoked_at is null`), 0);
    for (const refusal of await Promise.all(refusals)) assert.equal(refusal, 'the session of this login has ended');
    assert.equal(await value(db, `select count(*)::int from pat.api_keys where revoked_at is null`), 0);
    await db.query('delete from pat.api_keys');
    await Promise.all(clients.map((client) => client.end()));
  }
});

test('a signing key that is revoked while tokens are minted leaves none of its own alive', { timeout: 120_000 }, async () => {
  await db.query(`select pat.add_signing_key(kid => 'first'), pat.add_signing_key(kid => 'second')`);
  await db.query(`select pat.rotate_signing_key('first')`);
  const clients = await connections({});
  let isOver = false;
  const minting = clients.map(async (client) => {
    while (!isOver) await client.query(`select mint_pat(name => 'child')`);
  });
  await pause(50);
  await db.query(`begin isolation level repeatable read; select count(*) from todos`);
  await pause(50);
  await db.query(`select pat.rotate_signing_key('second'); select pat.revoke_signing_key('first'); commit`);
  const alive = () => value(db, `select count(*)::int from pat.api_keys where signing_key = 'first' and revoked_at is null`);
  assert.equal(await alive(), 0);
  await pause(20);
  isOver = true;
  await Promise.all(minting);
  assert.equal(await alive(), 0);
  assert.ok(await value(db, `select count(*)::int from pat.api_keys where signing_key = 'first'`) > 0);
  await db.query(`delete from pat.signing_keys; delete from pat.api_keys`);
  await Promise.all(clients.map((client) => client.end()));
});

test('a client is told what is wrong with a status of 400 to 499', async () => {
  const mint = async (token) => {
    const { status, data } = await world.request('POST', '/rpc/mint_pat', { token, body: { name: 'x' } });
    return [status, data.code, data.hint];
  };
  // 401 for anon from PostgREST, and from postrust for everybody.
  const refused = ([status, ...rest]) => [[401, 403].includes(status), ...rest];
  assert.deepEqual(refused(await mint()), [true, '42501', 'Log in, or, as a trusted role, pass user_id.']);
  assert.deepEqual(refused(await mint(await world.login(ALICE, { client_id: randomUUID() }))).slice(0, 2), [true, '42501']);
  const login = await world.login(ALICE);
  await db.query(`insert into pat.api_keys (id, user_id, name, expires_at)
    select gen_random_uuid(), $1, 'x', '2100-01-01' from generate_series(1, 100000)`, [ALICE]);
  assert.deepEqual(await mint(login), [400, '23514', 'Revoke one first, or raise supabase_pat.max_keys_per_user.']);
  await db.query('delete from pat.api_keys; delete from auth.sessions');
  assert.deepEqual(await mint(login), [401, 'PT401', 'Log in again.']);
});

test('a long chain of tokens goes at once, also while Postgres knows nothing of the table', { timeout: 60_000 }, async () => {
  const link = (n) => `('00000000-0000-7000-8000-' || lpad(to_hex(${n}), 12, '0'))::uuid`;
  await db.query('delete from pat.api_keys; truncate pat.api_key_origins');
  await db.query(`insert into pat.api_key_origins (key_id, user_id, made_by)
    select ${link('n')}, $1::uuid, ${link('n - 1')} from generate_series(1, 20000) n
    union all select gen_random_uuid(), $1::uuid, gen_random_uuid() from generate_series(1, 200000)`, [ALICE]);
  await db.query(`insert into pat.api_keys (id, user_id, name, expires_at) values (${link('20000')}, $1::uuid, 'last', '2100-01-01')`, [ALICE]);
  await db.query(`set statement_timeout = '15s'`);
  assert.equal(await value(db, `select revoke_pat(${link('0')}, true)`), true);
  await db.query(`reset statement_timeout; truncate pat.api_key_origins; delete from pat.api_keys`);
});
