// Every version that was released becomes the newest, and is then what a new installation is. How this is compared
// is tested with versions that were never released.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { Installation, installed } from '../cluster/installation.mjs';
import { catalogue, differences } from './catalogue.mjs';
import { ALICE, BOB, SECRET } from './fixture.mjs';
import { eventually } from './gate_world.mjs';
import { OMISSIONS, madeUp } from './made_up_versions.mjs';
import { current, frozen, released, upgrades } from './releases.mjs';

const generated = readFileSync(installed(process.env.PG ?? '15').script(current), 'utf8');
const SETTINGS = {
  shared_preload_libraries: 'supabase_pat',
  'supabase_pat.jwt_secret': SECRET,
  'supabase_pat.flush_interval': 1,
  'supabase_pat.enable_sign_in': 'on',
};

/** As on Supabase. */
const ROLES = `
  create role anon nologin;
  create role authenticated nologin;
  create role service_role nologin bypassrls;
  create role authenticator login noinherit;
  create role reporter nologin;
  create role mallory login in role authenticated;
  create role landlord login;`;
const DEFAULT_PRIVILEGES = ['tables', 'functions', 'sequences']
  .map((on) => `alter default privileges in schema public grant all on ${on} to anon, authenticated, service_role;`).join('\n');

/** What an operator has given and taken away. */
const OPERATOR = `
  grant select on pat.events to reporter;
  revoke execute on function public.sign_up(text, text, jsonb) from anon;`;

/** What an application has that uses the extension. */
const APPLICATION = `
  create table notes (
    id bigint primary key generated always as identity,
    user_id uuid not null default pat.uid(),
    by_key uuid default current_api_key_id(),
    body text not null
  );
  alter table notes enable row level security;
  create policy owners on notes using (user_id = pat.uid() and is_valid_api_token()) with check (user_id = pat.uid());
  create policy scopes on notes as restrictive for select using (has_scope('notes:read') and is_active_session());
  grant select, insert on notes to authenticated;
  create view names_of_keys with (security_invoker) as select name from api_keys;
  grant select on names_of_keys to authenticated;
  create function is_live() returns boolean stable begin atomic select is_valid_api_token(); end;
  create function count_notes() returns bigint language plpgsql stable as $$ begin return (select count(*) from notes); end $$;
  insert into auth.users (id, email) values ('${ALICE}', 'alice@example.com'), ('${BOB}', 'bob@example.com');
  insert into notes (user_id, body) values ('${ALICE}', 'by alice'), ('${BOB}', 'by bob');`;

/** A server that has these scripts, the version that is installed if nothing else is said, and the older ones. */
async function open({ defaultVersion, scripts }) {
  const installation = new Installation({ defaultVersion, scripts });
  const cluster = await Cluster.start({ bin: installation.bin, settings: SETTINGS });
  cluster.psql('postgres', ROLES);
  const clients = new Set();
  let databases = 0;
  const connect = async (database, user) => {
    const client = await cluster.connect(database, user);
    clients.add(client);
    return client;
  };
  return {
    cluster,
    connect,
    /** A database with a version of the extension, or with the one that Postgres chooses, or none. */
    async database(version, sql = '') {
      databases += 1;
      const name = `database_${databases}`;
      cluster.psql('postgres', `create database ${name}`);
      cluster.psql(name, `
        ${DEFAULT_PRIVILEGES}
        ${version ? `create extension supabase_pat version '${version}';` : ''}
        ${sql}`);
      return name;
    },
    /** What a new installation has, with what the operator has changed since. */
    async fresh(version) {
      const db = await connect(await this.database(version, `select pat.install_auth_schema(); ${OPERATOR} ${APPLICATION}`));
      return catalogue(db);
    },
    async close() {
      for (const client of clients) await client.end();
      cluster.stop();
      installation.remove();
    },
  };
}

const rows = async (db, sql, values) => (await db.query(sql, values)).rows;
const value = async (db, sql, values) => Object.values((await rows(db, sql, values))[0])[0];
const version = (db) => value(db, `select extversion from pg_extension where extname = 'supabase_pat'`);
const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

