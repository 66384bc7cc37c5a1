-- A policy as nearly every Supabase project has it, with the function written plainly.
alter policy owners on todos using (auth.uid() = user_id) with check (auth.uid() = user_id);
insert into todos (user_id, title) select gen_random_uuid(), 'other' from generate_series(1, 20000);
create index on todos (user_id);
vacuum analyze todos;
load 'supabase_pat';
call tests.log_in('alice');
explain (costs off) select title from todos;

-- With the setting on, ours is there, also in the index condition and in the check of what is written.
reset role;
set supabase_pat.fast_auth_functions = on;
call tests.log_in('alice');
explain (costs off) select title from todos;
select title from todos;
explain (costs off, verbose) insert into todos (user_id, title) values (auth.uid(), auth.role()) returning auth.email(), auth.jwt();
begin;
insert into todos (user_id, title) values (auth.uid(), auth.role()) returning title, auth.jwt() ->> 'sub' = user_id::text as is_mine;
insert into todos (user_id, title) values (gen_random_uuid(), 'of somebody else');
rollback;

-- Wherever a call may stand in a query. What is left of theirs would read a setting in the plan.
reset role;
create function tests.calls(statement text, out theirs int, out ours int) language plpgsql as $$
declare
    line text;
begin
    theirs := 0;
    ours := 0;
    for line in execute 'explain (verbose, costs off) ' || statement loop
        theirs := theirs + (select count(*) from regexp_matches(line, 'current_setting', 'g'));
        ours := ours + (select count(*) from regexp_matches(line, 'pat.auth_', 'g'));
    end loop;
end
$$;
create view calls as select auth.uid() as uid;
grant select on calls to authenticated;
create table written (id int primary key, user_id uuid default auth.uid(), email text default auth.email());
alter table written enable row level security;
create policy readers on written for select using (auth.role() = 'authenticated');
create policy writers on written for all using (user_id in (select auth.uid())) with check (auth.jwt() ->> 'sub' = user_id::text);
grant all on written to authenticated;
call tests.log_in('alice');
select statement, theirs, ours > 0 as has_ours from unnest(array[
    'select auth.uid(), auth.role(), auth.email(), auth.jwt()',
    'select (select auth.uid())',
    'select count(*) filter (where auth.uid() is not null) from todos',
    'select row_number() over (order by auth.uid()) from generate_series(1, 2)',
    'select * from auth.uid() f',
    'select * from calls',
    'select l.* from todos, lateral (select auth.uid() offset 0) l',
    'with named as materialized (select auth.uid() as uid) select * from named',
    'with recursive r (uid, n) as (select auth.uid(), 1 union all select auth.uid(), n + 1 from r where n < 3) select * from r',
    'select 1 where exists (select from todos t where t.user_id = auth.uid())',
    'select case when random() > 2 then auth.uid() end',
    'select auth.uid() group by auth.uid() having auth.uid() is null',
    'select 1 order by auth.uid() limit case when auth.uid() is null then 1 end',
    'select auth.uid() union select user_id from todos except select auth.uid()',
    'select array[auth.uid()], row(auth.role()), auth.jwt() -> ''a'', (auth.email() || ''x'') collate "C"',
    'values (auth.uid())',
    'select * from todos a join todos b on a.user_id = b.user_id and a.user_id = auth.uid()',
    'insert into written (id) values (1) returning auth.email()',
    'insert into written (id) values (1) on conflict (id) do update set user_id = auth.uid() where auth.role() <> ''x''',
    'update written set user_id = auth.uid() where user_id = auth.uid()',
    'delete from written using todos where todos.user_id = auth.uid()',
    'merge into written w using todos t on w.id = t.id and t.user_id = auth.uid()
        when matched and auth.role() = ''x'' then update set email = auth.email()
        when not matched then insert (id, user_id) values (t.id, auth.uid())',
    'select id from written for update'
]) statement, lateral tests.calls(statement);

-- Workers may run it, which those in SQL keep a query from.
set min_parallel_table_scan_size = 0;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set parallel_leader_participation = off;
set enable_indexscan = off;
set enable_bitmapscan = off;
explain (costs off) select count(*) from todos where title <> '';
select count(*), count(distinct auth.jwt()), count(distinct auth.uid()) from todos where title <> '' and auth.role() = 'authenticated';

