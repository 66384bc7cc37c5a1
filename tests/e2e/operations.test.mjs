// The SQL of docs/operations.md, run as it stands there. What has leaked works before it, and is dead after it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import * as jose from 'jose';
import { Cluster, RestServer } from '../cluster/cluster.mjs';
import { examplesOf, sections } from './documentation.mjs';
import { ALICE, BOB, SECRET, request, sign, start } from './fixture.mjs';

const all = sections('operations.md');
const taken = new Set();
/** The SQL under a heading: the block of that number. */
const block = (heading, number = 0) => {
  const { code } = examplesOf(all.find(({ title }) => title === heading))[number];
  taken.add(code);
  return code;
};

const folder = mkdtempSync(join(tmpdir(), 'supabase_pat-operations-'));
const running = [];
const stopAll = () => { for (const one of running.splice(0)) one.stop(); };
afterEach(stopAll);
after(() => rmSync(folder, { recursive: true }));

const open = async (options = {}) => {
  const world = await start({
    ...options,
    env: { PGRST_DB_PRE_REQUEST: 'pat.gate' },
    sql: `grant all on todos to service_role; ${options.sql ?? ''}`,
  });
  running.push(world);
  return world;
};

/** Runs SQL with psql as the operator, with variables, and returns those that it has set and are wanted. */
function operate(cluster, sql, variables = {}, { wanted = [], database = 'postgres' } = {}) {
  const given = Object.entries(variables).flatMap(([name, value]) => ['-v', `${name}=${value}`]);
  const echo = wanted.map((name) => `\\echo @${name} :${name}\n`).join('');
  const done = spawnSync(`${cluster.bin}/psql`, ['-XqAt', '-v', 'ON_ERROR_STOP=1', ...given, '-f', '-'], {
    input: `${sql}\n${echo}`, env: cluster.env(database), encoding: 'utf8', cwd: folder,
  });
  assert.equal(done.status, 0, done.stderr);
  const found = Object.fromEntries([...done.stdout.matchAll(/^@(\w+) (.*)$/gm)].map(([, name, value]) => [name, value]));
  return { ...found, printed: done.stdout.replace(/^@.*\n/gm, '').trim() };
}

/** A REST server with other keys, as when it is given new ones and reloaded. */
async function restWith(world, keys, { database = 'postgres', env = { PGRST_DB_PRE_REQUEST: 'pat.gate' } } = {}) {
  const { cluster } = world;
  const rest = await RestServer.start(cluster.url(database, 'authenticator', cluster.password), keys, { env });
  running.push(rest);
  return rest;
}

const send = (token) => (token.startsWith('sbpat_') ? { headers: { 'x-api-key': token } } : { token });
/** What a request with a token sees, or the status of the refusal. */
const read = async (rest, token) => {
  const answer = await request(rest.url, 'GET', '/todos?select=title&order=id', send(token));
  return answer.status === 200 ? answer.data.map(({ title }) => title) : answer.status;
};
const MINE = ['alice 1', 'alice 2'];
const EVERYTHING = [...MINE, 'bob 1'];

const mint = (world, options, user = ALICE) => {
  const [token, id] = world.cluster.psql('postgres', `select token, id from mint_pat(user_id => '${user}', name => 'test'${options ?? ''})`).split('|');
  return { token, id };
};
const session = (world, user = ALICE) => JSON.parse(world.cluster.psql('postgres', `select to_json(pat.mint_session('${user}'))`));
const refresh = async (rest, token) => (await request(rest.url, 'POST', '/rpc/refresh_session', { body: { refresh_token: token } })).status;

test('an installation is set up, and the doctor finds nothing wrong', async () => {
  const world = await open({ settings: { 'supabase_pat.jwt_secret': SECRET } });
  const { cluster } = world;
  cluster.psql('postgres', block('Setting up'));
  cluster.psql('postgres', block('Setting up', 1));
  // A request of the login `authenticator` is judged, whether or not the server calls the gate.
  assert.deepEqual(await read(world.rest, mint(world).token), MINE);
  const doctor = cluster.psql('postgres', block('Setting up', 2)).split('\n').map((row) => row.split('|'));
  const row = (name) => doctor.find(([check]) => check === name);
  assert.match(row('guard')[2], /^judges each request of authenticator, with \d+ connections now$/);
  assert.match(row('gate')[2], /^\d+ requests in this database since the server started; the last at /);
  assert.match(row('addresses')[2], /behind 1 trusted proxies/);
  assert.deepEqual(doctor.filter(([check, ok]) => ok !== 't' && check !== 'worker'), []);
});

