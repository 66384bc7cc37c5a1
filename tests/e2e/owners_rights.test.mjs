// Who owns auth.* and vault.*, and is no superuser, puts everything into them that runs code. None of it may run with
// rights that are not that owner's: not the extension owner's, not the caller's.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE, SECRET } from './fixture.mjs';

const EMAIL = 'alice@example.com';
const KEY = '01900000-0000-7000-8000-000000000001';
const SESSION = '01900000-0000-7000-8000-000000000002';
const MAJOR = Number(process.env.PG ?? '15');
const source = fileURLToPath(new URL('../../src', import.meta.url));
const files = readdirSync(source, { recursive: true }).filter((file) => file.endsWith('.rs'))
  .map((file) => ({ file, text: readFileSync(`${source}/${file}`, 'utf8') }));

/** The statements of the source that run as the extension's owner, with the types of their parameters. */
const STATEMENTS = files.flatMap(({ file, text }) => [...text.matchAll(
  /static (\w+): Statement = const \{ Statement::new\(\s*"((?:[^"\\]|\\[^])*)",\s*&\[([^\]]*)\]/g,
)].map(([, name, sql, types]) => ({
  name: `${file} ${name}`,
  sql: sql.replace(/\\\n\s*/g, ''),
  types: types.split(',').map((type) => type.trim()).filter(Boolean)
    .map((type) => type.split('::').at(-1).replace(/OID$/, '').replace(/^(\w+)ARRAY$/, '$1[]').toLowerCase()),
})));

const TABLES = ['users', 'sessions', 'identities', 'refresh_tokens'];
const hostile = `
  set role auth_admin;
  create function auth.note(what text) returns boolean language plpgsql immutable as $$
    begin raise log 'HOSTILE % as %', what, current_user; return true; end $$;
  create function auth.note_text(what text) returns text language plpgsql immutable as $$
    begin raise log 'HOSTILE % as %', what, current_user; return what; end $$;
  create function auth.note_same(a uuid, b uuid) returns boolean language plpgsql immutable as $$
    begin raise log 'HOSTILE operator as %', current_user; return true; end $$;
  create function auth.note_trigger() returns trigger language plpgsql as $$
    begin raise log 'HOSTILE trigger % as %', tg_op, current_user; return case tg_op when 'DELETE' then old else new end; end $$;
  create operator auth.= (leftarg = uuid, rightarg = uuid, procedure = auth.note_same);
  create domain auth.mail as varchar(255) check (auth.note('domain'));
  alter table auth.users add gen boolean generated always as (auth.note('generated')) stored;
  alter table auth.sessions alter tag set default auth.note_text('default');
  alter table auth.users alter phone set default null;
  create table auth.child () inherits (auth.users);
  ${TABLES.map((table) => `
    create index on auth.${table} (id) where auth.note('predicate of ${table}');
    create index on auth.${table} (id, (auth.note_text('expression of ${table}')));
    create statistics auth.of_${table} on id, (auth.note('statistics of ${table}')) from auth.${table};
    alter table auth.${table} add constraint hostile check (auth.note('check of ${table}'));
    alter table auth.${table} enable row level security, force row level security;
    create policy hostile on auth.${table} using (auth.note('policy of ${table}'));
    create trigger a before insert or update or delete on auth.${table} for each row execute function auth.note_trigger();
    create trigger b after insert or update or delete on auth.${table} for each row execute function auth.note_trigger();`).join('')}
  create rule hostile as on update to auth.sessions do also select auth.note('rule');
  create function auth.level(auth.aal_level) returns text language plpgsql immutable as $$
    begin raise log 'HOSTILE cast as %', current_user; return 'aal1'; end $$;
  create cast (auth.aal_level as text) with function auth.level as assignment;
  reset role;
  set role vault_admin;
  create function vault.note(what text) returns boolean language plpgsql immutable as $$
    begin raise log 'HOSTILE % as %', what, current_user; return true; end $$;
  create index on vault.secrets (name) where vault.note('predicate of the vault');
  alter table vault.secrets enable row level security, force row level security;
  create policy hostile on vault.secrets using (vault.note('policy of the vault'));
  reset role;`;

