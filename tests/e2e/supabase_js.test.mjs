// The client library that applications use.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { ALICE, BOB, sign, start } from './fixture.mjs';

let world;
let url;

before(async () => {
  world = await start();
  url = await world.gateway();
});
after(() => world.stop());

const client = async (token) => createClient(url, await sign({ role: 'anon', iss: 'supabase' }), {
  global: { headers: { Authorization: `Bearer ${token}` } },
  auth: { persistSession: false, autoRefreshToken: false },
});

test('supabase-js mints, uses, lists and revokes a token', async () => {
  const alice = await client(await world.login(ALICE));
  const minted = await alice.rpc('mint_pat', { name: 'python script', expires_in: '30 days' });
  assert.equal(minted.error, null);
  assert.equal(minted.data.name, 'python script');

  const script = await client(minted.data.token);
  const read = await script.from('todos').select('title').order('id');
  assert.deepEqual(read.data, [{ title: 'alice 1' }, { title: 'alice 2' }]);
  const written = await script.from('todos').insert({ title: 'from the script' }).select().single();
  assert.equal(written.error, null);
  assert.equal(written.data.user_id, ALICE);

  const keys = await alice.from('api_keys').select('id, name, is_active');
  assert.deepEqual(keys.data, [{ id: minted.data.id, name: 'python script', is_active: true }]);
  const revoked = await alice.rpc('revoke_pat', { id: minted.data.id });
  assert.equal(revoked.data, true);
  const revokedNow = 'the personal access token has been revoked';
  assert.equal((await script.from('todos').select('title')).error.message, revokedNow);
  assert.equal((await script.from('todos').insert({ title: 'x' })).error.message, revokedNow);

  const again = await alice.rpc('mint_pat', { name: 'another' });
  await alice.from('api_keys').delete().eq('id', again.data.id);
  assert.equal((await (await client(again.data.token)).from('todos').select('title')).error.message, 'there is no such personal access token');
});

test('supabase-js shows the error of a call that is not allowed', async () => {
  const alice = await client(await world.login(ALICE));
  const { error } = await alice.rpc('mint_pat', { user_id: BOB, name: 'stolen' });
  assert.equal(error.code, '42501');
  assert.equal(error.message, "only a trusted role may mint another user's tokens");
});
