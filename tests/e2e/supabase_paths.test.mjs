// supabase-js with nothing but an address and a key, behind the nginx of packaging/nginx: our sessions in the place of
// Supabase Auth's. It is about the proxy and what it lets through; sessions.test.mjs is about the sessions themselves.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { sections } from './documentation.mjs';
import { ALICE, BOB, request, start } from './fixture.mjs';

let world;
let db;
let url;
let key;
before(async () => {
  world = await start({
    settings: { 'supabase_pat.enable_sign_in': 'on', 'supabase_pat.trusted_proxies': '1' },
    sql: `create extension pgcrypto;
      update auth.users set email = 'alice@example.com', email_confirmed_at = now(), encrypted_password = crypt('a password', gen_salt('bf', 4))
      where id = '${ALICE}';`,
  });
  db = await world.cluster.connect('postgres');
  url = await world.gateway();
  key = (await db.query(`select pat.mint_api_key('anon') as key`)).rows[0].key;
});
after(async () => {
  await db.end();
  world.stop();
});

const ask = (method, path, options) => request(url, method, path, options);
const session = async (user = ALICE) => (await db.query('select * from pat.mint_session($1)', [user])).rows[0];
const sessionsOf = async (user) => (await db.query('select id from auth.sessions where user_id = $1', [user])).rows.length;
/** A client of a page, which is stopped after the test. */
const page = (t) => {
  const supabase = createClient(url, key);
  t.after(() => supabase.auth.stopAutoRefresh());
  return supabase;
};
const loggedIn = async (t, tokens) => {
  const supabase = page(t);
  const { error } = await supabase.auth.setSession(tokens);
  assert.equal(error, null);
  return supabase;
};
/** All rows of the auth schema and of the tokens, to see that nothing has changed. */
const everything = async () => {
  const rows = [];
  for (const table of ['auth.users', 'auth.identities', 'auth.sessions', 'auth.refresh_tokens', 'pat.sessions', 'pat.api_keys']) {
    rows.push((await db.query(`select to_jsonb(t) as row from ${table} t order by 1`)).rows);
  }
  return rows;
};

test('a page signs in, knows its user, works under policies and signs out', async (t) => {
  const supabase = page(t);
  const { data: tokens, error } = await supabase.rpc('sign_in', { email: 'alice@example.com', password: 'a password' });
  assert.equal(error, null);
  const events = [];
  supabase.auth.onAuthStateChange((event) => events.push(event));
  assert.equal((await supabase.auth.setSession(tokens)).error, null);
  const { data: { user } } = await supabase.auth.getUser();
  assert.deepEqual([user.id, user.email], [ALICE, 'alice@example.com']);
  assert.deepEqual((await supabase.from('todos').select('title').order('id')).data, [{ title: 'alice 1' }, { title: 'alice 2' }]);

  assert.equal((await supabase.auth.signOut()).error, null);
  assert.equal(await sessionsOf(ALICE), 0);
  assert.deepEqual((await supabase.from('todos').select('title')).data, []);
  assert.deepEqual([events.includes('SIGNED_IN'), events.at(-1)], [true, 'SIGNED_OUT']);
  const late = await ask('GET', '/auth/v1/user', { token: tokens.access_token });
  assert.deepEqual([late.status, late.data.message], [401, 'the session of this login has ended']);
});

test('the page of the documentation does what it says', async (t) => {
  const { blocks } = sections('with_supabase.md').find(({ title }) => title.startsWith('Without Supabase Auth'));
  const { code } = blocks.find(({ language }) => language === 'js');
  const page = new (async () => {}).constructor('createClient', 'anonKey', 'email', 'password', `${code}\nreturn { user, todos };`);
  const { user, todos } = await page((address, ...others) => {
    assert.equal(address, 'http://127.0.0.1:8000');
    const supabase = createClient(url, ...others);
    t.after(() => supabase.auth.stopAutoRefresh());
    return supabase;
  }, key, 'alice@example.com', 'a password');
  assert.equal(user.id, ALICE);
  assert.ok(todos.some(({ title }) => title === 'alice 1'));
  assert.equal(await sessionsOf(ALICE), 0);
});

test('the versions in the documentation are those of the tests', () => {
  const text = sections('with_supabase.md').find(({ title }) => title === 'What was tried').body;
  const file = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
  const supabaseJs = JSON.parse(file('tests/package.json')).dependencies['@supabase/supabase-js'];
  const [, postrust] = file('scripts/postrust/Cargo.toml').match(/^version = "(.*)"/m);
  assert.ok(text.includes(`supabase-js ${supabaseJs},`), supabaseJs);
  assert.ok(text.includes(`[postrust](../scripts/postrust/Cargo.toml) ${postrust} `), postrust);
});

