-- Somebody puts objects in front of those that the extension means.
call tests.log_in('alice');
select token as token, id as id from mint_pat(name => 'x') \gset
reset role;
create schema evil;
grant all on schema evil to authenticated;
call tests.log_in('alice');
create function evil.always_true(uuid, uuid) returns boolean language sql as 'select true';
create operator evil.= (leftarg = uuid, rightarg = uuid, function = evil.always_true);
create function evil.later(timestamptz, timestamptz) returns boolean language sql as 'select true';
create operator evil.> (leftarg = timestamptz, rightarg = timestamptz, function = evil.later);
create operator evil.< (leftarg = timestamptz, rightarg = timestamptz, function = evil.later);
create function evil.now() returns timestamptz language sql as $$select '1999-01-01'::timestamptz$$;
create table evil.api_keys (id uuid, user_id uuid);
create domain evil.uuid as text;
create domain evil.timestamptz as text;
create temp table api_keys (id int);
create temp table users (id uuid);
create function pg_temp.uid() returns uuid language sql as $$select '22222222-2222-2222-2222-222222222222'::uuid$$;
set search_path = evil, pg_temp, public, pg_catalog;

select name from public.mint_pat(name => 'y', scopes => '{todos:read}');
select public.revoke_pat('99999999-9999-9999-9999-999999999999');
select public.revoke_all_pats() as revoked;
select name, is_active from public.api_keys order by created_at;
select id as z, token as token_z from public.mint_pat(name => 'z') \gset
select name from public.rotate_pat(:'z'::pg_catalog.uuid, '1 hour');
select pat.uid();
select title from public.todos order by id;
call tests.use_token(:'token');
select public.is_valid_api_token(), public.has_scope('todos:read');
select title from public.todos;
call tests.use_token(:'token_z');
select title from public.todos order by id;

-- The role, the rights and the search path are the caller's again afterwards, after an error too.
select current_user, current_setting('search_path');
select pg_catalog.count(*) from tests.error('select public.mint_pat(name => ''''::text)');
select current_user, current_setting('search_path');
select code from tests.error('insert into pat.api_keys (id) values (null)');
reset role;
reset search_path;
call tests.request('service_role', '{"role": "service_role"}');
select name from mint_pat('11111111-1111-1111-1111-111111111111', 'w');
select current_user, current_setting('search_path');
