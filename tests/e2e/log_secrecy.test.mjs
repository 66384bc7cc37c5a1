// No secret reaches a log: every function of the extension is called, where it succeeds and where it fails, on a
// server that logs whatever it can, and then each secret that was made or used is looked for in all spellings.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHmac, generateKeyPairSync, hkdfSync, randomBytes, randomUUID } from 'node:crypto';
import { chownSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOUD, secretsIn, values } from '../cluster/log_secrets.mjs';
import { ALICE, BOB, SECRET, start } from './fixture.mjs';
import { eventually } from './gate_world.mjs';

const EMAIL = 'alice@example.com';
const IN_FILE = randomBytes(24).toString('base64url');
const IN_VAULT = randomBytes(24).toString('base64url');
/** Value by name. */
const secrets = new Map();
/** What errors told the client, with all that it had sent. */
const errors = [];
let world;
let db;
let log;

function keep(name, value) {
  if (typeof value === 'string' && value.length >= 3) secrets.set(`${name} ${secrets.size}`, value);
  return value;
}

const fresh = () => keep('a password', `pw-${randomBytes(9).toString('base64url')}`);

/** Runs a statement, secrets being parameters, and returns the first value; null where it fails. */
async function call(sql, ...parameters) {
  try {
    const { rows } = await db.query(sql, parameters);
    return rows.length === 0 ? undefined : Object.values(rows[0])[0];
  } catch (error) {
    errors.push([[error.message, error.detail, error.hint, error.where].join('\n'), sql + parameters.join('\n')]);
    return null;
  }
}

/** As `call`, and it must succeed or fail. */
async function works(sql, ...parameters) {
  const value = await call(sql, ...parameters);
  assert.notEqual(value, null, errors.at(-1)?.[0]);
  return value;
}
async function fails(sql, ...parameters) {
  const before = errors.length;
  await call(sql, ...parameters);
  assert.equal(errors.length, before + 1, `${sql} works`);
}

async function rest(path, body, options = {}) {
  const answer = await world.request('POST', `/rpc/${path}`, { body, ...options });
  if (answer.status >= 400) errors.push([JSON.stringify(answer.data), JSON.stringify([body, options])]);
  return answer;
}

before(async () => {
  world = await start({
    settings: {
      ...LOUD,
      shared_preload_libraries: 'supabase_pat, pg_stat_statements',
      session_preload_libraries: 'auto_explain',
      track_functions: 'all',
      'pg_stat_statements.track': 'all',
      'supabase_pat.enable_sign_in': 'on',
      'supabase_pat.enable_sign_up': 'on',
      'supabase_pat.enable_leak_reports': 'on',
      'supabase_pat.trusted_proxies': '1',
      'supabase_pat.reset_requests_per_hour': '1000',
      // Six digits are in a log by chance.
      'supabase_pat.reset_code_length': '10',
      'supabase_pat.flush_interval': '1',
    },
    env: { PGRST_DB_PRE_REQUEST: 'pat.gate' },
    sql: 'create extension pg_stat_statements;',
  });
  ({ log } = world.cluster);
  secrets.set('the configured secret', SECRET);
  secrets.set('the secret in a file', IN_FILE);
  secrets.set('the secret in Vault', IN_VAULT);
  // What is derived from it is as good as itself for what it is for.
  for (const use of ['recovery token', 'recovery code', 'recovery message', 'signup token', 'signup code', 'signup message',
    'refresh token', 'addresses']) {
    secrets.set(`the key for ${use}`, Buffer.from(hkdfSync('sha256', SECRET, 'supabase_pat', use, 32)));
  }
  db = await world.cluster.connect('postgres');
});
after(async () => {
  await db.end();
  world.stop();
});

