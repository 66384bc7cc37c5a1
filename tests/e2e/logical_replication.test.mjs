// Two clusters with the extension, one of which subscribes to tables of the other: what it sees, and how soon.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE } from './fixture.mjs';
import { eventually } from './gate_world.mjs';
import { SETTINGS } from './lived_in.mjs';

const PUBLISHED = ['pat.api_keys', 'pat.denied_tokens', 'pat.signing_keys', 'pat.private_keys', 'pat.setting_definitions',
  'pat.user_settings', 'pat.service_accounts', 'auth.users'];
const SETUP = 'create extension supabase_pat; select pat.install_auth_schema();';

let publisher;
let subscriber;
/** A session of the subscriber that is there all the time, and has looked at everything. */
let there;
before(async () => {
  const settings = { ...SETTINGS, shared_preload_libraries: 'supabase_pat', wal_level: 'logical' };
  publisher = await Cluster.start({ settings });
  subscriber = await Cluster.start({ settings });
  publisher.psql('postgres', `${SETUP}
    insert into auth.users (id, email) values ('${ALICE}', 'alice@example.com');
    select pat.define_setting('theme', '"light"');
    select pat.add_signing_key('ES256', kid => 'first');
    select pat.rotate_signing_key('first');
    create publication tokens for table ${PUBLISHED};`);
  subscriber.psql('postgres', SETUP);
  there = await subscriber.connect('postgres');
  // What there is before anything comes, so that each session has read it once.
  await there.query('select pat.jwks(), get_settings()');
  await there.query(`select set_config('request.method', 'GET', false), set_config('request.path', '/todos', false)`);
  await there.query('select pat.gate()');
  subscriber.psql('postgres', `create subscription tokens connection 'host=${publisher.folder} port=${publisher.port} user=postgres dbname=postgres'
    publication tokens with (streaming = off)`);
  await eventually(() => subscriber.psql('postgres', `select bool_and(srsubstate = 'r') from pg_subscription_rel`) === 't', 60);
});
after(async () => {
  await there?.end();
  subscriber?.psql('postgres', 'drop subscription if exists tokens');
  subscriber?.stop();
  publisher?.stop();
});

const here = (sql) => publisher.psql('postgres', sql);
const value = async (sql, ...parameters) => Object.values((await there.query(sql, parameters)).rows[0])[0];
/** Waits until the subscriber has applied all that has been committed. */
async function applied() {
  const end = here('select pg_current_wal_flush_lsn()');
  await eventually(() => here(`select coalesce(bool_and(replay_lsn >= '${end}'), false) from pg_stat_replication`) === 't', 60);
}
const mint = (name) => JSON.parse(here(`select to_jsonb(m) from mint_pat('${ALICE}', '${name}') m`));
const claims = (token) => Buffer.from(token.split('.')[1], 'base64url').toString();
async function isValid(token) {
  await there.query(`select set_config('request.jwt.claims', $1, false)`, [claims(token)]);
  return value('select is_valid_api_token()');
}
test('a service account, its token and its end arrive', async () => {
  const account = here(`select create_service_account('ci')`);
  const token = here(`select token from mint_pat('${account}', 'deploy')`);
  await applied();
  assert.equal(await isValid(token), true);
  assert.equal(await value('select is_service_account()'), true);
  here(`select delete_service_account('${account}')`);
  await applied();
  assert.equal(await isValid(token), false);
  assert.equal(await value('select is_service_account()'), false);
});

/** What comes of a request at the subscriber that the REST server has let through. */
async function pass(token) {
  await there.query(`select set_config('request.jwt.claims', $1, false), set_config('request.headers', $2, false)`,
    [claims(token), JSON.stringify({ authorization: `Bearer ${token}` })]);
  return there.query('select pat.gate()').then(() => 'passed', (error) => error.message);
}

test('a token that is minted at the publisher is valid at the subscriber, until it is revoked', async () => {
  const { id, token } = mint('one');
  await applied();
  assert.equal(await isValid(token), true);
  assert.equal(await pass(token), 'passed');
  here(`select revoke_pat('${id}')`);
  await applied();
  assert.equal(await isValid(token), false);
  assert.equal(await pass(token), 'the personal access token has been revoked');
});

