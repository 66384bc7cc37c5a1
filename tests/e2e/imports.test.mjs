// Tokens of other systems: the statements of docs/moving.md, run over tables of the shape that each system has, and the
// keys of that system through a real REST server.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import { Cluster, RestServer } from '../cluster/cluster.mjs';
import { Installation, installed } from '../cluster/installation.mjs';
import { examplesOf, sections } from './documentation.mjs';
import { ALICE, BOB, request, sign } from './fixture.mjs';
import { REVOKED, UNKNOWN, assertRefused, eventually, lacks, open, titlesOf } from './gate_world.mjs';

const sha = (algorithm, text) => createHash(algorithm).update(text);
const TWO = [401, 'the request presents two different personal access tokens', 'Send one of them.'];

/** The statement of docs/moving.md that imports what is of that system. */
const statement = (system) => examplesOf(sections('moving.md').find(({ title }) => title === system))[0].code;

const TODOS = `truncate todos restart identity;
  insert into todos (user_id, title) values ('${ALICE}', 'alice 1'), ('${ALICE}', 'alice 2'), ('${BOB}', 'bob 1');`;

describe('keys of other systems go on working', () => {
  let world;
  before(async () => { world = await open({ sql: TODOS }); });
  after(() => world.close());
  const asked = (headers, method = 'GET', path = '/todos', body = undefined) => world.ask(method, path, { headers, body });

  test('better-auth', async () => {
    const key = (prefix = '') => prefix + randomBytes(48).toString('base64url').replace(/[-_]/g, 'x');
    const [plain, reader, limited, disabled, expired, unconfirmed, ofOrganization, nothing] = Array.from({ length: 8 }, () => key('proj_'));
    await world.rows(`
      create table "user" (id text primary key, name text not null, email text not null unique, "emailVerified" boolean not null,
        image text, "createdAt" timestamptz not null default now(), "updatedAt" timestamptz not null default now());
      create table apikey (id text primary key, "configId" text not null default 'default', name text, start text,
        "referenceId" text not null, prefix text, key text not null, "refillInterval" integer, "refillAmount" integer,
        "lastRefillAt" timestamptz, enabled boolean default true, "rateLimitEnabled" boolean default true,
        "rateLimitTimeWindow" integer default 86400000, "rateLimitMax" integer default 10, "requestCount" integer default 0,
        "rateLimitWindowStart" timestamptz, remaining integer, "lastRequest" timestamptz, "expiresAt" timestamptz,
        "createdAt" timestamptz not null, "updatedAt" timestamptz not null, permissions text, metadata text);
      insert into "user" (id, name, email, "emailVerified") values ('jA3x', 'Alice', 'Alice@example.com', true),
        ('kB4y', 'Mallory', 'bob@example.com', false);
      update auth.users set email_confirmed_at = now();`);
    const add = (id, text, { user = 'jA3x', ...rest } = {}) => world.rows(`
      insert into apikey (id, name, start, "referenceId", prefix, key, enabled, "rateLimitEnabled", "rateLimitMax", "expiresAt",
        permissions, "createdAt", "updatedAt")
      values ($1, null, left($2, 6), $3, 'proj_', $4, $5, $6, $7, $8, $9, now() - interval '1 year', now())`,
    [id, text, user, sha('sha256', text).digest('base64url'), rest.enabled ?? true, rest.max !== undefined, rest.max ?? 10,
      rest.expires ?? null, rest.permissions ?? null]);
    await add('plain', plain);
    await add('reader', reader, { permissions: '{"todos":["read"]}' });
    await add('limited', limited, { max: 1 });
    await add('disabled', disabled, { enabled: false });
    await add('expired', expired, { expires: '2024-01-01' });
    await add('unconfirmed', unconfirmed, { user: 'kB4y' });
    await add('organization', ofOrganization, { user: 'an organization' });
    await add('nothing', nothing, { permissions: '{"todos":[]}' });
    const imported = await world.rows(statement('better-auth'));
    assert.deepEqual(imported.map(({ id }) => id).sort(), ['expired', 'limited', 'plain', 'reader']);

    assert.deepEqual(titlesOf(await asked({ 'x-api-key': plain })), ['alice 1', 'alice 2']);
    assert.deepEqual(titlesOf(await asked({ 'x-api-key': reader })), ['alice 1', 'alice 2']);
    assertRefused(await asked({ 'x-api-key': reader }, 'POST', '/todos', { title: 'x' }), lacks('todos:write'));
    assert.equal((await asked({ 'x-api-key': limited })).status, 200);
    assert.equal((await asked({ 'x-api-key': limited })).status, 429);
    assertRefused(await asked({ 'x-api-key': expired }), [401, 'the personal access token has expired', 'Ask for a new one.']);
    // Not imported: nobody's, as before.
    for (const text of [disabled, unconfirmed, ofOrganization, nothing]) assert.deepEqual(titlesOf(await asked({ 'x-api-key': text })), []);
    // Run again, it changes nothing, and brings nothing back.
    await world.rows('select revoke_pat($1)', [imported.find(({ id }) => id === 'plain').token]);
    const byId = (rows) => [...rows].sort((a, b) => a.id.localeCompare(b.id));
    assert.deepEqual(byId(await world.rows(statement('better-auth'))), byId(imported));
    assertRefused(await asked({ 'x-api-key': plain }), REVOKED);
  });

  test('Unkey', async () => {
    const key = (prefix) => `${prefix}_${randomBytes(16).toString('base64url').replace(/[-_]/g, 'x')}`;
    const [plain, limited, deleted, permitted] = Array.from({ length: 4 }, () => key('acme'));
    await world.rows(`
      create schema unkey;
      create table unkey.identities (pk bigserial, id varchar(256) unique, external_id varchar(256) not null, workspace_id varchar(256) not null,
        environment varchar(256) not null default 'default', meta json, deleted boolean not null default false, created_at bigint not null, updated_at bigint);
      create table unkey.keys (pk bigserial, id varchar(256) unique, key_auth_id varchar(256) not null, hash varchar(256) unique not null,
        start varchar(256) not null, workspace_id varchar(256) not null, for_workspace_id varchar(256), name varchar(256), owner_id varchar(256),
        identity_id varchar(256), meta text, expires timestamp(3), created_at_m bigint not null default 0, updated_at_m bigint, deleted_at_m bigint,
        refill_day smallint, refill_amount int, last_refill_at timestamp(3), enabled boolean not null default true, remaining_requests int,
        ratelimit_async boolean, ratelimit_limit int, ratelimit_duration bigint, environment varchar(256), last_used_at bigint, pending_migration_id varchar(256));
      create table unkey.ratelimits (pk bigserial, id varchar(256), name varchar(256) not null, workspace_id varchar(256) not null, created_at bigint not null,
        updated_at bigint, key_id varchar(256), identity_id varchar(256), "limit" int not null, duration bigint not null, auto_apply boolean not null default false);
      create table unkey.keys_permissions (pk bigserial, key_id varchar(256) not null, permission_id varchar(256) not null, workspace_id varchar(256) not null);
      create table unkey.keys_roles (pk bigserial, key_id varchar(256) not null, role_id varchar(256) not null, workspace_id varchar(256) not null);
      insert into unkey.identities (id, external_id, workspace_id, created_at) values ('id_1', '${ALICE}', 'ws', 0), ('id_2', 'somebody', 'ws', 0);
      insert into unkey.ratelimits (id, name, workspace_id, created_at, key_id, "limit", duration, auto_apply) values
        ('rl_1', 'loose', 'ws', 0, 'limited', 1000, 60000, true), ('rl_2', 'strict', 'ws', 0, 'limited', 2, 2592000000, true),
        ('rl_3', 'not applied', 'ws', 0, 'limited', 1, 60000, false);
      insert into unkey.keys_permissions (key_id, permission_id, workspace_id) values ('permitted', 'perm', 'ws');`);
    const add = (id, text, more = {}) => world.rows(`
      insert into unkey.keys (id, key_auth_id, hash, start, workspace_id, name, identity_id, created_at_m, deleted_at_m, expires)
      values ($1, 'ka', $2, left($3, 8), 'ws', $1, $4, 1700000000000, $5, $6)`,
    [id, sha('sha256', text).digest('base64'), text, more.identity ?? 'id_1', more.deleted ?? null, more.expires ?? null]);
    await add('plain', plain, { expires: '2099-01-01 00:00:00.000' });
    await add('limited', limited);
    await add('deleted', deleted, { deleted: 1700000000001 });
    await add('permitted', permitted);
    await add('of somebody', key('acme'), { identity: 'id_2' });
    const imported = await world.rows(statement('Unkey'));
    assert.deepEqual(imported.map(({ id }) => id).sort(), ['limited', 'plain']);
    assert.deepEqual(titlesOf(await asked({ 'x-api-key': plain })), ['alice 1', 'alice 2']);
    assert.deepEqual(titlesOf(await asked({ 'x-api-key': `Bearer ${plain}` })), ['alice 1', 'alice 2']);
    const statuses = [];
    for (let i = 0; i < 3; i += 1) statuses.push((await asked({ 'x-api-key': limited })).status);
    assert.deepEqual(statuses, [200, 200, 429]);
    for (const text of [deleted, permitted]) assert.deepEqual(titlesOf(await asked({ 'x-api-key': text })), []);
    const [times] = await world.rows(`select extract(epoch from created_at)::int as created, expires_at::date::text as expires
      from pat.api_keys where name = 'plain'`);
    assert.deepEqual(times, { created: 1700000000, expires: '2099-01-01' });
  });

  test('KeyHippo, whose tables hold a SHA-512 of a part of the key', async () => {
    // As keyhippo.create_api_key makes one.
    const make = () => ({ prefix: randomBytes(24).toString('base64'), secret: sha('sha512', randomBytes(64)).digest('hex') });
    const [plain, revoked, scoped] = [make(), make(), make()];
    const hashOf = ({ secret }) => sha('sha512', secret).digest('hex');
    const textOf = ({ prefix, secret }) => prefix + secret;
    await world.rows(`
      create schema keyhippo;
      create table keyhippo.api_key_metadata (id uuid primary key, user_id uuid not null references auth.users (id) on delete cascade,
        scope_id uuid, description text, prefix text not null unique, created_at timestamptz not null default now(), last_used_at timestamptz,
        expires_at timestamptz not null default (now() + interval '100 years'), is_revoked boolean not null default false, claims jsonb default '{}');
      create table keyhippo.api_key_secrets (key_metadata_id uuid primary key references keyhippo.api_key_metadata (id) on delete cascade,
        key_hash text not null)`);
    const add = (key, more = {}) => world.rows(`
      with row as (insert into keyhippo.api_key_metadata (id, user_id, description, prefix, is_revoked, scope_id)
        values (gen_random_uuid(), '${ALICE}', 'a key', $1, $2, $3) returning id)
      insert into keyhippo.api_key_secrets select id, $4 from row`, [key.prefix, more.revoked ?? false, more.scope ?? null, hashOf(key)]);
    await add(plain);
    await add(revoked, { revoked: true });
    await add(scoped, { scope: BOB });
    assert.equal((await world.rows(statement('KeyHippo'))).length, 1);
    assert.deepEqual(titlesOf(await asked({ 'x-api-key': textOf(plain) })), ['alice 1', 'alice 2']);
    for (const key of [revoked, scoped]) assert.deepEqual(titlesOf(await asked({ 'x-api-key': textOf(key) })), []);
    // Whoever has read its tables, or ours, has nothing to present.
    const digest = await world.value(`select encode(token_digest, 'hex') from pat.api_keys where name = 'a key'`);
    for (const text of [plain.prefix + hashOf(plain), hashOf(plain), digest, make().prefix + plain.secret]) {
      assert.deepEqual(titlesOf(await asked({ 'x-api-key': text })), [], text);
    }
  });

  test('a table of your own, with keys in a header of their own', async () => {
    const [good, bad] = [randomBytes(20).toString('hex'), randomBytes(20).toString('hex')];
    await world.rows(`
      create table hashed_keys (id int primary key, user_id uuid, name text, key_hash text, created_at timestamptz default now(),
        expires_at timestamptz, revoked_at timestamptz);
      insert into hashed_keys (id, user_id, name, key_hash, revoked_at) values
        (1, '${BOB}', 'good', encode(sha256('${good}'), 'hex'), null), (2, '${BOB}', 'revoked', encode(sha256('${bad}'), 'hex'), now()),
        (3, gen_random_uuid(), 'of nobody', encode(sha256('nobody'), 'hex'), null)`);
    assert.deepEqual((await world.rows(statement('A table of your own'))).map(({ id }) => id), [1]);
    // Nothing looks at that header yet.
    assert.deepEqual(titlesOf(await asked({ 'x-acme-key': good })), []);
  });
});