test('without preloading, Postgres 15 and 16 know the settings only after the library is loaded', async () => {
  const cluster = await Cluster.start();
  running.push(cluster);
  const set = `alter system set supabase_pat.notices = 'minted'`;
  const isRefused = Number(cluster.psql('postgres', 'show server_version_num')) < 170000;
  (isRefused ? assert.throws : assert.doesNotThrow)(() => cluster.psql('postgres', set), /unrecognized configuration parameter/);
  const [load] = all.find(({ title }) => title === 'Setting up').body.match(/load 'supabase_pat'/);
  cluster.psql('postgres', `${load}; ${set}`);
});

test('what is to be watched is found', async () => {
  const world = await open({ settings: { 'supabase_pat.flush_interval': 1 } });
  const { cluster } = world;
  const queries = block('Monitoring', 1).split(/;\n+/).filter(Boolean);
  const ask = (sql) => cluster.psql('postgres', sql);
  assert.deepEqual(queries.slice(0, 3).map(ask), ['', '', '']);

  const { token, id } = mint(world);
  cluster.psql('postgres', `select revoke_pat('${id}')`);
  assert.equal(await read(world.rest, token), 401);
  let refused = '';
  for (let attempt = 0; attempt < 200 && refused === ''; attempt += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    refused = ask(queries[0]);
  }
  assert.equal(refused, `revoked|${id}||1`);

  cluster.psql('postgres', `insert into pat.events (event, user_id) select 'sign_in_refused', '${BOB}' from generate_series(1, 11);
    insert into pat.events (event, user_id) values ('refresh_token_reused', '${BOB}');`);
  assert.equal(ask(queries[1]), `${BOB}||11`);
  assert.match(ask(queries[2]), new RegExp(BOB));

  mint(world, ', expires_in => \'7 days\'');
  const [soon, unused] = block('Monitoring', 2).split(/;\n+/).filter(Boolean);
  assert.equal(ask(soon).split('\n').length, 1);
  assert.equal(ask(unused), '');
  cluster.psql('postgres', `update pat.api_keys set created_at = now() - interval '91 days'`);
  assert.equal(ask(unused).split('\n').length, 1);

  cluster.psql('postgres', `select request_password_reset('alice@example.com')`);
  assert.equal(ask(block('Monitoring', 3)), '1|0|\n0|0|');
  ask(block('Monitoring'));

  cluster.psql('postgres', `update pat.api_keys set revoked_at = now() - interval '2 years' where id = '${id}'`);
  const others = `select count(*) from pat.api_keys where id <> '${id}'`;
  const kept = ask(others);
  ask(block('Monitoring', 4));
  assert.equal(ask(`select count(*) from pat.api_keys where id = '${id}'`), '0');
  assert.equal(ask(others), kept);

  // Of a family, all that leads to a live token is kept: here a, which is gone, made b, and b the live c. d is nobody's.
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((letter) => `${letter.repeat(8)}-0000-4000-8000-000000000000`);
  cluster.psql('postgres', `insert into pat.api_keys (id, user_id, name, expires_at) values ('${c}', '${BOB}', 'c', '2100-01-01');
    insert into pat.api_key_origins (key_id, user_id, made_by) values ('${b}', '${BOB}', '${a}'), ('${c}', '${BOB}', '${b}'), ('${d}', '${BOB}', '${a}');`);
  ask(block('Monitoring', 5));
  assert.equal(ask('select key_id from pat.api_key_origins order by 1'), `${b}\n${c}`);
  assert.equal(ask(`select event from pat.events where key_id = '${id}' order by id`), 'token_minted\ntoken_revoked\nrefused\ntoken_deleted');
  assert.equal(await read(world.rest, token), 401);
});

