// 0.1.0 becomes the newest version while everybody goes on, and while others have put something in its way.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster } from '../cluster/cluster.mjs';
import { Installation, installed } from '../cluster/installation.mjs';
import { catalogue, differences } from './catalogue.mjs';
import { eventually } from './gate_world.mjs';
import { current, frozen, upgrades } from './releases.mjs';
import { APPLICATION, ROLES, SETTINGS, manyTokens, users } from './upgrade_load.mjs';

const generated = readFileSync(installed(process.env.PG ?? '15').script(current), 'utf8');
const UPDATE = 'alter extension supabase_pat update';

const rows = async (db, sql, values) => (await db.query(sql, values)).rows;
const value = async (db, sql, values) => Object.values((await rows(db, sql, values))[0])[0];
const version = (db) => value(db, `select extversion from pg_extension where extname = 'supabase_pat'`);
const USER = '00000000-0000-4000-8000-000000000001';

describe(`0.1.0 becomes ${current}`, () => {
  let installation;
  let cluster;
  let databases = 0;
  const clients = new Set();
  before(async () => {
    installation = new Installation({ defaultVersion: current, scripts: { [current]: generated, ...frozen, ...upgrades } });
    cluster = await Cluster.start({ bin: installation.bin, settings: { ...SETTINGS, autovacuum_naptime: '1s' } });
    cluster.psql('postgres', `${ROLES}
      create role mallory login;
      create role auth_owner login;
      create role landlord login;`);
  });
  after(async () => {
    for (const client of clients) await client.end();
    cluster?.stop();
    installation?.remove();
  });
  const database = (...sql) => {
    databases += 1;
    const name = `database_${databases}`;
    cluster.psql('postgres', `create database ${name}`);
    for (const part of [APPLICATION, ...sql]) cluster.psql(name, part);
    return name;
  };
  const connect = async (name, user) => {
    const client = await cluster.connect(name, user);
    clients.add(client);
    return client;
  };
  /** Until so many wait for a lock. */
  const waiting = (name, count = 1) => eventually(() => cluster.psql(name, `select count(*) >= ${count} from pg_locks l
    join pg_database d on d.oid = l.database where datname = current_database() and not granted`) === 't', 30);

  test('while the REST server is at work, each request is answered as if there were no upgrade, and the dead stay dead', { timeout: 600_000 }, async (t) => {
    for (let round = 1; round <= Number(process.env.ROUNDS ?? 2); round += 1) {
      const name = database(manyTokens(Number(process.env.TOKENS ?? 20_000)));
      const world = await users(cluster, name);
      try {
        const owner = await connect(name);
        const { took, longest, met } = await world.goOn(() => owner.query(UPDATE));
        t.diagnostic(`the upgrade took ${Math.round(took)} ms, ${met} requests met it, the longest took ${Math.round(longest)} ms: ${JSON.stringify(world.counts)}`);
        assert.equal(await version(owner), current);
        await world.lookAround();
        assert.deepEqual([...world.refusals], []);
        // Otherwise nobody has been in its way.
        assert.ok(met >= 8, `${met} requests met it`);
      } finally {
        await world.close();
      }
    }
  });

  test('whoever has locked what comes last, and then asks for what comes first, gets it, and so does who comes later', async () => {
    const name = database();
    const [owner, reader, other] = [await connect(name), await connect(name), await connect(name)];
    await reader.query('begin; select 1 from pat.outbox limit 1');
    const updated = owner.query(UPDATE);
    await waiting(name);
    for (let n = 0; n < 3; n += 1) {
      for (const db of [reader, other]) {
        const from = performance.now();
        assert.deepEqual(await rows(db, 'select count(*)::int from public.api_keys'), [{ count: 0 }]);
        const took = performance.now() - from;
        assert.ok(took < 2000, `it waited ${took} ms`);
      }
      await sleep(150);
    }
    await reader.query('commit');
    await updated;
    assert.equal(await version(owner), current);
  });

  test('an autovacuum of a large table makes room for it', async () => {
    const name = database(manyTokens(10_000), `
      alter table pat.events set (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
      delete from pat.events where random() < 0.5`);
    const owner = await connect(name);
    const isVacuumed = async () => await value(owner, `select count(*)::int from pg_stat_activity
      where backend_type = 'autovacuum worker' and query like '%pat.events%' and datname = current_database()`) > 0;
    await eventually(isVacuumed, 60);
    const from = performance.now();
    await owner.query(UPDATE);
    const took = performance.now() - from;
    // The vacuum takes a minute or more.
    assert.ok(took < 30_000, `it took ${took} ms`);
    assert.equal(await version(owner), current);
  });

  test('long requests, one after the other and with no gap between them, do not keep it from coming', async () => {
    const name = database();
    const owner = await connect(name);
    const readers = await Promise.all([1, 2, 3].map(() => connect(name)));
    let isOver = false;
    const reading = readers.map(async (reader, n) => {
      await sleep(n * 500);
      while (!isOver) await reader.query('begin; select 1 from pat.events limit 1; select pg_sleep(1.5); commit');
    });
    try {
      await sleep(1500);
      await owner.query(UPDATE);
    } finally {
      isOver = true;
      await Promise.all(reading);
    }
    assert.equal(await version(owner), current);
  });

  test('lock_timeout ends it, and nothing has changed', async () => {
    const name = database();
    const [owner, reader] = [await connect(name), await connect(name)];
    const was = await catalogue(owner);
    await reader.query('begin; select 1 from pat.events limit 1');
    await owner.query(`set lock_timeout = '1s'`);
    await assert.rejects(owner.query(UPDATE), {
      code: '55P03',
      message: 'the tables of supabase_pat have been in use for 1 seconds without a pause',
      hint: /^End the transactions that are open for long, .* Nothing was changed\.$/,
    });
    assert.equal(await value(owner, 'show lock_timeout'), '1s');
    // Nobody waits any more.
    assert.equal(await value(await connect(name), 'select count(*)::int from public.api_keys'), 0);
    await reader.query('commit');
    assert.equal(await version(owner), '0.1.0');
    assert.deepEqual(differences(was, await catalogue(owner)), []);
    await owner.query(UPDATE);
    assert.equal(await version(owner), current);
  });

  test('whoever is minting when it happens has their token, and what names mint_pat goes on', async () => {
    const name = database(`
      create function minted_in_sql(name text) returns text begin atomic select (mint_pat('${USER}', name)).name; end;
      create function minted_in_plpgsql(name text) returns text language plpgsql as $$
        declare made minted_pat;
        begin
          made := mint_pat('${USER}', name);
          return made.name;
        end $$;
      create view mints as select (mint_pat(name => 'in a view', user_id => '${USER}', rate_limit => 10)).name;`);
    const [owner, holder, minting, open] = [await connect(name), await connect(name), await connect(name), await connect(name)];
    const ways = {
      prepared: { name: 'mint', text: `select (mint_pat($1, 'prepared')).name`, values: [USER] },
      sql: { name: 'sql', text: `select minted_in_sql('in sql') as name` },
      plpgsql: { name: 'plpgsql', text: `select minted_in_plpgsql('in plpgsql') as name` },
      view: { name: 'view', text: 'select name from mints' },
    };
    const mintEach = async (db) => {
      const found = {};
      for (const [way, query] of Object.entries(ways)) found[way] = await value(db, query);
      return found;
    };
    const minted = { prepared: 'prepared', sql: 'in sql', plpgsql: 'in plpgsql', view: 'in a view' };
    const columns = (names) => ({ name: `keys ${names}`, text: `select ${names} from api_keys` });
    for (const names of ['*', 'name']) await open.query(columns(names));
    // From the sixth time on, a plan may be kept.
    for (let n = 0; n < 7; n += 1) assert.deepEqual(await mintEach(open), minted);
    await holder.query('begin; select 1 from pat.outbox limit 1');
    const updated = owner.query(UPDATE);
    await waiting(name, 1);
    const meanwhile = rows(minting, `select id, token from mint_pat('${USER}', 'meanwhile')`);
    await waiting(name, 2);
    await holder.query('commit');
    await updated;
    const [{ id, token }] = await meanwhile;
    assert.equal(await value(owner, 'select pat.jwt_status($1)', [token]), 'valid');
    assert.equal(await value(owner, 'select revoke_pat($1)', [id]), true);
    for (const db of [open, minting, await connect(name)]) assert.deepEqual(await mintEach(db), minted);
    // As after any migration that adds columns.
    await assert.rejects(open.query(columns('*')), { code: '0A000', message: 'cached plan must not change result type' });
    assert.equal((await open.query(columns('name'))).rows.length > 0, true);
    assert.equal(await value(open, `select (mint_pat('${USER}', 'new', quota => 5)).name`), 'new');
  });

  test('what has a name in public that is new stops it, says what to do, and nothing has changed', async () => {
    const name = database('grant create on schema public to mallory');
    const [owner, mallory, newest] = [await connect(name), await connect(name, 'mallory'), await connect(database())];
    const names = `
      select object.name, object.creation from pg_depend d cross join lateral (
        select proname, pronamespace, format('function public.%I(pg_lsn) returns int language sql return 1', proname) from pg_proc
          where d.classid = 'pg_proc'::regclass and oid = d.objid
        union all
        select relname, relnamespace, format('table public.%I ()', relname) from pg_class where d.classid = 'pg_class'::regclass and oid = d.objid
        union all
        select typname, typnamespace, format('domain public.%I as int', typname) from pg_type where d.classid = 'pg_type'::regclass and oid = d.objid
          and typtype = 'c'
      ) as object (name, schema, creation)
      where d.deptype = 'e' and schema = 'public'::regnamespace and d.refclassid = 'pg_extension'::regclass
        and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')`;
    await newest.query(UPDATE);
    const old = (await rows(owner, names)).map((object) => object.name);
    const planted = (await rows(newest, names)).filter((object) => !old.includes(object.name)).map(({ creation }) => creation);
    planted.push('function public.has_scope(name) returns bool language sql return true',
      'function public.is_active_session(int default 1) returns bool language sql return true',
      'function public.revoke_pat(uuid, cascade bool) returns bool language sql return true',
      `function public.mint_pat(uuid, text, interval, text[], text, cidr[], integer, interval, jsonb, text, integer, interval)
        returns public.minted_pat language sql as 'select null::public.minted_pat'`);
    assert.ok(planted.length > 14, planted.join('\n'));
    const was = await catalogue(owner);
    for (const creation of planted) {
      await mallory.query(`create ${creation}`);
      await assert.rejects(owner.query(UPDATE), (error) => {
        assert.equal(error.code, '42710', creation);
        assert.match(error.message, /^in the way of supabase_pat 0\.2\.0: (table|function|type|composite type) /, creation);
        assert.match(error.hint, /Rename/);
        return true;
      });
      await mallory.query(`drop ${creation.replace(/\)\s+returns .*/s, ')').replace(' default 1', '').replace(/^(table|domain) (\S+).*/, '$1 $2')}`);
    }
    assert.deepEqual(differences(was, await catalogue(owner)), []);
    await owner.query(UPDATE);
    assert.equal(await version(owner), current);
  });

  test('what others put beside it, into public, auth and the search path, is neither run nor believed', async () => {
    const name = database(`
      grant create on schema public to mallory;
      alter schema auth owner to auth_owner;
      create table public.caught (by_role text, what text);
      grant insert on public.caught to public;`);
    cluster.psql('postgres', `alter database ${name} owner to landlord`);
    const trap = (what, result = 'null') => `language plpgsql as $$ begin insert into public.caught values (current_user, '${what}'); return ${result}; end $$`;
    const mallory = await connect(name, 'mallory');
    await mallory.query(`
      create function public.mint_pat(text) returns text ${trap('mint_pat')};
      create function public.mint_pat() returns text ${trap('mint_pat')};
      create function public.revoke_pat(text) returns boolean ${trap('revoke_pat')};
      create function public.jsonb_typeof(jsonb) returns text ${trap('jsonb_typeof')};
      create function public.statement_timestamp() returns timestamptz ${trap('statement_timestamp')};
      create function public.equal(text, text) returns boolean ${trap('=')};
      create operator public.= (function = public.equal, leftarg = text, rightarg = text);
      create function public.equal(bigint, integer) returns boolean ${trap('>')};
      create operator public.> (function = public.equal, leftarg = bigint, rightarg = integer);
      create function public.format(text, text) returns text ${trap('format')};
      create function public.current_setting(text) returns text ${trap('current_setting')};
      create function public.pg_extension_config_dump(regclass, text) returns void ${trap('dump', '')};
      create table public.pg_proc (oid oid, proacl aclitem[]);
      create table public.events (n int);
      create table public.notices (n int);
      create domain public.text as pg_catalog.text;
      create type public.jsonb as enum ('none');
      alter default privileges grant all on functions to public;
      alter default privileges grant all on tables to public;`);
    await (await connect(name, 'auth_owner')).query(`
      create or replace function auth.caught() returns trigger ${trap('trigger on auth', 'new')};
      create function auth.is_trusted() returns boolean ${trap('is_trusted')}`);
    await (await connect(name, 'landlord')).query(`alter database ${name} set search_path = public, auth, pg_catalog`);
    await assert.rejects((await connect(name, 'landlord')).query(`alter database ${name} set supabase_pat.anon_role = 'mallory'`), { code: '42501' });
    const owner = await connect(name);
    assert.equal(await value(owner, 'show search_path'), 'public, auth, pg_catalog');
    await owner.query(UPDATE);
    assert.deepEqual(await rows(owner, 'select * from public.caught'), []);
    const other = await connect(database(`drop extension supabase_pat cascade; drop schema pat; create extension supabase_pat;
      select pat.grant_api_roles(); create policy owners on notes using (user_id = pat.uid() and is_valid_api_token()) with check (user_id = pat.uid() and is_valid_api_token());
      alter table notes alter column user_id set default pat.uid(), alter column by_key set default current_api_key_id()`));
    const ofMallory = /mallory|^default acl /;
    const found = differences(await catalogue(other), await catalogue(owner)).filter((difference) => !ofMallory.test(difference));
    assert.deepEqual(found, []);
  });

  test('there is no way back down, and Postgres says so', async () => {
    const owner = await connect(database());
    await owner.query(UPDATE);
    await assert.rejects(owner.query(`alter extension supabase_pat update to '0.1.0'`),
      { code: '22023', message: `extension "supabase_pat" has no update path from version "${current}" to version "0.1.0"` });
    assert.equal(await version(owner), current);
    // Nor by a dump.
    const dump = spawnSync(join(cluster.bin, 'pg_dump'), { env: cluster.env(owner.database), encoding: 'utf8', maxBuffer: 1e8 });
    assert.equal(dump.status, 0, dump.stderr);
    const older = new Installation({ defaultVersion: '0.1.0', scripts: frozen });
    const server = await Cluster.start({ bin: older.bin, settings: SETTINGS });
    try {
      server.psql('postgres', ROLES);
      assert.throws(() => server.psql('postgres', dump.stdout), /ERROR: {2}relation "pat\.\w+" does not exist|ERROR: {2}column .* does not exist/);
    } finally {
      server.stop();
      older.remove();
    }
  });
});