/** pg_session_jwt as policies see it behind PostgREST, without a key of its own: its functions and whose they are. The
 * schema is its own, or was there before. */
const PG_SESSION_JWT = `
  create function auth.session() returns jsonb language sql stable as
    $$ select coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb, 'null') $$;
  create function auth.jwt() returns jsonb language sql stable as 'select auth.session()';
  create function auth.user_id() returns text language sql stable as $$ select auth.session() ->> 'sub' $$;
  create function auth.uid() returns UID language sql stable as $$ select (auth.session() ->> 'sub')::UID $$;`;

for (const [version, uid, isOurs] of [['0.4.0', 'text', false], ['0.5.0', 'uuid', true]]) {
  test(`policies and users of pg_session_jwt ${version} move in one transaction`, async () => {
    const ours = installed(process.env.PG ?? '15');
    const [, defaultVersion] = readFileSync(ours.control, 'utf8').match(/^default_version = '(.*)'/m);
    const installation = new Installation({ defaultVersion, scripts: { [defaultVersion]: readFileSync(ours.script(defaultVersion), 'utf8') } });
    const theirs = join(installation.bin, relative(ours.bindir, ours.sharedir), 'extension', 'pg_session_jwt');
    writeFileSync(`${theirs}.control`, `default_version = '${version}'\nrelocatable = false\n`);
    writeFileSync(`${theirs}--${version}.sql`, (isOurs ? '' : 'create schema auth;') + PG_SESSION_JWT.replaceAll('UID', uid));
    const cluster = await Cluster.start({ bin: installation.bin, settings: { shared_preload_libraries: 'supabase_pat' } });
    let server;
    try {
      cluster.psql('postgres', `
        ${isOurs ? 'create schema auth;' : ''}
        create extension pg_session_jwt;
        create role anon; create role authenticated; create role authenticator login noinherit password '${cluster.password}';
        grant anon, authenticated to authenticator; grant usage on schema auth to anon, authenticated;
        create schema neon_auth;
        create table neon_auth.users_sync (raw_json jsonb not null, id text generated always as (raw_json ->> 'id') stored primary key,
          name text, email text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz);
        insert into neon_auth.users_sync (raw_json, email, deleted_at) values ('{"id": "${ALICE}"}', 'alice@example.com', null),
          ('{"id": "${BOB}"}', 'bob@example.com', now());
        create table notes (id int primary key generated by default as identity, owner text default auth.user_id(), body text);
        create table drafts (owner ${uid} default auth.uid(), body text);
        alter table notes enable row level security;
        alter table drafts enable row level security;
        create policy own on notes using ((select auth.user_id()) = owner) with check (auth.user_id() = owner);
        create policy people on notes as restrictive using (auth.session() ->> 'role' = 'authenticated' and auth.jwt() ->> 'sub' is not null);
        create policy own on drafts using (owner = auth.uid());
        create policy all_can on drafts for insert with check (true);
        grant select, insert on notes, drafts to authenticated;
        insert into notes (owner, body) values ('${ALICE}', 'by alice'), ('${BOB}', 'by bob');
        insert into drafts values ('${ALICE}', 'of alice'), ('${BOB}', 'of bob');`);
      const [move, found] = examplesOf(sections('moving.md').find(({ title }) => title === 'pg_session_jwt'));
      // While something calls it that is not found, nothing changes.
      cluster.psql('postgres', 'create view whoami as select auth.user_id()');
      assert.throws(() => cluster.psql('postgres', move.code), /view public\.whoami depends on function auth\.user_id/);
      assert.equal(cluster.psql('postgres', `select count(*) from pg_policies where concat(qual, with_check) ~ 'auth\\.'`), '3');
      cluster.psql('postgres', 'drop view whoami');
      cluster.psql('postgres', move.code);
      assert.equal(cluster.psql('postgres', found.code), '');
      assert.equal(cluster.psql('postgres', 'select email from auth.users'), 'alice@example.com');

      // The logins are signed by their issuer, as before.
      const issuer = await generateKeyPair('ES256', { extractable: true });
      const jwk = { ...await exportJWK(issuer.publicKey), kid: 'issuer', alg: 'ES256' };
      cluster.psql('postgres', 'select pat.rotate_signing_key(pat.add_signing_key())');
      const file = (name) => join(installation.folder, name);
      writeFileSync(file('issuer.json'), JSON.stringify({ keys: [jwk] }));
      const [merge] = sections('moving.md').find(({ title }) => title === 'pg_session_jwt').blocks.filter(({ language }) => language === 'sh');
      execFileSync('sh', ['-ec', merge.code], {
        cwd: installation.folder, env: { ...cluster.env(), PATH: `${ours.bindir}:${process.env.PATH}` },
      });
      const keys = readFileSync(file('jwks.json'), 'utf8');
      assert.equal(JSON.parse(keys).keys.length, 2);
      server = await RestServer.start(cluster.url('postgres', 'authenticator', cluster.password), keys);
      const login = await new SignJWT({ role: 'authenticated', sub: ALICE }).setProtectedHeader({ alg: 'ES256', kid: 'issuer' })
        .setIssuedAt().setExpirationTime('1h').sign(issuer.privateKey);
      const asked = (method, path, options) => request(server.url, method, path, options);
      const bodies = async (path, options) => (await asked('GET', `${path}?select=body&order=body`, options)).data.map(({ body }) => body);
      const mint = async (body) => (await asked('POST', '/rpc/mint_pat', { token: login, body: { name: 'moved', ...body } })).data.token;
      const opaque = { headers: { 'x-api-key': await mint({ kind: 'opaque' }) } };
      assert.equal((await asked('POST', '/notes', { ...opaque, body: { body: 'by her script' } })).status, 201);
      assert.equal((await asked('POST', '/drafts', { ...opaque, body: { body: 'of her script' } })).status, 201);
      for (const options of [{ token: login }, opaque, { token: await mint() }]) {
        assert.deepEqual(await bodies('/notes', options), ['by alice', 'by her script']);
        assert.deepEqual(await bodies('/drafts', options), ['of alice', 'of her script']);
      }
    } finally {
      server?.stop();
      cluster.stop();
      installation.remove();
    }
  });
}

