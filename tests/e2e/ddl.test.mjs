// Tables change while sessions go on: whatever somebody does to a table between two looks of one transaction, the second
// look, those of later transactions and those of new sessions say the same, and nobody is thrown out.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE, SECRET } from './fixture.mjs';

const KEY = '01900000-0000-7000-8000-000000000001';
const SESSION = '01900000-0000-7000-8000-000000000002';
const CLAIMS = {
  token: JSON.stringify({ role: 'authenticated', sub: ALICE, type: 'personal_access_token', jti: KEY }),
  session: JSON.stringify({ role: 'authenticated', sub: ALICE, session_id: SESSION }),
};
const ASKS = { token: 'is_valid_api_token()', session: 'is_active_session()' };

let cluster;
before(async () => {
  cluster = await Cluster.start({ settings: {
    shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET, statement_timeout: '20s',
  } });
  cluster.psql('postgres', 'create database of_ddl; create role somebody;');
  cluster.psql('of_ddl', `
    create extension supabase_pat; select pat.install_auth_schema();
    insert into auth.users (id, email) values ('${ALICE}', 'alice@example.com');
    insert into auth.sessions (id, user_id) values ('${SESSION}', '${ALICE}');
    insert into pat.api_keys (id, user_id, name, expires_at) values ('${KEY}', '${ALICE}', 'x', '2100-01-01');
    create extension citext;`);
});
after(() => cluster.stop());

/** Runs `body` with a database of its own and a session in it. */
async function inDatabase(body) {
  cluster.psql('postgres', 'drop database if exists now with (force); create database now template of_ddl');
  const session = await cluster.connect('now');
  session.on('error', () => {});
  try {
    await body(session);
  } finally {
    await session.end();
  }
}

async function look(session) {
  const answers = {};
  for (const [who, claims] of Object.entries(CLAIMS)) {
    await session.query(`select set_config('request.jwt.claims', $1, false)`, [claims]);
    answers[who] = (await session.query(`select ${ASKS[who]} as answer`)).rows[0].answer;
  }
  return answers;
}

const dead = { token: false, session: false };
const live = { token: true, session: true };
const noToken = { token: false, session: true };
const noSession = { token: true, session: false };

const NO_VIEW = 'alter extension supabase_pat drop view public.api_keys; drop view public.api_keys cascade;';

