// Settings per user, through the REST server and the declarations of the reference.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { examplesOf, sections } from './documentation.mjs';
import { ALICE, BOB, sign, start } from './fixture.mjs';

const [{ code: DECLARATIONS }] = examplesOf(sections('reference/user_settings.md').find(({ title }) => title === 'In an application'));
const DEFAULTS = {
  temperature: 0.7, default_model: 'small', system_prompt: 'Be brief.', editor: { theme: 'light', font: { size: 12 } },
};

let world;
let alice;
let bob;
before(async () => {
  world = await start({ sql: DECLARATIONS, settings: { log_statement: 'all' } });
  [alice, bob] = [await world.login(ALICE), await world.login(BOB)];
});
after(() => world.stop());

const rpc = (name, token, body = {}) => world.request('POST', `/rpc/${name}`, { token, body });
const query = (overrides) => `/rpc/get_settings?overrides=${encodeURIComponent(JSON.stringify(overrides))}`;

test('everybody gets the defaults, by GET and by POST', async () => {
  for (const token of [undefined, await sign({ role: 'anon' }), alice, bob]) {
    assert.deepEqual(await world.request('GET', '/rpc/get_settings', { token }), { status: 200, data: DEFAULTS });
    assert.deepEqual(await rpc('get_settings', token), { status: 200, data: DEFAULTS });
    assert.deepEqual(await rpc('get_settings', token, { overrides: null }), { status: 200, data: DEFAULTS });
  }
});

test('a user sets, overrides and removes, as the README shows', async () => {
  const own = { ...DEFAULTS, temperature: 1.1, editor: { theme: 'light', font: { size: 14 } } };
  const set = await rpc('set_settings', alice, { patch: { temperature: 1.1, editor: { font: { size: 14 } } } });
  assert.deepEqual(set, { status: 200, data: own });
  assert.deepEqual((await rpc('set_settings', alice, { patch: { temperature: null } })).data.temperature, 0.7);

  const overridden = { ...own, temperature: 0.7, default_model: 'large' };
  assert.deepEqual((await rpc('get_settings', alice, { overrides: { default_model: 'large' } })).data, overridden);
  assert.deepEqual((await world.request('GET', query({ default_model: 'large' }), { token: alice })).data, overridden);
  assert.deepEqual((await world.request('GET', '/rpc/get_settings', { token: alice })).data.default_model, 'small');
  assert.deepEqual((await rpc('get_settings', bob)).data, DEFAULTS);
});

test('what is not fit is a 400 that names the setting and not the value', async () => {
  for (const [name, body, key] of [
    ['get_settings', { overrides: { temperature: 'a secret of mine' } }, 'temperature'],
    ['get_settings', { overrides: { system_prompt: 'a secret of mine' } }, 'system_prompt'],
    ['set_settings', { patch: { default_model: 'a secret of mine' } }, 'default_model'],
    ['set_settings', { patch: { colour: 'a secret of mine' } }, 'colour'],
    ['set_settings', { patch: { system_prompt: 'a secret of mine'.repeat(5000) } }, 'system_prompt'],
  ]) {
    const { status, data } = await rpc(name, alice, body);
    assert.equal(status, 400, JSON.stringify(data));
    assert.equal(data.code, '22023');
    assert.match(data.message, new RegExp(`"${key}"`));
    assert.doesNotMatch(JSON.stringify(data), /secret/);
  }
});

test('anon and a GET set nothing', async () => {
  for (const token of [undefined, await sign({ role: 'anon' })]) {
    assert.equal((await rpc('set_settings', token, { patch: { temperature: 2 } })).data.code, '42501');
  }
  const patch = encodeURIComponent('{"temperature": 2}');
  assert.ok((await world.request('GET', `/rpc/set_settings?patch=${patch}`, { token: alice })).status >= 400);
  assert.equal((await rpc('get_settings', alice)).data.temperature, 0.7);
});

test('a token does what its scopes say, and nothing once it is revoked', async () => {
  const mint = async (more) => (await rpc('mint_pat', bob, { name: 'x', ...more })).data;
  const [reader, unlimited] = [await mint({ scopes: ['settings:read'] }), await mint()];
  assert.equal((await rpc('set_settings', unlimited.token, { patch: { temperature: 2 } })).data.temperature, 2);
  assert.equal((await rpc('get_settings', reader.token)).data.temperature, 2);
  assert.equal((await rpc('set_settings', reader.token, { patch: { temperature: 1 } })).data.code, 'PT403');
  await rpc('revoke_all_pats', bob);
  assert.equal((await rpc('get_settings', reader.token)).data.code, 'PT401');
  assert.equal((await rpc('set_settings', unlimited.token, { patch: { temperature: 1 } })).data.code, 'PT401');
  assert.equal((await rpc('get_settings', bob)).data.temperature, 2);
});

test('set at once by many requests, all of it is kept', async () => {
  world.cluster.psql('postgres', `select pat.define_setting('n' || i, '0') from generate_series(0, 19) i`);
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => rpc('set_settings', bob, { patch: { [`n${i}`]: i } })));
  assert.deepEqual(answers.map(({ status }) => status), Array(20).fill(200));
  const { data } = await rpc('get_settings', bob);
  assert.deepEqual(Array.from({ length: 20 }, (_, i) => data[`n${i}`]), [...Array(20).keys()]);
});

test('a dump brings definitions and values back', async () => {
  const { cluster } = world;
  const dump = spawnSync(join(cluster.bin, 'pg_dump'), { env: cluster.env('postgres'), encoding: 'utf8', maxBuffer: 1e8 });
  assert.equal(dump.status, 0, dump.stderr);
  cluster.psql('postgres', 'create database restored');
  cluster.psql('restored', dump.stdout);
  const claims = JSON.stringify({ sub: BOB, role: 'authenticated' });
  const settings = `set request.jwt.claims = '${claims}'; select get_settings();`;
  assert.equal(cluster.psql('restored', settings), cluster.psql('postgres', settings));
  assert.match(cluster.psql('restored', settings), /"n19": 19/);
});

test('a standby answers, also by definitions that change while a session is open', async () => {
  const { cluster } = world;
  const standby = await cluster.standby();
  const db = await standby.connect('postgres');
  try {
    await cluster.caughtUp(standby);
    await db.query(`select set_config('request.jwt.claims', $1, false)`, [JSON.stringify({ sub: BOB, role: 'authenticated' })]);
    const settings = async () => (await db.query('select get_settings() as settings')).rows[0].settings;
    assert.equal((await settings()).n19, 19);
    cluster.psql('postgres', `select pat.drop_setting('n19'), pat.define_setting('n20', '20')`);
    await rpc('set_settings', bob, { patch: { n18: 180 } });
    await cluster.caughtUp(standby);
    const { n18, n19, n20 } = await settings();
    assert.deepEqual([n18, n19, n20], [180, undefined, 20]);
    await assert.rejects(db.query(`select set_settings('{"n18": 1}')`), /not possible in a read-only transaction/);
    await assert.rejects(db.query(`select pat.define_setting('n21', '1')`), /not possible in a read-only transaction/);
  } finally {
    await db.end();
    standby.stop();
  }
});
