// The README's SQL and JavaScript, run as it stands there.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { Cluster, RestServer } from '../cluster/cluster.mjs';
import { ALICE, BOB, SECRET, request, sign, start } from './fixture.mjs';

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

const asAlice = `set request.jwt.claims = '${JSON.stringify({ sub: ALICE, role: 'authenticated', session_id: randomUUID() })}';`;

test('once it is installed as shown, a user mints a token', async () => {
  const cluster = await Cluster.start();
  cluster.psql('postgres', `
    create role supabase_admin superuser;
    set role supabase_admin;
    ${block('the role `postgres` is no superuser there')}
    ${block('On plain Postgres without Supabase Auth')}
    insert into auth.users (id) values ('${ALICE}');
    alter database postgres set "app.settings.jwt_secret" = '${SECRET}';`);
  const minted = cluster.psql('postgres', `${asAlice} set role authenticated; ${block('# supabase_pat')}`);
  const [token, , name] = minted.split('|');
  assert.equal(name, 'zapier');
  assert.equal(cluster.psql('postgres', `select pat.verify_jwt('${token}') ->> 'sub'`), ALICE);
  cluster.stop();
});

test('the quickstart and the scopes work as shown', async () => {
  const world = await start({ sql: block('## Quickstart') + block('A policy without `is_valid_api_token()`') });
  try {
    const login = await world.login(ALICE);
    const write = (bearer, body) => world.request('POST', '/notes', { token: bearer, body: { body } });
    const read = async (bearer) => (await world.request('GET', '/notes?select=body&order=id', { token: bearer })).data.map((note) => note.body);
    assert.equal((await write(login, 'by alice')).status, 201);

    const { supabase, calls } = await client(world, login);
    let shown;
    const show = (token) => { shown = token; };
    const { keys } = await run(block('## Quickstart', 'js'), { supabase, show }, 'keys');
    assert.deepEqual(calls, ['mint_pat 200', 'api_keys 200', 'revoke_pat 200']);
    assert.deepEqual(keys.map(({ name, hint, is_active: isActive }) => [name, hint, isActive]), [['zapier', shown.slice(-6), true]]);
    assert.deepEqual(await read(shown), []);

    const { data: { token } } = await world.request('POST', '/rpc/mint_pat', { token: login, body: { name: 'zapier' } });
    const [reader] = world.cluster.psql('postgres', `${asAlice} ${block('### Scopes')}`).split('|');
    assert.equal((await write(token, 'by zapier')).status, 201);
    assert.equal((await write(reader, 'by the reader')).data.code, '42501');
    assert.deepEqual(await read(reader), ['by alice', 'by zapier']);
    await world.request('POST', '/rpc/revoke_all_pats', { token: login, body: {} });
    assert.deepEqual(await read(reader), []);
    assert.deepEqual(await read(login), ['by alice', 'by zapier']);
  } finally {
    world.stop();
  }
});