test('what a dump takes along is what is said, and levels and versions are those there are', async () => {
  const world = await open();
  const { cluster } = world;
  const said = all.find(({ title }) => title === 'Backup and restore').body;
  const [dumped, left] = said.replace(/\s+/g, ' ').match(/rows of these tables along: (.*?)\. Not those of (.*?),? which/).slice(1)
    .map((list) => list.match(/pat\.\w+/g).sort());
  assert.deepEqual(dumped, cluster.psql('postgres', `select c.oid::regclass from pg_extension, unnest(extconfig) c (oid)
    where extname = 'supabase_pat' and (select relkind from pg_class where pg_class.oid = c.oid) = 'r' order by 1`).split('\n').sort());
  assert.deepEqual([...dumped, ...left].sort(), cluster.psql('postgres', `select oid::regclass from pg_class
    where relnamespace = 'pat'::regnamespace and relkind = 'r'`).split('\n').sort());

  assert.match(cluster.psql('postgres', block('Upgrade')), /^t\|/);
  cluster.psql('postgres', block('Upgrade', 1));
  assert.equal(cluster.psql('postgres', `select bool_or(has_function_privilege(role, oid, 'execute'))
    from pg_proc, unnest('{anon,authenticated}'::text[]) role where proname in ('mint_pat', 'revoke_pat')`), 'f');

  const triggers = (name) => cluster.psql('postgres', `select string_agg(distinct tgenabled::text, '') || count(*) from pg_trigger where tgname = '${name}'`);
  cluster.psql('postgres', `do $$ declare found regclass; begin
    for found in select tgrelid from pg_trigger where tgname = 'tell_every_backend' loop
      execute format('alter table %s enable trigger all', found);
    end loop;
  end $$`);
  assert.equal(triggers('tell_every_backend'), 'O5');
  cluster.psql('postgres', block('Backup and restore'));
  assert.deepEqual([triggers('tell_every_backend'), triggers('tell_every_backend_of_a_row')], ['A5', 'O5']);
  cluster.psql('postgres', block('Logical replication'));
  assert.equal(cluster.psql('postgres', `select count(*) from pg_publication_tables where pubname = 'tokens'`), '9');

  const levels = all.find(({ title }) => title === 'Replication').body.match(/^\| `.*$/gm)
    .flatMap((row) => row.split('|')[1].match(/\w+/g));
  assert.deepEqual(levels, cluster.psql('postgres', `select unnest(enumvals) from pg_settings where name = 'supabase_pat.revoke_synchronous_commit'`).split('\n'));
  assert.match(cluster.psql('postgres', `${block('Replication')} \\connect
    select detail from pat.status() where "check" = 'revocation'`), /waits for no standby/);
});

test('signing keys are rotated as shown, and the server that has them goes on accepting what was signed', async () => {
  const world = await open();
  const { cluster } = world;
  const before = mint(world);
  const [added, ...rest] = block('Rotating signing keys').split('\n');
  const [published] = rest;
  const keys = cluster.psql('postgres', `${added}\n${published}`).split('\n')[1];
  const shown = cluster.psql('postgres', rest.slice(1).join('\n'));
  assert.match(shown, /2026-11\|current\|ES256/);
  const server = await restWith(world, keys);
  assert.deepEqual(await read(server, before.token), MINE);
  assert.deepEqual(await read(server, mint(world).token), MINE);
  assert.match(cluster.psql('postgres', block('Rotating signing keys', 1)), /2026-11\|1\|/);
});

test('a leaked personal access token is dead, and what was made with it', async () => {
  const world = await open();
  const bystander = mint(world);
  for (const kind of ['jwt', 'opaque']) {
    const leaked = mint(world, `, kind => '${kind}', scopes => '{*,tokens:write}'`);
    const make = async (token, name) => (await world.request('POST', '/rpc/mint_pat', { ...send(token), body: { name, scopes: ['*', 'tokens:write'] } })).data;
    const child = await make(leaked.token, 'child');
    const grandchild = await make(child.token, 'grandchild');
    for (const { token } of [leaked, child, grandchild]) assert.deepEqual(await read(world.rest, token), MINE, kind);

    const found = operate(world.cluster, block('A leaked personal access token', 1), { last_six: leaked.token.slice(-6) });
    assert.ok(found.printed.startsWith(leaked.id));
    const done = operate(world.cluster, block('A leaked personal access token') + block('A leaked personal access token', 2), { token: leaked.token }, { wanted: ['leaked'] });
    assert.equal(done.leaked, leaked.id);
    for (const event of ['token_minted', 'token_denied', 'token_revoked']) assert.ok(done.printed.includes(event), event);
    for (const { token } of [leaked, child, grandchild]) assert.equal(await read(world.rest, token), 401, kind);
    assert.equal(world.cluster.psql('postgres', `select bool_or(is_active) from api_keys where id in ('${leaked.id}', '${child.id}', '${grandchild.id}')`), 'f');
  }
  assert.deepEqual(await read(world.rest, bystander.token), MINE);
});

test('a leaked service_role key is dead, and a new one works', async () => {
  const world = await open();
  const key = await world.serviceKey();
  const since = world.cluster.psql('postgres', 'select now()');
  assert.deepEqual(await read(world.rest, key), EVERYTHING);
  await world.request('POST', '/rpc/mint_pat', { token: key, body: { user_id: BOB, name: 'by the thief' } });
  const bystander = await sign({ role: 'service_role', iss: 'another server' });

  const { new_key: next } = operate(world.cluster, block('A leaked anon or service_role key'), { key }, { wanted: ['new_key'] });
  assert.deepEqual([await read(world.rest, key), await read(world.rest, next), await read(world.rest, bystander)], [401, EVERYTHING, EVERYTHING]);
  const trace = operate(world.cluster, block('A leaked anon or service_role key', 1), { since });
  assert.match(trace.printed, new RegExp(`token_minted\\|${BOB}`));
});

test('a leaked session is dead, whatever of it leaked', async () => {
  const world = await open();
  const heading = 'A leaked session or refresh token';
  const other = session(world);
  const check = async (number, variables) => {
    const leaked = session(world);
    assert.deepEqual(await read(world.rest, leaked.access_token), MINE);
    operate(world.cluster, block(heading, number), variables(leaked));
    assert.deepEqual([await read(world.rest, leaked.access_token), await refresh(world.rest, leaked.refresh_token)], [401, 401]);
  };
  await check(0, ({ access_token }) => ({ access_token }));
  await check(1, ({ refresh_token }) => ({ refresh_token }));
  await check(2, ({ access_token: token }) => {
    const { session_id: id } = jose.decodeJwt(token);
    world.cluster.psql('postgres', `insert into auth.refresh_tokens (token, session_id, user_id) values ('of-supabase', '${id}', '${ALICE}')`);
    return { supabase_refresh_token: 'of-supabase' };
  });
  assert.deepEqual([await read(world.rest, other.access_token), await refresh(world.rest, other.refresh_token)], [MINE, 200]);
});

/** A login that nobody has made, signed with a private key. */
const forge = async (jwk, claims = { sub: ALICE, role: 'authenticated' }) => new jose.SignJWT(claims)
  .setProtectedHeader({ alg: 'ES256', kid: jwk.kid }).setIssuedAt().setExpirationTime('1h').sign(await jose.importJWK(jwk, 'ES256'));

test('a leaked signing key signs nothing that is accepted, once the server has the new keys', async () => {
  const world = await open();
  const { cluster } = world;
  const published = cluster.psql('postgres', `select from pat.rotate_signing_key(pat.add_signing_key(kid => 'stolen')); select pat.jwks_for_verifier()`).split('\n').at(-1);
  const stolen = JSON.parse(cluster.psql('postgres', 'select jwk from pat.private_keys'));
  const before = await restWith(world, published);
  const login = session(world);
  const { token, id } = mint(world);
  const forged = await forge(stolen);
  const forgedService = await forge(stolen, { role: 'service_role' });
  assert.deepEqual([await read(before, forged), await read(before, forgedService), await read(before, token)], [MINE, EVERYTHING, MINE]);

  const { keys } = operate(cluster, block('A leaked signing key'), { leaked: 'stolen' }, { wanted: ['keys'] });
  assert.equal(await read(before, token), 401);
  assert.equal(await refresh(before, login.refresh_token), 401);
  assert.equal(cluster.psql('postgres', `select is_active from api_keys where id = '${id}'`), 'f');
  const server = await restWith(world, keys);
  for (const dead of [forged, forgedService, token, login.access_token]) assert.equal(await read(server, dead), 401);
  assert.deepEqual(await read(server, mint(world).token), MINE);
});

test('a leaked secret signs nothing that is accepted, once the server has the new keys', async () => {
  const world = await open();
  const forged = await sign({ sub: ALICE, role: 'authenticated' });
  const { token } = mint(world);
  const opaque = mint(world, ', kind => \'opaque\'');
  const login = session(world);
  assert.deepEqual([await read(world.rest, forged), await read(world.rest, token)], [MINE, MINE]);

  const done = operate(world.cluster, block('A leaked JWT secret'), { secret: SECRET }, { wanted: ['keys', 'anon_key', 'service_key'] });
  assert.equal(await read(world.rest, token), 401);
  assert.equal(await refresh(world.rest, login.refresh_token), 401);
  const server = await restWith(world, done.keys);
  for (const dead of [forged, token, login.access_token, await world.serviceKey()]) assert.equal(await read(server, dead), 401);
  assert.deepEqual([await read(server, done.service_key), await read(server, mint(world).token), await read(server, opaque.token)], [EVERYTHING, MINE, MINE]);
  assert.deepEqual((await request(server.url, 'GET', '/todos', { token: done.anon_key })).status, 200);
});

const dump = (cluster, ...options) => {
  const done = spawnSync(join(cluster.bin, 'pg_dump'), options, { env: cluster.env('postgres'), encoding: 'utf8', maxBuffer: 1e8 });
  assert.equal(done.status, 0, done.stderr);
  return done.stdout;
};

test('what stood in a leaked dump is worth nothing', async () => {
  const world = await open();
  const { cluster } = world;
  const published = cluster.psql('postgres', `select from pat.rotate_signing_key(pat.add_signing_key(kid => 'old'));
    select from pat.rotate_signing_key(pat.add_signing_key(kid => 'new')); select pat.jwks_for_verifier()`).split('\n').at(-1);
  const login = session(world);
  const opaque = mint(world, ', kind => \'opaque\'');
  const before = await restWith(world, published);
  const stolen = [...dump(cluster, '-t', 'pat.private_keys').matchAll(/^(?:old|new)\t(.*)$/gm)].map(([, jwk]) => JSON.parse(jwk));
  assert.equal(stolen.length, 2);
  const forged = await Promise.all(stolen.map((jwk) => forge(jwk)));
  assert.deepEqual(await Promise.all(forged.map((token) => read(before, token))), [MINE, MINE]);
  assert.ok(!dump(cluster).includes(opaque.token));

  const { keys } = operate(cluster, block('A leaked dump'), {}, { wanted: ['keys'] });
  const server = await restWith(world, keys);
  for (const dead of [...forged, login.access_token]) assert.equal(await read(server, dead), 401);
  assert.equal(await refresh(server, login.refresh_token), 401);
  assert.deepEqual(await read(server, opaque.token), MINE);
});

test('after a leaked dump without a private key the configured secret goes on signing, and imported tokens are found', async () => {
  const world = await open();
  const { cluster } = world;
  const { token } = mint(world);
  mint(world, ', kind => \'opaque\'');
  const imported = cluster.psql('postgres', `select pat.import_token('${ALICE}', 'chosen', encode(sha256('secret'), 'hex'))`);
  const { keys } = operate(cluster, block('A leaked dump'), {}, { wanted: ['keys'] });
  assert.equal(cluster.psql('postgres', 'select count(*) from pat.signing_keys'), '0');
  const server = await restWith(world, keys);
  assert.deepEqual([await read(server, token), await read(world.rest, mint(world).token)], [MINE, MINE]);
  assert.equal(cluster.psql('postgres', block('A leaked dump', 1)), `${imported}|${ALICE}|chosen`);
});

test('an account that was taken over is its owner\'s again', async () => {
  const world = await open({ settings: { 'supabase_pat.enable_sign_in': 'on' } });
  const { cluster, rest } = world;
  const heading = 'An account taken over';
  const rpc = (name, body, token) => request(rest.url, 'POST', `/rpc/${name}`, { body, token });
  const signIn = async (password) => (await rpc('sign_in', { email: 'alice@example.com', password })).status;
  const [code, token] = cluster.psql('postgres', `select code, token from pat.issue_reset_code('alice@example.com')`).split('|');
  assert.equal((await rpc('reset_password', { token, code, new_password: 'known to the thief' })).data, true);
  const thief = (await rpc('sign_in', { email: 'alice@example.com', password: 'known to the thief' })).data;
  const minted = (await rpc('mint_pat', { name: 'of the thief' }, thief.access_token)).data;
  assert.deepEqual([await read(rest, thief.access_token), await read(rest, minted.token)], [MINE, MINE]);

  const isOut = async () => assert.deepEqual([await read(rest, thief.access_token), await read(rest, minted.token),
    await refresh(rest, thief.refresh_token), await signIn('known to the thief')], [401, 401, 401, 401]);
  operate(cluster, block(heading), { user: ALICE });
  await isOut();
  const seen = operate(cluster, block(heading, 1), { user: ALICE });
  for (const found of ['signed_in', 'token_minted', 'password_reset', 'alice@example.com']) assert.ok(seen.printed.includes(found), found);
  const issued = operate(cluster, block(heading, 2), { user: ALICE, email: 'alice@example.com' }, { wanted: ['token', 'code'] });
  await isOut();
  assert.equal((await rpc('reset_password', { token: issued.token, code: issued.code, new_password: 'of alice alone' })).data, true);
  assert.equal(await signIn('of alice alone'), 200);
  await isOut();
});

test('a restore undoes no revocation for long', async () => {
  const heading = 'A restore that undid a revocation';
  const world = await open({ sql: `update auth.users set encrypted_password = 'old' where email = 'bob@example.com';` });
  const { cluster } = world;
  cluster.psql('postgres', `select from pat.rotate_signing_key(pat.add_signing_key(kid => 'stolen')); select from pat.add_signing_key(kid => 'good')`);
  const stolen = JSON.parse(cluster.psql('postgres', `select jwk from pat.private_keys where kid = 'stolen'`));
  const opaque = ', kind => \'opaque\'';
  const [kept, revoked, deleted] = [mint(world, opaque), mint(world, opaque), mint(world, opaque)];
  const bobs = mint(world, opaque, BOB);
  cluster.psql('postgres', `select pat.define_key_attribute('project')`);
  const limited = `${opaque}, scopes => '{*}', attributes => '{"project": ["a", "b"]}', rate_limit => 100, rate_window => '1 minute'`;
  const [narrowed, disabled, enabled, revokedWhileDisabled] = [1, 2, 3, 4].map(() => mint(world, limited));
  const edit = ({ id }, changes) => `select edit_pat('${id}', ${changes});`;
  cluster.psql('postgres', edit(enabled, 'disabled => true') + edit(revokedWhileDisabled, 'disabled => true'));
  const [open1, ended] = [session(world), session(world)];
  const key = await sign({ role: 'service_role', iss: 'denied later' });
  const copy = dump(cluster);
  const late = mint(world, opaque);

  // All that is undone.
  cluster.psql('postgres', edit(narrowed, `scopes => '{user:read}', attributes => '{"project": ["a"]}', allowed_ips => '{192.0.2.0/24}',
      expires_in => '1 day', rate_limit => 10, rate_window => '1 minute', quota => 5, quota_window => '1 day'`)
    + edit(disabled, 'disabled => true') + edit(enabled, 'disabled => false'));
  cluster.psql('postgres', `select revoke_pat('${revoked.id}'); select revoke_pat('${revokedWhileDisabled.id}'); delete from api_keys where id = '${deleted.id}';
    delete from auth.sessions where id = '${jose.decodeJwt(ended.access_token).session_id}';
    update auth.users set banned_until = 'infinity', encrypted_password = 'new' where id = '${BOB}';
    select pat.deny_token('${key}'); select pat.rotate_signing_key('good'); select pat.revoke_signing_key('stolen');`);

  for (const [database, isOldReadable] of [['restored', true], ['restored_alone', false]]) {
    cluster.psql('postgres', `create database ${database}`);
    operate(cluster, copy, {}, { database });
    const keysOf = () => cluster.psql(database, 'select pat.jwks_for_verifier()');
    const serve = async () => restWith(world, keysOf(), { database });
    const undone = await serve();
    for (const [token, sees] of [[revoked.token, MINE], [deleted.token, MINE], [bobs.token, ['bob 1']], [ended.access_token, MINE],
      [key, EVERYTHING], [await forge(stolen), MINE], [kept.token, MINE], [late.token, 401],
      [narrowed.token, MINE], [disabled.token, MINE], [enabled.token, 401]]) {
      assert.deepEqual(await read(undone, token), sees);
    }

    operate(cluster, block(heading), {}, { database });
    await assert.rejects(restWith(world, keysOf(), { database }));
    if (isOldReadable) {
      operate(cluster, block(heading, 1));
      operate(cluster, block(heading, 2), {}, { database });
    } else {
      operate(cluster, block(heading, 3), {}, { database });
      operate(cluster, 'select pat.deny_token(:\'key\')', { key }, { database });
    }
    operate(cluster, block(heading, 4), {}, { database });
    const server = await serve();
    for (const dead of [revoked.token, deleted.token, ended.access_token, key, await forge(stolen), late.token]) {
      assert.equal(await read(server, dead), 401, database);
    }
    assert.equal(await refresh(server, ended.refresh_token), 401);
    if (isOldReadable) {
      assert.deepEqual([await read(server, kept.token), await read(server, bobs.token)], [MINE, 401]);
      assert.deepEqual([await read(server, narrowed.token), await read(server, disabled.token), await read(server, enabled.token)], [403, 401, MINE]);
      // Nor can an owner enable again what was revoked.
      assert.throws(() => cluster.psql(database, edit(revokedWhileDisabled, 'disabled => false')));
      const whatTheyMay = `select id, scopes, allowed_ips, attributes, rate_limit, rate_window, quota, quota_window, expires_at, disabled_at
        from pat.api_keys where revoked_at is null and id <> '${late.id}' order by id`;
      assert.equal(cluster.psql(database, whatTheyMay), cluster.psql('postgres', whatTheyMay));
      assert.equal(cluster.psql(database, `select encrypted_password from auth.users where id = '${BOB}'`), 'new');
    } else {
      for (const dead of [kept.token, bobs.token, open1.access_token, narrowed.token, disabled.token, enabled.token]) assert.equal(await read(server, dead), 401);
    }
    assert.equal(cluster.psql(database, `select pat.jwt_status('${await forge(stolen)}')`), 'revoked');
  }
});

test('a hand-written api_keys table is taken over, and its tokens keep working', async () => {
  const cluster = await Cluster.start({
    settings: { shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET },
  });
  running.push(cluster);
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
  const serve = () => restWith({ cluster }, SECRET, { env: {} });

  const before = await serve();
  assert.deepEqual([await read(before, live), await read(before, revoked)], [['alice'], []]);

  assert.throws(() => cluster.psql('postgres', 'create extension supabase_pat'),
    /supabase_pat needs the names of existing objects: function public.is_valid_api_token\(\), table public.api_keys[^]*operations\.md/);
  cluster.psql('postgres', block('Coming from a hand-written api_keys table'));

  const rest = await serve();
  assert.deepEqual([await read(rest, live), await read(rest, revoked), await read(rest, stolen)], [['alice'], 401, 401]);
  const session = cluster.psql('postgres', `insert into auth.sessions (id, user_id) values (gen_random_uuid(), '${ALICE}') returning id`);
  const login = await sign({ aud: 'authenticated', role: 'authenticated', sub: ALICE, session_id: session });
  const keys = await request(rest.url, 'GET', '/api_keys?select=name,is_active&order=id', { token: login });
  assert.deepEqual(keys.data, [{ name: 'live', is_active: true }, { name: 'revoked', is_active: false }]);
  const minted = await request(rest.url, 'POST', '/rpc/mint_pat', { token: login, body: { name: 'new' } });
  assert.deepEqual(await read(rest, minted.data.token), ['alice']);
  await request(rest.url, 'POST', '/rpc/revoke_pat', { token: login, body: { id: 'aaaaaaaa-0000-4000-8000-000000000001' } });
  assert.equal(await read(rest, live), 401);
});

test('uninstalling leaves nothing behind, no request fails, and the server starts without the library', async () => {
  const cluster = await Cluster.start({
    settings: { shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET, 'supabase_pat.guarded_logins': 'authenticator' },
  });
  running.push(cluster);
  cluster.psql('postgres', `
    create extension supabase_pat;
    select pat.install_auth_schema();
    alter role authenticator password '${cluster.password}';
    alter role authenticator set pgrst.db_pre_request = 'pat.gate';
    insert into auth.users (id) values ('${ALICE}');
    create table todos (id int primary key generated by default as identity, user_id uuid, title text);
    alter table todos enable row level security;
    create policy owners on todos using (auth.uid() = user_id);
    create policy live on todos as restrictive using (is_valid_api_token());
    grant select on todos to authenticated;
    insert into todos (user_id, title) values ('${ALICE}', 'alice');`);
  const revoked = mint({ cluster });
  cluster.psql('postgres', `select revoke_pat('${revoked.id}')`);
  const login = (secret) => sign({ sub: ALICE, role: 'authenticated' }, { secret });
  const former = await restWith({ cluster }, SECRET);
  assert.deepEqual([await read(former, revoked.token), await read(former, await login(SECRET))], [401, ['alice']]);

  cluster.psql('postgres', block('Uninstall'));
  assert.equal(cluster.psql('postgres', `select count(*) from pg_db_role_setting where setconfig::text like '%pre_request%'`), '0');
  const next = 'the-next-secret-of-the-REST-server-of-32-bytes';
  const [careless, careful] = [await restWith({ cluster }, SECRET, { env: {} }), await restWith({ cluster }, next, { env: {} })];
  const [dropExtension, dropSchema] = block('Uninstall', 1).trim().split('\n');
  assert.throws(() => cluster.psql('postgres', dropExtension), /policy live on table todos depends on function is_valid_api_token\(\)/);
  cluster.psql('postgres', `${dropExtension.replace(';', ' cascade;')}\n${dropSchema}`);
  const now = await login(next);
  assert.deepEqual([await read(careful, revoked.token), await read(careful, now)], [401, ['alice']]);
  // Why the keys go first, and why the gate does.
  assert.deepEqual(await read(careless, revoked.token), ['alice']);
  assert.notDeepEqual(await read(former, await login(SECRET)), ['alice']);

  const file = join(cluster.data, 'postgresql.conf');
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^(shared_preload_libraries|supabase_pat\.).*\n/gm, ''));
  cluster.control('restart');
  assert.deepEqual(await read(careful, now), ['alice']);
  const left = cluster.psql('postgres', `
    select count(*) from pg_proc where probin like '%supabase_pat%';
    select count(*) from pg_namespace where nspname = 'pat';
    select count(*) from pg_class where relname = 'api_keys';`);
  assert.equal(left, '0\n0\n0');
});

test('The mail worker: a role of its own claims messages and does nothing else', async () => {
  const { cluster } = await open({ sql: 'create extension pgcrypto;' });
  operate(cluster, block('The mail worker'));
  const db = await cluster.connect('postgres', 'mail_worker');
  try {
    await db.query('listen supabase_pat_outbox');
    assert.deepEqual((await db.query('select * from pat.claim_messages()')).rows, []);
    assert.deepEqual((await db.query('select * from pat.claim_notices()')).rows, []);
    for (const forbidden of [`select pat.sign_jwt('{}')`, 'select * from pat.outbox', 'select * from pat.notices', 'select * from pat.private_keys', 'select * from auth.users', 'table todos']) {
      await assert.rejects(db.query(forbidden), { code: '42501' }, forbidden);
    }
  } finally {
    await db.end();
  }
});

test('Prometheus: a role of its own reads numbers and nothing else', async () => {
  const { cluster } = await open();
  operate(cluster, block('Prometheus'));
  const db = await cluster.connect('postgres', 'monitor');
  try {
    assert.ok((await db.query('select * from pat.metrics()')).rows.length > 20);
    for (const forbidden of ['select * from pat.status()', 'select * from pat.events', 'select * from pat.usage_by_day', 'select * from api_key_daily_usage']) {
      await assert.rejects(db.query(forbidden), { code: '42501' }, forbidden);
    }
  } finally {
    await db.end();
  }
});

test('no SQL of the page is left out', () => {
  assert.deepEqual(all.flatMap(examplesOf).map(({ code }) => code).filter((code) => !taken.has(code)), []);
});
