// Where the JWT secret may be, and who can see it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { SECRET, start } from './fixture.mjs';

let world;
before(async () => { world = await start(); });
after(() => world.stop());

/** A login of the REST server's role, the first statement of a new session. */
const asApi = async (sql, role) => {
  const client = new pg.Client({ connectionString: world.cluster.url('postgres', 'authenticator', world.cluster.password) });
  await client.connect();
  try {
    if (role) await client.query(`set role ${role}`);
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
};

test('no API role can read the secret, in a new session or later', async () => {
  for (const role of [undefined, 'anon', 'authenticated', 'service_role']) {
    await assert.rejects(asApi('show supabase_pat.jwt_secret', role), { code: '42501' });
    await assert.rejects(asApi(`select current_setting('supabase_pat.jwt_secret', true)`, role), { code: '42501' });
    await assert.rejects(asApi('show supabase_pat.jwt_secret_file', role), { code: '42501' });
    await assert.rejects(asApi('select * from pg_file_settings', role), { code: '42501' });
    await assert.rejects(asApi('select pg_read_file(\'postgresql.conf\')', role), { code: '42501' });
    for (const view of ['pg_settings', 'pg_db_role_setting', 'pg_stat_activity', 'pg_proc', 'pg_prepared_statements']) {
      const found = await asApi(`select count(*)::int as n from ${view} v where v::text like '%${SECRET}%' and v::text not like '%from ${view} v%'`, role);
      assert.deepEqual(found, [{ n: 0 }], `${view} as ${role}`);
    }
    assert.ok(!JSON.stringify(await asApi('show all', role)).includes(SECRET));
  }
});

test('the setting signs only because the library is preloaded', async () => {
  const { cluster } = world;
  const mint = `select token from mint_pat((select min(id::text) from auth.users)::uuid, 'x')`;
  assert.ok(cluster.psql('postgres', mint).startsWith('eyJ'));
  cluster.configure({ shared_preload_libraries: '' });
  cluster.control('restart');
  assert.throws(() => cluster.psql('postgres', mint), /no JWT secret is configured/);
  cluster.configure({ shared_preload_libraries: 'supabase_pat' });
  cluster.control('restart');
  assert.ok(cluster.psql('postgres', mint).startsWith('eyJ'));
});

test('the extension works in several databases of a cluster', async () => {
  const { cluster } = world;
  cluster.psql('postgres', 'create database other');
  cluster.psql('other', 'create extension supabase_pat; select pat.install_auth_schema();');
  const minted = cluster.psql('other', `
    insert into auth.users (id) values ('33333333-3333-3333-3333-333333333333');
    select name from mint_pat('33333333-3333-3333-3333-333333333333', 'elsewhere');
    select count(*) from api_keys;`);
  assert.equal(minted, 'elsewhere\n1');
  assert.equal(cluster.psql('postgres', `select count(*) from api_keys where name = 'elsewhere'`), '0');
  cluster.psql('other', 'drop extension supabase_pat');
  assert.equal(cluster.psql('postgres', 'select is_valid_api_token()'), 't');
});

test('a dump and restore keeps keys, grants and policies', async () => {
  const { cluster } = world;
  cluster.psql('postgres', `select mint_pat((select min(id::text) from auth.users)::uuid, 'dumped')`);
  const state = `select count(*), string_agg(k::text, '' order by id) from pat.api_keys k;
    select relacl from pg_class where relname = 'api_keys' order by relkind;
    select policyname, qual, with_check from pg_policies where schemaname = 'pat' order by 1;
    select p.oid::regprocedure, proacl from pg_proc p where pronamespace = 'pat'::regnamespace order by p.oid::regprocedure::text;`;
  const dump = spawnSync(join(cluster.bin, 'pg_dump'), { env: cluster.env('postgres'), encoding: 'utf8', maxBuffer: 1e8 });
  assert.equal(dump.status, 0, dump.stderr);
  cluster.psql('postgres', 'create database restored');
  cluster.psql('restored', dump.stdout);
  assert.equal(cluster.psql('restored', state), cluster.psql('postgres', state));
});
