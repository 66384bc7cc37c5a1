-- An API role that sets something beforehand, in a backend that has not loaded the library, gains
-- nothing.
\c
set role authenticated;
set supabase_pat.jwt_secret = 'known-to-the-attacker-and-32-bytes-long';
set supabase_pat.service_role = 'authenticated';
set supabase_pat.authenticated_role = 'service_role';
set supabase_pat.max_keys_per_user = 1000000;
set "app.settings.jwt_secret" = 'known-to-the-attacker-and-32-bytes-long';
select set_config('request.jwt.claims', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111"}', false) is not null as alice;
select pat.is_trusted();
select token as token from mint_pat(name => 'x') \gset
select tests.claims(:'token') ->> 'role' as role;
reset role;
select pat.verify_jwt(:'token') ->> 'type' as signed_with_the_real_secret;
set role authenticated;
show supabase_pat.service_role;
show supabase_pat.max_keys_per_user;

-- It gains nothing afterwards either.
set supabase_pat.service_role = 'authenticated';
set supabase_pat.jwt_secret = 'known-to-the-attacker-and-32-bytes-long';
set supabase_pat.jwt_secret_file = '/etc/passwd';
select code from tests.error('show supabase_pat.jwt_secret');
select code from tests.error('show supabase_pat.jwt_secret_file');
select name, setting from pg_settings where name like 'supabase_pat.%' order by name;
reset role;

-- All of them, as a superuser sees them. The secret itself is not listed.
select name, setting, unit, context from pg_settings where name like 'supabase_pat.%' order by name;

-- A typo is noticed.
set supabase_pat.max_lifetimes = '1d';

-- The secret is refused in a place where every role can read it, and the error does not repeat it.
alter database test_pg_regress set supabase_pat.jwt_secret = 'a-secret-in-a-catalogue-is-not-a-secret';
alter role service_role set supabase_pat.jwt_secret = 'a-secret-in-a-catalogue-is-not-a-secret';
create function leak() returns int language sql set supabase_pat.jwt_secret = 'a-secret-in-a-catalogue-is-not-a-secret' as 'select 1';

-- Without preloading, the setting is not used.
set supabase_pat.jwt_secret = 'another-secret-that-is-32-bytes-long';
select pat.verify_jwt(:'token') ->> 'type' as still_the_other_secret;
