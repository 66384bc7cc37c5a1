// Sessions without Supabase Auth: through the REST server, and with the client library.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import * as jose from 'jose';
import { ALICE, SECRET, request, sign, start } from './fixture.mjs';

let world;
let db;
let url;
before(async () => {
  world = await start({
    settings: {
      'supabase_pat.enable_sign_up': 'on', 'supabase_pat.enable_sign_in': 'on', 'supabase_pat.confirm_sign_up': 'off',
      'supabase_pat.reset_requests_per_hour': 1000,
    },
    sql: 'create policy "signed in" on todos as restrictive using (is_active_session());',
  });
  db = await world.cluster.connect('postgres');
  url = await world.gateway();
});
after(async () => {
  await db.end();
  world.stop();
});

const rpc = (name, body, options = {}) => world.request('POST', `/rpc/${name}`, { body, ...options });
const client = async () => createClient(url, await sign({ role: 'anon', iss: 'supabase' }), {
  auth: { persistSession: false, autoRefreshToken: false },
});
const session = async () => (await db.query('select * from pat.mint_session($1)', [ALICE])).rows[0];
const count = async (sql) => Number(Object.values((await db.query(sql)).rows[0])[0]);

test('supabase-js signs up, queries under RLS, refreshes, and signs out', async () => {
  const supabase = await client();
  const { data: signedUp, error } = await supabase.rpc('sign_up', { email: 'carol@example.com', password: 'a password', data: { name: 'Carol' } });
  assert.equal(error, null);
  const { data: { session: mine, user }, error: refused } = await supabase.auth.setSession(signedUp);
  assert.equal(refused, null);
  assert.equal(user.email, 'carol@example.com');
  assert.deepEqual(user.user_metadata, { name: 'Carol' });
  assert.equal(mine.access_token, signedUp.access_token);

  assert.equal((await supabase.from('todos').insert({ title: 'by carol' })).error, null);
  assert.deepEqual((await supabase.from('todos').select('title')).data, [{ title: 'by carol' }]);

  const refreshed = await supabase.auth.refreshSession();
  assert.equal(refreshed.error, null);
  assert.notEqual(refreshed.data.session.refresh_token, signedUp.refresh_token);
  assert.deepEqual((await supabase.from('todos').select('title')).data, [{ title: 'by carol' }]);
  const { data: info } = await supabase.rpc('session_info');
  assert.equal(info.user_id, user.id);
  assert.equal(info.should_refresh, false);

  assert.deepEqual((await supabase.rpc('sign_out')).data, 1);
  assert.equal((await supabase.from('todos').select('title')).error.message, 'the session of this login has ended');
  assert.notEqual((await supabase.auth.refreshSession()).error, null);

  const back = await supabase.rpc('sign_in', { email: 'carol@example.com', password: 'a password' });
  assert.equal((await supabase.auth.setSession(back.data)).error, null);
  assert.deepEqual((await supabase.from('todos').select('title')).data, [{ title: 'by carol' }]);
});

test('wrong passwords and wrong tokens are answered with 401, and what they leave behind stays', async () => {
  const wrong = await rpc('sign_in', { email: 'carol@example.com', password: 'wrong' });
  const nobody = await rpc('sign_in', { email: 'nobody@example.com', password: 'wrong' });
  assert.deepEqual([wrong.status, wrong.data.access_token, wrong.data.user], [401, null, null]);
  assert.deepEqual(nobody, wrong);
  assert.ok(await count('select count(*) from pat.wrong_passwords') > 0);

  const first = await session();
  const second = (await rpc('refresh_session', { refresh_token: first.refresh_token })).data;
  const third = (await rpc('refresh_session', { refresh_token: second.refresh_token })).data;
  await db.query(`update pat.sessions set previously_refreshed_at = previously_refreshed_at - interval '61 s'`);
  const stolen = await rpc('refresh_session', { refresh_token: first.refresh_token });
  assert.deepEqual([stolen.status, stolen.data.access_token], [401, null]);
  // It ended for the owner too.
  assert.equal((await rpc('refresh_session', { refresh_token: third.refresh_token })).status, 401);
  assert.equal((await world.request('GET', '/todos', { token: third.access_token })).data.message, 'the session of this login has ended');
  assert.equal(await count(`select count(*) from pat.events where event = 'refresh_token_reused'`), 1);
});

test('a stolen refresh token that is used in turn with its owner is found out', async () => {
  for (const order of [['owner', 'thief'], ['thief', 'owner']]) {
    const first = (await session()).refresh_token;
    const held = { owner: first, thief: first };
    const answers = [];
    for (const who of [...order, ...order, ...order]) {
      const { status, data } = await rpc('refresh_session', { refresh_token: held[who] });
      if (status === 200) held[who] = data.refresh_token;
      answers.push(status);
      await db.query(`update pat.sessions set refreshed_at = refreshed_at - interval '61 s', previously_refreshed_at = previously_refreshed_at - interval '61 s'`);
    }
    assert.deepEqual(answers, [200, 401, 401, 401, 401, 401]);
  }
  // Who lost an answer has a minute to ask again.
  const mine = await session();
  const next = await rpc('refresh_session', { refresh_token: mine.refresh_token });
  await db.query(`update pat.sessions set refreshed_at = refreshed_at - interval '55 s'`);
  const again = await rpc('refresh_session', { refresh_token: mine.refresh_token });
  assert.deepEqual([next.status, again.status, again.data.refresh_token], [200, 200, next.data.refresh_token]);
});

