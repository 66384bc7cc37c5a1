// A hot standby, which is how reads are spread: checks answer there as on the primary, a revocation arrives with its
// WAL, writes say that they cannot, and after a promotion everything goes on.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { RestServer } from '../cluster/cluster.mjs';
import { ALICE, SECRET } from './fixture.mjs';
import { ask, body, eventually, open, titlesOf } from './gate_world.mjs';

let world;
let standby;
/** Connections that stay open, so that what a backend remembers is asked too. */
let here;
let there;
before(async () => {
  world = await open({ settings: { 'supabase_pat.enable_sign_in': 'on', 'supabase_pat.enable_sign_up': 'on', 'supabase_pat.enable_leak_reports': 'on' } });
  world.cluster.psql('postgres', `select pat.add_signing_key('ES256', kid => 'one'), pat.rotate_signing_key('one');
    select pat.define_setting('theme', '"light"')`);
  standby = await world.cluster.standby();
  here = await world.cluster.connect('postgres');
  there = await standby.connect('postgres');
  await caughtUp();
});
after(async () => {
  await here.end();
  await there.end();
  world.cluster.configure({ synchronous_standby_names: '' });
  world.cluster.psql('postgres', 'select pg_reload_conf()');
  standby.stop();
  await world.close();
});

const caughtUp = () => world.cluster.caughtUp(standby);

const claimsOf = (jwt) => JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'));

/** Runs a query as the REST server does for a request with these claims. */
async function asRequest(client, claims, sql, { role = claims?.role, headers = {} } = {}) {
  await client.query('begin');
  try {
    await client.query(`select set_config('request.jwt.claims', $1, true), set_config('request.headers', $2, true),
      set_config('request.method', 'GET', true), set_config('request.path', '/todos', true)`,
    [claims ? JSON.stringify(claims) : '', JSON.stringify(headers)]);
    if (role) await client.query(`set local role ${role}`);
    return (await client.query(sql)).rows;
  } finally {
    await client.query('rollback');
  }
}

const isValid = async (client, claims) => (await asRequest(client, claims, 'select is_valid_api_token() as ok'))[0].ok;
const isActive = async (client, claims) => (await asRequest(client, claims, 'select is_active_session() as ok'))[0].ok;
const passes = async (client, claims, headers) => {
  try {
    await asRequest(client, claims, 'select pat.gate()', { headers });
    return true;
  } catch (error) {
    assert.match(error.code, /^PT401$/, error.message);
    return false;
  }
};