test('every function of the extension is called, where it succeeds and where it fails', async () => {
  await tokens();
  await gate();
  await signingKeys();
  await signingUpAndIn();
  await passwordReset();
  await theRest();
  await otherPlacesOfTheSecret();

  // What was done last is in the statistics when the session reports it.
  await db.end();
  db = await world.cluster.connect('postgres');
  const missing = async () => (await db.query(`
    select p.oid::regprocedure::text as function from pg_proc p
    join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
    join pg_extension e on e.oid = d.refobjid and e.extname = 'supabase_pat'
    where not exists (select from pg_stat_user_functions s where s.funcid = p.oid and s.calls > 0) order by 1`)).rows;
  await eventually(async () => (await missing()).length === 0, 10).catch(async () => {
    assert.deepEqual((await missing()).map((row) => row.function), [], 'functions that were not called');
  });
});

const inTheLog = (isWanted) => {
  const wanted = [...secrets].filter(([name]) => isWanted(name));
  return [...new Set(secretsIn(log, values(wanted)).map(({ name, line }) => `${name.replace(/ \d+$/, '')}: ${line}`))];
};
const isHash = (name) => name.startsWith('a password hash');

test('no secret is in the log, but where the client sent it', () => {
  assert.ok(secrets.size > 100, `${secrets.size} secrets`);
  assert.deepEqual(inTheLog((name) => !isHash(name)), []);
});

test('no password hash is in the log', () => {
  assert.ok([...secrets.keys()].filter(isHash).length >= 5);
  assert.deepEqual(inTheLog(isHash), []);
});

test('a row of auth.users that fails a constraint is shown neither to the client nor in the log', async () => {
  for (const [code, breaks, mends] of [
    ['23514', 'add constraint short check (length(email) < 20) not valid', 'drop constraint short'],
    ['23502', "add column needed text not null default ''; alter table auth.users alter needed drop default", 'drop column needed'],
  ]) {
    await db.query(`alter table auth.users ${breaks}`);
    const { data } = await rest('sign_up', { email: `the-long-name-of-somebody-${code}@example.com`, password: fresh() });
    await db.query(`alter table auth.users ${mends}`);
    assert.equal(data.code, code);
    assert.doesNotMatch(JSON.stringify(data), /\$2a\$/);
    assert.doesNotMatch(readFileSync(log, 'utf8'), /Failing row contains .*\$2a\$/);
  }
});

test('a secret that is changed in postgresql.conf is not in the log', async () => {
  const other = keep('the next secret', randomBytes(30).toString('base64url'));
  world.cluster.configure({ 'supabase_pat.jwt_secret': other });
  world.cluster.control('reload');
  await eventually(() => readFileSync(log, 'utf8').includes('received SIGHUP, reloading configuration files'));
  await sleep(1000);
  world.cluster.configure({ 'supabase_pat.jwt_secret': SECRET });
  world.cluster.control('reload');
  assert.deepEqual(inTheLog((name) => name.startsWith('the next secret') || name === 'the configured secret'), []);
});

test('no error tells the client a secret that it has not sent itself', () => {
  assert.ok(errors.length > 40, `${errors.length} errors`);
  const find = values([...secrets]);
  for (const [told, sent] of errors) {
    const known = new Set(find(sent).map(([, , value]) => value));
    assert.deepEqual(find(told).filter(([, , value]) => !known.has(value)), [], told);
  }
});

test('no secret is in what is seen of statements', async () => {
  const find = values([...secrets]);
  for (const view of ['pg_stat_activity', 'pg_stat_statements', 'pg_prepared_statements', 'pg_stat_user_functions']) {
    const { rows } = await db.query(`select v::text from ${view} v`);
    assert.ok(rows.length > 0 || view === 'pg_prepared_statements', view);
    for (const { v } of rows) assert.deepEqual(find(v), [], view);
  }
});

test('no token, code or password is in a table, and keys and hashes are in theirs alone', async () => {
  const dump = spawnSync(join(world.cluster.bin, 'pg_dump'), ['--data-only', '--exclude-table-data=pat.private_keys',
    '--exclude-table-data=auth.users', '--exclude-table-data=vault.*'], { env: world.cluster.env('postgres'), encoding: 'utf8', maxBuffer: 1e9 });
  assert.equal(dump.status, 0, dump.stderr);
  assert.ok(dump.stdout.includes('COPY pat.events'));
  // A code of a few digits is in a dump by chance, in times for instance.
  const long = [...secrets].filter(([, value]) => value.length >= 10);
  assert.deepEqual(values(long)(dump.stdout).map(([name]) => name), []);
});