/** What the REST server does for a request, in a transaction that is rolled back. */
async function request(db, claims, headers, act) {
  await db.query('begin');
  try {
    await db.query(`select set_config('request.jwt.claims', $1, true), set_config('request.headers', $2, true),
      set_config('request.method', 'GET', true), set_config('request.path', '/notes', true), set_config('role', $3, true)`,
    [JSON.stringify(claims), JSON.stringify(headers), claims.role]);
    return await act();
  } catch (error) {
    return `${error.code} ${error.message}`;
  } finally {
    await db.query('rollback');
  }
}

/** Puts a row into every table, with the functions of the version that is there, and returns what users then have. */
async function fill(db) {
  const mint = async (args) => (await rows(db, `select id, token from mint_pat(user_id => '${ALICE}', ${args})`))[0];
  const as = (user, sql, values) => db.query(`select set_config('request.jwt.claims', $1, false)`,
    [user ? JSON.stringify({ sub: user, role: 'authenticated', session_id: randomUUID() }) : '']).then(() => value(db, sql, values));
  const has = {
    bySecret: await mint(`name => 'by the secret'`),
    opaque: await mint(`name => 'opaque', kind => 'opaque', scopes => '{notes:read,names_of_keys:read,tokens:read}', rate_limit => 1000, rate_window => '31 days'`),
    revoked: await mint(`name => 'revoked'`),
    replaced: await mint(`name => 'replaced'`),
  };
  await db.query('select revoke_pat($1)', [has.revoked.id]);
  [has.replacement] = await rows(db, `select id, token from rotate_pat($1, '1 hour')`, [has.replaced.id]);
  await db.query(`select pat.rotate_signing_key(pat.add_signing_key('ES256'))`);
  await db.query(`select pat.add_signing_key('HS256', kid => 'standby')`);
  has.byKey = await mint(`name => 'by a key'`);
  has.session = (await rows(db, 'select * from pat.mint_session($1)', [ALICE]))[0];
  has.denied = { token: await value(db, `select pat.sign_jwt('{"role": "service_role", "iss": "supabase"}', '1 hour')`) };
  await db.query('select pat.deny_token($1)', [has.denied.token]);

  // A token that has made another: what is known of that outlives both.
  const maker = await mint(`name => 'maker', scopes => '{tokens:write}'`);
  await db.query('begin');
  await db.query(`select set_config('request.jwt.claims', $1, true), set_config('role', 'authenticated', true)`, [JSON.stringify(claimsOf(maker.token))]);
  // A token with scopes counts where the gate has judged it.
  await db.query(`select set_config('request.method', 'POST', true), set_config('request.path', '/rpc/revoke_pat', true)`);
  await db.query('select pat.gate()');
  const made = await value(db, `select id from mint_pat(name => 'made', scopes => '{tokens:write}')`);
  await db.query('commit');
  await db.query('delete from pat.api_keys where id = any ($1)', [[maker.id, made]]);

  await db.query(`select pat.define_setting('temperature', '0.7', '{"type": "number"}')`);
  await as(ALICE, `select set_settings('{"temperature": 1.1}')`);
  await as(null, `select sign_in('alice@example.com', 'wrong')`);
  const reset = await value(db, `select request_password_reset('alice@example.com')`);
  has.reset = { token: reset, code: await value(db, 'select code from pat.claim_messages()') };
  assert.equal(await value(db, `select verify_reset_code($1, '00000')`, [reset]), false);
  if (await value(db, `select to_regclass('pat.known_networks') is not null`)) {
    await db.query(`insert into pat.known_networks values ($1, '192.0.2.1', now())`, [ALICE]);
    await db.query('insert into pat.api_key_days values (current_date - 3, $1, $2, 17, 4)', [has.bySecret.id, ALICE]);
    await db.query('insert into pat.pending_sign_ups values (gen_random_uuid(), null)');
    await db.query(`select pat.define_key_attribute('project')`);
    await db.query(`select create_service_account('ci')`);
    await db.query(`insert into pat.notices (kind, user_id, happened_at, due_at) values ('minted', $1, now(), now())`, [ALICE]);
    await db.query('insert into pat.notice_marks values (7, now())');
  }
  return has;
}