for (const road of ['guard', 'gate']) {
  describe(`a header that an operator names, behind the ${road}`, () => {
    let world;
    let good;
    let other;
    before(async () => {
      world = await open({ road, sql: TODOS, settings: { 'supabase_pat.token_headers': 'x-api-key, X-Acme-Key' } });
      [good, other] = [randomBytes(20).toString('hex'), randomBytes(20).toString('hex')];
      for (const [user, text] of [[ALICE, good], [BOB, other]]) {
        await world.rows('select pat.import_token($1, $2, $3)', [user, 'imported', sha('sha256', text).digest('hex')]);
      }
    });
    after(() => world.close());
    const asked = (headers, options = {}) => world.ask('GET', '/todos', { headers, ...options });

    test('holds tokens, imported ones and ours, and nothing else', async () => {
      assert.deepEqual(titlesOf(await asked({ 'x-acme-key': good })), ['alice 1', 'alice 2']);
      assert.deepEqual(titlesOf(await asked({ 'X-ACME-KEY': `Bearer ${good}` })), ['alice 1', 'alice 2']);
      const ours = await world.mint(BOB, { kind: 'opaque' });
      assert.deepEqual(titlesOf(await asked({ 'x-acme-key': ours.token })), ['bob 1']);
      for (const text of [`${good}0`, good.slice(1), 'x'.repeat(3000), await world.serviceKey(), 'sb_publishable_x']) {
        assertRefused(await asked({ 'x-acme-key': text }), UNKNOWN);
      }
      assert.deepEqual(titlesOf(await asked({ 'x-acme-key': '' })), []);
    });

    test('guesses at imported tokens are in the events', async () => {
      for (let i = 0; i < 5; i += 1) assertRefused(await asked({ 'x-acme-key': `a guess ${i}` }), UNKNOWN);
      const counted = () => world.value(`select coalesce(sum(count), 0)::int from pat.events where event = 'refused' and detail = 'unknown_token'`);
      await eventually(async () => await counted() >= 5);
    });

    test('a good token does not outweigh a dead, an unknown or another one', async () => {
      const dead = await world.mint(ALICE, { kind: 'opaque' });
      await world.rows('select revoke_pat($1)', [dead.id]);
      assertRefused(await asked({ 'x-api-key': good, 'x-acme-key': dead.token }), REVOKED);
      assertRefused(await asked({ 'x-api-key': dead.token, 'x-acme-key': good }), REVOKED);
      assertRefused(await asked({ 'x-api-key': good, 'x-acme-key': 'unknown' }), UNKNOWN);
      assertRefused(await asked({ 'x-api-key': good, 'x-acme-key': other }), TWO);
      assert.deepEqual(titlesOf(await asked({ 'x-api-key': good, 'x-acme-key': good })), ['alice 1', 'alice 2']);
      // A login, or the service role, counts no more than before.
      assert.deepEqual(titlesOf(await asked({ 'x-acme-key': good }, { token: await world.serviceKey() })), ['alice 1', 'alice 2']);
      assert.deepEqual(titlesOf(await asked({ 'x-acme-key': other }, { token: await world.login(ALICE) })), ['bob 1']);
    });

    test('what Supabase sends in x-api-key is neither looked up nor refused', async () => {
      const scans = () => world.value(`select sum(idx_scan)::int from pg_stat_user_indexes where indexrelname = 'api_keys_token_digest_idx'`);
      const anon = await sign({ role: 'anon', iss: 'supabase' });
      const of60 = async (texts) => {
        const before = await scans();
        for (let i = 0; i < 60; i += 1) assert.deepEqual(titlesOf(await asked({ 'x-api-key': texts[i % texts.length] })), []);
        // Each backend reports what it has done a second before, when its next transaction ends.
        await sleep(1100);
        for (let i = 0; i < 20; i += 1) await asked({});
        return await scans() - before;
      };
      await of60(['']);
      assert.equal(await of60([anon, 'sb_publishable_AAECAwQFBgcICQoLDA0ODw_kF53ynCj', 'x'.repeat(3000)]), 0);
      assert.ok(await of60(['somebody-elses-key']) >= 40);
    });

    test('an imported token is denied by its text', async () => {
      await world.rows('select pat.deny_token($1, $2)', [other, 'leaked']);
      assertRefused(await asked({ 'x-acme-key': other }), REVOKED);
    });
  });
}
