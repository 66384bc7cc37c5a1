// The console where Supabase Auth signs people in, and the extension's own functions for that are off.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startConsole } from './console_world.mjs';
import { SupabaseAuth } from './supabase_auth_server.mjs';

/** Until a code has been used up, a second client of supabase-js has its session, and supabase-js warns of any second one. */
const EXPECTS = { expects: ['Multiple GoTrueClient instances'] };
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
async function forgotten(email) {
  const page = await world.visit('/#/forgotten', EXPECTS);
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
