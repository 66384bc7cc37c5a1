// A call of every function, for what must hold of all of them: that they keep no memory, end when they are told
// to, and leave nothing behind when a session is killed.
import { ALICE, BOB } from './fixture.mjs';

const SECRET = 'the-jwt-secret-of-the-robustness-tests-32-bytes-and-more';
/** The password of a test vector of bcrypt with cost 5, which takes 2 ms where cost 10 takes 50. */
const PASSWORD = 'U*U';
const HASH = '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW';

/** So many that none of them is sent too many codes within an hour, however fast the machine is. */
const READERS = 1000;

export const SETTINGS = {
  // The compiler is 10 MiB that a session loads with the first statement that is long enough.
  jit: 'off',
  shared_preload_libraries: 'supabase_pat',
  'supabase_pat.jwt_secret': SECRET,
  'supabase_pat.enable_sign_in': 'on',
  'supabase_pat.enable_sign_up': 'on',
  'supabase_pat.enable_leak_reports': 'on',
  'supabase_pat.max_keys_per_user': 1000000,
  'supabase_pat.service_account_manager': 'pat.created_service_account',
  'supabase_pat.reset_requests_per_hour': 1000,
};

/** Puts users, keys and settings into a database, and returns the tokens that calls are made with. */
export function prepare(cluster) {
  const value = (sql) => cluster.psql('postgres', sql);
  value(`
    create extension supabase_pat;
    select pat.install_auth_schema();
    insert into auth.users (id, email, encrypted_password, email_confirmed_at) values
      ('${ALICE}', 'alice@example.com', '${HASH}', now()), ('${BOB}', 'bob@example.com', '${HASH}', now());
    insert into auth.users (id, email) select gen_random_uuid(), 'reader' || n || '@example.com' from generate_series(0, ${READERS - 1}) as n;
    select pat.add_signing_key('ES256', kid => 'es'), pat.add_signing_key('HS256', kid => 'hs'),
      pat.add_signing_key('EdDSA', kid => 'ed'), pat.add_signing_key('RS256', kid => 'rs');
    select pat.define_key_attribute('project', '{"type": "array"}');
    select pat.define_setting('temperature', '0.7', '{"type": "number", "minimum": 0, "maximum": 2}');
    select pat.define_setting('editor', '{"theme": "light", "font": {"size": 12}}', '{"type": "object"}');
    insert into pat.user_settings (user_id, settings) values ('${ALICE}', '{"temperature": 1.1, "editor": {"theme": "dark"}}');
  `);
  const mint = (rest = '') => value(`select token from mint_pat('${ALICE}', 'robust' ${rest})`);
  const kill = (token) => value(`select pat.deny_token('${token}')`) || token;
  const claims = (token) => value(`select (pat.decode_jwt('${token}')).payload`);
  const account = value(`select create_service_account('robust')`);
  value(`select mint_pat('${account}', 'robust')`);
  const [token, dead] = [mint(`, attributes => '{"project": ["p1", "p2"]}'`), mint()];
  // Its claims alone have scopes, so that it counts without the gate.
  const scoped = value(`select pat.sign_jwt((pat.decode_jwt('${mint()}')).payload || '{"scope": "todos:read"}', '1 day')`);
  const opaque = mint(", kind => 'opaque'");
  const deadOpaque = kill(mint(", kind => 'opaque'"));
  value(`select revoke_pat(((pat.decode_jwt('${dead}')).payload ->> 'jti')::uuid)`);
  const login = value(`select access_token from pat.mint_session('${ALICE}')`);
  // So that tables stay as small as they are: what is kept of them would grow with them.
  value(`
    create function tidy(result text) returns text language plpgsql security definer as $$
      begin
        delete from auth.sessions where id <> '${JSON.parse(claims(login)).session_id}';
        delete from pat.signing_keys where kid not in ('es', 'hs', 'ed', 'rs');
        delete from pat.outbox;
        delete from pat.notices;
        delete from pat.code_attempts;
        delete from pat.setting_definitions where key = 'passing';
        delete from pat.key_attributes where name <> 'project';
        -- Each minting counts those of its user.
        delete from pat.api_keys where name = 'passing';
        return result;
      end
    $$`);
  return {
    token, scoped, dead, opaque, deadOpaque, login, account,
    serviceKey: value("select pat.mint_api_key('service_role')"),
    claims: { token: claims(token), scoped: claims(scoped), dead: claims(dead), login: claims(login) },
  };
}