test('supabase-js refreshes by itself before an access token ends, and tells the page', async (t) => {
  await db.query(`set supabase_pat.access_token_lifetime = '60s'`);
  const brief = await session();
  await db.query('reset supabase_pat.access_token_lifetime');
  const supabase = await loggedIn(t, brief);
  const refreshed = new Promise((resolve) => {
    supabase.auth.onAuthStateChange((event, now) => { if (event === 'TOKEN_REFRESHED') resolve(now); });
  });
  await supabase.auth.startAutoRefresh();
  const now = await refreshed;
  assert.notEqual(now.access_token, brief.access_token);
  assert.notEqual(now.refresh_token, brief.refresh_token);
  assert.equal(now.expires_in, 3600);
  assert.equal((await supabase.auth.getUser()).data.user.id, ALICE);
  assert.equal((await supabase.from('todos').insert({ title: 'later' })).error, null);
});

test('a session that ends elsewhere is gone for the page at its next call, and the page is told at its next refresh', async (t) => {
  const supabase = await loggedIn(t, await session());
  const events = [];
  supabase.auth.onAuthStateChange((event) => events.push(event));
  await db.query('delete from auth.sessions where user_id = $1', [ALICE]);
  const { data: { user }, error } = await supabase.auth.getUser();
  assert.deepEqual([user, error.status, error.message], [null, 401, 'the session of this login has ended']);
  assert.equal((await supabase.from('todos').select()).error.code, 'PT401');
  assert.equal((await supabase.auth.refreshSession()).error.status, 401);
  assert.equal(events.at(-1), 'SIGNED_OUT');
  assert.equal((await supabase.auth.getSession()).data.session, null);
});

test('a sign-out ends the sessions that its scope names, and all unless it says so', async (t) => {
  for (const [options, left] of [[{ scope: 'local' }, 2], [{ scope: 'others' }, 1], [{ scope: 'global' }, 0], [undefined, 0]]) {
    await db.query('delete from auth.sessions');
    const bobs = await session(BOB);
    const mine = await loggedIn(t, await session());
    await session();
    await session();
    assert.equal((await mine.auth.signOut(options)).error, null);
    assert.equal(await sessionsOf(ALICE), left, JSON.stringify(options));
    assert.equal((await ask('GET', '/auth/v1/user', { token: bobs.access_token })).data.id, BOB);
  }
});

test('what browsers ask first ends and changes nothing', async () => {
  const { access_token: token } = await session();
  const before = await everything();
  for (const path of ['/auth/v1/logout?scope=global', '/auth/v1/token?grant_type=refresh_token', '/auth/v1/user', '/rest/v1/todos']) {
    const answer = await fetch(url + path, {
      method: 'OPTIONS',
      headers: { authorization: `Bearer ${token}`, origin: 'https://app.example.com', 'access-control-request-method': 'POST' },
    });
    assert.ok(answer.headers.get('access-control-allow-origin'), path);
  }
  assert.deepEqual(await everything(), before);
});

test('pages of other origins read each answer, refusals of the proxy too', async () => {
  const origin = 'https://app.example.com';
  for (const [method, path, expected] of [
    ['GET', '/auth/v1/user', 200], ['PUT', '/auth/v1/user', 405], ['GET', '/auth/v1/token', 405], ['GET', '/auth/v1/logout', 405],
    ['POST', '/auth/v1/token?grant_type=password', 400], ['POST', '/auth/v1/signup', 404], ['GET', '/rest/v1/todos', 200],
  ]) {
    const first = await fetch(url + path, { method: 'OPTIONS', headers: {
      origin, 'access-control-request-method': method, 'access-control-request-headers': 'apikey,authorization,x-client-info',
    } });
    const allowed = (name) => first.headers.get(`access-control-allow-${name}`).split(/, */);
    assert.ok(first.ok, path);
    assert.ok(allowed('methods').includes(method) && ['apikey', '*'].some((header) => allowed('headers').includes(header)), path);
    const answer = await fetch(url + path, { method, headers: { origin, authorization: `Bearer ${key}` } });
    // Twice the same is none to a browser.
    for (const { headers } of [first, answer]) assert.ok(['*', origin].includes(headers.get('access-control-allow-origin')), path);
    assert.equal(answer.status, expected, path);
  }
});

test('a scope that is none, and one that would be more than a text, are refused', async () => {
  const { access_token: token } = await session();
  const before = await everything();
  for (const scope of ['everywhere', 'local"%2C"x":"y', '","scope":"global', 'local"}', '%00']) {
    const { status } = await ask('POST', `/auth/v1/logout?scope=${scope}`, { token });
    assert.equal(status, 400, scope);
  }
  assert.deepEqual(await everything(), before);
});

