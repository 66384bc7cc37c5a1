-- A new installation: not preloaded, and the secret is where every role can read it.
select * from pat.status();
-- Features that need the gate are named if there is none, with how to install it.
call tests.log_in('alice');
select count(*) from mint_pat(name => 'x', kind => 'opaque', allowed_ips => '{192.0.2.1}', rate_limit => 1, scopes => '{todos:read}');
reset role;
select * from pat.status() where "check" in ('gate', 'addresses');
alter role authenticator set pgrst.db_pre_request = 'pat.gate';
set supabase_pat.trusted_proxies = 1;
select * from pat.status() where "check" in ('gate', 'addresses');
alter role authenticator reset pgrst.db_pre_request;
-- Grants that are missing, and grants that should not be there.
revoke execute on function mint_pat from authenticated;
grant execute on function pat.sign_jwt to anon;
select * from pat.status() where "check" in ('grants', 'trusted functions');
select * from pat.grant_api_roles();
select * from pat.status() where "check" in ('grants', 'trusted functions');
create function public.mint_pat(name text) returns text language sql as $$ select name $$;
create function pat.mint_pat(name text) returns text language sql as $$ select name $$;
select * from pat.status() where "check" = 'names';
drop function public.mint_pat(text), pat.mint_pat(text);
select * from pat.status() where "check" = 'names';
revoke execute on function pat.sign_jwt from anon;
-- Other trouble.
alter database test_pg_regress set "app.settings.jwt_secret" = 'short';
\c
set supabase_pat.debug_reset_code = '123456';
set supabase_pat.service_role = 'no_such_role';
select * from pat.status() where "check" in ('reset codes', 'signing key', 'roles');
set supabase_pat.service_role = 'authenticated';
select * from pat.status() where "check" = 'roles';
reset supabase_pat.service_role;
begin;
alter role anon inherit;
grant service_role to anon;
select * from pat.status() where "check" = 'roles';
rollback;
set supabase_pat.default_schema = 'nowhere';
set supabase_pat.mail_worker_role = 'no_such_role';
select * from pat.status() where "check" in ('row security', 'mail worker');
set supabase_pat.mail_worker_role = 'service_role';
select * from pat.status() where "check" = 'mail worker';
reset supabase_pat.default_schema;
reset supabase_pat.mail_worker_role;
set supabase_pat.revoke_synchronous_commit = 'remote_apply';
select * from pat.status() where "check" = 'revocation';
reset supabase_pat.revoke_synchronous_commit;
alter database test_pg_regress reset "app.settings.jwt_secret";
alter table auth.users rename to people;
select * from pat.status() where "check" = 'users';
alter table auth.people rename to users;
begin;
alter table auth.users rename banned_until to locked_until;
alter table auth.users drop deleted_at;
select * from pat.status() where "check" = 'users';
alter table auth.users add banned_until timestamp, alter phone type bigint using null;
select * from pat.status() where "check" = 'users';
set local supabase_pat.live_claims = on;
select * from pat.status() where "check" = 'users';
rollback;
-- Supabase Auth is told by its tables, and one that takes tokens for logins by what it has not.
begin;
select * from pat.status() where "check" = 'supabase auth';
create table auth.schema_migrations (version varchar(255) primary key);
select * from pat.status() where "check" = 'supabase auth';
create table auth.one_time_tokens (id uuid primary key);
select * from pat.status() where "check" = 'supabase auth';
-- Tables of that name elsewhere are no sign of it.
alter table auth.schema_migrations set schema public;
select * from pat.status() where "check" = 'supabase auth';
rollback;
-- Policies that call Supabase's functions once a row.
begin;
create policy once on todos for select using ((select auth.uid()) = user_id and (select auth.jwt() ->> 'aal') = 'aal2');
select * from pat.status() where "check" = 'auth functions';
create policy plain on todos for select using (auth.uid() = user_id);
create policy mixed on auth.users using (id = (select auth.uid()) or exists (select from todos where user_id = auth.uid()))
    with check (auth.role() = 'x');
select * from pat.status() where "check" = 'auth functions';
set local supabase_pat.fast_auth_functions = on;
select * from pat.status() where "check" = 'auth functions';
create or replace function auth.role() returns text language sql stable as 'select current_user::text';
select * from pat.status() where "check" = 'auth functions';
rollback;
-- It is for trusted roles.
select role, code, error from tests.as_each_role('select pat.status()');
select role, code from tests.as_each_role('select pat.server_state()');
select role, code from tests.as_each_role('select pat.auth_function_problem(''uid'')');
-- A table without row level security is named, with whom it lies open to.
create table public.open_to_all (id int);
revoke all on public.open_to_all from anon, authenticated;
select * from pat.status() where "check" = 'row security';
grant insert on public.open_to_all to anon;
grant select (id) on public.open_to_all to authenticated;
select * from pat.status() where "check" = 'row security';
alter table public.open_to_all enable row level security;
select * from pat.status() where "check" = 'row security';
drop table public.open_to_all;