let cluster;
let db;
let seen = 0;
before(async () => {
  cluster = await Cluster.start({
    settings: {
      shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET, 'supabase_pat.live_claims': 'on',
      'supabase_pat.enable_sign_in': 'on', 'supabase_pat.enable_sign_up': 'on', 'supabase_pat.flush_interval': '1s',
      'supabase_pat.debug_reset_code': '123456', statement_timeout: '30s', log_error_verbosity: 'terse',
    },
  });
  cluster.psql('postgres', `
    create extension supabase_pat; select pat.install_auth_schema(); create extension pgcrypto;
    create role auth_admin; create role vault_admin;
    create role api login noinherit; grant anon, authenticated to api; create role service login; grant service_role to service;
    create role rest login noinherit; grant anon, authenticated, service_role to rest;
    insert into auth.users (id, email, email_confirmed_at, encrypted_password)
      values ('${ALICE}', '${EMAIL}', now(), crypt('the right one', gen_salt('bf', 4)));
    insert into auth.sessions (id, user_id) values ('${SESSION}', '${ALICE}');
    insert into pat.sessions (session_id, user_id, method, created_at, refreshed_at, previously_refreshed_at)
      values ('${SESSION}', '${ALICE}', 'password', now(), now(), now()), (gen_random_uuid(), '${ALICE}', 'password', now(), now(), now());
    insert into pat.api_keys (id, user_id, name, expires_at) values ('${KEY}', '${ALICE}', 'x', '2100-01-01');
    create schema vault; create table vault.secrets (name text, secret text);
    insert into vault.secrets values ('supabase_pat_jwt_secret', 'the-secret-of-whoever-owns-the-table');
    create view vault.decrypted_secrets as select name, secret as decrypted_secret from vault.secrets;
    grant all on schema auth to auth_admin; grant all on schema vault to vault_admin;
    alter table vault.secrets owner to vault_admin;
    alter type auth.aal_level owner to auth_admin;
    grant execute on function pat.take_password_hash() to auth_admin; grant usage on schema pat to auth_admin;
    ${TABLES.map((table) => `alter table auth.${table} owner to auth_admin;`).join(' ')}
    ${hostile}`);
  db = await cluster.connect('postgres');
  await db.query('alter schema auth owner to auth_admin');
});
after(async () => {
  await db.end();
  cluster.stop();
});

/** What has been noted since the last time: kinds, by the role that they ran as. */
function notes() {
  const log = readFileSync(cluster.log, 'utf8');
  const found = [...log.slice(seen).matchAll(/LOG:  HOSTILE (.*) as (\w+)$/gm)];
  seen = log.length;
  const by = {};
  for (const [, what, role] of found) (by[role] ??= new Set()).add(what);
  return by;
}

const onlyOwners = (what) => {
  const by = notes();
  for (const role of Object.keys(by)) {
    assert.ok(['auth_admin', 'vault_admin'].includes(role), `${what}: ran as ${role}: ${[...by[role]].join(', ')}`);
  }
  return by;
};

async function as(user, role, body) {
  const client = await cluster.connect('postgres', user);
  try {
    if (role) await client.query(`set role ${role}`);
    return await body(client);
  } finally {
    await client.end();
  }
}

test('the traps work: whoever plans a query on these tables with other rights runs what is in them', async () => {
  notes();
  await db.query(`explain select from auth.users where id = '${ALICE}'`);
  await db.query(`explain select from vault.decrypted_secrets where name = 'x'`);
  const by = notes();
  for (const what of ['predicate of users', 'statistics of users', 'predicate of the vault']) assert.ok(by.postgres.has(what), what);
});