test('a secret is found where there is one', () => {
  const line = (text) => `2026-01-01 00:00:00.000 UTC [1] ${text}\n`;
  const path = join(world.cluster.folder, 'made_up');
  const secret = 'a secret of some length';
  const bytes = Array.from(Buffer.from(secret)).join(' ');
  const find = (text) => {
    writeFileSync(path, text);
    return secretsIn(path, values([['it', secret]])).map(({ name }) => name);
  };
  for (const text of [
    secret, Buffer.from(secret).toString('hex'), Buffer.from(`x${secret}y`).toString('base64'),
    Buffer.from(`{"k":"${secret}"}`).toString('base64url'),
  ]) {
    assert.deepEqual(find(line(`ERROR:  12345: no ${text}`)), ['it'], text);
    assert.deepEqual(find(`${text}\n`), ['it'], 'by something else than the logger');
    assert.deepEqual(find(line('LOG:  00000: x') + line(`DETAIL:  Failing row contains (${text}).`)), ['it']);
    assert.deepEqual(find(line('ERROR:  x') + line(`STATEMENT:  select '${text}'`)), []);
    assert.deepEqual(find(line('LOG:  00000: execute <unnamed>: select $1') + line(`DETAIL:  parameters: $1 = '${text}'`)), []);
    assert.deepEqual(find(line('ERROR:  x') + line(`CONTEXT:  SQL statement "x"\n\tunnamed portal with parameters: $1 = '${text}'`)), []);
    assert.deepEqual(find(line('ERROR:  x') + line(`CONTEXT:  SQL statement "${text}"\n\tunnamed portal with parameters: $1 = 'x'`)), ['it']);
  }
  const plan = (sent) => line('LOG:  00000: plan:') + line(`DETAIL:  {CONST :constvalue 27 [ 0 1 0\n\t0 ${bytes} ]}`) + line(`STATEMENT:  select '${sent}'`);
  assert.deepEqual(find(plan(secret)), []);
  assert.deepEqual(find(plan('something else')), ['it']);
});

/** The hashes that are stored now. */
async function hashes() {
  for (const { hash } of (await db.query('select encrypted_password as hash from auth.users where encrypted_password is not null')).rows) {
    keep('a password hash', hash);
  }
}

