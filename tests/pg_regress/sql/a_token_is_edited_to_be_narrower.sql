call tests.log_in('alice');
select token, id from mint_pat(name => 'deploy') \gset
select token as scoped, id as scoped_id from mint_pat(name => 'scoped', scopes => '{todos:*,notes:read}', allowed_ips => '{10.0.0.0/8}', rate_limit => 100) \gset

-- The user's lines.
select edit_pat(:'id', name => 'deploy of p1', description => 'Runs in CI.');
select name, description, is_active from api_keys where id = :'id';
select edit_pat(:'id', disabled => true);
select is_active, disabled_at is not null as disabled from api_keys where id = :'id';
call tests.use_token(:'token');
select is_valid_api_token(), has_scope('todos:read'), current_api_key(), count(*) from todos;
select code, error from tests.pass('GET', '/todos');
select edit_pat(:'id', disabled => false);
call tests.log_in('alice');
select code from tests.error(format('select rotate_pat(%L)', :'id'));
select edit_pat(:'id', disabled => false, description => '');
select name, description, is_active from api_keys where id = :'id';
call tests.use_token(:'token');
select is_valid_api_token();
select current_api_key() - 'id' - 'created_at' - 'expires_at' as current_api_key;

-- A JWT has its scopes in its claims. What its row has come to counts all the same.
call tests.log_in('alice');
select edit_pat(:'scoped_id', scopes => '{todos:read}', allowed_ips => '{10.1.0.0/16,10.2.0.0/16}', rate_limit => 50, expires_in => '1 day');
select scopes, allowed_ips, rate_limit, rate_window, expires_at < now() + '25 hours' as soon from api_keys where id = :'scoped_id';
reset role;
set supabase_pat.trusted_proxies = 1;
call tests.use_token(:'scoped');
begin;
select code, error from tests.pass('GET', '/todos', '{"x-forwarded-for": "10.1.2.3"}');
select has_scope('todos:read'), has_scope('todos:write'), has_scope('notes:read'), current_api_key() -> 'rate_limit' ->> 'remaining' as remaining;
commit;
select code, error from tests.pass('POST', '/todos', '{"x-forwarded-for": "10.1.2.3"}');
select code, error from tests.pass('GET', '/notes', '{"x-forwarded-for": "10.1.2.3"}');
select code, error from tests.pass('GET', '/todos', '{"x-forwarded-for": "10.3.0.1"}');

-- The attacker's: looser in any way, somebody else's, and with a token.
call tests.log_in('alice');
select edit_pat(:'scoped_id', scopes => '{todos:*}');
select edit_pat(:'scoped_id', scopes => '{*}');
select edit_pat(:'scoped_id', allowed_ips => '{10.0.0.0/8}');
select edit_pat(:'scoped_id', allowed_ips => '{10.1.0.0/16,::/0}');
select edit_pat(:'scoped_id', rate_limit => 51);
select edit_pat(:'scoped_id', rate_window => '1 second');
select edit_pat(:'scoped_id', expires_in => '2 days');
select edit_pat(:'scoped_id', rate_limit => 50, rate_window => '1 hour');
select rate_limit, rate_window from api_keys where id = :'scoped_id';
select edit_pat(:'id', scopes => '{tokens:write}');
call tests.log_in('bob');
select code from tests.error(format('select edit_pat(%L, name => ''mine'')', :'id'));
call tests.use_token(:'token');
select edit_pat(:'scoped_id', name => 'x');
-- Nor does a token with more rights bring one back that has more than itself.
call tests.log_in('alice');
select token as minter from mint_pat(name => 'minter', scopes => '{tokens:write,tokens:delete,notes:read}') \gset
select edit_pat(:'scoped_id', disabled => true);
begin;
call tests.use_judged_token(:'minter');
select edit_pat(:'scoped_id', disabled => false);
rollback;
select edit_pat(:'scoped_id', disabled => false);
call tests.use_token(:'token');
select edit_pat(:'id', name => 'x');
select edit_pat(:'id', scopes => '{todos:read}');
select is_valid_api_token();
call tests.log_in('alice');
select name, scopes from api_keys where id = :'id';

-- Nor does a login that may not mint one, whatever it may mint for itself.
select edit_pat(:'id', disabled => true);
call tests.request('authenticated', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "client_id": "an-app"}');
select edit_pat(:'id', disabled => false);
reset role;
set supabase_pat.mint_for_restricted_logins = on;
call tests.request('authenticated', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "client_id": "an-app"}');
select edit_pat(:'id', disabled => false);
reset role;
reset supabase_pat.mint_for_restricted_logins;
set supabase_pat.mint_requires_aal = 'aal2';
call tests.request('authenticated', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "aal": "aal1"}');
select edit_pat(:'id', disabled => false);
call tests.request('authenticated', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "aal": "aal2"}');
select edit_pat(:'id', disabled => false);
reset role;
reset supabase_pat.mint_requires_aal;
call tests.log_in('alice');

-- What cannot be.
select edit_pat(null);
select edit_pat('00000000-0000-0000-0000-000000000000', name => 'x');
select edit_pat(:'id', name => ' ');
select edit_pat(:'id', scopes => '{}');
select edit_pat(:'id', description => E'\x1b[2J');
select edit_pat(:'id');
begin read only;
select edit_pat(:'id', name => 'x');
rollback;
select revoke_pat(:'id');
select code from tests.error(format('select edit_pat(%L, disabled => false)', :'id'));
set role anon;
select edit_pat(:'id', name => 'x');
reset role;
set role service_role;
reset "request.jwt.claims";
select edit_pat(:'scoped_id', disabled => true);

-- Without an id a token revokes itself.
call tests.log_in('alice');
select revoke_pat();
select token from mint_pat(name => 'short') \gset
call tests.use_token(:'token');
select revoke_pat(), is_valid_api_token();
reset role;
select event, detail, role from pat.events where event in ('token_edited', 'token_disabled', 'token_enabled') order by id;