test('no token of ours changes its user, ends or gets a session by a path of Supabase Auth', async () => {
  const { access_token: login, refresh_token } = await session();
  await session();
  const mint = async (body) => (await ask('POST', '/rest/v1/rpc/mint_pat', { token: login, body })).data.token;
  const [jwt, opaque] = [await mint({ name: 'jwt' }), await mint({ name: 'opaque', kind: 'opaque' })];
  const exchanged = (await ask('POST', '/rest/v1/rpc/exchange_token', { token: jwt, body: {} })).data.access_token;
  assert.ok(exchanged);
  const before = await everything();
  const paths = ['/user', '/logout', '/token?grant_type=refresh_token', '/token?grant_type=password', '/reauthenticate', '/factors',
    '/factors/x/verify', '/user/identities/x', '/admin/users', `/admin/users/${ALICE}`, '/invite', '/signup', '/recover', '/otp', '/verify', '/sso',
    '/oauth/authorizations/x/consent', '/callback', '/health'];
  const own = { password: 'the password of a thief', email: 'thief@example.com' };
  for (const [name, headers] of [
    ['JWT', { authorization: `Bearer ${jwt}` }], ['exchanged', { authorization: `Bearer ${exchanged}` }],
    ['opaque', { authorization: `Bearer ${opaque}` }], ['opaque in its header', { 'x-api-key': opaque }],
  ]) {
    for (const path of paths) {
      for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) {
        const body = method === 'GET' || method === 'DELETE' ? undefined : path === '/logout' ? {} : path.includes('refresh') ? { refresh_token } : own;
        const { status, data } = await ask(method, `/auth/v1${path}`, { headers, body });
        // It may ask whose it is, as anywhere else.
        const reads = method === 'GET' && path === '/user' && name !== 'opaque';
        if (reads) assert.deepEqual([status, data.id], [200, ALICE], name);
        else assert.ok(status >= 400, `${name}: ${method} ${path} was answered with ${status}`);
      }
    }
  }
  assert.deepEqual(await everything(), before);
});

test('a login changes no user by PUT, and signs in by no path of Supabase Auth', async (t) => {
  const supabase = await loggedIn(t, await session());
  const before = await everything();
  const { error } = await supabase.auth.updateUser({ password: 'another password' });
  assert.deepEqual([error.status, error.message], [405, "users are not changed here: set a password with rpc('reset_password')"]);
  const { error: refused } = await supabase.auth.signInWithPassword({ email: 'alice@example.com', password: 'a password' });
  assert.deepEqual([refused.status, refused.message], [400, "sign in with rpc('sign_in') and setSession()"]);
  assert.deepEqual(await everything(), before);
});

test('the address that the proxy sees counts, whatever a client says of itself', async () => {
  const login = await world.login(ALICE);
  const mint = async (address) => (await ask('POST', '/rest/v1/rpc/mint_pat', { token: login, body: { name: address, allowed_ips: [address] } })).data.token;
  const [ours, elsewhere] = [await mint('127.0.0.1'), await mint('192.0.2.7')];
  for (const headers of [{}, { 'x-forwarded-for': '192.0.2.7' }, { 'x-forwarded-for': '192.0.2.7, 192.0.2.7' }, { forwarded: 'for=192.0.2.7', 'x-real-ip': '192.0.2.7' }]) {
    assert.equal((await ask('GET', '/rest/v1/todos', { token: ours, headers })).status, 200, JSON.stringify(headers));
    assert.equal((await ask('GET', '/rest/v1/todos', { token: elsewhere, headers })).status, 403, JSON.stringify(headers));
  }
});

test('the longest token that is minted, and many rows at once, get through', async () => {
  const login = await world.login(ALICE);
  const scopes = ['todos:read', ...Array.from({ length: 63 }, (_, n) => `${'long'.repeat(30)}${n}:read`)];
  const minted = await ask('POST', '/rest/v1/rpc/mint_pat', { token: login, body: { name: 'long', scopes } });
  assert.equal(minted.status, 200, JSON.stringify(minted.data));
  assert.ok(minted.data.token.length > 8_192, `${minted.data.token.length}`);
  assert.equal((await ask('GET', '/rest/v1/todos?select=title', { token: minted.data.token })).status, 200);
  const rows = Array.from({ length: 20_000 }, (_, n) => ({ title: `${'x'.repeat(80)} ${n}` }));
  const written = await ask('POST', '/rest/v1/todos', { token: login, body: rows });
  assert.equal(written.status, 201, JSON.stringify(written.data));
});