async function tokens() {
  const claims = async (token) => works(`select set_config('request.jwt.claims', (pat.decode_jwt($1)).payload::text, false)`, token);
  const mint = async (kind, more = '') => {
    const { rows: [row] } = await db.query(`select * from mint_pat(user_id => $1, name => 'test', kind => $2 ${more})`, [ALICE, kind]);
    keep(`a token of kind ${kind}`, row.token);
    return row;
  };
  for (const kind of ['jwt', 'opaque']) {
    const { id } = await mint(kind, `, scopes => '{todos:read}', rate_limit => 100, allowed_ips => '{192.0.2.0/24}'`);
    keep('a rotated token', (await db.query('select token from rotate_pat($1)', [id])).rows[0].token);
    await fails('select token from rotate_pat($1)', id);
    assert.equal(await works('select revoke_pat($1)', id), false);
    assert.equal(await works('select revoke_pat($1, true)', id), false);
    await fails('select revoke_pat($1, null)', id);
  }
  for (const args of [`name => null`, `name => 'x', kind => 'none'`, `name => 'x', scopes => '{bad}'`, `name => 'x', expires_in => '-1 day'`,
    `name => 'x', user_id => '${randomUUID()}'`, `name => 'x', rate_limit => 0`]) {
    await fails(`select mint_pat(${args.includes('user_id') ? '' : `user_id => '${ALICE}', `}${args})`);
  }
  const { token } = await mint('jwt');
  await claims(token);
  await db.query('set role authenticated');
  assert.equal(await works('select is_valid_api_token()'), true);
  for (const sql of ['select pat.uid()', 'select has_scope($$todos:read$$)', 'select current_api_key_id()', 'select session_info()',
    'select is_active_session()', 'select signed_in_user()', 'select get_settings()', 'select setting_definitions()',
    'select pat.auth_uid(), pat.auth_role(), pat.auth_email(), pat.auth_jwt()']) await works(sql);
  await fails(`select mint_pat(name => 'by a token')`);
  await fails(`select has_scope('no scope')`);
  for (const sql of ['select pat.sign_jwt($${}$$)', 'select pat.verify_jwt($$x$$)', 'select * from pat.private_keys', 'select pat.take_private_jwk()',
    'select pat.jwks_for_verifier()']) await fails(sql);
  await db.query('reset role; reset "request.jwt.claims"');
  await works(`select pat.auth_function_problem('uid') is null`);
  await works('select revoke_all_pats($1)', ALICE);
  await works(`select set_config('supabase_pat.service_account_manager', 'pat.created_service_account', false)`);
  const account = await works(`select create_service_account('ci', 'deploys')`);
  keep('a token of a service account', await works(`select token from mint_pat($1, 'deploy')`, account));
  await fails(`select create_service_account(' ')`);
  await works('select count(*) from service_account_tokens($1)', account);
  await works('select is_service_account(), pat.manages_service_account($1), pat.created_service_account($1)', account);
  await works('select pat.service_account_problem() is null');
  await works('select delete_service_account($1)', account);
  await fails('select service_account_tokens($1)', account);
  await db.query('delete from pat.api_keys where kind = $1', ['opaque']);
}