// Every function of the extension stands in one of these two. Arguments refer to what `samples` makes.
const READS = {
  'pat.reset_code_digits': 'pat.reset_code_digits()',
  'pat.uid': 'pat.uid()',
  'pat.auth_uid': 'pat.auth_uid()',
  'pat.auth_role': 'pat.auth_role()',
  'pat.auth_email': 'pat.auth_email()',
  'pat.auth_jwt': 'pat.auth_jwt()',
  api_key_allows: `api_key_allows('project', 'p1')`,
  api_key_attribute: `api_key_attribute('project')`,
  current_api_key: `current_api_key() - 'created_at' - 'expires_at'`,
  'pat.auth_function_problem': `pat.auth_function_problem('uid')`,
  is_valid_api_token: 'is_valid_api_token()',
  'pat.algorithm_sign': `pat.algorithm_sign('{}', 'a secret', 'HS256')`,
  'pat.bearer_token': `pat.bearer_token('Bearer abc')`,
  'pat.decode_jwt': `pat.decode_jwt(:jwt)`,
  'pat.inspect_api_key': `pat.inspect_api_key(:jwt)`,
  'pat.is_trusted': 'pat.is_trusted()',
  'pat.jwks': 'pat.jwks()',
  'pat.jwks_for_verifier': 'pat.jwks_for_verifier()',
  'pat.jwt_expires_in': `pat.jwt_expires_in(:jwt) > '1 minute'`,
  'pat.jwt_status': 'pat.jwt_status(:jwt)',
  'pat.mint_api_key': `pat.decode_jwt(pat.mint_api_key('anon')) is not null`,
  'pat.secret_problem': 'pat.secret_problem()',
  'pat.service_account_problem': 'pat.service_account_problem()',
  'pat.manages_service_account': 'pat.manages_service_account(:account)',
  'pat.created_service_account': 'pat.created_service_account(:account)',
  is_service_account: 'is_service_account()',
  service_account_tokens: '(select jsonb_agg(t) from service_account_tokens(:account) t)',
  'pat.server_state': '(pat.server_state()).signing_key',
  'pat.metrics': `(select jsonb_agg(m) from pat.metrics() m where name in ('supabase_pat_signing_keys', 'supabase_pat_denied_tokens'))`,
  // Days that are over, since the worker counts the requests of the present one meanwhile.
  'pat.usage_totals': '(select jsonb_agg(t) from pat.usage_totals(3, current_date - 1) t)',
  'pat.usage_by_token': '(select jsonb_agg(t) from pat.usage_by_token(3, current_date - 1) t)',
  'pat.usage_by_user': '(select jsonb_agg(u) from pat.usage_by_user(3, current_date - 1) u)',
  'pat.sign': `pat.sign('{}', 'a secret')`,
  'pat.sign_jwt': `pat.jwt_status(pat.sign_jwt('{"sub": "x"}', '1 minute'))`,
  'pat.take_password_hash': 'pat.take_password_hash()',
  'pat.take_private_jwk': 'pat.take_private_jwk()',
  'pat.url_decode': `pat.url_decode('YWJj')`,
  'pat.url_encode': `pat.url_encode('abc')`,
  'pat.verify': `(select valid from pat.verify(:jwt, 'a secret'))`,
  'pat.verify_jwt': 'pat.verify_jwt(:jwt)',
  'pat.gate': 'pat.gate()',
  'pat.explain_access': `(select jsonb_agg(e) from pat.explain_access(:key, 'select from auth.users, pat.events') e)`,
  introspect_token: 'introspect_token(:jwt)',
  exchange_token: '(exchange_token()).expires_in',
  signed_in_user: 'signed_in_user()',
  is_active_session: 'is_active_session()',
  current_api_key_id: 'current_api_key_id()',
  get_settings: 'get_settings()',
  setting_definitions: 'setting_definitions()',
  has_scope: `has_scope('todos:read')`,
  'pat.status': `(select jsonb_agg(s) from pat.status() s where "check" in ('grants', 'signing key', 'users', 'roles'))`,
  session_info: '(session_info()).user_id',
};
const WRITES = {
  'pat.install_auth_schema': 'pat.install_auth_schema()',
  'pat.record_initial_privileges': `pat.record_initial_privileges('pg_proc'::regclass, 'mint_pat'::regproc)`,
  'pat.add_signing_key': 'pat.add_signing_key()',
  'pat.claim_messages': 'pat.claim_messages()',
  'pat.claim_notices': 'pat.claim_notices()',
  'pat.notice_failed': `pat.notice_failed(1000000, 'x')`,
  'pat.notice_sent': 'pat.notice_sent(1000000)',
  'pat.define_setting': `pat.define_setting('x', '1')`,
  'pat.define_key_attribute': `pat.define_key_attribute('project')`,
  'pat.drop_key_attribute': `pat.drop_key_attribute('project')`,
  edit_pat: `edit_pat(:key, name => 'x')`,
  'pat.deny_token': 'pat.deny_token(:jwt)',
  'pat.drop_setting': `pat.drop_setting('theme')`,
  'pat.import_signing_key': `pat.import_signing_key('{"kty": "oct", "alg": "HS256", "k": "${Buffer.alloc(32, 7).toString('base64url')}"}')`,
  'pat.import_token': `pat.import_token(:alice, 'x', encode(sha256('a key'), 'hex'))`,
  'pat.issue_reset_code': `pat.issue_reset_code('alice@example.com')`,
  'pat.message_failed': `pat.message_failed(gen_random_uuid(), 'x')`,
  'pat.message_sent': 'pat.message_sent(gen_random_uuid())',
  'pat.mint_session': 'pat.mint_session(:alice)',
  'pat.revoke_signing_key': `pat.revoke_signing_key('two')`,
  'pat.rotate_signing_key': `pat.rotate_signing_key('two')`,
  create_service_account: `create_service_account('x')`,
  delete_service_account: 'delete_service_account(:account)',
  mint_pat: `mint_pat(:alice, 'x')`,
  rotate_pat: 'rotate_pat(:key)',
  revoke_pat: 'revoke_pat(:key)',
  revoke_all_pats: 'revoke_all_pats(:alice)',
  report_leaked_tokens: 'report_leaked_tokens(array[:jwt])',
  sign_up: `sign_up('new@example.com', 'correct horse')`,
  confirm_sign_up: `confirm_sign_up(:reset_token, :code)`,
  sign_in: `sign_in('alice@example.com', 'battery staple')`,
  refresh_session: 'refresh_session(:refresh_token)',
  sign_out: 'sign_out()',
  request_password_reset: `request_password_reset('alice@example.com')`,
  verify_reset_code: 'verify_reset_code(:reset_token, :code)',
  reset_password: `reset_password(:reset_token, :code, 'correct horse')`,
  set_settings: `set_settings('{"theme": "dark"}')`,
  'pat.grant_api_roles': 'pat.grant_api_roles()',
};

