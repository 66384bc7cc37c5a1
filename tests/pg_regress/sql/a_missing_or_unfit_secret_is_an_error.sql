-- Each case runs in a new session, since the settings of a database are read at its start.
\set mint 'select * from tests.error($$select mint_pat(''11111111-1111-1111-1111-111111111111'', ''x'')$$);'
alter database test_pg_regress reset "app.settings.jwt_secret";
\c
:mint
alter database test_pg_regress set "app.settings.jwt_secret" = 'short';
\c
:mint
alter database test_pg_regress set "app.settings.jwt_secret" = '31-bytes-are-not-enough-for-it.';
\c
:mint
alter database test_pg_regress set "app.settings.jwt_secret" = '{"kty":"oct","k":"c3VwZXItc2VjcmV0LWp3dC10b2tlbg"}';
\c
:mint
alter database test_pg_regress set "app.settings.jwt_secret" = '-----BEGIN PRIVATE KEY----- MIGHAgEAMBMGByqGSM49';
\c
:mint
alter database test_pg_regress set "app.settings.jwt_secret" = '';
\c
:mint

-- A file is preferred to a setting. It is read each time, so that a new secret is used at once.
\set file `echo "/tmp/supabase_pat-test-secret-$$"`
alter database test_pg_regress set "app.settings.jwt_secret" = 'the-secret-of-the-database-is-long-enough';
alter database test_pg_regress set supabase_pat.jwt_secret_file = :'file';
\c
:mint
copy (select 'the-secret-of-the-file-is-long-enough-as-well') to :'file';
select token as token from mint_pat('11111111-1111-1111-1111-111111111111', 'x') \gset
select pat.verify_jwt(:'token') ->> 'type' as by_the_file;
copy (select 'a-new-secret-in-the-file-that-is-long-enough') to :'file';
select * from tests.error(format('select pat.verify_jwt(%L)', :'token'));
copy (select 'short') to :'file';
:mint
copy (select '') to :'file';
:mint
\! rm -f /tmp/supabase_pat-test-secret-*
:mint
alter database test_pg_regress set supabase_pat.jwt_secret_file = '/tmp';
\c
:mint
alter database test_pg_regress reset supabase_pat.jwt_secret_file;
\c
select token as token from mint_pat('11111111-1111-1111-1111-111111111111', 'x') \gset
select pat.verify_jwt(:'token') ->> 'type' as by_the_database;

-- Vault is preferred to all others. This is its view as the extension reads it, without a vault behind it.
create schema vault;
create view vault.decrypted_secrets as
    select 'supabase_pat_jwt_secret'::text as name, 'the-secret-of-the-vault-is-long-enough-too'::text as decrypted_secret;
select * from tests.error(format('select pat.verify_jwt(%L)', :'token'));
call tests.log_in('alice');
select token as token from mint_pat(name => 'x') \gset
reset role;
select pat.verify_jwt(:'token') ->> 'type' as by_the_vault;
create or replace view vault.decrypted_secrets as select 'another'::text as name, 'x'::text as decrypted_secret;
select * from tests.error(format('select pat.verify_jwt(%L)', :'token'));
create or replace view vault.decrypted_secrets as select 'supabase_pat_jwt_secret'::text as name, 'short'::text as decrypted_secret;
:mint

-- A view that belongs to another role is not read: its functions would run as the extension's owner.
drop schema vault cascade;
create role mallory;
create schema vault authorization mallory;
set role mallory;
create function vault.trap() returns text language plpgsql as $$
begin
    raise warning 'running as %', current_user;
    return 'the-secret-of-mallory-that-is-long-enough';
end $$;
create view vault.decrypted_secrets as select 'supabase_pat_jwt_secret'::text as name, vault.trap() as decrypted_secret;
grant usage on schema vault to public;
grant select on vault.decrypted_secrets to public;
reset role;
select token as token from mint_pat('11111111-1111-1111-1111-111111111111', 'x') \gset
select pat.verify_jwt(:'token') ->> 'type' as by_the_database;
drop schema vault cascade;
drop role mallory;