test('within one transaction of the subscriber, a revocation counts from the next statement on', async () => {
  const { id, token } = mint('two');
  await applied();
  await there.query('begin isolation level repeatable read');
  assert.equal(await isValid(token), true);
  here(`select revoke_pat('${id}')`);
  await applied();
  assert.equal(await isValid(token), false);
  await there.query('rollback');
});

test('a ban at the publisher counts at the subscriber', async () => {
  const { token } = mint('three');
  await applied();
  assert.equal(await isValid(token), true);
  here(`update auth.users set banned_until = 'infinity' where id = '${ALICE}'`);
  await applied();
  assert.equal(await isValid(token), false);
  here('update auth.users set banned_until = null');
  await applied();
  assert.equal(await isValid(token), true);
});

test('a key that is deleted at the publisher leaves no second event at the subscriber', async () => {
  const { id, token } = mint('four');
  await applied();
  here(`delete from api_keys where id = '${id}'`);
  await applied();
  assert.equal(await isValid(token), false);
  assert.equal(await value('select count(*) from pat.events where key_id = $1', id), '0');
});

test('signing keys are seen as they are added, rotated and revoked', async () => {
  const kids = () => value(`select string_agg(key ->> 'kid', ',' order by key ->> 'kid') from jsonb_array_elements(pat.jwks() -> 'keys') key`);
  assert.equal(await kids(), 'first');
  here(`select pat.add_signing_key('ES256', kid => 'second')`);
  await applied();
  assert.equal(await kids(), 'first,second');
  const old = mint('by the first');
  here(`select pat.rotate_signing_key('second')`);
  await applied();
  assert.equal(await value(`select (pat.decode_jwt(pat.sign_jwt('{}'))).header ->> 'kid'`), 'second');
  assert.equal(await value('select pat.jwt_status($1)', old.token), 'valid');
  here(`select pat.revoke_signing_key('first')`);
  await applied();
  assert.equal(await kids(), 'second');
  assert.equal(await value('select pat.jwt_status($1)', old.token), 'revoked');
});

test('a denied token is denied at the subscriber', async () => {
  const token = here(`select pat.sign_jwt('{"role": "service_role"}', '1 day')`);
  await applied();
  assert.equal(await pass(token), 'passed');
  here(`select pat.deny_token('${token}')`);
  await applied();
  assert.equal(await pass(token), 'this token is no longer accepted');
});

test('a setting that is declared anew has its new default at the subscriber', async () => {
  const theme = () => value(`select get_settings() ->> 'theme'`);
  await there.query(`select set_config('request.jwt.claims', '', false)`);
  assert.equal(await theme(), 'light');
  here(`select pat.define_setting('theme', '"dark"')`);
  await applied();
  assert.equal(await theme(), 'dark');
});

test('rows that are loaded with session_replication_role = replica count in every session', async () => {
  const token = subscriber.psql('postgres', `select pat.sign_jwt('{"role": "service_role", "ref": "loaded"}', '1 day')`);
  assert.equal(await pass(token), 'passed');
  const row = here(`begin; select pat.deny_token('${token}');
    select to_jsonb(d) from pat.denied_tokens d where denied_at = now(); rollback`);
  subscriber.psql('postgres', `set session_replication_role = replica;
    insert into pat.denied_tokens select * from jsonb_populate_record(null::pat.denied_tokens, '${row}')`);
  assert.equal(await pass(token), 'this token is no longer accepted');
});

test('uses are counted by each server for itself, and are not to be published', async () => {
  const { id, token } = mint('used at both');
  await applied();
  assert.equal(await pass(token), 'passed');
  const used = (cluster) => cluster.psql('postgres', `select count(*) from pat.api_key_usage where key_id = '${id}'`);
  await eventually(() => used(subscriber) === '1', 30);
  assert.equal(used(publisher), '0');
});