test('sessions work as shown', async () => {
  const world = await start({
    settings: { 'supabase_pat.enable_sign_up': 'on', 'supabase_pat.enable_sign_in': 'on' },
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
    settings: { 'supabase_pat.trusted_proxies': '1' },
    sql: block('## The gate'),
  });
  try {
    const doctor = (check) => world.cluster.psql('postgres', `select ok, detail from pat.status() where "check" = '${check}'`);
    assert.match(doctor('gate'), /^t\|db-pre-request is pat.gate/);

    const login = await sign({ aud: 'authenticated', role: 'authenticated', sub: ALICE });
    const { supabase } = await client(world, login);
    const answers = [];
    // As if a proxy had heard from that address.
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
    const code = block('### Opaque tokens, addresses, limits', 'js');
    const { key } = await run(code, { ...given, createClient: from('192.0.2.7') }, 'key');
    await run(code, { ...given, createClient: from('198.51.100.7') });
    assert.match(key.token, new RegExp(`^${readme.match(/`(sbpat_\[[^`]*)`/)[1]}$`));
    assert.deepEqual(answers.map(([status]) => status), [200, 403]);
    assert.deepEqual(answers[0][1], [{ title: 'alice 1' }, { title: 'alice 2' }]);
    assert.equal(answers[1][1].message, 'the personal access token may not be used from 198.51.100.7');

    const denied = world.cluster.psql('postgres', block('### A leaked key dies alone'));
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

test('a hand-written api_keys table is taken over, and its tokens keep working', async () => {
  const cluster = await Cluster.start({
    settings: { shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET },
  });
  // As a project wrote it: the auth schema is Supabase's, here without the extension.
  cluster.psql('postgres', `
    create extension supabase_pat;
    select pat.install_auth_schema();
    drop extension supabase_pat;
    drop schema pat;
    alter role authenticator password '${cluster.password}';
    insert into auth.users (id) values ('${ALICE}'), ('${BOB}');
    create table public.api_keys (
      id uuid primary key default gen_random_uuid(),
      user_id uuid not null references auth.users on delete cascade,
      name text not null,
      created_at timestamptz not null default now(),
      expires_at timestamptz,
      revoked_at timestamptz
    );
    alter table public.api_keys enable row level security;
    create function public.is_valid_api_token() returns boolean language plpgsql security definer as $$
    begin
      if coalesce(auth.jwt() ->> 'type', '') <> 'personal_access_token' then
        return true;
      end if;
      return exists (select 1 from public.api_keys where id = (auth.jwt() ->> 'jti')::uuid and revoked_at is null);
    end $$;
    create table todos (id int primary key generated by default as identity, user_id uuid not null default auth.uid(), title text);
    alter table todos enable row level security;
    create policy owners on todos using (auth.uid() = user_id and is_valid_api_token());
    grant select on todos to authenticated;
    insert into todos (user_id, title) values ('${ALICE}', 'alice'), ('${BOB}', 'bob');
    insert into api_keys (id, user_id, name, revoked_at) values
      ('aaaaaaaa-0000-4000-8000-000000000001', '${ALICE}', 'live', null),
      ('aaaaaaaa-0000-4000-8000-000000000002', '${ALICE}', 'revoked', now());`);
  // As the Edge Function signed them: without a session_id.
  const token = (jti, sub = ALICE) => sign({ aud: 'authenticated', role: 'authenticated', sub, jti, type: 'personal_access_token' });
  const live = await token('aaaaaaaa-0000-4000-8000-000000000001');
  const revoked = await token('aaaaaaaa-0000-4000-8000-000000000002');
  const stolen = await token('aaaaaaaa-0000-4000-8000-000000000001', BOB);
  const titles = async (rest, bearer) => (await request(rest.url, 'GET', '/todos?select=title', { token: bearer })).data.map((todo) => todo.title);
  const url = cluster.url('postgres', 'authenticator', cluster.password);

  const before = await RestServer.start(url, SECRET);
  assert.deepEqual([await titles(before, live), await titles(before, revoked)], [['alice'], []]);
  before.stop();

  assert.throws(() => cluster.psql('postgres', 'create extension supabase_pat'),
    /in the way of supabase_pat: function public.is_valid_api_token\(\), table public.api_keys[^]*README/);
  cluster.psql('postgres', block('<!-- tested: handwritten -->'));

  const rest = await RestServer.start(url, SECRET);
  assert.deepEqual([await titles(rest, live), await titles(rest, revoked), await titles(rest, stolen)], [['alice'], [], []]);
  const login = await sign({ aud: 'authenticated', role: 'authenticated', sub: ALICE, session_id: randomUUID() });
  const keys = await request(rest.url, 'GET', '/api_keys?select=name,is_active&order=id', { token: login });
  assert.deepEqual(keys.data, [{ name: 'live', is_active: true }, { name: 'revoked', is_active: false }]);
  const minted = await request(rest.url, 'POST', '/rpc/mint_pat', { token: login, body: { name: 'new' } });
  assert.deepEqual(await titles(rest, minted.data.token), ['alice']);
  await request(rest.url, 'POST', '/rpc/revoke_pat', { token: login, body: { id: 'aaaaaaaa-0000-4000-8000-000000000001' } });
  assert.deepEqual(await titles(rest, live), []);
  rest.stop();
  cluster.stop();
});

test('signing keys and pgjwt\'s functions work as shown', async () => {
  const cluster = await Cluster.start();
  const shown = cluster.psql('postgres', `
    create extension supabase_pat;
    ${block('<!-- tested: keys -->')}
    select pat.add_signing_key(kid => '2026-12');
    ${block('**A leaked key.**')}
    ${block('<!-- tested: pgjwt -->')}
    select kid, status from pat.signing_keys order by kid;
    ${block('## API keys of Supabase')}`);
  assert.match(shown, /"kty": "EC"/);
  assert.match(shown, /2026-11\|current\|ES256/);
  assert.match(shown, /\|\{\}\|f\n2026-11\|revoked\n2026-12\|current\nunknown\|/);
  cluster.stop();
});

test('uninstalling leaves nothing behind', async () => {
  const cluster = await Cluster.start();
  cluster.psql('postgres', `create extension supabase_pat; ${block('## Uninstall')}`);
  const left = cluster.psql('postgres', `
    select count(*) from pg_proc where probin like '%supabase_pat%';
    select count(*) from pg_namespace where nspname = 'pat';
    select count(*) from pg_class where relname = 'api_keys';`);
  assert.equal(left, '0\n0\n0');
  cluster.stop();
});

test('no SQL and no JavaScript of the README is left out', () => {
  const blocks = [...readme.matchAll(/^```(?:sql|js)\n([^]*?)```/gm)].map(([, code]) => code);
  assert.deepEqual(blocks.filter((code) => !taken.has(code)), []);
});
