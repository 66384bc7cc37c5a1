-- Columns of auth.users are read by their types: a number is never read as a text, whatever the table looks like.
set supabase_pat.live_claims = on;
call tests.log_in('alice');
select token as opaque from mint_pat(name => 'opaque', kind => 'opaque') \gset
\set headers '{"x-api-key": "' :opaque '"}'
create or replace function pg_temp.ask(headers text) returns table (code text, error text, claim jsonb) language plpgsql as $$
begin
    perform set_config('role', 'anon', true), set_config('request.jwt.claims', '{"role": "anon"}', true);
    select p.code, p.error into code, error from tests.pass(headers => headers::jsonb) p;
    claim := auth.jwt() - '{aud,exp,iat,iss,jti,session_id,sub,type,app_metadata,user_metadata}'::text[];
    perform set_config('role', 'postgres', true);
    return next;
end
$$;
reset role;
select * from pg_temp.ask(:'headers');
-- citext, and domains over it and over varchar, are stored as text is.
create extension citext;
create domain short as varchar(20);
alter table auth.users drop column confirmed_at, drop constraint users_phone_key, alter email type citext, alter phone type short;
update auth.users set phone = '+15550100' where email = 'ALICE@example.com';
select * from pg_temp.ask(:'headers');
-- A type that is only named citext is refused.
create domain citexts as citext;
create type tests.citext as enum ('x');
alter table auth.users alter email type citexts, alter phone type tests.citext using 'x';
select * from pg_temp.ask(:'headers');
-- A number that would be the address of a secret in memory.
alter table auth.users alter phone type bigint using 140000000000000;
select * from pg_temp.ask(:'headers');
alter table auth.users alter phone type text;
create type tests.roles as enum ('authenticated', 'editor');
alter table auth.users alter role drop default, alter role type tests.roles using 'editor';
select * from pg_temp.ask(:'headers');
alter table auth.users alter role type "char" using 'e';
select * from pg_temp.ask(:'headers');
alter table auth.users alter role type text using 'authenticated', alter raw_app_meta_data type json using '{"plan": "pro"}', alter raw_user_meta_data type int using 7;
select * from pg_temp.ask(:'headers');
alter table auth.users alter raw_app_meta_data type jsonb using '{"plan": "pro"}';
select * from pg_temp.ask(:'headers');
alter table auth.users alter raw_user_meta_data type jsonb using '{}', alter is_anonymous drop default, alter is_anonymous type text using 'f';
select * from pg_temp.ask(:'headers');
-- The claims of each token of an anonymous user say is_anonymous, whatever the token was minted with.
alter table auth.users alter is_anonymous type boolean using true;
select * from pg_temp.ask(:'headers');
-- Without the setting none of these columns is read.
alter table auth.users alter phone type bigint using 7;
set supabase_pat.live_claims = off;
select code, error from pg_temp.ask(:'headers');
