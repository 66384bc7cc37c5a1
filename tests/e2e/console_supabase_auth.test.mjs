// The console where Supabase Auth signs people in, and the extension's own functions for that are off.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startConsole } from './console_world.mjs';
import { SupabaseAuth } from './supabase_auth_server.mjs';

/** Until a code has been used up, a second client of supabase-js has its session, and supabase-js warns of any second one. */
const EXPECTS = ['Multiple GoTrueClient instances'];
const ENDED = 'You are signed out everywhere, and your tokens have ended.';

let world;
let auth;
before(async () => {
  world = await startConsole({
    settings: { 'supabase_pat.enable_sign_in': 'off', 'supabase_pat.enable_sign_up': 'off' },
    auth(started) {
      auth = new SupabaseAuth(started);
      return auth.answer;
    },
  });
});
after(() => world?.stop());

/** All that a page sends, in order. */
function watch(page) {
  const sent = [];
  page.on('request', (request) => sent.push({ path: new URL(request.url()).pathname, body: request.postData() ?? '' }));
  return sent;
}

const rpc = (name, token, body = {}) => world.request('POST', `/rpc/${name}`, { token, body });

/** A page on which the code for a new password has been asked for. */
async function forgotten(email, expects = EXPECTS) {
  const page = await world.visit('/#/forgotten', { expects });
  await page.getByLabel('E-mail address').fill(email);
  await page.getByRole('button', { name: 'Send me a code' }).click();
  const code = page.getByLabel('Code', { exact: true });
  await code.waitFor();
  await code.fill(auth.users.get(email).code);
  return page;
}

async function set(page, password) {
  await page.getByLabel('New password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Set the password' }).click();
}

const sessions = ({ id }) => Number(auth.sql(`select count(*) from auth.sessions where user_id = '${id}'`));

test('a password is sent to the server that signs people in, and to no other', async () => {
  const user = auth.add('anna@example.com', 'correct horse');
  const page = await world.visit();
  const sent = watch(page);
  await world.signIn(page, user);
  const withPassword = sent.filter(({ body }) => body.includes(user.password)).map(({ path }) => path);
  assert.deepEqual(withPassword, ['/auth/v1/token']);

  const fresh = await world.visit();
  const sentThere = watch(fresh);
  await fresh.getByRole('button', { name: 'Make an account' }).click();
  await fresh.getByLabel('E-mail address').fill('ben@example.com');
  await fresh.getByLabel('Password', { exact: true }).fill('battery staple');
  await fresh.getByRole('button', { name: 'Sign up' }).click();
  await fresh.getByRole('alert').getByText('Signups not allowed for this instance').waitFor();
  assert.deepEqual(sentThere.filter(({ body }) => body.includes('battery staple')).map(({ path }) => path), ['/auth/v1/signup']);
  assert.deepEqual([...page.wrong, ...fresh.wrong], []);
});

test('a reset ends all logins and then all tokens, so that no thief makes another one', async () => {
  const user = auth.add('clara@example.com', 'correct horse');
  const { access_token: thief } = await auth.begin(user, 'password');
  const { data: { token } } = await rpc('mint_pat', thief, { name: 'of the thief' });
  assert.equal((await world.request('GET', '/todos', { token })).status, 200);
  const page = await forgotten(user.email);
  const sent = watch(page);
  let tried;
  await page.route('**/rpc/revoke_all_pats', async (route) => {
    tried = await rpc('mint_pat', thief, { name: 'another one' });
    await route.continue();
  });
  auth.asked.length = 0;
  await set(page, 'battery staple');
  await page.getByText(ENDED).waitFor();
  assert.ok(tried.status >= 400, JSON.stringify(tried));
  assert.match(tried.data.message, /the session of this login has ended/);
  assert.equal((await world.request('GET', '/todos', { token })).status, 401);
  assert.equal(auth.sql(`select count(*) from pat.api_keys where user_id = '${user.id}' and revoked_at is null`), '0');
  assert.equal(sessions(user), 0);
  assert.deepEqual(auth.asked.map(({ what }) => what), ['POST /verify', 'PUT /user', 'POST /logout others', 'POST /logout global']);
  const order = sent.map(({ path }) => path).filter((path) => /logout|revoke_all_pats/.test(path));
  assert.deepEqual(order, ['/auth/v1/logout', '/rest/v1/rpc/revoke_all_pats', '/auth/v1/logout']);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await world.signIn(page, user);
  assert.deepEqual(page.wrong, []);
});

