create schema app;
grant usage on schema app to anon, authenticated, service_role;
create function app.check_request() returns void language plpgsql as $$
begin
    raise notice 'as % for %', current_user, auth.uid();
    if current_setting('request.path', true) = '/paid' then
        raise sqlstate 'PT402' using message = 'payment required', detail = 'the plan is free', hint = 'upgrade';
    elsif current_setting('request.path', true) = '/custom' then
        raise sqlstate 'PGRST' using message = '{"code": "X", "message": "y"}', detail = '{"status": 418, "headers": {}}';
    end if;
end
$$;
set supabase_pat.next_pre_request = 'app.check_request';
call tests.log_in('alice');
select token as opaque from mint_pat(name => 'x', kind => 'opaque') \gset
-- It runs with the role that the gate has set, and its errors are passed on unchanged.
call tests.request('anon', '{"role": "anon"}');
select code, role from tests.pass();
select code, role from tests.pass(headers => jsonb_build_object('x-api-key', :'opaque'));
select code, error from tests.pass(path => '/paid');
select code, error from tests.pass(path => '/custom');
-- A function in SQL that returns null will do.
reset role;
create function app.in_sql() returns void language sql as $$ select set_config('app.seen', current_user, true) $$;
set supabase_pat.next_pre_request = 'app.in_sql';
call tests.request('anon', '{"role": "anon"}');
select code, current_setting('app.seen') as seen from tests.pass();
reset role;
set supabase_pat.next_pre_request = 'app.check_request';
call tests.request('anon', '{"role": "anon"}');
-- It is not called for requests that the gate refuses.
select code from tests.pass(headers => '{"x-api-key": "sbpat_x"}');

-- No request passes while it cannot be called: if it is missing, misspelt, not allowed, or fails.
reset role;
revoke execute on function app.check_request() from public;
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass();
reset role;
grant execute on function app.check_request() to public;
revoke usage on schema app from anon;
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass();
reset role;
grant usage on schema app to anon;
create function app.with_argument(x int) returns void language sql as 'select';
create function app.failing() returns void language plpgsql as $$ begin perform 1 / 0; end $$;
do $$
declare
    name text;
    done record;
begin
    foreach name in array array['app.missing', 'check_request', 'app.with_argument', 'app.check_request()', 'a.b.c.d', 'app.failing', 'pat.gate', 'nowhere.check', '"app', 'app."check_request"'] loop
        perform set_config('supabase_pat.next_pre_request', name, false);
        select * into done from tests.pass();
        raise notice '%: % %', name, done.code, done.error;
        raise notice '  %', (select s.ok || ' ' || s.detail from pat.status() s where s."check" = 'next pre-request');
    end loop;
end $$;
-- A search path that leads elsewhere changes nothing.
create schema elsewhere;
create function elsewhere.check_request() returns void language plpgsql as $$ begin raise exception 'hijacked'; end $$;
set supabase_pat.next_pre_request = 'app.check_request';
set search_path = elsewhere, public;
select code from tests.pass();
reset search_path;
-- API roles cannot set it.
set role authenticated;
set supabase_pat.next_pre_request = 'elsewhere.check_request';