async function gate() {
  const { rows: [opaque] } = await db.query(`select * from mint_pat(user_id => $1, name => 'gate', kind => 'opaque')`, [ALICE]);
  const { rows: [jwt] } = await db.query(`select * from mint_pat(user_id => $1, name => 'gate', scopes => '{todos:read}')`, [ALICE]);
  keep('an opaque token', opaque.token);
  keep('a token', jwt.token);
  const ask = (options, path = '/todos') => world.request('GET', path, options);
  assert.equal((await ask({ headers: { 'x-api-key': opaque.token } })).status, 200);
  assert.equal((await ask({ token: jwt.token })).status, 200);
  assert.equal((await world.request('POST', '/todos', { token: jwt.token, body: { title: 'x' } })).status, 403);
  assert.equal((await ask({ headers: { 'x-api-key': opaque.token.slice(0, -1) } })).status, 401);
  const service = keep('a service key', await world.serviceKey());
  assert.equal((await ask({ token: service }, '/api_keys')).status, 200);
  await works('select edit_pat($1, description => $2)', jwt.id, 'used by the nightly job');
  await fails('select edit_pat($1)', BOB);
  await works(`select pat.define_key_attribute('project', '{"type": "array"}')`);
  await works(`select api_key_allows('project', 'p1'), api_key_allows('project', gen_random_uuid()), api_key_attribute('project'), current_api_key()`);
  await works(`select pat.drop_key_attribute('project')`);
  const exchanged = await world.request('POST', '/rpc/exchange_token', { headers: { 'x-api-key': opaque.token }, body: {} });
  assert.equal(exchanged.status, 200, JSON.stringify(exchanged.data));
  keep('an exchanged token', exchanged.data.access_token);
  for (const token of [opaque.token, jwt.token, exchanged.data.access_token, service]) {
    assert.equal(await works(`select introspect_token($1) ->> 'active'`, token), 'true');
    const answer = await world.request('POST', '/rpc/introspect_token', { token: service, body: { token } });
    assert.equal(answer.data.active, true, JSON.stringify(answer.data));
  }
  await works(`select set_config('request.jwt.claims', (pat.decode_jwt($1)).payload::text, false)`, exchanged.data.access_token);
  await db.query('set role authenticated');
  keep('a token exchanged again', await works('select (exchange_token()).access_token'));
  await fails(`select exchange_token('2 hours')`);
  await fails('select introspect_token($1)', opaque.token);
  await db.query('reset role; reset "request.jwt.claims"');
  await works('select count(*) from pat.explain_access($1, $2)', jwt.id, 'select token_digest from pat.api_keys');
  await fails('select pat.explain_access($1)', BOB);
  await works('select pat.deny_token($1)', service);
  assert.equal((await ask({ token: service }, '/api_keys')).status, 401);
  await works('select pat.deny_token($1, $2)', opaque.token, 'leaked');
  await works('select pat.deny_token($1)', jwt.token);
  assert.equal((await ask({ headers: { 'x-api-key': opaque.token } })).status, 401);
  await fails('select pat.deny_token($1)', keep('no token', 'x.y.z-that-is-no-token'));
  await fails('select pat.deny_token($1)', 'sbpat_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ2zaKtE');
  const old = keep('an imported token', `old-${randomBytes(12).toString('base64url')}`);
  await works(`select pat.import_token($1, 'imported', encode(sha256($2::text::bytea), 'hex'))`, ALICE, old);
  await fails(`select pat.import_token($1, 'imported', $2)`, ALICE, old);
  assert.equal((await ask({ headers: { 'x-api-key': old } })).status, 200);
  await works('select pat.deny_token($1)', old);
  assert.equal((await ask({ headers: { 'x-api-key': old } })).status, 401);
  const { rows: leaked } = await db.query(`select token from unnest('{jwt,opaque}'::text[]) kind, mint_pat(user_id => $1, name => 'leaked', kind => kind)`, [ALICE]);
  leaked.forEach((row) => keep('a leaked token', row.token));
  const reported = [...leaked.map((row) => row.token), keep('another service key', await works(`select pat.mint_api_key('service_role', 'leaked')`)), keep('a reported guess', 'guess-0123456789')];
  assert.ok((await rest('report_leaked_tokens', { tokens: reported, found_at: 'a log' })).status < 300);
  assert.equal((await rest('report_leaked_tokens', { tokens: reported, found_at: 'two\nlines' })).status, 400);
  await works('select report_leaked_tokens($1)', reported);
  await db.query('delete from pat.denied_tokens');
  await works('select pat.status()');
  await works('select pat.server_state()');
  await works('select count(*) from pat.metrics()');
  await works('select count(*) from pat.usage_totals()');
  await works('select count(*) from pat.usage_by_token()');
  await works('select count(*) from pat.usage_by_user()');
  await works('select pat.is_trusted()');
  // Directly too, since the server counts calls by expressions of clients.
  await works('select pat.gate()');
}