test('an access token that has expired is refused by the REST server, and refreshed', async () => {
  await db.query(`set supabase_pat.access_token_lifetime = '1s'`);
  const brief = await session();
  await db.query('reset supabase_pat.access_token_lifetime');
  assert.equal(brief.expires_in, 1);
  const until = Date.now() + 60_000;
  // The REST server allows for clocks that differ.
  let status;
  do {
    ({ status } = await world.request('GET', '/todos', { token: brief.access_token }));
    await new Promise((resolve) => setTimeout(resolve, 500));
  } while (status === 200 && Date.now() < until);
  assert.equal(status, 401);
  const { data: fresh } = await rpc('refresh_session', { refresh_token: brief.refresh_token });
  assert.equal((await world.request('GET', '/todos', { token: fresh.access_token })).status, 200);
});

test('requests that refresh at once all get the same live token', async () => {
  const first = await session();
  const answers = await Promise.all(Array.from({ length: 20 }, () => rpc('refresh_session', { refresh_token: first.refresh_token })));
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  const tokens = new Set(answers.map(({ data }) => data.refresh_token));
  assert.equal(tokens.size, 1);
  assert.equal((await rpc('refresh_session', { refresh_token: [...tokens][0] })).status, 200);
});

test('a thousand sign-ins, refreshes and sign-outs at once leave no error, no orphan and no lost session', async () => {
  await db.query('delete from auth.sessions');
  await db.query('delete from pat.sessions');
  const users = 20;
  await db.query(`create extension if not exists pgcrypto`);
  await db.query(`insert into auth.users (email, encrypted_password, email_confirmed_at)
    select 'user' || i || '@example.com', crypt('a password', gen_salt('bf', 4)), now() from generate_series(1, $1) i`, [users]);
  let kept = 0;
  const life = async (n) => {
    const connection = await world.cluster.connect('postgres');
    await connection.query('set role anon');
    const call = async (sql, ...parameters) => (await connection.query(sql, parameters)).rows[0];
    for (let i = 0; i < 50; i += 1) {
      const email = `user${(n + i) % users + 1}@example.com`;
      let mine = await call('select * from sign_in($1, $2)', email, 'a password');
      assert.ok(mine.access_token, `${email} signs in`);
      for (let j = 0; j < 3; j += 1) {
        const next = await call('select * from refresh_session($1)', mine.refresh_token);
        assert.ok(next.access_token && next.refresh_token !== mine.refresh_token);
        mine = next;
      }
      if (i % 2 === 0) {
        kept += 1;
      } else {
        await connection.query(`select set_config('request.jwt.claims', $1, false)`, [JSON.stringify(jose.decodeJwt(mine.access_token))]);
        await connection.query('set role authenticated');
        assert.equal((await call('select sign_out() as ended')).ended, 1);
        await connection.query(`set role anon; select set_config('request.jwt.claims', '', false)`);
      }
    }
    await connection.end();
  };
  await Promise.all(Array.from({ length: 20 }, (_, n) => life(n)));
  assert.equal(await count('select count(*) from auth.sessions'), kept);
  assert.equal(await count('select count(*) from pat.sessions p join auth.sessions s on s.id = p.session_id and s.user_id = p.user_id and p.live = 3'), kept);
  assert.equal(await count('select count(*) from pat.sessions'), kept);
});

test('a personal access token does not become a session', async () => {
  const { access_token: login, refresh_token: refresh } = await session();
  const { data: { token } } = await rpc('mint_pat', { name: 'script' }, { token: login });
  for (const [name, body] of [['refresh_session', { refresh_token: refresh }], ['sign_out', {}]]) {
    const answer = await rpc(name, body, { token });
    assert.equal(answer.data.code, '42501', name);
  }
  assert.equal((await rpc('refresh_session', { refresh_token: token })).status, 401);
  assert.equal((await rpc('refresh_session', { refresh_token: refresh })).status, 200);
  const { data } = await rpc('session_info', {}, { token });
  assert.deepEqual([data.session_id, data.is_pat], [null, true]);
});

test('signing in works with a REST server that verifies by a set of keys', async () => {
  await db.query(`select pat.add_signing_key('ES256', kid => 'a')`);
  await db.query(`select pat.rotate_signing_key('a')`);
  const keys = (await db.query('select pat.jwks_for_verifier() as keys')).rows[0].keys;
  const rest = await world.serve(JSON.stringify(keys));
  try {
    const { data } = await request(rest.url, 'POST', '/rpc/sign_in', { body: { email: 'carol@example.com', password: 'a password' } });
    assert.equal(jose.decodeProtectedHeader(data.access_token).alg, 'ES256');
    const mine = await request(rest.url, 'GET', '/todos?select=title', { token: data.access_token });
    assert.deepEqual(mine.data, [{ title: 'by carol' }]);
    await assert.rejects(jose.jwtVerify(data.access_token, new TextEncoder().encode(SECRET)));
  } finally {
    rest.stop();
    await db.query('delete from pat.signing_keys');
  }
});
