// The guides to frameworks: their files as they stand there, as far as they run without the framework, against a real REST
// server.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { createClient } from '@supabase/supabase-js';
import { Cluster, RestServer } from '../cluster/cluster.mjs';
import { Proxy } from '../cluster/proxy.mjs';
import { ALICE, BOB, sign, start } from './fixture.mjs';
import { blocksOf, open, walk } from './walkthrough.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
let world;
let anonKey;
before(async () => {
  world = await start();
  anonKey = await sign({ role: 'anon', iss: 'supabase' });
  const url = await world.gateway();
  const serviceKey = await world.serviceKey();
  Object.assign(process.env, {
    SUPABASE_URL: url, SUPABASE_SERVICE_ROLE_KEY: serviceKey, NEXT_PUBLIC_SUPABASE_URL: url, NEXT_PUBLIC_SUPABASE_ANON_KEY: anonKey,
    REST_URL: `${url}/rest/v1`, SERVICE_KEY: serviceKey, ANON_KEY: anonKey,
  });
});
after(() => world.stop());

/** Writes the files of a guide into a folder, each to where its first line says, and what the guide copies (`copied`). */
function write(guide, copied) {
  const folder = mkdtempSync(join(tmpdir(), 'supabase_pat-guide-'));
  const put = (path) => { mkdirSync(dirname(join(folder, path)), { recursive: true }); return join(folder, path); };
  const files = blocksOf(guide, 'js', 'jsx', 'vue', 'python', 'ini').flatMap(({ code }) => {
    const [, path] = code.match(/^(?:\/\/|#|<!--) (\S+)/) ?? [];
    return path ? [[path, code]] : [];
  });
  for (const [path, code] of files) writeFileSync(put(path), code);
  for (const [from, to] of Object.entries(copied)) {
    assert.ok(blocksOf(guide).some(({ code }) => code.includes(`cp ~/supabase_pat/${from} ${to}\n`)), to);
    copyFileSync(join(root, from), put(to));
  }
  writeFileSync(put('package.json'), '{"type": "module"}');
  symlinkSync(join(root, 'tests', 'node_modules'), put('node_modules'));
  return { folder, paths: files.map(([path]) => path), module: (path) => import(pathToFileURL(join(folder, path))) };
}

/** A page in the browser, whose user is logged in or not. */
const browser = (login) => createClient(process.env.SUPABASE_URL, anonKey, {
  global: login ? { headers: { Authorization: `Bearer ${login}` } } : {}, auth: { persistSession: false, autoRefreshToken: false },
});

/** The page of settings: mints, shows and ends a token. */
async function settingsPage({ listTokens, mintToken, revokeToken }) {
  const alice = browser(await world.login(ALICE));
  const { token, id, name } = await mintToken(alice, { name: 'monthly', scopes: ['reports:create'], days: '90' });
  assert.deepEqual([name, /^sbpat_/.test(token)], ['monthly', true]);
  const listed = async (who) => (await listTokens(who)).filter((row) => row.id === id)
    .map((row) => [row.name, row.hint, row.scopes, row.is_active]);
  assert.deepEqual(await listed(alice), [['monthly', token.slice(-6), ['reports:create'], true]]);
  const bob = browser(await world.login(BOB));
  assert.deepEqual(await listed(bob), []);
  assert.equal(await revokeToken(bob, id), false);
  assert.equal(await revokeToken(alice, id), true);
  assert.deepEqual((await listed(alice)).map((row) => row.at(-1)), [false]);
  const refused = (who, name) => assert.rejects(mintToken(who, { name, scopes: ['reports:create'], days: '90' }), (error) => {
    assert.match(error.message, who === alice ? /^the name of a token must not be empty/ : /^the request names no user/);
    return true;
  });
  await refused(browser(), 'x');
  await refused(alice, '');
}

const minted = async (user, scopes) => {
  const body = { name: 'of a script', kind: 'opaque', scopes };
  return (await world.request('POST', '/rpc/mint_pat', { token: await world.login(user), body })).data;
};

/** A route that takes tokens. */
async function route(handler) {
  const mint = (scopes) => minted(ALICE, scopes);
  const call = async (headers) => {
    const sent = { method: 'POST', headers, body: '{"title": "November"}' };
    const answer = await handler(new Request('https://example.com/api/reports', sent));
    return [answer.status, await answer.json()];
  };
  const good = await mint(['reports:create']);
  assert.deepEqual(await call({ 'x-api-key': good.token }), [201, { user: ALICE, token: 'of a script', title: 'November' }]);
  assert.deepEqual(await call({}), [401, { error: 'missing_token' }]);
  assert.deepEqual(await call({ 'x-api-key': (await mint(['todos:read'])).token }), [403, { error: 'insufficient_scope' }]);
  await world.request('POST', '/rpc/revoke_pat', { token: await world.login(ALICE), body: { id: good.id } });
  assert.deepEqual(await call({ 'x-api-key': good.token }), [401, { error: 'invalid_token' }]);
}

describe('Next', () => {
  let guide;
  before(() => { guide = write('guides/next.md', { 'examples/introspect/edge_function.mjs': 'lib/introspect.mjs' }); });
  after(() => rmSync(guide.folder, { recursive: true }));

  test('the page of settings mints, shows and ends tokens', async () => {
    await settingsPage(await guide.module('lib/tokens.js'));
    const { supabase } = await guide.module('lib/supabase.js');
    assert.equal((await supabase.from('todos').select()).error, null);
  });

  test('a route takes tokens, and no others', async () => route((await guide.module('app/api/reports/route.js')).POST));

  test('a route hands a token on', async () => {
    const { GET } = await guide.module('app/api/todos/route.js');
    const titles = async (headers) => {
      const answer = await GET(new Request('https://example.com/api/todos', { headers }));
      const body = await answer.json();
      return answer.ok ? body.map(({ title }) => title) : body.message;
    };
    const mint = async (scopes) => (await minted(BOB, scopes)).token;
    assert.deepEqual(await titles({ 'x-api-key': await mint(['todos:read']) }), ['bob 1']);
    assert.deepEqual(await titles({ 'x-api-key': await mint(['reports:create']) }), 'the personal access token lacks the scope todos:read');
    assert.deepEqual(await titles({}), []);
  });
});

describe('Nuxt', () => {
  let guide;
  before(() => { guide = write('guides/nuxt.md', { 'examples/introspect/edge_function.mjs': 'server/utils/introspect.mjs' }); });
  after(() => rmSync(guide.folder, { recursive: true }));

  test('the page of settings mints, shows and ends tokens', async () => settingsPage(await guide.module('app/utils/tokens.js')));
  test('a route takes tokens, and no others', async () => route((await guide.module('server/utils/reports.mjs')).createReport));
});

describe('FastAPI', () => {
  let guide;
  before(() => { guide = write('guides/fastapi.md', { 'examples/introspect/fastapi.py': 'introspection.py' }); });
  after(() => rmSync(guide.folder, { recursive: true }));

  test('users mint, see and end tokens through it', async () => {
    const { stdout } = await promisify(execFile)('python3', ['-c', `
import json, sys
import tokens
alice, bob = ("Bearer " + token for token in sys.argv[1:])
minted = tokens.mint_token(alice, "monthly", 90, ["reports:create"])
def active(login):
    return [row["is_active"] for row in tokens.list_tokens(login) if row["id"] == minted["id"]]
def refusal(*arguments):
    try:
        tokens.mint_token(*arguments, ["reports:create"])
    except tokens.Refused as problem:
        return [problem.status, problem.message]
print(json.dumps([minted["token"][:6], active(alice), active(bob), tokens.revoke_token(bob, minted["id"]),
    tokens.revoke_token(alice, minted["id"]), active(alice), refusal(alice, "x", 0), refusal("Bearer x.y.z", "x", 1)[0]]))
`, await world.login(ALICE), await world.login(BOB)], { cwd: guide.folder });
    assert.deepEqual(JSON.parse(stdout), ['sbpat_', [true], [], false, true, [false],
      [400, 'expires_in must be at least one second'], 401]);
  });

  test('its parts are Python, and name what they import', async () => {
    await promisify(execFile)('python3', ['-c', `
import ast, introspection, tokens
for node in ast.walk(ast.parse(open("main.py").read())):
    if isinstance(node, ast.ImportFrom) and node.module in ("introspection", "tokens"):
        for name in node.names:
            getattr({"introspection": introspection, "tokens": tokens}[node.module], name.name)
`], { cwd: guide.folder });
  });
});

test('the guide to plain PostgREST does what it says, in an application that is there already', async () => {
  const [ada, bob] = [ALICE, BOB];
  const secret = 'the-secret-of-an-application-of-its-own';
  const machine = await open({ sql: `
    create database app;
    \\c app
    create role web_anon nologin;
    create role web_user nologin;
    create role authenticator login noinherit;
    grant web_anon, web_user to authenticator;
    create table accounts (id uuid primary key, email text not null);
    create table posts (id int primary key generated by default as identity, author uuid references accounts, title text);
    insert into accounts values ('${ada}', 'ada@example.com'), ('${bob}', 'bob@example.com');
    insert into posts (author, title) values ('${ada}', 'by ada'), ('${bob}', 'by bob');
    alter table posts enable row level security;
    create policy own on posts using (author = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid);
    grant usage on schema public to web_anon, web_user;
    grant select, insert on posts to web_user;` });
  try {
    machine.cluster.psql('app', `alter role authenticator password '${machine.cluster.password}'`);
    writeFileSync(join(machine.home, 'postgrest.conf'), `db-uri = "${machine.cluster.url('app', 'authenticator', machine.cluster.password)}"
db-schemas = "public"
db-anon-role = "web_anon"
jwt-secret = "${secret}"
server-host = "127.0.0.1"
server-port = ${machine.restPort}
`);
    const begin = { title: 'what is presumed', language: 'sh', output: '', code: `
      postgrest postgrest.conf > postgrest.log 2>&1 &
      until curl -s -o /dev/null http://127.0.0.1:3000/; do sleep 0.1; done\n` };
    await walk(machine, [begin, ...blocksOf('guides/postgrest.md')], {
      database: 'app', env: { JWT_SECRET: secret, LOGIN: await sign({ sub: ada, role: 'web_user' }, { secret }) },
    });
    machine.cluster.psql('app', `insert into accounts values (gen_random_uuid(), 'carol@example.com');
      update accounts set email = 'b@example.com' where id = '${bob}'; delete from posts; delete from accounts where id = '${ada}'`);
    assert.equal(machine.cluster.psql('app', 'select string_agg(email, $$ $$ order by email) from auth.users'), 'b@example.com carol@example.com');
  } finally {
    machine.stop();
  }
});

test('the guide to Supabase does what it says, in a database as Supabase makes it', async () => {
  const secret = 'the-jwt-secret-of-a-supabase-stack-of-its-own';
  const cluster = await Cluster.start({ settings: { shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': secret } });
  let rest;
  let proxy;
  try {
    cluster.psql('postgres', `
      ${readFileSync(join(root, 'tests', 'supabase_auth.sql'), 'utf8')}
      create role supabase_admin superuser login;
      alter role authenticator password '${cluster.password}';
      insert into auth.users (id, email) values ('${ALICE}', 'alice@example.com'), ('${BOB}', 'bob@example.com');
      insert into auth.sessions (id, user_id) values ('${ALICE}', '${ALICE}');
      set role supabase_admin;
      create extension supabase_pat;`);
    const missing = blocksOf('guides/supabase.md').filter(({ language }) => language === 'sql')
      .map(({ title, code }) => cluster.psql('postgres', `set role ${title.startsWith('2.') ? 'supabase_admin' : 'postgres'}; ${code}`));
    assert.equal(missing.length, 3);
    assert.equal(missing[1], '', 'the doctor is content');
    rest = await RestServer.start(cluster.url('postgres', 'authenticator', cluster.password), secret, { env: { PGRST_DB_PRE_REQUEST: 'pat.gate' } });
    proxy = await Proxy.start(rest);
    const key = await sign({ role: 'anon', iss: 'supabase' }, { secret });
    const client = (headers) => createClient(proxy.url, key, { global: { headers }, auth: { persistSession: false, autoRefreshToken: false } });
    const supabase = client({ Authorization: `Bearer ${await sign({ sub: ALICE, role: 'authenticated', session_id: ALICE }, { secret })}` });
    assert.equal((await supabase.from('notes').insert({ body: 'a note' })).error, null);
    const [{ code }] = blocksOf('guides/supabase.md', 'js').filter(({ language }) => language === 'js');
    const { data, error } = await new (async () => {}).constructor('supabase', `${code}\nreturn { data, error }`)(supabase);
    assert.equal(error, null);
    const bodies = async (who) => {
      const answer = await who.from('notes').select('body');
      return answer.data ?? answer.error.message;
    };
    const script = client({ 'x-api-key': data.token });
    assert.deepEqual(await bodies(script), [{ body: 'a note' }]);
    const { error: refused } = await script.from('notes').insert({ body: 'by the script' });
    assert.equal(refused.message, 'the personal access token lacks the scope notes:write');
    assert.equal((await supabase.rpc('revoke_pat', { id: data.id })).data, true);
    assert.equal(await bodies(script), 'the personal access token has been revoked');
    assert.deepEqual(await bodies(client({})), []);
  } finally {
    proxy?.stop();
    rest?.stop();
    cluster.stop();
  }
});