test('a password that is refused is asked for again without the code, and signs nobody in', async () => {
  const user = auth.add('dieter@example.com', 'correct horse');
  const page = await forgotten(user.email);
  for (const [password, said] of [['short', 'Password should be at least 8 characters.'], [user.password, 'New password should be different']]) {
    await set(page, password);
    await page.getByRole('alert').getByText(said).waitFor();
    await page.getByText('The code was right, and is used up.').waitFor();
    assert.equal(await page.getByLabel('Code', { exact: true }).count(), 0);
  }
  // No other tab and no reload finds a login.
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.getByRole('link', { name: 'Tokens' }).count(), 0);
  assert.deepEqual(await world.violations(page), []);
  await set(page, 'battery staple');
  await page.getByText(ENDED).waitFor();
  assert.equal(user.password, 'battery staple');
  assert.equal(sessions(user), 0);
  assert.deepEqual(page.wrong, []);
});

test('whoever does not go on after the code is signed out', async () => {
  const user = auth.add('emil@example.com', 'correct horse');
  const page = await forgotten(user.email);
  await set(page, 'short');
  await page.getByText('The code was right, and is used up.').waitFor();
  assert.equal(sessions(user), 1);
  const left = page.waitForResponse('**/auth/v1/logout?scope=local');
  await page.evaluate(() => { location.hash = '#/sign-in'; });
  await left;
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  assert.equal(sessions(user), 0);

  // supabase-js says so of a request whose page has gone, and nobody is there to read it.
  const again = await forgotten(user.email, [...EXPECTS, 'Failed to fetch']);
  await set(again, 'short');
  await again.getByText('The code was right, and is used up.').waitFor();
  // The page is gone before the answer comes.
  let release;
  auth.held = new Promise((resolve) => { release = resolve; });
  const asked = again.waitForRequest('**/auth/v1/logout?scope=local');
  await again.evaluate(() => { location.hash = '#/tokens'; });
  await asked;
  await again.reload();
  release();
  await again.getByRole('heading', { name: 'Sign in' }).waitFor();
  for (const start = Date.now(); sessions(user) > 0 && Date.now() - start < 10_000;) await sleep(50);
  assert.equal(sessions(user), 0);
  assert.deepEqual([...page.wrong, ...again.wrong], []);
});

test('tokens that have not ended are not said to have', async () => {
  const user = auth.add('frieda@example.com', 'correct horse');
  const { access_token: login } = await auth.begin(user, 'password');
  const { data: { token } } = await rpc('mint_pat', login, { name: 'still there' });
  const works = async () => (await world.request('GET', '/todos', { token })).status;
  const page = await forgotten(user.email);
  const failing = (path, until) => page.route(path, (route) => route.fulfill({ status: 503, contentType: 'application/json', body: '{"message": "not now"}' }), { times: until });
  await failing('**/auth/v1/logout?scope=others', 1);
  await failing('**/rpc/revoke_all_pats', 1);
  await set(page, 'battery staple');
  // The other logins are first: as long as they are there, they make tokens.
  const open = page.getByText('Your tokens have not ended, and other logins may go on');
  await open.waitFor();
  assert.deepEqual([await works(), sessions(user)], [200, 2]);
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByRole('alert').getByText('not now').waitFor();
  await open.waitFor();
  assert.equal(await page.getByText(ENDED).count(), 0);
  assert.deepEqual([await works(), sessions(user)], [200, 1]);
  assert.deepEqual(await world.violations(page), []);
  await failing('**/auth/v1/logout?scope=global', 1);
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByText('Your tokens have ended, but you could not be signed out.').waitFor();
  assert.equal(await works(), 401);
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByText(ENDED).waitFor();
  assert.deepEqual([await works(), sessions(user)], [401, 0]);
  assert.deepEqual(page.wrong, []);
});