/** What the owners of these find when they use them. */
async function use(db, has) {
  const found = {};
  const asBearer = (claims, headers) => request(db, claims, headers, async () => {
    await db.query('select pat.gate()');
    const [answer] = await rows(db, `select pat.uid(), current_api_key_id() as key, is_valid_api_token() as valid, is_live(), count_notes() as notes,
      (select array_agg(name order by name) from names_of_keys) as keys, get_settings() as settings, has_scope('notes:write') as writes`);
    if (!answer.writes || !answer.valid) return answer;
    return { ...answer, by: await value(db, `insert into notes (body) values ('new') returning by_key`) };
  });
  for (const [name, { token, access_token: login }] of Object.entries(has)) {
    if (name === 'reset') continue;
    found[name] = name === 'opaque' ? await asBearer({ role: 'anon' }, { 'x-api-key': token })
      : [await value(db, 'select pat.jwt_status($1)', [token ?? login]),
        await asBearer(claimsOf(token ?? login), { authorization: `Bearer ${token ?? login}` })];
  }
  found.code = await value(db, 'select verify_reset_code($1, $2)', [has.reset.token, has.reset.code]);
  found.refreshed = await request(db, { role: 'anon' }, {}, async () => (await rows(db, 'select * from refresh_session($1)', [has.session.refresh_token]))[0].user.id);
  found.minted = await request(db, { role: 'authenticated', sub: ALICE, session_id: claimsOf(has.session.access_token).session_id }, {},
    () => value(db, `select name from mint_pat(name => 'another')`));
  return found;
}

/** All rows of the extension's tables, by table. */
async function content(db) {
  const found = {};
  for (const { table } of await rows(db, `
    select c.oid::regclass::text as table from pg_depend d join pg_class c on c.oid = d.objid
    where d.classid = 'pg_class'::regclass and d.deptype = 'e' and relkind = 'r'
      and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat') order by 1`)) {
    found[table] = (await rows(db, `select to_jsonb(t) as row from ${table} t`)).map(({ row }) => row);
  }
  return found;
}

/** The rows, as far as they have the columns that others have. */
const within = (rows, others) => rows.map((row) => JSON.stringify(Object.fromEntries(Object.keys(others[0]).map((column) => [column, row[column]])))).sort();

/** What is in a database and not Postgres's, with its schemas' names. */
const everything = (db) => rows(db, `
  select pg_describe_object(classid, objid, 0) as object
  from (select distinct classid, objid from pg_depend where objid >= 16384) d
  union all select nspname from pg_namespace where oid >= 16384
  union all select 'privileges of ' || pg_describe_object(classoid, objoid, objsubid) from pg_init_privs where objoid >= 16384
  union all select 'comment on ' || objoid from pg_description where objoid >= 16384
  union all select 'privileges ' || defaclacl::text from pg_default_acl
  order by 1`);