/** What the calls above need, made on the primary. */
async function samples() {
  const key = await world.mint(ALICE);
  const { rows: [session] } = await here.query('select * from pat.mint_session($1)', [ALICE]);
  const { rows: [reset] } = await here.query(`select * from pat.issue_reset_code('alice@example.com')`);
  await here.query(`select pat.add_signing_key('ES256', kid => 'two') where not exists (select from pat.signing_keys where kid = 'two')`);
  const { rows: [{ account }] } = await here.query(`select create_service_account('ci') as account`);
  await here.query(`select mint_pat($1, 'deploy')`, [account]);
  await here.query('insert into pat.api_key_days values (current_date - 2, $1, $2, 20, 1)', [key.id, ALICE]);
  await caughtUp();
  const values = { jwt: key.token, key: key.id, alice: ALICE, account, refresh_token: session.refresh_token, reset_token: reset.token, code: reset.code };
  return {
    tokenClaims: claimsOf(key.token),
    sessionClaims: claimsOf(session.access_token),
    fill: (call) => call.replace(/:([a-z_]+)\b/g, (whole, name) => (values[name] ? `'${values[name]}'` : whole)),
  };
}

test('each function answers on a standby as on the primary, or says that it writes', async () => {
  const { rows } = await here.query(`select case when pronamespace = 'pat'::regnamespace then 'pat.' else '' end || proname as name
    from pg_proc p join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
      join pg_extension e on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and extname = 'supabase_pat'
    where prorettype <> 'trigger'::regtype`);
  assert.deepEqual([...new Set(rows.map((row) => row.name))].sort(), [...Object.keys(READS), ...Object.keys(WRITES)].sort());

  const { fill, tokenClaims, sessionClaims } = await samples();
  for (const [who, claims, role] of [['a token', tokenClaims], ['a login', sessionClaims], ['service_role', { role: 'service_role' }], ['a superuser', undefined, 'postgres']]) {
    for (const [name, call] of Object.entries(READS)) {
      const answer = async (client) => {
        try {
          return await asRequest(client, claims, `select ${fill(call)} as answer`, { role });
        } catch (error) {
          return error.message;
        }
      };
      const [onPrimary, onStandby] = [await answer(here), await answer(there)];
      assert.deepEqual(onStandby, onPrimary, `${name} for ${who}`);
      // Only a token can be exchanged.
      if (who === (name === 'exchange_token' ? 'a token' : 'a superuser')) assert.ok(Array.isArray(onStandby), `${name}: ${onStandby}`);
    }
  }
  for (const [name, call] of Object.entries(WRITES)) {
    const claims = { set_settings: sessionClaims, sign_out: sessionClaims }[name];
    await assert.rejects(
      asRequest(there, claims, `select ${fill(call)}`, { role: claims ? 'authenticated' : 'postgres' }),
      (error) => {
        // There is an auth schema, which it says first.
        if (name === 'pat.install_auth_schema') return error.code === '42P07';
        assert.equal(error.code, '25006', `${name}: ${error.message}`);
        assert.match(error.message, /read-only transaction|during recovery/, name);
        return true;
      },
    );
  }
});

test('policies, views and parallel scans work on a standby', async () => {
  const { tokenClaims } = await samples();
  const rows = (client, sql) => asRequest(client, tokenClaims, sql);
  for (const sql of [
    'select title from todos order by id',
    'select id, name, hint, is_active from api_keys order by id',
    'select event, key_id from api_key_events order by happened_at, key_id',
    'select key_id, day, requests from api_key_daily_usage order by day, key_id',
    `select count(*) from todos where is_valid_api_token() and has_scope('todos:read')`,
  ]) assert.deepEqual(await rows(there, sql), await rows(here, sql), sql);
  const setting = Number(standby.psql('postgres', 'show server_version_num')) >= 160000 ? 'debug_parallel_query' : 'force_parallel_mode';
  await there.query(`set ${setting} = on`);
  assert.deepEqual(await rows(there, 'select title from todos order by id'), await rows(here, 'select title from todos order by id'));
  await there.query(`reset ${setting}`);
});

