// What somebody can try who has more than the REST server gives: a login of their own, another database of the
// cluster, or rights in this one from before the extension came.
import assert from 'node:assert/strict';
import { createHmac, hkdfSync, randomBytes, randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE, SECRET } from './fixture.mjs';

const EMAIL = 'alice@example.com';
let cluster;
let db;
before(async () => {
  cluster = await Cluster.start({ settings: { shared_preload_libraries: 'supabase_pat', 'supabase_pat.enable_sign_in': 'on' } });
  cluster.psql('postgres', `
    create extension supabase_pat; select pat.install_auth_schema(); create extension pgcrypto;
    create role mallory login; grant anon, authenticated to mallory;
    alter database postgres set "app.settings.jwt_secret" = '${SECRET}';`);
  db = await cluster.connect('postgres');
  await db.query(`insert into auth.users (id, email, email_confirmed_at) values ($1, $2, now())`, [ALICE, EMAIL]);
});
after(async () => {
  await db.end();
  cluster.stop();
});

const as = async (user, { database = 'postgres', options } = {}) => {
  const client = new pg.Client({ host: cluster.folder, port: cluster.port, user, database, options });
  await client.connect();
  return client;
};
const value = async (client, sql, ...parameters) => Object.values((await client.query(sql, parameters)).rows[0])[0];

test('no setting that decides can be brought along when a session begins', async () => {
  const names = (await db.query(`select name from pg_settings where name like 'supabase\\_pat.%'`)).rows.map(({ name }) => name);
  assert.ok(names.length > 30);
  for (const name of [...names, 'supabase_pat.jwt_secret']) {
    await assert.rejects(as('mallory', { options: `-c ${name}=1` }), /permission denied to set parameter|cannot be changed/, name);
  }
});

test('a session that brings a JWT secret of its own along signs and verifies nothing with it', async () => {
  const own = randomBytes(24).toString('base64url');
  const mallory = await as('mallory', { options: `-c app.settings.jwt_secret=${own}` });
  try {
    await mallory.query('set role authenticated');
    // With the key that codes are checked with, they could be made up for whoever has no password yet.
    const key = (use) => Buffer.from(hkdfSync('sha256', own, 'supabase_pat', use, 32));
    const id = randomUUID();
    const mac = createHmac('sha256', key('recovery code'));
    for (const part of [Buffer.from(id.replaceAll('-', ''), 'hex'), EMAIL, 'recovery', '000000', Buffer.from(ALICE.replaceAll('-', ''), 'hex'), 'none']) {
      const length = Buffer.alloc(8);
      length.writeBigUInt64BE(BigInt(part.length));
      mac.update(length).update(part);
    }
    const now = Math.floor(Date.now() / 1000);
    const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
    const message = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({
      email: EMAIL, purpose: 'recovery', jti: id, iat: now, exp: now + 900, mac: mac.digest('base64url'),
    })}`;
    const token = `${message}.${createHmac('sha256', key('recovery token')).update(message).digest('base64url')}`;
    const done = await value(mallory, `select reset_password($1, '000000', 'chosen by mallory')`, token).catch((error) => error.code);
    assert.ok([false, '55000'].includes(done), String(done));
    assert.equal(await value(db, 'select encrypted_password from auth.users where id = $1', ALICE), null);
  } finally {
    await mallory.end();
  }
});

test('a wrong password counts although its transaction is rolled back', async () => {
  await db.query(`update auth.users set encrypted_password = crypt('the right one', gen_salt('bf', 4)) where id = $1`, [ALICE]);
  const mallory = await as('mallory');
  await mallory.query('set role anon');
  for (let i = 0; i < 30; i += 1) {
    await mallory.query('begin');
    assert.equal(await value(mallory, `select sign_in($1, $2)`, EMAIL, `wrong ${i}`), null);
    await mallory.query('rollback');
  }
  assert.equal(await value(mallory, `select sign_in($1, 'the right one')`, EMAIL), null);
  await mallory.end();
});

test('a token of one database opens nothing in another one of the same secret', async () => {
  cluster.psql('postgres', 'create database other');
  cluster.psql('other', `create extension supabase_pat; select pat.install_auth_schema();
    alter database other set "app.settings.jwt_secret" = '${SECRET}';`);
  const other = await cluster.connect('other');
  await other.query('insert into auth.users (id, email) values ($1, $2)', [ALICE, EMAIL]);
  const { rows: [jwt] } = await other.query(`select * from mint_pat(user_id => $1, name => 'jwt')`, [ALICE]);
  const { rows: [opaque] } = await other.query(`select * from mint_pat(user_id => $1, name => 'opaque', kind => 'opaque')`, [ALICE]);
  const claims = await value(other, 'select (pat.decode_jwt($1)).payload::text', jwt.token);
  assert.equal(await value(other, 'select pat.jwt_status($1)', jwt.token), 'valid');
  await other.end();

  assert.equal(await value(db, 'select pat.jwt_status($1)', jwt.token), 'revoked');
  const request = await as('mallory');
  await request.query('set role authenticated');
  await request.query(`select set_config('request.jwt.claims', $1, false)`, [claims]);
  assert.equal(await value(request, 'select is_valid_api_token()'), false);
  await assert.rejects(request.query('select pat.gate()'), { code: 'PT401' });
  await request.query(`select set_config('request.jwt.claims', '', false), set_config('request.headers', $1, false)`, [JSON.stringify({ 'x-api-key': opaque.token })]);
  await assert.rejects(request.query('select pat.gate()'), { code: 'PT401' });
  await request.end();
});

test('who may create objects in new schemas, or in one that is there, may not in pat', async () => {
  for (const before of ['alter default privileges grant all on schemas to authenticated, mallory', 'create schema pat; grant all on schema pat to mallory']) {
    cluster.psql('postgres', 'create database early');
    cluster.psql('early', `${before}; create extension supabase_pat`);
    const mallory = await as('mallory', { database: 'early' });
    await assert.rejects(mallory.query(`create function pat.sign(jsonb, text) returns text language sql as 'select $2'`), { code: '42501' }, before);
    await mallory.end();
    cluster.psql('postgres', 'drop database early');
  }
});

test('a schema auth that belongs to somebody else gets no users', async () => {
  cluster.psql('postgres', 'create database squatted; grant create on database squatted to mallory');
  const mallory = await as('mallory', { database: 'squatted' });
  await mallory.query('create schema auth');
  cluster.psql('squatted', 'create extension supabase_pat');
  assert.throws(() => cluster.psql('squatted', 'select pat.install_auth_schema()'), /schema auth belongs to mallory/);
  await mallory.end();
});

test('what an extension dropped and created anew has forgotten stays dead', async () => {
  cluster.psql('postgres', 'create database again');
  cluster.psql('again', `create extension supabase_pat; select pat.install_auth_schema(); alter database again set "app.settings.jwt_secret" = '${SECRET}'`);
  const again = await cluster.connect('again');
  await again.query('insert into auth.users (id) values ($1)', [ALICE]);
  const token = await value(again, `select token from mint_pat(user_id => $1, name => 'x')`, ALICE);
  await again.query('drop extension supabase_pat');
  await again.query('create extension supabase_pat');
  assert.equal(await value(again, 'select pat.jwt_status($1)', token), 'revoked');
  await again.end();
});