/** What is true of every upgrade. `like` is the version whose new installation is compared with. */
function upgrading(world, from, to, like) {
  let before;
  let has;
  let used;
  let name;
  let db;
  let session;
  const prepared = (of, text, values = []) => session.query({ name: of, text, values });
  const useOldPlans = async () => {
    await session.query(`select set_config('request.jwt.claims', $1, false)`, [JSON.stringify(claimsOf(has.bySecret.token))]);
    await session.query('set role authenticated');
    const answer = {
      notes: (await prepared('notes', 'select count(*) from notes')).rows[0].count,
      keys: (await prepared('keys', 'select count(*) from api_keys where is_active and name <> $1', ['afterwards'])).rows[0].count,
      inFunction: (await prepared('function', 'select count_notes() as n')).rows[0].n,
      temperature: (await prepared('settings', `select get_settings() ->> 'temperature' as t`)).rows[0].t,
    };
    await session.query('reset role');
    await prepared('mint', `select (mint_pat($1, 'afterwards')).id`, [BOB]);
    return answer;
  };

  test('there is something in every table, and tokens of all kinds, before', async () => {
    name = await world().database(from, `select pat.install_auth_schema(); ${OPERATOR} ${APPLICATION}`);
    db = await world().connect(name);
    has = await fill(db);
    used = await use(db, has);
    // The worker has then written all there is to write.
    const live = ['bySecret', 'opaque', 'replaced', 'replacement', 'byKey'].map((of) => has[of].id);
    await eventually(() => value(db, 'select count(*) = $2 from pat.api_key_usage where key_id = any ($1)', [live, live.length]), 30);
    assert.equal(used.bySecret[1].notes, '1', JSON.stringify(used));
    assert.deepEqual([used.revoked[0], used.denied[1].slice(0, 5), used.code, used.refreshed, used.minted, used.opaque.uid],
      ['revoked', 'PT401', true, ALICE, 'another', ALICE]);
    session = await world().connect(name);
    const first = await useOldPlans();
    // From the sixth time on, a plan may be kept.
    for (let n = 0; n < 6; n += 1) assert.deepEqual(await useOldPlans(), first);
    before = await content(db);
    assert.deepEqual(Object.keys(before).filter((table) => before[table].length === 0), []);
  });

  test('nobody but the owner begins the upgrade', async () => {
    world().cluster.psql('postgres', `alter database ${name} owner to landlord`);
    for (const role of ['mallory', 'landlord']) {
      const hostile = await world().connect(name, role);
      await assert.rejects(hostile.query('alter extension supabase_pat update'), { code: '42501' });
      await assert.rejects(hostile.query(`create extension supabase_pat version '${to}'`), { code: '42710' });
    }
    for (const role of ['anon', 'authenticated', 'service_role', 'authenticator']) {
      await db.query(`set role ${role}`);
      await assert.rejects(db.query('alter extension supabase_pat update'), { code: '42501' }, role);
      await db.query('reset role');
    }
    assert.equal(await version(db), from);
  });

  test('a dump of it, restored where the newest is, becomes the newest', async () => {
    const { cluster } = world();
    const dump = spawnSync(join(cluster.bin, 'pg_dump'), { env: cluster.env(name), encoding: 'utf8', maxBuffer: 1e8 });
    assert.equal(dump.status, 0, dump.stderr);
    cluster.psql('postgres', 'create database restored');
    cluster.psql('restored', dump.stdout);
    const restored = await world().connect('restored');
    assert.equal(await version(restored), to);
    assert.deepEqual(differences(await world().fresh(like), await catalogue(restored)), []);
    // A code is for the database that has made it.
    assert.deepEqual(await use(restored, has), { ...used, code: false });
    await restored.end();
    cluster.psql('postgres', 'drop database restored');
  });

  test('afterwards it is what a new installation is, object by object', async () => {
    await db.query('alter extension supabase_pat update');
    assert.equal(await version(db), to);
    assert.deepEqual(differences(await world().fresh(like), await catalogue(db)), []);
  });

  test('no row is lost or changed', async () => {
    const now = await content(db);
    for (const [table, old] of Object.entries(before)) {
      assert.deepEqual(within(now[table] ?? [], old), within(old, old), table);
    }
  });

  test('old tokens, sessions and codes live on, and the dead stay dead', async () => {
    assert.deepEqual(await use(db, has), used);
    assert.deepEqual(await use(await world().connect(name), has), used);
  });

  test('a session that was open goes on with its plans, and hears of changes', async () => {
    const first = await useOldPlans();
    assert.deepEqual(first, { notes: '1', keys: '5', inFunction: '1', temperature: '1.1' });
    await db.query(`select pat.define_setting('temperature', '0.5', '{"type": "number"}')`);
    await db.query('delete from pat.user_settings');
    await db.query(`select pat.rotate_signing_key('standby')`);
    assert.equal((await useOldPlans()).temperature, '0.5');
    assert.equal(await value(session, `select signing_key from pat.api_keys order by created_at desc limit 1`), 'standby');
    await db.query('select revoke_pat($1)', [has.bySecret.id]);
    assert.deepEqual(await useOldPlans(), { notes: '0', keys: '0', inFunction: '0', temperature: '0.5' });
  });

  test('a second time, there is a notice', async () => {
    const notices = [];
    db.on('notice', (notice) => notices.push(notice.message));
    await db.query('alter extension supabase_pat update');
    assert.deepEqual(notices, [`version "${to}" of extension "supabase_pat" is already installed`]);
  });

  test('dropping it leaves nothing', async () => {
    const other = await world().database();
    const client = await world().connect(other);
    const empty = await everything(client);
    await client.query(`create extension supabase_pat version '${from}'`);
    assert.notDeepEqual(await everything(client), empty);
    await client.query('alter extension supabase_pat update');
    assert.equal(await version(client), to);
    await client.query('drop extension supabase_pat');
    await client.query('drop schema pat');
    assert.deepEqual(await everything(client), empty);
  });
}