-- It is for superusers.
set supabase_pat.fast_auth_functions = off;
reset role;

-- A function of the same name elsewhere is not meant, and one with arguments is another.
create schema other;
create function other.uid() returns uuid language sql stable as $$ select auth.uid() $$;
create function auth.uid(i int) returns uuid language plpgsql stable as $$ begin return null; end $$;
set supabase_pat.fast_auth_functions = on;
set search_path = other, public;
explain (costs off, verbose) select uid(), auth.uid(1), auth.uid();
reset search_path;
select name, pat.auth_function_problem(name) from unnest('{uid, role, email, jwt}'::text[]) name;
select pat.auth_function_problem('x');

-- What is not known is left alone, and so is what does more than its body.
create procedure tests.with_function(definition text) language plpgsql as $$
declare
    line text;
begin
    begin
        execute definition;
        for line in explain (costs off, verbose) select auth.uid() loop
            raise notice '%', line;
        end loop;
        raise notice '%', pat.auth_function_problem('uid');
        raise exception sqlstate 'OKOK1';
    exception when sqlstate 'OKOK1' then
        null;
    end;
end
$$;
call tests.with_function($$create or replace function auth.uid() returns uuid language sql stable as
    'select nullif(current_setting(''request.jwt.claim.sub'', true), '''')::uuid;'$$);
call tests.with_function('alter function auth.uid() volatile');
call tests.with_function('alter function auth.uid() immutable');
call tests.with_function('alter function auth.uid() security definer');
call tests.with_function('alter function auth.uid() set role to anon');
call tests.with_function('alter function auth.uid() set search_path to other');
call tests.with_function('revoke execute on function auth.uid() from public; grant execute on function auth.uid() to authenticated');
call tests.with_function('revoke execute on function pat.auth_uid() from public');
call tests.with_function('alter extension supabase_pat drop function pat.auth_uid()');
call tests.with_function('alter function auth.uid() rename to uid2; create view auth.uid as select auth.uid2(); create function auth.uid() returns text language sql as $a$ select $b$x$b$ $a$');
call tests.with_function('alter schema auth rename to auth2; create schema auth; create function auth.uid() returns uuid language sql as $a$ select auth2.uid() $a$');
-- These make no difference to the answer.
call tests.with_function('alter function auth.uid() set search_path to ''''');
call tests.with_function('alter function auth.uid() strict parallel safe cost 1000; alter function auth.uid() owner to anon');
call tests.with_function($$create or replace function auth.uid() returns uuid language sql stable as
    'SELECT COALESCE(NULLIF(current_setting(''request.jwt.claim.sub'', TRUE), ''''),
        (NULLIF(current_setting(''request.jwt.claims'', TRUE), '''')::jsonb ->> ''sub''))::uuid;'$$);
call tests.with_function('select');

-- Whoever may not execute it is told so, with either.
revoke execute on function auth.uid() from public;
call tests.request('anon', '{}');
select auth.uid();
reset role;
grant execute on function auth.uid() to public;

-- A plan that is kept is made anew, with a new body, and with the old one.
prepare who as select auth.uid();
set plan_cache_mode = force_generic_plan;
select set_config('request.jwt.claims', '{"sub": "33333333-3333-3333-3333-333333333333"}', false);
execute who;
begin;
create or replace function auth.uid() returns uuid language sql stable as $$ select '44444444-4444-4444-4444-444444444444'::uuid $$;
execute who;
explain (costs off, verbose) execute who;
savepoint s;
drop function auth.uid() cascade;
execute who;
rollback to s;
execute who;
rollback;
execute who;
explain (costs off, verbose) execute who;

-- And so when the setting changes, or the extension goes.
set supabase_pat.fast_auth_functions = off;
explain (costs off, verbose) execute who;
set supabase_pat.fast_auth_functions = on;
explain (costs off, verbose) execute who;
set client_min_messages = warning;
drop extension supabase_pat cascade;
execute who;
select auth.uid() = uid from calls;
create extension supabase_pat;
explain (costs off, verbose) execute who;

-- A schema of the name, without the extension, puts nothing in the place of anything.
drop extension supabase_pat cascade;
create schema if not exists pat;
create function pat.auth_uid() returns uuid language sql stable as $$ select null::uuid $$;
explain (costs off, verbose) execute who;