/** The calls, as expressions in which `i` is a number that is another one in each call.
 * - `role`, `settings`: those of the session
 * - `takes`: about how many microseconds
 * - `sorts`: so many KiB it takes for a moment, however often it is called
 * - `raises`: it ends with an error
 * - `writes`: it leaves something behind; `tidied`: that is cleared away where it is called often */
export function calls(tokens) {
  const { claims } = tokens;
  const text = (value) => `coalesce(nullif('${value}', i::text), '')`;
  const json = (value) => `${text(value)}::jsonb`;
  const as = (role, payload, rest = {}) => ({ role, settings: { 'request.jwt.claims': payload }, ...rest });
  const token = as('authenticated', claims.token);
  const login = as('authenticated', claims.login);
  const service = as('service_role', '{"role": "service_role"}');
  const anon = as('anon', '{"role": "anon"}');
  const request = (base, headers = {}, path = '/todos') => ({
    ...base,
    settings: { ...base.settings, 'request.method': 'GET', 'request.path': path, 'request.headers': JSON.stringify(headers) },
  });
  const list = [];
  const call = (name, sql, who, more = {}) => list.push({ name, sql, takes: 3, ...who, ...more });

  call('is_valid_api_token, token', 'is_valid_api_token()', token);
  call('is_valid_api_token, login', 'is_valid_api_token()', login);
  // What is kept of a token for the next statement of its request is of no use to that of another one.
  const another = (sql) => `set_config('request.jwt.claims', (array['${claims.token}', '${claims.scoped}'])[i % 2 + 1], false) is not null and ${sql}`;
  call('is_valid_api_token, after another request', another('is_valid_api_token()'), token, { takes: 20 });
  call('all that policies ask, after another request', another(
    "(pat.uid() is null or has_scope('todos:read') or is_active_session() or api_key_allows('project', 'p' || i) or api_key_attribute('project') is null)",
  ), token, { takes: 30 });
  call('pat.uid', 'pat.uid()', token);
  call('pat.auth_uid, auth_role, auth_email', 'row(pat.auth_uid(), pat.auth_role(), pat.auth_email())', token, { takes: 6 });
  call('pat.auth_jwt', 'pat.auth_jwt()', token, { takes: 6 });
  call('has_scope', `has_scope(${text('todos:read')})`, token);
  call('has_scope, of a token that nobody has judged', `has_scope(${text('todos:read')})`, as('authenticated', claims.scoped));
  call('current_api_key_id', 'current_api_key_id()', token);
  call('is_active_session, login', 'is_active_session()', login);
  call('is_active_session, token', 'is_active_session()', token);
  call('session_info', 'session_info()', login);
  call('pat.is_trusted', 'pat.is_trusted()', token);
  call('get_settings', 'get_settings()', login, { takes: 6 });
  call('setting_definitions', 'setting_definitions()', login, { takes: 12 });
  call('get_settings, overridden', `get_settings(${json('{"temperature": 1}')})`, login, { takes: 9 });
  call('signed_in_user', 'signed_in_user()', login, { takes: 60 });

  call('pat.gate, anon', 'pat.gate()', request(anon));
  call('pat.gate, login', 'pat.gate()', request(login));
  call('pat.gate, service_role', 'pat.gate()', request(service));
  call('pat.gate, JWT', 'pat.gate()', request(token));
  call('pat.gate, JWT, live claims', 'pat.gate()', request({ ...token, settings: { ...token.settings, 'supabase_pat.live_claims': 'on' } }), { takes: 30 });
  call('pat.gate, opaque token', 'pat.gate()', request(anon, { 'x-api-key': tokens.opaque }), { takes: 12 });
  call('pat.gate, refused: revoked', 'pat.gate()', request(as('authenticated', claims.dead)), { raises: true, takes: 12 });
  call('pat.gate, refused: opaque, revoked', 'pat.gate()', request(anon, { 'x-api-key': tokens.deadOpaque }), { raises: true, takes: 12 });
  call('pat.gate, refused: scope', 'pat.gate()', request(as('authenticated', claims.scoped), {}, '/notes'), { raises: true, takes: 12 });
  call('pat.gate, refused: malformed', 'pat.gate()', request(as('authenticated', '{"type": "personal_access_token"}')), { raises: true, takes: 12 });

  call('pat.sign_jwt', `pat.sign_jwt(${json('{"sub": "x", "n": 1}')}, '1 hour')`, service, { takes: 6 });
  call('pat.verify_jwt', `pat.verify_jwt(${text(tokens.login)})`, service, { takes: 9 });
  call('pat.verify_jwt, refused', `pat.verify_jwt(${text(`${tokens.login}x`)})`, service, { raises: true, takes: 12 });
  call('pat.jwt_status, token', `pat.jwt_status(${text(tokens.token)})`, anon, { takes: 9 });
  call('pat.jwt_status, refused', `pat.jwt_status(${text(tokens.dead)})`, anon, { takes: 9 });
  call('pat.decode_jwt', `pat.decode_jwt(${text(tokens.token)})`, anon, { takes: 9 });
  call('pat.decode_jwt, refused', `pat.decode_jwt(${text('a.b.c')})`, anon, { raises: true, takes: 12 });
  call('pat.jwt_expires_in', `pat.jwt_expires_in(${text(tokens.token)})`, anon);
  call('pat.bearer_token', `pat.bearer_token(${text('Bearer abc')})`, anon, { takes: 1 });
  call('pat.jwks', 'pat.jwks()', anon, { takes: 15 });
  call('pat.inspect_api_key, JWT', `pat.inspect_api_key(${text(`"Bearer ${tokens.serviceKey}"`)})`, anon, { takes: 25 });
  call('pat.inspect_api_key, nonsense', `pat.inspect_api_key(${text('sb_secret_abc')})`, anon, { takes: 12 });
  call('api_key_allows', `api_key_allows(${text('project')}, 'p' || i)`, token, { takes: 2 });
  call('api_key_allows, uuid', `api_key_allows(${text('project')}, '${ALICE}'::uuid)`, token, { takes: 2 });
  call('api_key_attribute', `api_key_attribute(${text('project')})`, token, { takes: 3 });
  call('current_api_key', 'current_api_key()', token, { takes: 60 });
  call('pat.metrics', '(select count(*) from pat.metrics())', service, { takes: 900, sorts: 4096 });
  call('pat.usage_totals', `(select count(*) from pat.usage_totals((30 + i % 2)::int))`, service, { takes: 400 });
  call('pat.usage_by_token', `(select count(*) from pat.usage_by_token((30 + i % 2)::int))`, service, { takes: 400 });
  call('pat.usage_by_user', `(select count(*) from pat.usage_by_user((30 + i % 2)::int))`, service, { takes: 400 });
  call('pat.usage_by_user, refused', `(select count(*) from pat.usage_by_user(order_by => ${text('name')}))`, service, { raises: true, takes: 12 });
  call('pat.status', '(select count(*) from pat.status())', service, { takes: 9000, sorts: 8192 });
  call('pat.explain_access', `(select count(*) from pat.explain_access(${text(JSON.parse(claims.token).jti)}::uuid, ${text('select * from auth.users, api_keys')}))`, service, { takes: 120 });
  call('pat.explain_access, refused', `(select count(*) from pat.explain_access(${text(JSON.parse(claims.token).jti)}::uuid, ${text('select frm')}))`, service, { raises: true, takes: 60 });
  call('introspect_token, JWT', `introspect_token(${text(tokens.scoped)}, 'todos:read')`, service, { takes: 12 });
  call('introspect_token, opaque', `introspect_token(${text(tokens.opaque)})`, service, { takes: 12 });
  call('introspect_token, login', `introspect_token(${text(tokens.login)})`, service, { takes: 12 });
  call('introspect_token, inactive', `introspect_token(${text(tokens.dead)})`, service, { takes: 12 });
  call('is_service_account', 'is_service_account()', token);
  call('pat.manages_service_account', `pat.manages_service_account(${text(tokens.account)}::uuid)`, login, { takes: 9 });
  call('pat.created_service_account', `pat.created_service_account(${text(tokens.account)}::uuid)`, login);
  call('service_account_tokens', `(select count(*) from service_account_tokens(${text(tokens.account)}::uuid))`, service, { takes: 120 });
  call('service_account_tokens, of others', `(select count(*) from service_account_tokens(${text(tokens.account)}::uuid))`, login, { raises: true, takes: 30 });
  call('pat.service_account_problem', 'pat.service_account_problem()', service, { takes: 300, sorts: 2048 });
  call('exchange_token', "exchange_token(scopes => '{todos:read}')", token, { takes: 15 });
  call('exchange_token, refused', "exchange_token('2 hours')", token, { raises: true, takes: 12 });
  call('pat.mint_api_key', `pat.mint_api_key(${text('anon')})`, service, { takes: 6 });

  call('pat.sign', `pat.sign(${text('{"a": 1}')}::json, 'secret')`, anon, { takes: 4 });
  call('pat.algorithm_sign', `pat.algorithm_sign(${text('abc')}, 'secret', 'HS512')`, anon, { takes: 4 });
  call('pat.verify', `(select valid from pat.verify(${text(tokens.token)}, 'secret'))`, anon, { takes: 15 });
  call('pat.url_encode', `pat.url_encode(${text('abc')}::bytea)`, anon, { takes: 1 });
  call('pat.url_decode', `pat.url_decode(${text('YWJj')})`, anon, { takes: 1 });
  call('pat.url_decode, refused', `pat.url_decode(${text('!')})`, anon, { raises: true, takes: 9 });
  call('has_scope, refused', `has_scope(${text('todos')})`, token, { raises: true, takes: 9 });
  call('get_settings, refused', `get_settings(${json('{"temperature": "hot"}')})`, login, { raises: true, takes: 15 });

  const writes = (name, sql, who, more = {}) => call(name, sql, who, { writes: true, takes: 200, ...more });
  // Indexes keep what was deleted until somebody vacuums, and each minting goes through that: so not too often.
  writes('mint_pat, revoke_pat', "revoke_pat((mint_pat(name => 'passing')).id)", login, { tidied: true, takes: 3000 });
  writes('mint_pat, opaque', "(mint_pat(name => 'passing', kind => 'opaque', allowed_ips => '{10.0.0.0/8}', rate_limit => 9)).id", login, { tidied: true, takes: 3000 });
  writes('pat.import_token', `pat.import_token('${ALICE}', 'passing', encode(sha256(i::text::bytea), 'hex'))`, service, { tidied: true, takes: 3000 });
  call('pat.import_token, refused', `pat.import_token('${ALICE}', 'robust', 'no digest')`, service, { raises: true, takes: 12 });
  call('mint_pat, refused', "mint_pat(name => 'robust', scopes => '{x}')", login, { raises: true, takes: 12 });
  writes('rotate_pat', "(rotate_pat((mint_pat(name => 'passing', expires_in => '1 hour')).id)).id", login, { tidied: true, takes: 3000 });
  call('revoke_pat, none', `revoke_pat('${BOB}')`, login, { takes: 50 });
  call('revoke_all_pats, none', `revoke_all_pats('${BOB}')`, service, { takes: 50 });
  writes('pat.mint_session, refresh_session', `(refresh_session((pat.mint_session('${ALICE}')).refresh_token)).token_type`, service, { tidied: true, takes: 900 });
  call('refresh_session, refused', `refresh_session(${text('AQID')})`, anon, { takes: 20 });
  call('sign_out', "sign_out('others')", login, { takes: 80 });
  writes('sign_in', `(sign_in('bob@example.com', '${PASSWORD}')).token_type`, anon, { tidied: true, takes: 3000 });
  writes('sign_in, nobody', "(sign_in('nobody' || i % 10 || '@example.com', 'x')).token_type", anon, { takes: 900 });
  writes('sign_up', "(sign_up(gen_random_uuid() || '@example.com', 'correct horse')).confirmation_token", anon, { tidied: true, takes: 60000 });
  writes('request_password_reset', "request_password_reset('alice@example.com')", anon, { tidied: true, takes: 400 });
  writes('pat.issue_reset_code, verify_reset_code', `(select verify_reset_code(token, code)::text || verify_reset_code(token, '0') from pat.issue_reset_code('reader' || floor(random() * ${READERS}) || '@example.com'))`, service, { tidied: true, takes: 500 });
  writes('verify_reset_code, wrong', "verify_reset_code(request_password_reset('nobody@example.com'), '0')::text", anon, { tidied: true, takes: 900 });
  writes('confirm_sign_up, wrong', "confirm_sign_up(request_password_reset('nobody@example.com'), '0')::text", anon, { tidied: true, takes: 900 });
  writes('reset_password, wrong', "reset_password(request_password_reset('nobody@example.com'), '0', 'correct horse')::text", anon, { tidied: true, takes: 900 });
  writes('outbox', "(request_password_reset('alice@example.com'), (select count(pat.message_sent(id)) from pat.claim_messages(5)))", service, { takes: 400 });
  writes('notices', `(revoke_pat((mint_pat(user_id => '${BOB}', name => 'passing')).id), (select count(pat.notice_sent(id)) from pat.claim_notices(5)))`, service, { tidied: true, takes: 900 });
  writes('set_settings', "set_settings(jsonb_build_object('temperature', i % 3))", login, { takes: 100 });
  call('set_settings, refused', "set_settings('{\"temperature\": 3}')", login, { raises: true, takes: 100 });
  writes('pat.define_setting', "pat.define_setting('passing', to_jsonb(i), '{\"type\": \"number\"}')::text", service, { tidied: true, takes: 900 });
  call('pat.define_setting, refused', "pat.define_setting('passing', '1', '{\"type\": 1}')", service, { raises: true, takes: 300 });
  writes('create_service_account, delete_service_account', "delete_service_account(create_service_account('passing', i::text))", login, { takes: 900 });
  call('create_service_account, refused', "create_service_account(' ')", login, { raises: true, takes: 60 });
  call('delete_service_account, of others', `delete_service_account(${text(tokens.account)}::uuid)`, login, { takes: 30 });
  writes('edit_pat', `edit_pat(${text(JSON.parse(claims.token).jti)}::uuid, description => i::text)::text`, login, { takes: 200 });
  call('edit_pat, refused', `edit_pat(${text(JSON.parse(claims.token).jti)}::uuid, scopes => '{tokens:write}')::text`, login, { raises: true, takes: 60 });
  writes('pat.define_key_attribute', `pat.drop_key_attribute(coalesce(pat.define_key_attribute('a' || i)::text, 'a') || i)::text`, service, { tidied: true, takes: 300 });
  writes('pat.deny_token', "pat.deny_token(pat.sign_jwt(jsonb_build_object('n', i % 100), '-2 days'))::text", service, { takes: 900 });
  call('report_leaked_tokens, none live', `report_leaked_tokens(array[${text(tokens.dead)}, ${text(tokens.deadOpaque)}, i::text])`, service, { takes: 60 });
  writes('report_leaked_tokens', "report_leaked_tokens(array[(mint_pat(user_id => '" + BOB + "', name => 'passing', kind => 'opaque')).token], 'here')", service, { tidied: true, takes: 500 });
  writes('pat.add_signing_key, revoke_signing_key', "pat.revoke_signing_key(pat.add_signing_key('HS256'))::text", service, { tidied: true, takes: 900 });
  writes('pat.rotate_signing_key', "pat.rotate_signing_key((array['es', 'hs', 'ed', 'rs'])[i % 4 + 1])::text", service, { takes: 900 });
  call('pat.import_signing_key, refused', "pat.import_signing_key('{\"kty\": \"EC\"}')", service, { raises: true, takes: 30 });
  return list;
}

/** Makes a session the one that a call wants. */
export async function become(client, { role, settings }) {
  await client.query('reset role');
  for (const [name, value] of Object.entries(settings)) await client.query('select set_config($1, $2, false)', [name, value]);
  await client.query(`set role ${role}`);
}

/** A block that makes a call so many times: in one transaction, or in one for each. */
export function loop(call, count, { commit = false } = {}) {
  const { raises } = call;
  const sql = call.tidied ? `tidy((${call.sql})::text)` : call.sql;
  const perform = raises ? `begin perform ${sql}; exception when others then raised := raised + 1; end;` : `perform ${sql};`;
  return `do $do$ declare raised int := 0; begin
    for i in 1..${count} loop ${perform} ${commit ? 'commit;' : ''} end loop;
    if raised <> ${raises ? count : 0} then raise 'refused % times', raised; end if;
  end $do$`;
}
