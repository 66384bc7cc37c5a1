// The README's commands, SQL and JavaScript, run as they stand there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { page, sections } from './documentation.mjs';
import { ALICE, BOB, sign, start } from './fixture.mjs';
import { blocksOf, open, walk } from './walkthrough.mjs';

const README = '../README.md';
const taken = new Set();

/** The only block of a language in a section. */
const block = (title, language = 'sql') => {
  const section = sections(README).find((each) => each.title === title);
  assert.ok(section, `the README has no section ${title}`);
  const found = section.blocks.filter((each) => each.language === language);
  assert.equal(found.length, 1, `${title} has not one block of ${language}`);
  taken.add(found[0].code);
  return found[0].code;
};

/** Runs a block of JavaScript with the variables that it takes for granted, and returns those of its own that are named. */
const run = (code, given, ...wanted) => {
  const AsyncFunction = (async () => {}).constructor;
  return new AsyncFunction(...Object.keys(given), `${code}\nreturn { ${wanted} };`)(...Object.values(given));
};

/** The table that the five minutes make, and the policy that a later section adds. */
const [NOTES] = page(README).match(/^create table notes [^]*?(?=^END$)/m);

/** A client that is logged in with a token, and notes the calls that it makes. */
const client = async (world, token) => {
  const calls = [];
  const supabase = createClient(await world.gateway(), await sign({ role: 'anon', iss: 'supabase' }), {
    global: {
      headers: { Authorization: `Bearer ${token}` },
      async fetch(...args) {
        const answer = await fetch(...args);
        calls.push(`${new URL(args[0]).pathname.match(/[^/]*$/)} ${answer.status}`);
        return answer;
      },
    },
    auth: { persistSession: false, autoRefreshToken: false },
  });
  return { supabase, calls };
};

/** What is read, or the code of the refusal. */
const bodiesOf = (data) => (Array.isArray(data) ? data.map((note) => note.body) : data.code);

test('five minutes lead from nothing to a token that is used and revoked', async () => {
  const machine = await open({
    programs: {
      // The files are where `make install` has put them before the tests.
      make: ({ cluster }) => `[ "$*" = install ] && [ -e "$(${cluster.bin}/pg_config --sharedir)/extension/supabase_pat.control" ]`,
    },
  });
  const steps = ['Install', 'Five minutes on plain Postgres'];
  const blocks = blocksOf(README).filter(({ title }) => steps.includes(title));
  blocks.forEach(({ code }) => taken.add(code));
  try {
    await walk(machine, blocks, { database: 'app' });
    // The doctor has nothing to say then, but of the key.
    const told = machine.cluster.psql('app', block('When it does not work'));
    assert.match(told, /^unknown\|[^\n]*\|not_verified\|[^\n]*$/);
  } finally {
    machine.stop();
  }
});

const inAnApplication = async ({ settings, ifDead, ofReader }) => {
  const world = await start({ settings, sql: NOTES + block('Policies') });
  try {
    const login = await world.login(ALICE);
    const write = (bearer, body) => world.request('POST', '/notes', { token: bearer, body: { body } });
    const read = async (bearer) => bodiesOf((await world.request('GET', '/notes?select=body&order=id', { token: bearer })).data);
    assert.equal((await write(login, 'by alice')).status, 201);

    const { supabase, calls } = await client(world, login);
    let shown;
    const show = (token) => { shown = token; };
    const { keys } = await run(block('Five minutes on plain Postgres', 'js'), { supabase, show }, 'keys');
    assert.deepEqual(calls, ['mint_pat 200', 'api_keys 200', 'revoke_pat 200']);
    assert.deepEqual(keys.map(({ name, hint, is_active: isActive }) => [name, hint, isActive]), [['zapier', shown.slice(-6), true]]);
    assert.deepEqual(await read(shown), ifDead);

    const minted = async (parameters) => (await world.request('POST', '/rpc/mint_pat', { token: login, body: parameters })).data.token;
    const token = await minted({ name: 'zapier' });
    const reader = await minted({ name: 'reader', scopes: ['notes:read'] });
    assert.equal((await write(token, 'by zapier')).status, 201);
    assert.equal((await write(reader, 'by the reader')).data.code, ofReader.writes);
    assert.deepEqual(await read(reader), ofReader.reads);
    assert.deepEqual(await read(login), ['by alice', 'by zapier']);
    // Somebody else sees none of it.
    assert.deepEqual(await read(await world.login(BOB)), []);
    await world.request('POST', '/rpc/revoke_all_pats', { token: login, body: {} });
    assert.deepEqual([await read(reader), await read(token)], [ifDead, ifDead]);
    assert.deepEqual(await read(login), ['by alice', 'by zapier']);
  } finally {
    world.stop();
  }
};

test('tokens and policies work as shown', () => inAnApplication({
  ifDead: 'PT401', ofReader: { reads: ['by alice', 'by zapier'], writes: 'PT403' },
}));

test('they work as shown by policies alone, where a token with scopes counts nowhere', () => inAnApplication({
  settings: { 'supabase_pat.guarded_logins': '' }, ifDead: [], ofReader: { reads: [], writes: '42501' },
}));

test('the first lines mint a token for whoever is logged in', async () => {
  const world = await start();
  try {
    const claims = JSON.stringify({ sub: ALICE, role: 'authenticated' });
    const minted = world.cluster.psql('postgres', `set request.jwt.claims = '${claims}'; set role authenticated; ${block('supabase_pat')}`);
    assert.equal(minted.split('|')[2], 'zapier');
  } finally {
    world.stop();
  }
});

for (const [by, settings, env] of [
  ['guard', {}, {}],
  ['gate', { 'supabase_pat.guarded_logins': '' }, { PGRST_DB_PRE_REQUEST: 'pat.gate' }],
]) {
  test(`the ${by} holds a token to what it was minted for, as shown`, async () => {
    const world = await start({ env, settings: { 'supabase_pat.trusted_proxies': '2', ...settings }, sql: NOTES });
    try {
      const { supabase } = await client(world, await world.login(ALICE));
      const answers = [];
      // As if another proxy, in front of ours, had heard from that address.
      const from = (address) => (url, anonKey, options) => createClient(url, anonKey, {
        global: {
          headers: { ...options.global.headers, 'x-forwarded-for': address },
          async fetch(...args) {
            const answer = await fetch(...args);
            answers.push([answer.status, await answer.clone().json()]);
            return answer;
          },
        },
        auth: { persistSession: false },
      });
      const given = { supabase, url: await world.gateway(), anonKey: await sign({ role: 'anon', iss: 'supabase' }) };
      await supabase.from('notes').insert({ body: 'by alice' });
      const code = block('The guard and the gate', 'js');
      const { key } = await run(code, { ...given, createClient: from('192.0.2.7') }, 'key');
      await run(code, { ...given, createClient: from('198.51.100.7') });
      assert.match(key.token, /^sbpat_[0-9A-Za-z]{42}$/);
      assert.deepEqual(answers.map(([status]) => status), [200, 403]);
      assert.deepEqual(answers[0][1], [{ body: 'by alice' }]);
      assert.equal(answers[1][1].message, 'the personal access token may not be used from 198.51.100.7');
    } finally {
      world.stop();
    }
  });
}

test('no command, no SQL and no JavaScript of the README is left out', () => {
  const blocks = sections(README).flatMap((section) => section.blocks).filter(({ language }) => ['sh', 'sql', 'js'].includes(language));
  assert.deepEqual(blocks.map(({ code }) => code).filter((code) => !taken.has(code)), []);
});

test('it can be read in five minutes', () => {
  assert.ok(page(README).split('\n').length <= 250);
});