const ENDS = {
  revoke_pat: { end: ({ id }) => ['select revoke_pat($1)', [id]] },
  revoke_all_pats: { end: () => ['select revoke_all_pats($1)', [ALICE]] },
  rotate_pat: { end: ({ id }) => ['select rotate_pat($1)', [id]] },
  'delete from api_keys': { end: ({ id }) => ['delete from api_keys where id = $1', [id]] },
  'pat.deny_token of a personal access token': { end: ({ token }) => ['select pat.deny_token($1)', [token]] },
  'pat.deny_token': { kind: 'service key', end: ({ token }) => ['select pat.deny_token($1)', [token]] },
  'pat.revoke_signing_key': { kind: 'signing key', end: ({ kid }) => ['select pat.revoke_signing_key($1)', [kid]] },
  sign_out: { kind: 'session', as: 'user', end: () => [`select sign_out('global')`] },
  reset_password: { kind: 'session', end: ({ reset }) => ['select reset_password($1, $2, $3)', [reset.token, reset.code, `another password ${Math.random()}`]] },
  'refresh_session with an old token': { kind: 'session', end: ({ old }) => ['select refresh_session($1)', [old]] },
};

/** Something that is good, and how to ask whether it still is. */
async function something(kind) {
  if (kind === 'session') {
    const { rows: [session] } = await here.query('select * from pat.mint_session($1)', [ALICE]);
    const { rows: [reset] } = await here.query(`select * from pat.issue_reset_code('alice@example.com')`);
    let token = session.refresh_token;
    // Three on, an old one is no longer on its way.
    for (let turn = 0; turn < 3; turn += 1) {
      token = (await here.query('select refresh_token from refresh_session($1)', [token])).rows[0].refresh_token;
    }
    const claims = claimsOf(session.access_token);
    return { claims, reset, old: session.refresh_token, isGood: () => isActive(there, claims) };
  }
  if (kind === 'service key') {
    const token = await world.value(`select pat.mint_api_key('service_role', expires_in => make_interval(secs => 100000 + 1000 * random()))`);
    return { token, isGood: () => passes(there, claimsOf(token), { authorization: `Bearer ${token}` }) };
  }
  if (kind === 'signing key') {
    const kid = await world.value('select pat.add_signing_key()');
    await here.query('begin');
    await here.query('select pat.rotate_signing_key($1)', [kid]);
    const { rows: [{ token }] } = await here.query('select token from mint_pat($1, $2)', [ALICE, 'signed']);
    await here.query(`select pat.rotate_signing_key('one')`);
    await here.query('commit');
    return { kid, isGood: async () => (await asRequest(there, undefined, `select pat.jwt_status('${token}') as status`))[0].status === 'valid' };
  }
  const key = await world.mint(ALICE);
  return { ...key, isGood: () => isValid(there, claimsOf(key.token)) };
}

test('with remote_apply, whatever is revoked is dead on the standby by the time of the answer', async () => {
  // As slow as a standby far away, so that what is not waited for is seen.
  standby.configure({ recovery_min_apply_delay: '400ms' });
  standby.psql('postgres', 'select pg_reload_conf()');
  world.cluster.configure({ synchronous_standby_names: '*', 'supabase_pat.reset_requests_per_hour': 1000 });
  world.cluster.psql('postgres', 'select pg_reload_conf()');
  await eventually(() => world.cluster.psql('postgres', `select count(*) from pg_stat_replication where sync_state = 'sync'`) === '1');
  for (const level of ['local', 'remote_apply']) {
    await here.query(`set supabase_pat.revoke_synchronous_commit = ${level}`);
    for (const [way, { kind, as, end }] of Object.entries(ENDS)) {
      const it = await something(kind);
      await caughtUp();
      assert.equal(await it.isGood(), true, way);
      if (as === 'user') {
        await here.query(`select set_config('request.jwt.claims', $1, false)`, [JSON.stringify(it.claims)]);
        await here.query('set role authenticated');
      }
      await here.query(...end(it));
      const isGood = await it.isGood();
      if (as === 'user') await here.query(`reset role; reset "request.jwt.claims"`);
      assert.equal(isGood, level === 'local', `${way} with ${level}`);
      // It was for that transaction alone.
      assert.equal((await here.query('show synchronous_commit')).rows[0].synchronous_commit, 'on');
    }
  }
  const status = (check) => world.rows('select ok, detail from pat.status() where "check" = $1', [check]);
  await world.rows(`set supabase_pat.revoke_synchronous_commit = remote_apply`);
  assert.deepEqual(await status('revocation'), [{ ok: true, detail: 'waits for remote_apply of *' }]);
  await world.rows('reset supabase_pat.revoke_synchronous_commit');
});