async function signingKeys() {
  for (const alg of ['HS256', 'HS384', 'HS512', 'ES256', 'RS256', 'EdDSA']) {
    await works('select pat.add_signing_key($1, kid => $1)', alg);
    await works('select pat.rotate_signing_key($1)', alg);
    const signed = keep(`a token by ${alg}`, await works(`select pat.sign_jwt('{"sub": "x"}', '1 hour')`));
    assert.equal(await works('select pat.jwt_status($1)', signed), 'valid');
    await works('select pat.verify_jwt($1)', signed);
    await works('select pat.jwt_expires_in($1)', signed);
    await works('select pat.bearer_token($1)', `Bearer ${signed}`);
    await works('select pat.inspect_api_key($1)', signed);
    for (const bad of [`${signed}x`, signed.slice(0, -5), signed.split('.').slice(0, 2).join('.')]) {
      await fails('select pat.verify_jwt($1)', bad);
      await works('select pat.jwt_status($1)', bad);
      await works('select pat.inspect_api_key($1)', `"Bearer ${bad}`);
    }
    await fails('select pat.decode_jwt($1)', `${signed}.x`);
    await fails('select pat.verify_jwt($1, $2)', signed, 'another audience');
  }
  await works('select pat.jwks()');
  await works('select pat.jwks_for_verifier()');
  const own = keep('a secret of our own', randomBytes(48).toString('base64url'));
  await works(`select pat.add_signing_key('HS256', $1, 'own')`, own);
  await fails(`select pat.add_signing_key('HS256', $1, 'own')`, own);
  await fails(`select pat.add_signing_key('ES256', $1, 'pair')`, own);
  await fails(`select pat.add_signing_key('HS256', $1)`, keep('a short secret', 'only-a-short-one'));
  await fails(`select pat.add_signing_key('none', $1)`, own);
  await fails(`select pat.add_signing_key('ES256', kid => 'no kid')`);
  for (const [type, options] of [['ec', { namedCurve: 'P-256' }], ['ed25519', {}], ['rsa', { modulusLength: 2048 }]]) {
    const jwk = generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
    for (const part of ['d', 'p', 'q', 'dp', 'dq', 'qi']) keep(`${part} of an imported ${type}`, jwk[part]);
    await works('select pat.import_signing_key($1)', JSON.stringify(jwk));
    for (const change of [{ x: jwk.d, n: jwk.d }, { kty: 'oct' }, { d: 1 }, { d: `${jwk.d}!` }, { crv: 'P-384', e: undefined }, { use: 'enc' }]) {
      await fails('select pat.import_signing_key($1)', JSON.stringify({ ...jwk, kid: randomUUID(), ...change }));
    }
  }
  await fails('select pat.import_signing_key($1)', JSON.stringify({ kty: 'oct', k: Buffer.from('only-a-short-one').toString('base64url') }));
  await works(`select pat.rotate_signing_key('ES256')`);
  await works(`select pat.revoke_signing_key('HS512')`);
  await fails(`select pat.revoke_signing_key('ES256')`);
  await fails(`select pat.rotate_signing_key('HS512')`);
  // A key that is on its way when the statement fails.
  await db.query('begin read only');
  await fails(`select pat.add_signing_key('HS256', $1, 'read-only')`, keep('a secret that is not stored', randomBytes(40).toString('base64url')));
  await db.query('rollback');
  await fails(`insert into pat.private_keys select * from pat.private_keys`);
  await fails(`update pat.signing_keys set status = 'lost' where kid = 'ES256'`);
  for (const { jwk } of (await db.query('select jwk from pat.private_keys')).rows) {
    for (const [name, part] of Object.entries(JSON.parse(jwk))) {
      if (['k', 'd', 'p', 'q', 'dp', 'dq', 'qi'].includes(name)) keep(`${name} of a stored key`, part);
    }
  }
  for (const role of ['anon', 'service_role']) {
    const key = keep('an API key', await works('select pat.mint_api_key($1)', role));
    await works('select pat.inspect_api_key($1)', key);
  }
  await fails('select pat.mint_api_key($1)', 'postgres');
  await works('select pat.inspect_api_key($1)', keep('a new key', 'sb_secret_0123456789abcdefghijkl_01234567'));
  // From here on with the configured secret.
  await db.query('delete from pat.signing_keys');
}

async function codeOf(email) {
  const { rows } = await db.query('select * from pat.claim_messages(100)');
  for (const row of rows) {
    keep('a code', row.code);
    await works('select pat.message_failed($1, $2)', row.id, 'no such mailbox');
    await works('select pat.message_sent($1)', row.id);
  }
  return rows.find((row) => row.email === email)?.code;
}

async function session(answer) {
  assert.equal(answer.status, 200, JSON.stringify(answer.data));
  keep('an access token', answer.data.access_token);
  keep('a refresh token', answer.data.refresh_token);
  return answer.data;
}

