\set SHOW_CONTEXT never
drop extension supabase_pat cascade;
create table api_keys (id uuid primary key);
create function is_valid_api_token() returns boolean language sql as 'select true';
create extension supabase_pat;
-- Nothing was changed.
select count(*) from pg_depend where refclassid = 'pg_extension'::regclass and refobjid not in (select oid from pg_extension where extname = 'plpgsql') and deptype = 'e';
select to_regclass('pat.api_keys'), is_valid_api_token();
drop table api_keys;
drop function is_valid_api_token();
create function mint_pat(text) returns text language sql as 'select $1';
create extension supabase_pat;
drop function mint_pat(text);
create type minted_pat as (a int);
create extension supabase_pat;
drop type minted_pat;

-- A function in the schema that calls of the script could find instead of Postgres's own.
create function pat.format(text, text) returns text language plpgsql as
    'begin raise exception ''trapped %'', current_user; end';
create function pat.trap(oid, regnamespace) returns boolean language plpgsql as
    'begin raise exception ''trapped %'', current_user; end';
create operator pat.= (leftarg = oid, rightarg = regnamespace, function = pat.trap);
create extension supabase_pat;
drop operator pat.= (oid, regnamespace);
drop function pat.format(text, text), pat.trap(oid, regnamespace);

-- A schema that another role owns.
create role mallory;
alter schema pat owner to mallory;
create extension supabase_pat;
alter schema pat owner to current_user;
drop role mallory;
create extension supabase_pat;