/** What is done before, what is done between the looks, and what they say then. */
const CASES = [
  ['a column deleted_at is added, and set', 'alter table auth.users drop column deleted_at',
    'alter table auth.users add deleted_at timestamptz; update auth.users set deleted_at = now()', dead],
  ['banned_until is dropped and added again, and set', '',
    `alter table auth.users drop banned_until; alter table auth.users add banned_until timestamptz; update auth.users set banned_until = 'infinity'`, dead],
  ['banned_until gives its name to another column', 'alter table auth.users add other timestamptz',
    `update auth.users set other = 'infinity'; alter table auth.users rename banned_until to former; alter table auth.users rename other to banned_until`, dead],
  ['a ban is lifted by dropping the column', `update auth.users set banned_until = 'infinity'`, 'alter table auth.users drop banned_until', live],
  ['banned_until becomes a text that says something', `update auth.users set banned_until = '2000-01-01'`,
    'alter table auth.users alter banned_until type text', dead],
  ['banned_until becomes a text that says nothing', '', 'alter table auth.users alter banned_until type text', live],
  ['banned_until becomes a number', `update auth.users set banned_until = '2000-01-01'`,
    'alter table auth.users alter banned_until type bigint using extract(epoch from banned_until)', dead],
  ['banned_until becomes a domain', `update auth.users set banned_until = '2000-01-01'`,
    'create domain moment as timestamptz; alter table auth.users alter banned_until type moment', live],
  ['deleted_at becomes a boolean', '', 'alter table auth.users alter deleted_at type boolean using true', dead],
  ['the id of users becomes a text', 'alter table auth.sessions drop constraint sessions_user_id_fkey; alter table auth.identities drop constraint identities_user_id_fkey',
    'alter table auth.users alter id drop default; alter table auth.users alter id type text', dead],
  ['the id of users becomes a number', 'alter table auth.sessions drop constraint sessions_user_id_fkey; alter table auth.identities drop constraint identities_user_id_fkey',
    'alter table auth.users alter id drop default; alter table auth.users alter id type bigint using 1', dead],
  ['auth.users is replaced by an empty table', '',
    'alter table auth.users rename to former; create table auth.users (like auth.former including all)', dead],
  ['auth.users is replaced by a table with other columns', '',
    `alter table auth.users rename to former; create table auth.users (deleted_at timestamptz, x text, id uuid, banned_until timestamptz);
     insert into auth.users values (null, 'x', '${ALICE}', null)`, live],
  ['auth.users is replaced by a view', '', 'alter table auth.users rename to former; create view auth.users as table auth.former', dead],
  ['auth.users is replaced by a partitioned table', '',
    'alter table auth.users rename to former; create table auth.users (id uuid, deleted_at timestamptz) partition by hash (id)', dead],
  ['auth.users goes into another schema', '', 'create schema other; alter table auth.users set schema other', dead],
  ['the schema auth gets another name', '', 'alter schema auth rename to former', dead],
  ['another schema gets the name auth', `create schema other; create table other.users (like auth.users including all); create table other.sessions (like auth.sessions including all);`,
    'alter schema auth rename to former; alter schema other rename to auth', dead],
  ['auth.users is dropped', '', 'drop table auth.users cascade', dead],
  ['auth.users is emptied', '', 'truncate auth.users cascade', dead],
  ['auth.users is written anew', '', `alter table auth.users alter email type text using upper(email), alter created_at type timestamp`, live],
  ['auth.users is written anew by VACUUM FULL', '', 'vacuum full auth.users', live],
  ['auth.users is clustered', '', 'cluster auth.users using users_pkey', live],
  ['auth.users loses its primary key', '', 'alter table auth.users drop constraint users_pkey cascade', live],
  ['auth.users gets another primary key', 'alter table auth.sessions drop constraint sessions_user_id_fkey; alter table auth.identities drop constraint identities_user_id_fkey',
    'alter table auth.users drop constraint users_pkey; alter table auth.users add primary key (id)', live],
  ['auth.users gets a column with a default', '', 'alter table auth.users add x int not null default 7, add y text default now()', live],
  ['auth.users loses columns', '', 'alter table auth.users drop phone, drop email cascade, drop aud, drop instance_id', live],
  ['auth.users has row level security forced on', '', 'alter table auth.users enable row level security; alter table auth.users force row level security', live],
  ['auth.users becomes a child', '', 'create table auth.parent (id uuid); alter table auth.users inherit auth.parent', live],
  ['a user moves to a child of auth.users', '',
    `create table auth.child () inherits (auth.users); delete from auth.users; insert into auth.child (id) values ('${ALICE}')`, dead],
  ['auth.users becomes unlogged', 'drop table auth.identities, auth.refresh_tokens; alter table auth.sessions drop constraint sessions_user_id_fkey',
    'alter table auth.users set unlogged', live],
  ['auth.users belongs to somebody else', '', 'alter table auth.users owner to somebody', live],
  ...['auth.users', 'auth.sessions', 'pat.api_keys'].flatMap((table) => [
    [`${table} is reindexed concurrently`, '', `reindex table concurrently ${table}`, live],
    [`${table} is reindexed`, '', `reindex table ${table}`, live],
    [`${table} gets an index, and loses it concurrently`, `create index extra on ${table} (id)`, `drop index concurrently ${table.split('.')[0]}.extra`, live],
    [`${table} gets an index concurrently`, '', `create unique index concurrently extra on ${table} (id)`, live],
    [`${table} gets indexes that are of no use`, '',
      `create index a on ${table} (id) where id is null; create index b on ${table} using hash (id); create index c on ${table} (id, (1))`, live],
    [`${table} loses all of its indexes`, '', `alter table ${table} drop constraint ${table.split('.')[1]}_pkey cascade`, live],
    [`${table} is written anew`, '', `vacuum full ${table}`, live],
  ]),
  ['a column not_after is added, and set', 'alter table auth.sessions drop column not_after',
    'alter table auth.sessions add not_after timestamptz; update auth.sessions set not_after = now()', noSession],
  ['not_after becomes a text', `update auth.sessions set not_after = '2100-01-01'`, 'alter table auth.sessions alter not_after type text', noSession],
  ['not_after becomes a text that says nothing', '', 'alter table auth.sessions alter not_after type text', live],
  ['not_after becomes a domain', `update auth.sessions set not_after = '2100-01-01'`,
    'create domain moment as timestamptz; alter table auth.sessions alter not_after type moment', live],
  ['the user of a session becomes a text', '',
    'alter table auth.sessions drop constraint sessions_user_id_fkey; alter table auth.sessions alter user_id type text', noSession],
  ['the user of a session becomes a number', '',
    'alter table auth.sessions drop constraint sessions_user_id_fkey; alter table auth.sessions alter user_id type bigint using 7', noSession],
  ['auth.sessions is replaced by an empty table', '',
    'alter table auth.sessions rename to former; create table auth.sessions (like auth.former including all)', noSession],
  ['auth.sessions is dropped', '', 'drop table auth.sessions cascade', noSession],
  ['the user of a key becomes a text', NO_VIEW,
    `do $$ declare p record; begin for p in select polname from pg_policy where polrelid = 'pat.api_keys'::regclass loop
       execute format('drop policy %I on pat.api_keys', p.polname); end loop; end $$;
     alter table pat.api_keys alter user_id type text`, noToken],
  ['the expiry of a key becomes a number', NO_VIEW,
    'alter table pat.api_keys alter expires_at type bigint using 9000000000000000000', noToken],
  ['the addresses of keys become a number', NO_VIEW,
    'alter table pat.api_keys alter allowed_ips type bigint using 7', noToken],
  ['a column of keys gets another name', '', 'alter table pat.api_keys rename revoked_at to former', noToken],
  ['a column of keys is missing, as in an older version', NO_VIEW, 'alter table pat.api_keys drop token_digest', noToken],
  ['keys get another column', '', 'alter table pat.api_keys add x int default 7', live],
  ['keys are emptied', '', 'truncate pat.api_keys', noToken],
  ['the extension is dropped and created again', '', 'drop extension supabase_pat cascade; create extension supabase_pat', noToken],
];

