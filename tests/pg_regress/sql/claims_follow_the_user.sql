-- The present row of auth.users replaces what the token said when it was minted.
set supabase_pat.live_claims = on;
create role editor nologin;
grant editor to postgres;
grant usage on schema tests, auth to editor;
update auth.users set phone = '+15550100', raw_app_meta_data = '{"plan": "pro", "n": 1.50}', raw_user_meta_data = '{"name": "Alice \"A\" O''Neil"}'
where email = 'alice@example.com';
call tests.log_in('alice');
select id as id from mint_pat(name => 'jwt', scopes => '{todos:read}') \gset
select token as opaque from mint_pat(name => 'opaque', kind => 'opaque') \gset
call tests.request('authenticated', jsonb_build_object('aud', 'authenticated', 'role', 'authenticated', 'sub', '11111111-1111-1111-1111-111111111111',
    'type', 'personal_access_token', 'jti', :'id', 'scope', 'todos:read', 'app_metadata', '{"plan": "free"}'::jsonb));
begin;
select code, role from tests.pass();
select jsonb_pretty(auth.jwt() - 'jti');
select auth.email(), auth.jwt() #>> '{app_metadata,plan}' as plan, auth.jwt() #>> '{user_metadata,name}' as name, is_valid_api_token();
commit;
-- The same with an opaque token.
call tests.request('anon', '{"role": "anon"}');
\set headers '{"x-api-key": "' :opaque '"}'
begin;
select code, role, uid from tests.pass(headers => :'headers');
select auth.email(), auth.jwt() #>> '{app_metadata,plan}' as plan, is_valid_api_token();
commit;
-- The next request has what has changed.
reset role;
update auth.users set raw_app_meta_data = '{"plan": "none"}', email = null, phone = null, role = 'editor' where email = 'alice@example.com';
call tests.request('anon', '{"role": "anon"}');
begin;
select code, role from tests.pass(headers => :'headers');
select auth.role(), auth.email(), auth.jwt() #>> '{app_metadata,plan}' as plan;
commit;
-- A token never has a trusted role, even if the row of its user names one.
reset role;
update auth.users set role = 'service_role' where id = '11111111-1111-1111-1111-111111111111';
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass(headers => :'headers');
reset role;
update auth.users set role = 'authenticator' where id = '11111111-1111-1111-1111-111111111111';
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass(headers => :'headers');
reset role;
update auth.users set role = 'none' where id = '11111111-1111-1111-1111-111111111111';
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass(headers => :'headers');
reset role;
update auth.users set role = 'there_is_none' where id = '11111111-1111-1111-1111-111111111111';
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass(headers => :'headers');
-- Logins keep the claims that they were given, and so do tokens when the setting is off.
reset role;
update auth.users set role = 'editor' where id = '11111111-1111-1111-1111-111111111111';
call tests.request('authenticated', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "email": "old@example.com"}');
begin;
select code, role from tests.pass();
select auth.email();
commit;
reset role;
set supabase_pat.live_claims = off;
call tests.request('anon', '{"role": "anon"}');
select code, role from tests.pass(headers => :'headers');
reset role;
drop owned by editor;
drop role editor;
