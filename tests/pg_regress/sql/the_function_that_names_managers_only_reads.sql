-- It is called with the caller's rights, as it is at that moment, and what is wrong with it is said.
select create_service_account('ci') as ci \gset
create table log (message text);
grant all on log to authenticated;
create procedure pg_temp.try() language plpgsql as $$
declare
    statement text;
    code text;
    error text;
begin
    call tests.log_in('alice');
    foreach statement in array array['select create_service_account($x$x$x$)', format('select mint_pat(%L, $x$x$x$)', current_setting('tests.ci'))] loop
        select e.code, e.error into code, error from tests.error(statement) e;
        raise notice '%: % %', left(statement, 15), code, error;
    end loop;
    perform set_config('role', session_user, false);
end
$$;
select set_config('tests.ci', :'ci', false) = :'ci' as is_set;
create function answers_yes(account uuid) returns boolean language sql stable as 'select true';
create function writes(account uuid) returns boolean language plpgsql stable as $$ begin insert into log values ('x'); return true; end $$;
create function is_volatile(account uuid) returns boolean language plpgsql as $$ begin return true; end $$;
create function answers_text(account uuid) returns text language sql stable as $$ select 'yes' $$;
create function answers_rows(account uuid) returns setof boolean language sql stable as 'select true';
create function of_text(account text) returns boolean language sql stable as 'select true';
create function says_null(account uuid) returns boolean language sql stable as 'select null::boolean';
create function is_strict(account uuid) returns boolean language sql stable strict as 'select true';
create function fails(account uuid) returns boolean language plpgsql stable as $$ begin raise exception 'the table of members is being changed'; end $$;
create function asks_itself(account uuid) returns boolean language sql stable as 'select pat.manages_service_account(account)';
create function sees_the_view(account uuid) returns boolean language sql stable as 'select exists (select from public.service_accounts)';
create function tells_the_role(account uuid) returns boolean language plpgsql stable as $$ begin raise notice 'asked as %', current_user; return true; end $$;
create function of_others(account uuid) returns boolean language sql stable as 'select true';
revoke all on function of_others from public, authenticated;
-- In a schema where everybody may create functions, as public was before Postgres 15.
create function of_the_caller(account uuid) returns boolean language sql stable as 'select true';
grant create on schema public to authenticated;
alter function of_the_caller owner to authenticated;
create procedure pg_temp.with_function(name text) language plpgsql as $$
begin
    raise notice '%', name;
    perform set_config('supabase_pat.service_account_manager', name, false);
    call pg_temp.try();
end
$$;
call pg_temp.with_function('public.answers_yes');
call pg_temp.with_function('answers_yes');
call pg_temp.with_function('postgres.public.answers_yes');
call pg_temp.with_function('public.');
call pg_temp.with_function('public.missing');
call pg_temp.with_function('missing.answers_yes');
call pg_temp.with_function('public.of_text');
call pg_temp.with_function('public.answers_text');
call pg_temp.with_function('public.answers_rows');
call pg_temp.with_function('public.is_volatile');
call pg_temp.with_function('public.of_others');
call pg_temp.with_function('public.of_the_caller');
call pg_temp.with_function('public.says_null');
call pg_temp.with_function('public.is_strict');
call pg_temp.with_function('public.writes');
call pg_temp.with_function('public.fails');
call pg_temp.with_function('public.asks_itself');
call pg_temp.with_function('public.sees_the_view');
call pg_temp.with_function('public.tells_the_role');
select count(*) from log;
-- An error leaves nothing behind: the next call asks again.
call pg_temp.with_function('public.answers_yes');
-- As the doctor sees it.
create function pg_temp.doctor(name text) returns table (ok boolean, detail text) language sql as $$
    select set_config('supabase_pat.service_account_manager', name, false);
    select ok, detail from pat.status() where "check" = 'service accounts'
$$;
select * from pg_temp.doctor('public.missing');
select * from pg_temp.doctor('public.is_volatile');
select * from pg_temp.doctor('public.of_others');
select * from pg_temp.doctor('public.of_the_caller');
select * from pg_temp.doctor('public.answers_yes');
-- While it cannot be called, users go on with their own tokens, and trusted roles with all.
set supabase_pat.service_account_manager = 'public.missing';
select name from mint_pat(:'ci', 'by the operator');
call tests.log_in('alice');
select id as own from mint_pat(name => 'own') \gset
select name from rotate_pat(:'own');
select revoke_all_pats() > 0 as revoked;
-- Whoever is no account is not asked about, so nothing is told by how long it takes or what it does.
reset role;
set supabase_pat.service_account_manager = 'public.tells_the_role';
call tests.log_in('alice');
select * from tests.error($$select mint_pat('22222222-2222-2222-2222-222222222222', 'x')$$);
select * from tests.error($$select mint_pat('99999999-9999-4999-8999-999999999999', 'x')$$);
-- It is asked again behind the locks, and sees what it has done to the caller itself.
reset role;
create function revokes_the_caller(account uuid) returns boolean language plpgsql stable as $$
begin
    perform revoke_pat();
    return true;
end
$$;
set supabase_pat.service_account_manager = 'public.revokes_the_caller';
call tests.log_in('alice');
select token from mint_pat(name => 'x', scopes => '{tokens:write,tokens:delete,service_accounts:write}') \gset
begin;
call tests.use_judged_token(:'token');
select * from tests.error(format('select mint_pat(%L, %L, scopes => %L)', :'ci', 'x', '{tokens:write}'));
rollback;
-- For a list of accounts it is planned once: whoever reads the list, with an account in it or without, could keep the
-- server busy.
reset role;
create function is_planned() returns boolean language plpgsql immutable as $$ begin raise notice 'planned'; return true; end $$;
create function in_sql(account uuid) returns boolean language sql stable as 'select public.is_planned() and account is not null';
select count(create_service_account('one of many')) from generate_series(1, 5);
set plan_cache_mode = force_generic_plan;
set supabase_pat.service_account_manager = 'public.in_sql';
call tests.log_in('bob');
select count(*) from service_accounts;
-- What it has been replaced by meanwhile is what counts, also where a function in PL/pgSQL keeps what it asks; and an
-- error leaves nothing behind there.
reset role;
create function in_a_loop(account uuid) returns text language plpgsql as $$
declare
    answers text[];
begin
    for turn in 1..4 loop
        perform set_config('tests.turn', turn::text, true);
        begin
            answers := answers || pat.manages_service_account(account)::text;
        exception when division_by_zero then
            answers := answers || 'error'::text;
        end;
    end loop;
    return answers::text;
end
$$;
create or replace function in_sql(account uuid) returns boolean language sql stable as $$
    select 1 / (current_setting('tests.turn')::integer % 2) = 1
$$;
begin;
call tests.log_in('bob');
select in_a_loop(:'ci');
reset role;
create or replace function in_sql(account uuid) returns boolean language sql stable as 'select false';
call tests.log_in('bob');
select in_a_loop(:'ci');
commit;
-- A session cannot set it.
select * from tests.error($$set supabase_pat.service_account_manager = 'public.answers_yes'$$);
select * from tests.error($$set supabase_pat.max_service_accounts_per_user = 1000$$);