for (const [name, setUp, sql, expected] of CASES) {
  test(`seen by the next look: ${name}`, async () => {
    // What is built concurrently waits for transactions that live in the past.
    for (const isolation of ['read committed', ...(/concurrently/.test(sql) ? [] : ['repeatable read'])]) {
      await inDatabase(async (session) => {
        const other = await cluster.connect('now');
        if (setUp) await other.query(setUp);
        const what = `${name}, ${isolation}`;
        await session.query(`begin isolation level ${isolation}`);
        await look(session);
        await other.query(sql);
        assert.deepEqual(await look(session), expected, `${what}, in the same transaction`);
        await session.query('commit');
        assert.deepEqual(await look(session), expected, `${what}, in the next transaction`);
        assert.deepEqual(await look(session), expected, `${what}, once more`);
        await other.end();
        const fresh = await cluster.connect('now');
        assert.deepEqual(await look(fresh), expected, `${what}, in a new session`);
        await fresh.end();
      });
    }
  });
}

test('a change of a table in the own transaction is seen by the next look, and forgotten with it', async () => {
  await inDatabase(async (session) => {
    assert.deepEqual(await look(session), live);
    await session.query('begin; alter table auth.users alter deleted_at type boolean using true');
    assert.deepEqual(await look(session), dead);
    await session.query('savepoint s; drop table auth.users cascade');
    assert.deepEqual(await look(session), dead);
    await session.query('rollback to s; alter table auth.users drop deleted_at');
    assert.deepEqual(await look(session), live);
    await session.query('rollback');
    assert.deepEqual(await look(session), live);
  });
});

test('a look that waited for a table to be written anew finds its rows', async () => {
  await inDatabase(async (session) => {
    const other = await cluster.connect('now');
    assert.deepEqual(await look(session), live);
    await other.query('begin; alter table auth.users alter created_at type timestamp');
    const waiting = look(session);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await other.query('commit');
    assert.deepEqual(await waiting, live);
    await other.end();
  });
});

