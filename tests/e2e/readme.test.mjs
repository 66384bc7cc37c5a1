// The README's SQL and JavaScript, run as it stands there.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { createClient } from '@supabase/supabase-js';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE, SECRET, sign, start } from './fixture.mjs';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
const taken = new Set();
const block = (after, language = 'sql') => {
  const from = readme.indexOf(after);
  assert.ok(from >= 0, `the README has no ${after}`);
  const [, code] = readme.slice(from).match(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``));
  taken.add(code);
  return code;
};

/** Runs a block of JavaScript with the variables that it takes for granted, and returns those of its own that are named. */
const run = (code, given, ...wanted) => {
  const AsyncFunction = (async () => {}).constructor;
  return new AsyncFunction(...Object.keys(given), `${code}\nreturn { ${wanted} };`)(...Object.values(given));
};

/** A client that is logged in with a token, or not at all, and notes the calls that it makes. */
const client = async (world, token) => {
  const calls = [];
  const supabase = createClient(await world.gateway(), await sign({ role: 'anon', iss: 'supabase' }), {
    global: {
      ...(token ? { headers: { Authorization: `Bearer ${token}` } } : {}),
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

/** The code that comes by e-mail, which the user types when it is needed and not before. */
const typedCode = (world) => {
  let code;
  return { toJSON: () => (code ??= world.cluster.psql('postgres', 'select code from pat.claim_messages()')) };
};

/** What the README says of policies holds without the guard too, which refuses before they are asked. */
const POLICIES_ALONE = { 'supabase_pat.guarded_logins': '' };

const SESSION = randomUUID();
const asAlice = `set request.jwt.claims = '${JSON.stringify({ sub: ALICE, role: 'authenticated', session_id: SESSION })}';`;

test('once it is installed as shown, a user mints a token', async () => {
  const cluster = await Cluster.start();
  cluster.psql('postgres', `
    create role supabase_admin superuser;
    set role supabase_admin;
    create extension supabase_pat;
    ${block('On plain Postgres without Supabase Auth')}
    insert into auth.users (id) values ('${ALICE}');
    insert into auth.sessions (id, user_id) values ('${SESSION}', '${ALICE}');
    alter database postgres set "app.settings.jwt_secret" = '${SECRET}';`);
  const minted = cluster.psql('postgres', `${asAlice} set role authenticated; ${block('# supabase_pat')}`);
  const [token, , name] = minted.split('|');
  assert.equal(name, 'zapier');
  assert.equal(cluster.psql('postgres', `select pat.verify_jwt('${token}') ->> 'sub'`), ALICE);
  cluster.stop();
});

/** What the command of the quickstart sees, of which the host alone is another. */
const curl = async (world, token) => {
  const command = block('## Quickstart', 'sh').replace('https://example.com', await world.gateway());
  const { stdout } = await promisify(execFile)('sh', ['-c', command], {
    env: { PATH: process.env.PATH, ANON_KEY: await sign({ role: 'anon', iss: 'supabase' }), TOKEN: token },
  });
  return bodiesOf(JSON.parse(stdout));
};

/** What is read, or the code of the refusal. */
const bodiesOf = (data) => (Array.isArray(data) ? data.map((note) => note.body) : data.code);

const quickstart = async ({ settings, ifDead, ofReader }) => {
  const world = await start({ settings, sql: block('## Quickstart') + block('A policy without `is_valid_api_token()`') });
  try {
    const login = await world.login(ALICE);
    const write = (bearer, body) => world.request('POST', '/notes', { token: bearer, body: { body } });
    const read = async (bearer) => bodiesOf((await world.request('GET', '/notes?select=body&order=id', { token: bearer })).data);
    assert.equal((await write(login, 'by alice')).status, 201);

    const { supabase, calls } = await client(world, login);
    let shown;
    const show = (token) => { shown = token; };
    const { keys } = await run(block('## Quickstart', 'js'), { supabase, show }, 'keys');
    assert.deepEqual(calls, ['mint_pat 200', 'api_keys 200', 'revoke_pat 200', 'api_keys 204']);
    assert.deepEqual(keys.map(({ name, hint, is_active: isActive }) => [name, hint, isActive]), [['zapier', shown.slice(-6), true]]);
    assert.deepEqual(await read(shown), ifDead);

    const { data: { token } } = await world.request('POST', '/rpc/mint_pat', { token: login, body: { name: 'zapier' } });
    const [reader] = world.cluster.psql('postgres', `${asAlice} ${block('### Scopes')}`).split('|');
    assert.equal((await write(token, 'by zapier')).status, 201);
    assert.equal((await write(reader, 'by the reader')).data.code, ofReader.writes);
    assert.deepEqual(await read(reader), ofReader.reads);
    // Nor does it change or delete what it reads.
    const change = (method, options) => world.request(method, '/notes?id=gt.0', { token: reader, headers: { prefer: 'return=representation' }, ...options });
    assert.deepEqual(bodiesOf((await change('PATCH', { body: { body: 'changed' } })).data), ofReader.changes);
    assert.deepEqual(bodiesOf((await change('DELETE')).data), ofReader.changes);
    assert.deepEqual(await read(login), ['by alice', 'by zapier']);
    assert.deepEqual(await curl(world, token), ['by alice', 'by zapier']);
    await world.request('POST', '/rpc/revoke_all_pats', { token: login, body: {} });
    assert.deepEqual([await read(reader), await curl(world, token)], [ifDead, ifDead]);
    assert.deepEqual(await read(login), ['by alice', 'by zapier']);
  } finally {
    world.stop();
  }
};

test('the quickstart and the scopes work as shown', () => quickstart({
  ifDead: 'PT401', ofReader: { reads: ['by alice', 'by zapier'], writes: 'PT403', changes: 'PT403' },
}));

test('the quickstart works as shown by policies alone, and a token with scopes counts nowhere there', () => quickstart({
  settings: POLICIES_ALONE, ifDead: [], ofReader: { reads: [], writes: '42501', changes: [] },
}));

test('sessions work as shown', async () => {
  const world = await start({
    settings: { 'supabase_pat.enable_sign_up': 'on', 'supabase_pat.enable_sign_in': 'on', ...POLICIES_ALONE },
    sql: block('## Quickstart') + block('## Sessions'),
  });
  try {
    const { supabase, calls } = await client(world);
    const { session, data, error } = await run(block('## Sessions', 'js'), {
      supabase, email: 'carol@example.com', password: 'a password', name: 'Carol', code: typedCode(world),
    }, 'session', 'data', 'error');
    assert.deepEqual(calls, ['sign_up 200', 'confirm_sign_up 200', 'user 200', 'sign_in 200', 'refresh_session 200', 'sign_out 200']);
    assert.equal(error, null);
    assert.deepEqual(session.user.user_metadata, { name: 'Carol' });
    assert.equal(data.user.id, session.user.id);

    // What was signed in second is signed out, and the first goes on.
    const notes = async (token) => (await world.request('GET', '/notes?select=body', { token })).data;
    assert.equal((await supabase.from('notes').insert({ body: 'by carol' })).error, null);
    assert.deepEqual(await notes(session.access_token), [{ body: 'by carol' }]);
    assert.deepEqual(await notes(data.access_token), []);
  } finally {
    world.stop();
  }
});

test('the gate works as shown', async () => {
  const world = await start({
    env: { PGRST_DB_PRE_REQUEST: 'pat.gate' },
    settings: { 'supabase_pat.trusted_proxies': '2' },
    sql: block('## The gate'),
  });
  try {
    const doctor = (check) => world.cluster.psql('postgres', `select ok, detail from pat.status() where "check" = '${check}'`);
    assert.match(doctor('gate'), /^t\|no request has been judged in this database.*, though db-pre-request is pat\.gate/);

    const login = await sign({ aud: 'authenticated', role: 'authenticated', sub: ALICE });
    const { supabase } = await client(world, login);
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
    const code = block('## The gate', 'js');
    const { key } = await run(code, { ...given, createClient: from('192.0.2.7') }, 'key');
    await run(code, { ...given, createClient: from('198.51.100.7') });
    assert.match(key.token, new RegExp(`^${readme.match(/`(sbpat_\[[^`]*)`/)[1]}$`));
    assert.deepEqual(answers.map(([status]) => status), [200, 403]);
    assert.deepEqual(answers[0][1], [{ title: 'alice 1' }, { title: 'alice 2' }]);
    assert.equal(answers[1][1].message, 'the personal access token may not be used from 198.51.100.7');

    const denied = world.cluster.psql('postgres', block('Any one JWT can be made to die'));
    assert.match(denied, /service_role\|in a public repository\|/);
  } finally {
    world.stop();
  }
});

test('a forgotten password is reset as shown', async () => {
  const world = await start();
  try {
    const { supabase, calls } = await client(world);
    const { right, done } = await run(block('## A forgotten password', 'js'), {
      supabase, email: 'alice@example.com', new_password: 'a new password', code: typedCode(world),
    }, 'right', 'done');
    assert.deepEqual(calls, ['request_password_reset 200', 'verify_reset_code 200', 'reset_password 200']);
    assert.deepEqual([right, done], [true, true]);
  } finally {
    world.stop();
  }
});

test('settings come out as the comment beside them says', async () => {
  const world = await start({ sql: block('## Settings per user') });
  try {
    const { supabase, calls } = await client(world, await world.login(ALICE));
    const code = block('## Settings per user', 'js');
    const { settings } = await run(code, { supabase }, 'settings');
    assert.deepEqual(calls, ['set_settings 200', 'set_settings 200', 'get_settings 200']);
    const { expected } = await run(`const expected = ${code.match(/^\/\/ (\{.*\})$/m)[1]}`, {}, 'expected');
    assert.deepEqual(settings, expected);
  } finally {
    world.stop();
  }
});

test('signing keys and the doctor of API keys work as shown', async () => {
  const cluster = await Cluster.start();
  const shown = cluster.psql('postgres', `
    create extension supabase_pat;
    ${block('## Signing keys')}
    select kid, status, algorithm from pat.signing_keys;
    ${block('## API keys of Supabase')}`);
  assert.match(shown, /"kty": "EC"/);
  assert.match(shown, /2026-11\|current\|ES256\nunknown\|/);
  cluster.stop();
});

test('no SQL and no JavaScript of the README is left out', () => {
  const blocks = [...readme.matchAll(/^```(?:sql|js)\n([^]*?)```/gm)].map(([, code]) => code);
  assert.deepEqual(blocks.filter((code) => !taken.has(code)), []);
});
