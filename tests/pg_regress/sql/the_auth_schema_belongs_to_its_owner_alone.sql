-- Only the owner has rights on what install_auth_schema creates, whatever default privileges say.
set client_min_messages = warning;
drop schema auth cascade;
alter default privileges grant all on tables to anon, authenticated, service_role, public;
alter default privileges grant all on sequences to anon, authenticated, service_role;
alter default privileges grant all on functions to anon, nobody;
alter default privileges grant all on types to anon;
alter default privileges grant all on schemas to anon;
select pat.install_auth_schema();
alter default privileges revoke all on tables from anon, authenticated, service_role, public;
alter default privileges revoke all on sequences from anon, authenticated, service_role;
alter default privileges revoke all on functions from anon, nobody;
alter default privileges revoke all on types from anon;
alter default privileges revoke all on schemas from anon;

-- Others have no rights on tables, sequences and types, EXECUTE on the functions that policies call, and USAGE.
create view privileges as
    select kind, name, grantee, string_agg(privilege, ', ' order by privilege) as privileges
    from (
        select 'relation' as kind, relname as name, a.grantee, a.privilege_type as privilege
        from pg_class, aclexplode(relacl) a where relnamespace = to_regnamespace('auth') and a.grantee <> relowner
        union all
        select 'function', proname, a.grantee, a.privilege_type
        from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a where pronamespace = to_regnamespace('auth') and a.grantee <> proowner
        union all
        select 'type', typname, a.grantee, a.privilege_type
        from pg_type, aclexplode(coalesce(typacl, acldefault('T', typowner))) a
        where typnamespace = to_regnamespace('auth') and a.grantee <> typowner and typrelid = 0 and typelem = 0
        union all
        select 'schema', nspname, a.grantee, a.privilege_type
        from pg_namespace, aclexplode(nspacl) a where nspname = 'auth' and a.grantee <> nspowner
    ) granted (kind, name, grantee, privilege)
    group by kind, name, grantee;
select kind, name, coalesce(nullif(grantee, 0)::regrole::text, 'public') as grantee, privileges
from privileges order by kind, name, grantee::text collate "C";

-- If more is granted by hand, rows stay hidden.
select relname, relrowsecurity from pg_class where relnamespace = 'auth'::regnamespace and relkind = 'r' order by relname;
select role, code, error from tests.as_each_role('select encrypted_password from auth.users');
select * from pat.status() where "check" = 'password hashes';

-- The doctor says if they can be read: one column, through PUBLIC, or by the role that the REST server logs in as.
grant select on auth.users to authenticated;
select * from pat.status() where "check" = 'password hashes';
create policy own on auth.users for select to authenticated using (id = auth.uid());
select * from pat.status() where "check" = 'password hashes';
revoke select on auth.users from authenticated;
grant select (id, email) on auth.users to authenticated;
select * from pat.status() where "check" = 'password hashes';
alter table auth.users disable row level security;
grant select (id, recovery_token) on auth.users to public;
select * from pat.status() where "check" = 'password hashes';
revoke select (id, recovery_token) on auth.users from public;
alter table auth.refresh_tokens disable row level security;
grant select on auth.refresh_tokens to authenticator;
grant usage on schema auth to authenticator;
select * from pat.status() where "check" = 'password hashes';
revoke select on auth.refresh_tokens from authenticator;
select * from pat.status() where "check" = 'password hashes';

-- In a schema that existed before, others may no longer create objects.
drop schema auth cascade;
create schema auth;
grant all on schema auth to nobody, public;
select pat.install_auth_schema();
select coalesce(nullif(grantee, 0)::regrole::text, 'public') as grantee, privileges
from privileges where kind = 'schema' order by grantee::text collate "C";