async function signingUpAndIn() {
  const email = 'carol@example.com';
  const password = fresh();
  const { data: { confirmation_token: early } } = await rest('sign_up', { email, password: fresh(), data: { name: 'Carol' } });
  await codeOf(email);
  const { data: { confirmation_token: token } } = await rest('sign_up', { email, password });
  keep('a confirmation token', early);
  keep('a confirmation token', token);
  await hashes();
  await rest('sign_up', { email, password: keep('a password that is too short', 'pw-sh') });
  await rest('sign_up', { email, password: keep('a password that is too long', `pw-${'x'.repeat(80)}`) });
  await rest('sign_up', { email: 'no address', password });
  await rest('sign_up', { email, password, data: [1] });
  const code = await codeOf(email);
  assert.equal((await rest('sign_in', { email, password })).status, 401);
  assert.equal((await rest('confirm_sign_up', { token, code: '1' })).status, 401);
  assert.equal((await rest('confirm_sign_up', { token: early, code })).status, 401);
  await session(await rest('confirm_sign_up', { token, code }));
  for (let i = 0; i < 7; i += 1) await rest('sign_in', { email, password: fresh() }, { headers: { 'x-forwarded-for': '192.0.2.1' } });
  await rest('sign_in', { email: 'nobody@example.com', password: fresh() });
  const first = await session(await rest('sign_in', { email, password }, { headers: { 'x-forwarded-for': '192.0.2.2' } }));
  let now = first;
  for (let i = 0; i < 4; i += 1) now = await session(await rest('refresh_session', { refresh_token: now.refresh_token }));
  assert.equal((await rest('refresh_session', { refresh_token: `${now.refresh_token}A` })).status, 401);
  assert.equal((await rest('refresh_session', { refresh_token: first.refresh_token })).status, 401);
  const again = await session(await rest('sign_in', { email, password }, { headers: { 'x-forwarded-for': '192.0.2.3' } }));
  assert.equal((await rest('signed_in_user', {}, { token: again.access_token })).status, 200);
  assert.equal((await rest('sign_out', { scope: 'everywhere' }, { token: again.access_token })).status, 400);
  assert.equal((await rest('sign_out', { scope: 'global' }, { token: again.access_token })).status, 200);
  const { rows: [minted] } = await db.query('select * from pat.mint_session($1)', [BOB]);
  keep('an access token', minted.access_token);
  keep('a refresh token', minted.refresh_token);
  await fails('select pat.mint_session($1)', randomUUID());
  await rest('sign_up', { email: 'a-very-long-address@example.com', password: fresh() });
  await hashes();
}

async function passwordReset() {
  await hashes();
  const reset = keep('a reset token', (await rest('request_password_reset', { email: EMAIL })).data);
  keep('a reset token', (await rest('request_password_reset', { email: 'nobody@example.com' })).data);
  await rest('request_password_reset', { email: 'no address' });
  const code = await codeOf(EMAIL);
  assert.equal((await rest('verify_reset_code', { token: reset, code: '1' })).data, false);
  assert.equal((await rest('verify_reset_code', { token: reset, code })).data, true);
  const password = fresh();
  assert.equal((await rest('reset_password', { token: reset, code, new_password: '' })).status, 400);
  assert.equal((await rest('reset_password', { token: reset, code, new_password: password })).data, true);
  await hashes();
  assert.equal((await rest('reset_password', { token: reset, code, new_password: fresh() })).data, false);
  const { rows: [issued] } = await db.query('select * from pat.issue_reset_code($1)', [EMAIL]);
  keep('a reset token', issued.token);
  keep('a code', issued.code);
  assert.equal((await rest('reset_password', { token: issued.token, code: issued.code, new_password: password })).status, 400);
  assert.equal((await rest('reset_password', { token: issued.token, code: issued.code, new_password: fresh() })).data, true);
  await fails('select pat.issue_reset_code($1)', 'nobody@example.com');
  assert.equal(await works('select pat.message_sent($1)', randomUUID()), false);
  await db.query(`set supabase_pat.notices = 'minted,expiring,revoked,leaked'`);
  await db.query('update auth.users set email_confirmed_at = now()');
  const { rows: [told] } = await db.query(`select id, token from mint_pat((select id from auth.users where email = $1), 'told of')`, [EMAIL]);
  keep('a token', told.token);
  await works('select revoke_pat($1)', told.id);
  const { rows: notices } = await db.query('select * from pat.claim_notices(100)');
  assert.deepEqual(notices.map(({ kind }) => kind).sort(), ['minted', 'revoked']);
  for (const notice of notices) {
    await works('select pat.notice_failed($1, $2)', notice.id, 'no such mailbox');
    await works('select pat.notice_sent($1)', notice.id);
  }
  await db.query('reset supabase_pat.notices');
}