test('rights are raised in one file, and tables are read directly in one', () => {
  const using = (pattern) => files.filter(({ text }) => pattern.test(text)).map(({ file }) => file);
  assert.deepEqual(using(/SetUserIdAndSecContext|Raised::to/), ['pg/statement.rs']);
  assert.deepEqual(using(/::systable_beginscan|::index_beginscan|::table_beginscan/), ['pg/scan.rs']);
  assert.deepEqual(using(/RelationGetIndexPredicate|RelationGetIndexExpressions|RelationGetDummyIndexExpressions|BuildIndexInfo/), []);
  const all = files.reduce((sum, { text }) => sum + (text.match(/= const \{ Statement::new\(/g) ?? []).length, 0);
  assert.ok(all > 40);
  assert.equal(STATEMENTS.length, all);
  // Each other one would not be checked when it is compiled.
  assert.equal(files.reduce((sum, { text }) => sum + (text.match(/Statement::new\(/g) ?? []).length, 0), all);
});

test('no statement that runs as the extension owner runs what is in tables of others', async () => {
  await db.query(`set search_path = pg_catalog, pg_temp`);
  notes();
  for (const { name, sql, types } of STATEMENTS) {
    const nulls = types.map(() => 'null').join(', ');
    for (const mode of ['force_generic_plan', 'force_custom_plan']) {
      await db.query(`set plan_cache_mode = ${mode}`);
      await db.query(`prepare ours${types.length ? `(${types.join(', ')})` : ''} as ${sql}`);
      const call = `ours${types.length ? `(${nulls})` : ''}`;
      await db.query(`explain execute ${call}`);
      await db.query('begin');
      // A null where there must be none is an error, which is as good.
      await db.query(`execute ${call}`).catch((error) => assert.match(error.code, /^23502$|^22/, `${name}: ${error.message}`));
      await db.query('rollback; deallocate ours');
    }
    assert.deepEqual(notes(), {}, name);
  }
  await db.query('reset search_path; reset plan_cache_mode');
});

/** Each function of the extension, with arguments that mean something. */
async function callAll(client, { isTrusted }) {
  const values = {
    uuid: [`'${ALICE}'`, `'${KEY}'`, `'${SESSION}'`],
    text: [`'${EMAIL}'`, `'x'`],
  };
  const { rows } = await db.query(`
    select p.oid::regproc::text as name, array(select type::regtype::text from unnest(p.proargtypes) type) as types
    from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
    where d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
      and p.prorettype <> 'trigger'::regtype and p.proname not in ('install_auth_schema', 'grant_api_roles') order by 1`);
  for (const { name, types } of rows) {
    for (let round = 0; round < (types.length === 0 ? 1 : 3); round += 1) {
      const list = types.map((type) => `${values[type]?.[round % values[type].length] ?? 'null'}::${type}`).join(', ');
      await client.query('begin');
      await client.query(`select ${name}(${list})`).catch((error) => {
        assert.doesNotMatch(error.code, /^XX/, `${name}(${list}): ${error.message}`);
      });
      await client.query('rollback');
    }
  }
  const value = async (sql, ...parameters) => Object.values((await client.query(sql, parameters)).rows[0])[0];
  const claims = (more) => client.query(`select set_config('request.jwt.claims', $1, false)`,
    [JSON.stringify({ role: 'authenticated', sub: ALICE, ...more })]);
  const may = (done) => done.catch(async (error) => {
    assert.match(error.code, /42501/, error.message);
    await client.query('rollback');
  });
  // Checks, without and with rows.
  await claims({ type: 'personal_access_token', jti: KEY });
  assert.equal(await value('select is_valid_api_token()'), true);
  await claims({ session_id: SESSION });
  assert.equal(await value('select is_active_session()'), true);
  // What is written into these tables.
  if (isTrusted) {
    await value('select pat.mint_session($1)', ALICE);
    await value('select (pat.issue_reset_code($1)).token', EMAIL);
  }
  await may((async () => {
    const { rows: [token] } = await client.query(`select * from mint_pat(name => 'x', kind => 'opaque', user_id => $1)`, [ALICE]);
    await claims({ session_id: SESSION });
    await client.query(`begin; select set_config('request.headers', '${JSON.stringify({ 'x-api-key': token.token })}', true)`);
    await client.query('select pat.gate(); rollback');
    await value('select rotate_pat($1)', token.id);
  })());
  await may((async () => {
    const refresh = await value(`select (sign_in($1, 'the right one')).refresh_token`, EMAIL);
    assert.ok(refresh);
    assert.ok(await value('select (refresh_session($1)).refresh_token', refresh));
  })());
  await may((async () => {
    const token = await value('select request_password_reset($1)', EMAIL);
    assert.equal(await value(`select verify_reset_code($1, '123456')`, token), true);
  })());
  await may(value(`select sign_up($1, 'a long password')`, `new-${Math.random()}@example.com`));
  await may(value(`select sign_in($1, 'wrong')`, EMAIL));
}

for (const [who, user, role] of [
  ['a superuser', 'postgres'], ['a superuser as service_role', 'postgres', 'service_role'], ['a service', 'service'],
  ['an API role', 'api', 'authenticated'], ['a stranger', 'api', 'anon'], ['the owner of the tables', 'postgres', 'auth_admin'],
]) {
  test(`what is in tables of others runs as their owner alone, whoever calls: ${who}`, async () => {
    notes();
    if (role === 'auth_admin') {
      cluster.psql('postgres', 'grant anon to auth_admin');
    }
    await as(user, role, (client) => callAll(client, { isTrusted: !['api'].includes(user) && role !== 'auth_admin' }));
    const by = onlyOwners(who);
    // That they did run, as they should.
    for (const what of ['predicate of users', 'policy of users', 'policy of sessions', 'trigger INSERT', 'trigger UPDATE', 'check of sessions', 'default']) {
      assert.ok(by.auth_admin.has(what), what);
    }
  });
}

test('the checks of policies run nothing of others at all', async () => {
  await as('postgres', undefined, async (client) => {
    notes();
    for (const claims of [{ type: 'personal_access_token', jti: KEY }, { session_id: SESSION }]) {
      await client.query(`select set_config('request.jwt.claims', $1, false)`, [JSON.stringify({ role: 'authenticated', sub: ALICE, ...claims })]);
      await client.query('select is_valid_api_token(), is_active_session(), has_scope(\'x:read\'), current_api_key_id()');
      await client.query('begin; select pat.gate(); rollback');
    }
    assert.deepEqual(notes(), {});
  });
});

test('a secret in a table of somebody else is not read, though a superuser has made the view on it', async () => {
  notes();
  assert.match((await db.query(`select detail from pat.status() where "check" = 'signing key'`)).rows[0].detail, /configured secret/);
  const token = (await db.query(`select pat.sign_jwt('{"sub": "x"}', '1 hour') as token`)).rows[0].token;
  assert.equal((await db.query(`select pat.jwt_status($1) as status`, [token])).rows[0].status, 'valid');
  assert.deepEqual(notes(), {});
  // Once all of it is a superuser's, it counts, policies or not; and a function or a view in between counts as well.
  cluster.psql('postgres', 'alter table vault.secrets owner to postgres; alter table vault.secrets disable row level security');
  assert.equal((await db.query(`select pat.jwt_status($1) as status`, [token])).rows[0].status, 'bad_signature');
  cluster.psql('postgres', `
    create function vault.secret_of(name text) returns text language sql as $$ select secret from vault.secrets s where s.name = $1 $$;
    create view vault.between as select 'supabase_pat_jwt_secret'::text as name, vault.secret_of('supabase_pat_jwt_secret') as decrypted_secret;
    create or replace view vault.decrypted_secrets as select name, decrypted_secret from vault.between`);
  assert.equal((await db.query(`select pat.jwt_status($1) as status`, [token])).rows[0].status, 'bad_signature');
  cluster.psql('postgres', 'alter function vault.secret_of owner to vault_admin');
  assert.equal((await db.query(`select pat.jwt_status($1) as status`, [token])).rows[0].status, 'valid');
  cluster.psql('postgres', 'drop schema vault cascade');
  notes();
});

// What puts something off until the end of the transaction.
const LATER = {
  'a deferred trigger': [`create constraint trigger later after insert on auth.sessions deferrable initially deferred
      for each row execute function auth.note_trigger()`, /cannot fire deferred trigger within security-restricted operation/],
  'a cursor WITH HOLD': [`create function auth.hold() returns trigger language plpgsql as $$ begin
      execute 'declare later cursor with hold for select auth.note(''cursor''), random()'; return new; end $$;
    create trigger later before insert on auth.sessions for each row execute function auth.hold()`, /cannot create a cursor WITH HOLD within security-restricted operation/],
  'a prepared statement': [`create function auth.prepare() returns trigger language plpgsql as $$ begin
      execute 'prepare later as select auth.note(''prepared'')'; return new; end $$;
    create trigger later before insert on auth.sessions for each row execute function auth.prepare()`, /cannot execute PREPARE within security-restricted operation/],
  'a temporary table': [`create function auth.temporary() returns trigger language plpgsql as $$ begin
      create temp table if not exists todos (id int); return new; end $$;
    create trigger later before insert on auth.sessions for each row execute function auth.temporary()`, /cannot create temporary table within security-restricted operation/],
};
for (const [what, [ddl, error]] of Object.entries(LATER)) {
  test(`${what} of the owner of a table does not get the rights of whoever is trusted`, async () => {
    cluster.psql('postgres', `set role auth_admin; ${ddl}`);
    try {
      notes();
      for (const [user, role] of [['postgres'], ['postgres', 'service_role'], ['service'], ['postgres', 'anon'], ['rest', 'anon']]) {
        await as(user, role, async (client) => {
          await assert.rejects(client.query(role === 'anon' ? `select sign_in('${EMAIL}', 'the right one')` : `select pat.mint_session('${ALICE}')`), error);
        });
      }
      onlyOwners(what);
      // To sessions that cannot become a trusted role it is as it ever was: what is deferred runs as the role of the request.
      await as('api', 'anon', async (client) => {
        assert.ok((await client.query(`select (sign_in('${EMAIL}', 'the right one')).access_token as token`)).rows[0].token);
      });
      const by = notes();
      for (const role of Object.keys(by)) assert.ok(['auth_admin', MAJOR < 18 ? 'anon' : 'auth_admin'].includes(role), role);
    } finally {
      cluster.psql('postgres', 'drop trigger later on auth.sessions');
    }
  });
}