test('a hundred revocations, each is seen at once by sessions of the standby that are open', async () => {
  standby.configure({ recovery_min_apply_delay: '0' });
  standby.psql('postgres', 'select pg_reload_conf()');
  await here.query('set supabase_pat.revoke_synchronous_commit = remote_apply');
  await here.query('set supabase_pat.max_keys_per_user = 1000');
  const { rows: keys } = await here.query(`select (key).id, (key).token
    from (select mint_pat($1, 'number ' || n) as key from generate_series(1, 100) n offset 0) minted`, [ALICE]);
  await caughtUp();
  const second = await standby.connect('postgres');
  for (const { id, token } of keys) {
    const claims = claimsOf(token);
    assert.deepEqual([await isValid(there, claims), await isValid(second, claims)], [true, true]);
    await here.query('select revoke_pat($1)', [id]);
    assert.deepEqual([await isValid(there, claims), await isValid(second, claims)], [false, false]);
  }
  await second.end();
  await here.query('reset supabase_pat.revoke_synchronous_commit');
});

for (const [least, session, then] of [
  ['local', 'remote_apply', 'remote_apply'],
  ['local', 'off', 'local'],
  ['remote_write', 'local', 'remote_write'],
  ['on', 'remote_write', 'on'],
  ['off', 'off', 'off'],
]) {
  test(`where a revocation waits for ${least} at the least and the session for ${session}, it waits for ${then}`, async () => {
    const { id } = await world.mint(ALICE);
    await here.query('begin');
    await here.query(`set local supabase_pat.revoke_synchronous_commit = ${least}`);
    await here.query(`set local synchronous_commit = ${session}`);
    assert.equal((await here.query('select revoke_pat($1) as done', [id])).rows[0].done, true);
    assert.equal((await here.query('show synchronous_commit')).rows[0].synchronous_commit, then);
    await here.query('rollback');
    assert.equal((await here.query('show synchronous_commit')).rows[0].synchronous_commit, 'on');
  });
}

test('a REST server on the standby serves reads, refuses what is revoked, and says that it cannot write', async () => {
  const rest = await RestServer.start(standby.url('postgres', 'authenticator', standby.password), SECRET, {
    env: { PGRST_DB_PRE_REQUEST: 'pat.gate' },
  });
  try {
    const asked = (method, path, options) => ask(rest.port, method, `/api${path}`, options);
    await here.query(`select pat.rotate_signing_key(kid) from pat.signing_keys where false; delete from pat.signing_keys`);
    for (const kind of ['jwt', 'opaque']) {
      const key = await world.mint(ALICE, { kind });
      await caughtUp();
      assert.deepEqual(titlesOf(await asked('GET', '/todos', key.send)), titlesOf(await world.ask('GET', '/todos', key.send)));
      const { data } = await asked('POST', '/rpc/whoami', { ...key.send, body: {} });
      assert.deepEqual(data, { role: 'authenticated', uid: ALICE, key: key.id, seen: null });
      for (const [method, path, sent] of [['POST', '/todos', { title: 'new' }], ['POST', '/rpc/revoke_pat', { id: key.id }]]) {
        const answer = await asked(method, path, { ...key.send, body: sent });
        assert.deepEqual([answer.status, answer.data.code], [405, '25006'], JSON.stringify(answer.data));
      }
      await here.query('select revoke_pat($1)', [key.id]);
      await caughtUp();
      const refused = await asked('GET', '/todos', key.send);
      assert.equal(refused.status, 401);
      assert.deepEqual(refused.data, body('PT401', 'the personal access token has been revoked', 'Ask for a new one.'));
    }
  } finally {
    rest.stop();
  }
});

test('after a promotion, the same sessions write, and tokens of before are good', async () => {
  const { id, token } = await world.mint(ALICE);
  await here.query(`set supabase_pat.notices = 'minted'; update auth.users set email_confirmed_at = now(); select mint_pat('${ALICE}', 'told before');
    reset supabase_pat.notices`);
  await caughtUp();
  assert.equal(await isValid(there, claimsOf(token)), true);
  standby.control('promote');
  assert.equal((await there.query('select revoke_pat($1) as done', [id])).rows[0].done, true);
  assert.equal(await isValid(there, claimsOf(token)), false);
  // What was to be told before is told by the one that is there now.
  assert.deepEqual((await there.query('select token_name, pat.notice_sent(id) as sent from pat.claim_notices()')).rows, [{ token_name: 'told before', sent: true }]);
  const { rows: [minted] } = await there.query(`select token from mint_pat($1, 'after')`, [ALICE]);
  assert.equal(await passes(there, claimsOf(minted.token)), true);
  await eventually(() => standby.psql('postgres', `select last_used_at from api_keys where name = 'after'`), 15);
  assert.equal(standby.psql('postgres', `select ok from pat.status() where "check" = 'worker'`), 't');
});
