-- As in a project with PostgREST and roles of its own, which are created after the extension.
drop extension supabase_pat cascade;
drop schema auth cascade;
alter database test_pg_regress set supabase_pat.anon_role = 'web_anon';
alter database test_pg_regress set supabase_pat.authenticated_role = 'Web User';
alter database test_pg_regress set supabase_pat.service_role = 'admin';
\c
create extension supabase_pat;
select pat.install_auth_schema();
select pat.grant_api_roles();
insert into auth.users (id) values ('11111111-1111-1111-1111-111111111111');
call tests.request('Web User', '{"role": "Web User", "sub": "11111111-1111-1111-1111-111111111111"}');
select token as token from mint_pat(name => 'x') \gset
reset role;
select tests.claims(:'token') ->> 'role' as role;
call tests.use_token(:'token');
select current_user, is_valid_api_token(), (select count(*) from api_keys) as keys;
reset role;
call tests.request('admin', '{}');
select pat.is_trusted(), (select count(*) from api_keys) as keys;
reset role;
call tests.request('web_anon', '{}');
select pat.is_trusted(), is_valid_api_token();
select * from tests.error('select mint_pat()');
reset role;
-- The usual names mean nothing here.
call tests.request('service_role', '{}');
select pat.is_trusted();
select code from tests.error('select mint_pat()');
reset role;
drop owned by "Web User", admin, web_anon;
drop role "Web User", admin, web_anon;