for (const from of released) {
  describe(from === current ? `${from}, as it was released, is what the sources make` : `${from} becomes ${current}`, () => {
    let world;
    before(async () => {
      world = await open({ defaultVersion: current, scripts: { [current]: generated, ...frozen, ...upgrades, generated } });
    });
    after(() => world?.close());
    // `generated` is what the sources make: of a version that is released, that is what was released.
    upgrading(() => world, from, current, 'generated');

    if (from !== '0.1.0') return;
    test('what is being made while it goes on is known to be of its making', async () => {
      const name = await world.database(from, `select pat.install_auth_schema(); ${OPERATOR} ${APPLICATION}`);
      const [owner, bearer] = [await world.connect(name), await world.connect(name)];
      const [maker] = await rows(owner, `select id, token from mint_pat('${ALICE}', 'maker', scopes => '{tokens:write}')`);
      await bearer.query('begin');
      await bearer.query(`select set_config('request.jwt.claims', $1, true), set_config('role', 'authenticated', true)`, [JSON.stringify(claimsOf(maker.token))]);
      // A token with scopes counts where the gate has judged it.
      await bearer.query(`select set_config('request.method', 'POST', true), set_config('request.path', '/rpc/revoke_pat', true)`);
      await bearer.query('select pat.gate()');
      const made = await value(bearer, `select id from mint_pat(name => 'made', scopes => '{tokens:write}')`);
      const updated = owner.query('alter extension supabase_pat update');
      const { cluster } = world;
      await eventually(() => cluster.psql(name, `select exists (select from pg_locks l join pg_database d on d.oid = l.database
        where datname = current_database() and not granted)`) === 't', 30);
      await bearer.query('commit');
      await updated;
      assert.equal(await value(owner, 'select revoke_pat($1, true)', [maker.id]), true);
      assert.notEqual(await value(owner, 'select revoked_at from pat.api_keys where id = $1', [made]), null);
    });

    for (const level of ['repeatable read', 'serializable']) {
      test(`a transaction that is ${level}, which would not see what was made while it waited, is refused`, async () => {
        const db = await world.connect(await world.database(from));
        await db.query(`set default_transaction_isolation = '${level}'`);
        await assert.rejects(db.query('alter extension supabase_pat update'), ({ message, hint }) => {
          assert.equal(message, `the update to 0.2.0 does not run in a transaction that is ${level}`);
          return /read committed/.test(hint);
        });
        assert.equal(await version(db), from);
        await db.query('reset default_transaction_isolation');
        await db.query('alter extension supabase_pat update');
      });
    }

    test('how names are written makes no difference', async () => {
      const policies = `select polrelid::regclass::text, polname, polroles::regrole[]::text from pg_policy order by 1, 2`;
      const [plain, quoted] = [await world.connect(await world.database(from)), await world.connect(await world.database(from))];
      await quoted.query('set quote_all_identifiers = on');
      for (const db of [plain, quoted]) await db.query('alter extension supabase_pat update');
      await quoted.query('reset quote_all_identifiers');
      assert.deepEqual(await rows(quoted, policies), await rows(plain, policies));
    });

    test('what an operator has made of the right to revoke holds for both ways to do so', async () => {
      const { cluster } = world;
      cluster.psql('postgres', 'create role revoker nologin');
      const db = await world.connect(await world.database(from, `
        revoke execute on function public.revoke_pat(uuid) from authenticated; grant execute on function public.revoke_pat(uuid) to revoker`));
      await db.query('alter extension supabase_pat update');
      const functions = await rows(db, `select p.oid::regprocedure::text as function, has_function_privilege('authenticated', p.oid, 'execute') as is_users,
          has_function_privilege('revoker', p.oid, 'execute') as is_theirs, has_function_privilege('service_role', p.oid, 'execute') as is_trusted,
          p.proacl is distinct from i.initprivs as is_dumped
        from pg_proc p left join pg_init_privs i on i.objoid = p.oid and i.classoid = 'pg_proc'::regclass
        where proname = 'revoke_pat' order by 1`);
      const theirs = { is_users: false, is_theirs: true, is_trusted: true, is_dumped: true };
      assert.deepEqual(functions, [{ function: 'revoke_pat(uuid)', ...theirs }, { function: 'revoke_pat(uuid,boolean)', ...theirs }]);
      await assert.rejects(db.query('drop role revoker'), ({ code, detail }) => code === '2BP01' && detail.includes('revoke_pat(uuid,boolean)'));
      await db.query('drop owned by revoker');
      await db.query('drop role revoker');
    });

    test('whoever runs it, what is new belongs to the owner of the extension, who need not be a superuser any more', async () => {
      const { cluster } = world;
      cluster.psql('postgres', 'create role former superuser login; create role present superuser login');
      const name = await world.database(undefined, `set role former; create extension supabase_pat version '${from}';
        set role present; select pat.install_auth_schema(); reset role; alter role former nosuperuser;
        insert into auth.users (id, email) values ('${ALICE}', 'alice@example.com')`);
      const db = await world.connect(name, 'present');
      await db.query('alter extension supabase_pat update');
      assert.deepEqual(await rows(db, `select pg_describe_object(classid, objid, 0) from pg_depend d
          left join pg_class c on classid = 'pg_class'::regclass and c.oid = objid
          left join pg_proc p on classid = 'pg_proc'::regclass and p.oid = objid
          left join pg_type t on classid = 'pg_type'::regclass and t.oid = objid
        where deptype = 'e' and refclassid = 'pg_extension'::regclass
          and refobjid = (select oid from pg_extension where extname = 'supabase_pat')
          and coalesce(relowner, proowner, typowner) <> 'former'::regrole`), []);
      await db.query('set role service_role');
      await db.query(`select pat.define_key_attribute('project'), create_service_account('robot')`);
      await db.query(`select count(*) from pat.usage_totals()`);
      await db.query('reset role');
      assert.deepEqual(await rows(db, `select grantor::regrole::text from pg_class, aclexplode(relacl)
        where oid = 'pat.api_key_days'::regclass and grantor <> 'former'::regrole`), []);
    });

    test('rows of a table that grows, kept in a table of somebody, are named as what is in its way', async () => {
      const db = await world.connect(await world.database(from, 'create view seen as select u from pat.api_key_usage u; create table kept (used pat.api_key_usage)'));
      await assert.rejects(db.query('alter extension supabase_pat update'), { message: 'in the way of supabase_pat 0.2.0: column used of table public.kept' });
      await db.query('drop table kept');
      await db.query('alter extension supabase_pat update');
    });

    test('of a hundred thousand old tokens, each that expires soon is told of once, and no user is flooded', async () => {
      const name = await world.database(from, `select pat.install_auth_schema();
        insert into auth.users (id, email, email_confirmed_at)
          select ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'user' || i || '@example.com', now() from generate_series(0, 1999) i;
        insert into pat.api_keys (id, user_id, name, created_at, expires_at, revoked_at)
          select gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad((i % 2000)::text, 12, '0'))::uuid, 'old ' || i, now() - interval '1 year',
            now() + interval '1 hour' + i * interval '5 minutes', case when i % 10 = 0 then now() end
          from generate_series(1, 100000) i;
        -- One user has many that expire on one day.
        insert into pat.api_keys (id, user_id, name, created_at, expires_at)
          select gen_random_uuid(), '00000000-0000-4000-8000-000000000001', 'of one day ' || i, now() - interval '1 year', now() + interval '20 days'
          from generate_series(1, 500) i;`);
      const db = await world.connect(name);
      await db.query('alter extension supabase_pat update');
      // As long as nobody asks for it, there is nothing.
      assert.deepEqual(await rows(db, 'select * from pat.claim_notices(100)'), []);
      assert.equal(await value(db, 'select count(*)::int from pat.notices'), 0);
      await db.query(`set supabase_pat.notices = 'expiring'`);
      const soon = await value(db, `select count(*)::int from pat.api_keys where expires_at < now() + interval '30 days' and revoked_at is null and name not like 'of one day%'`);
      const reads = () => value(db, `select pg_stat_get_xact_numscans('pat.api_keys'::regclass)::int`);
      await db.query('begin');
      const scans = await reads();
      for (let before = -1, now = 0; before !== now;) {
        await rows(db, 'select * from pat.claim_notices(0)');
        [before, now] = [now, await value(db, 'select count(*)::int from pat.notices')];
      }
      // No look reads the whole table.
      assert.equal(await reads(), scans);
      await db.query('commit');
      const found = (await rows(db, `select count(*)::int as notices, count(distinct key_id)::int as tokens, count(key_id)::int as own,
        max(of_user)::int as at_most from (select *, count(*) over (partition by user_id) as of_user from pat.notices) n`))[0];
      assert.equal(found.own, found.tokens);
      assert.equal(found.at_most, 11);
      assert.ok(found.tokens <= soon + 10 && found.tokens >= soon - 10, `${found.tokens} of ${soon}`);
      assert.deepEqual(await rows(db, `select days, count(*)::int > 0 as some, min(expires_at) > now() + case days when 30 then interval '7 days' when 7 then interval '1 day' else '0' end as nearest
        from pat.notices where key_id is not null group by days order by days`), [1, 7, 30].map((days) => ({ days, some: true, nearest: true })));
      // A restart changes nothing, and neither does another worker.
      const other = await world.connect(name);
      await other.query(`set supabase_pat.notices = 'expiring'`);
      const ids = new Set();
      for (let got = [0]; got.length > 0;) {
        got = await rows(other, 'select * from pat.claim_notices(500)');
        for (const { id } of got) {
          assert.ok(!ids.has(id));
          ids.add(id);
        }
      }
      assert.equal(ids.size, found.own);
    });
  });
}