test('a migration that locks users and then keys is in no deadlock with a check', async () => {
  await inDatabase(async (session) => {
    const other = await cluster.connect('now');
    await other.query(`set deadlock_timeout = '50ms'`);
    await session.query(`set deadlock_timeout = '50ms'`);
    for (const [first, second] of [['auth.users', 'pat.api_keys'], ['pat.api_keys', 'auth.users']]) {
      await other.query(`begin; lock table ${first} in access exclusive mode`);
      const waiting = look(session);
      await new Promise((resolve) => setTimeout(resolve, 200));
      await other.query(`lock table ${second} in access exclusive mode; commit`);
      assert.deepEqual(await waiting, live);
    }
    await other.end();
  });
});

test('an index that is dropped concurrently on the primary is missed on a standby by nobody', async () => {
  const standby = await cluster.standby();
  const primary = await cluster.connect('of_ddl');
  const session = await standby.connect('of_ddl');
  try {
    await session.query('begin');
    assert.deepEqual(await look(session), live);
    for (const sql of ['reindex table concurrently auth.users', 'reindex table concurrently pat.api_keys', 'create index concurrently extra on auth.users (id)',
      'drop index concurrently auth.extra', 'alter table auth.users add extra int']) {
      await primary.query(sql);
      await cluster.caughtUp(standby);
      assert.deepEqual(await look(session), live, sql);
    }
    await primary.query('update auth.users set deleted_at = now()');
    await cluster.caughtUp(standby);
    assert.deepEqual(await look(session), dead);
    await primary.query('update auth.users set deleted_at = null');
  } finally {
    await session.end();
    await primary.end();
    standby.stop();
  }
});

// What is not asked by policies raises an error that names the table, and never takes it for an empty one.
for (const [table, column, sql] of [
  ['pat.denied_tokens', 'message_digest', 'select pat.gate()'],
  ['pat.denied_tokens', 'claims_digest', 'select pat.gate()'],
  ['pat.signing_keys', 'kid', `select pat.jwks()`],
  ['pat.signing_keys', 'status', `select pat.jwks()`],
  ['pat.private_keys', 'jwk', `select pat.jwks()`],
  ['pat.setting_definitions', 'default_value', 'select get_settings()'],
  ['pat.setting_definitions', 'overridable', 'select get_settings()'],
  ['pat.user_settings', 'settings', 'select get_settings()'],
  ['pat.user_settings', 'user_id', 'select get_settings()'],
]) {
  test(`an error, and no crash: ${table}.${column} becomes a number`, async () => {
    await inDatabase(async (session) => {
      await session.query(`select set_config('request.jwt.claims', $1, false)`, [CLAIMS.session]);
      await session.query(sql);
      cluster.psql('now', `
        do $$ declare p record; begin
          for p in select polname, polrelid::regclass as of from pg_policy where polrelid = '${table}'::regclass loop
            execute format('drop policy %I on %s', p.polname, p.of); end loop;
          for p in select conname, conrelid::regclass as of from pg_constraint where '${table}'::regclass in (conrelid, confrelid) loop
            execute format('alter table %s drop constraint %I cascade', p.of, p.conname); end loop;
          for p in select tgname from pg_trigger where tgrelid = '${table}'::regclass and not tgisinternal loop
            execute format('drop trigger %I on ${table}', p.tgname); end loop;
        end $$;
        drop view if exists pat.keys cascade;
        alter table ${table} alter ${column} drop default, alter ${column} type bigint using 7;`);
      for (let round = 0; round < 2; round += 1) {
        await assert.rejects(session.query(sql), { code: '55000', message: new RegExp(`${table} does not have the columns`) });
      }
    });
  });
}

test('a token can be minted and revoked while its index is missing', async () => {
  await inDatabase(async (session) => {
    await session.query('drop index pat.api_keys_user_id_idx; drop index pat.api_keys_token_digest_idx');
    const { rows: [{ id, token }] } = await session.query(`select * from mint_pat(user_id => $1, name => 'x', kind => 'opaque')`, [ALICE]);
    await session.query(`select set_config('request.headers', $1, false), set_config('request.method', 'GET', false), set_config('request.path', '/todos', false)`,
      [JSON.stringify({ 'x-api-key': token })]);
    await session.query('begin; select pat.gate(); rollback');
    assert.equal((await session.query('select revoke_pat($1) as done', [id])).rows[0].done, true);
    assert.equal((await session.query('select revoke_all_pats($1) as n', [ALICE])).rows[0].n, 1);
  });
});