async function theRest() {
  const secret = keep('a secret for pgjwt', randomBytes(20).toString('base64url'));
  // Not as constants, of which the planner would know the result.
  const { rows: [{ signed }] } = await db.query(`with given as materialized (select $1::text as secret)
    select pat.sign('{"a": 1}', secret) as signed from given`, [secret]);
  keep('a token as of pgjwt', signed);
  await works('select pat.verify($1, $2)', signed, secret);
  await works('select pat.verify($1, $2)', signed, 'another secret');
  await works(`with given as materialized (select $1::text as secret) select pat.algorithm_sign('x', secret, 'HS256') from given`, secret);
  keep('a signature as of pgjwt', createHmac('sha256', secret).update('x').digest('base64url'));
  await fails(`with given as materialized (select $1::text as secret) select pat.sign('{}', secret, 'none') from given`, secret);
  await works('select pat.url_decode(pat.url_encode($1::bytea))', 'x');
  await fails('select pat.url_decode($1)', '!');
  await works(`select pat.define_setting('model', '"small"', '{"enum": ["small", "large"]}')`);
  const login = await world.login(ALICE, { session_id: randomUUID() });
  const { rows: [{ access_token: token }] } = await db.query('select access_token from pat.mint_session($1)', [ALICE]);
  keep('an access token', token);
  assert.equal((await rest('set_settings', { patch: { model: 'large' } }, { token })).status, 200);
  assert.equal((await rest('set_settings', { patch: { model: 'huge' } }, { token: login })).status, 401);
  assert.equal((await rest('set_settings', { patch: { model: 'huge' } }, { token })).status, 400);
  assert.equal((await rest('mint_pat', { name: 'by REST' }, { token })).status, 200);
  await db.query(`delete from pat.api_keys where name = 'by REST'`);
  assert.equal(await works(`select pat.drop_setting('model')`), true);
  await fails('select pat.install_auth_schema()');
  await works('select pat.grant_api_roles()');
  await works('select pat.take_private_jwk() is null');
}

async function otherPlacesOfTheSecret() {
  const { cluster } = world;
  const file = join(cluster.folder, 'secret');
  writeFileSync(file, IN_FILE, { mode: 0o600 });
  if (process.getuid() === 0) {
    const id = (flag) => Number(spawnSync('id', [flag, 'postgres']).stdout.toString());
    chownSync(file, id('-u'), id('-g'));
  }
  await db.query(`select set_config('supabase_pat.jwt_secret_file', $1, false)`, [file]);
  keep('a token by the secret in a file', await works(`select pat.sign_jwt('{}', '1 hour')`));
  await db.query(`select set_config('supabase_pat.jwt_secret_file', $1, false)`, [`${file}-that-is-missing`]);
  await fails(`select pat.sign_jwt('{}', '1 hour')`);
  await db.query(`create schema vault; create table vault.kept (name text, decrypted_secret text);
    create view vault.decrypted_secrets as select * from vault.kept`);
  await db.query(`insert into vault.kept values ('supabase_pat_jwt_secret', $1)`, [IN_VAULT]);
  keep('a token by the secret in Vault', await works(`select pat.sign_jwt('{}', '1 hour')`));
  await db.query('update vault.kept set decrypted_secret = $1', [keep('a short secret', 'too-short-for-it')]);
  await fails(`select pat.sign_jwt('{}', '1 hour')`);
  await db.query('drop schema vault cascade');
  await sleep(1500); // The writer has its turn.
}