describe('a version that was never released becomes another', () => {
  const { older, newer, upgrade, falling } = madeUp(generated);
  let world;
  before(async () => {
    const scripts = { older, newer, 'older--newer': upgrade };
    for (const { version: to, sql } of Object.values(falling)) scripts[`older--${to}`] = sql;
    world = await open({ defaultVersion: 'newer', scripts });
  });
  after(() => world?.close());

  upgrading(() => world, 'older', 'newer', 'newer');

  test('what was there is not what a new installation is', async () => {
    const found = differences(await world.fresh('newer'), await world.fresh('older'));
    for (const one of ['table pat.notes is missing', 'function pat.dropped() should not be there', 'table column pat.api_keys.note is missing']) {
      assert.ok(found.includes(one), found.join('\n'));
    }
  });

  test('what somebody has put in its way stops the upgrade, and nothing has changed', async () => {
    const name = await world.database('older', 'grant create on schema public to mallory;');
    const db = await world.connect(name);
    const before = await catalogue(db);
    await (await world.connect(name, 'mallory')).query(`create function note_of(key uuid, otherwise text default 'none') returns text
      language sql stable as $$ select 'mine' $$`);
    await assert.rejects(db.query('alter extension supabase_pat update'), /function "note_of" already exists/);
    assert.equal(await version(db), 'older');
    assert.deepEqual(differences(before, await catalogue(db)), []);
  });

  describe('an upgrade that falls short is found out', () => {
    let should;
    let db;
    before(async () => {
      should = await world.fresh('newer');
      db = await world.connect(await world.database('older', `select pat.install_auth_schema(); ${OPERATOR} ${APPLICATION}`));
    });
    for (const [of, [, , expected]] of Object.entries(OMISSIONS)) {
      test(of, async () => {
        await db.query('begin');
        try {
          await db.query(`alter extension supabase_pat update to '${falling[of].version}'`);
          const found = differences(should, await catalogue(db));
          assert.ok(found.some((one) => expected.test(one)), `nothing like ${expected} in:\n${found.join('\n')}`);
        } finally {
          await db.query('rollback');
        }
      });
    }
  });
});
