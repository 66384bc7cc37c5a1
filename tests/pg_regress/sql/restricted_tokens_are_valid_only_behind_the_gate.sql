-- A token for certain addresses, or with a limit, is valid only in a transaction in which the gate has let it through:
-- without the gate, nothing has checked where the request comes from, or how many there were.
set supabase_pat.trusted_proxies = 1;
call tests.log_in('alice');
select id as office from mint_pat(name => 'office', allowed_ips => '{192.0.2.0/24}') \gset
select id as limited from mint_pat(name => 'limited', rate_limit => 100, rate_window => '23 hours') \gset
select id as scoped from mint_pat(name => 'scoped', scopes => '{todos:read}', rate_limit => 100, rate_window => '23 hours') \gset
select id as free from mint_pat(name => 'free') \gset
select token as opaque from mint_pat(name => 'opaque', kind => 'opaque', rate_limit => 100, rate_window => '23 hours') \gset
create function pg_temp.all_that_asks() returns table (valid boolean, scope boolean, active boolean, key boolean, todos bigint) language sql volatile as $$
    select is_valid_api_token(), has_scope('todos:read'), is_active_session(), current_api_key_id() is not null, (select count(*) from todos)
$$;
create procedure pg_temp.request(address text default '192.0.2.7') language plpgsql as $$
begin
    perform set_config('request.method', 'GET', false), set_config('request.path', '/todos', false),
        set_config('request.headers', jsonb_build_object('x-forwarded-for', address)::text, false);
end
$$;
call pg_temp.request();
-- Without the gate only the token without restrictions is valid.
reset role;
call tests.use_key(:'office');
select * from pg_temp.all_that_asks();
reset role;
call tests.use_key(:'limited');
select * from pg_temp.all_that_asks();
select code, error from tests.error($$select revoke_pat(current_api_key_id())$$);
reset role;
call tests.use_key(:'free');
select * from pg_temp.all_that_asks();

-- With it, to the end of the transaction, in prepared statements and PL/pgSQL too.
reset role;
call tests.use_key(:'limited');
prepare todos as select count(*) from todos;
begin;
execute todos;
select pat.gate();
execute todos;
select * from pg_temp.all_that_asks();
do $$ begin if is_valid_api_token() then raise notice 'valid'; end if; end $$;
commit;
execute todos;
select * from pg_temp.all_that_asks();
begin;
select pat.gate();
select is_valid_api_token();
rollback;
select is_valid_api_token();
-- A statement by itself is a transaction.
select pat.gate();
select is_valid_api_token();

-- The judgement ends with the savepoint in which it was made.
begin;
savepoint before;
select pat.gate();
select is_valid_api_token();
rollback to before;
select is_valid_api_token();
savepoint after;
select pat.gate();
release after;
select is_valid_api_token();
commit;
-- A function with settings of its own keeps the judgement, as it keeps what it sets for the request.
create function pg_temp.gate_of_ours() returns void language plpgsql set search_path = '' as $$ begin perform pat.gate(); end $$;
begin;
select pg_temp.gate_of_ours();
select is_valid_api_token();
commit;

-- The judgement is for one token: not for one before it, not for one after it, and not for one that was refused.
reset role;
call tests.use_key(:'limited');
begin;
select pat.gate();
reset role;
call tests.use_key(:'office');
select is_valid_api_token();
call pg_temp.request('203.0.113.1');
select code from tests.pass(headers => '{"x-forwarded-for": "203.0.113.1"}');
select is_valid_api_token();
select code from tests.pass(headers => '{"x-forwarded-for": "192.0.2.9"}');
select is_valid_api_token();
reset role;
call tests.use_key(:'limited');
select is_valid_api_token();
commit;
-- The next function may add to the claims; the restriction is the token's.
begin;
select pat.gate();
select set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || '{"plan": "pro"}')::text, true) is not null as added;
select is_valid_api_token();
commit;
-- An opaque token is judged when the gate gives the request its identity.
reset role;
select set_config('request.jwt.claims', '', false), set_config('request.headers', json_build_object('x-api-key', :'opaque')::text, false) is not null as sent;
begin;
select pat.gate();
select is_valid_api_token(), auth.uid(), current_user;
select current_setting('request.jwt.claims') as claims \gset
commit;
-- Its claims without the gate are not enough.
select set_config('request.jwt.claims', :'claims', false) is not null as by_hand, set_config('request.headers', '{}', false);
select is_valid_api_token();

-- Nothing else can set it: no role, no superuser, no setting of a function or database, and nothing beforehand.
reset role;
set supabase_pat.judged_key = '11111111-1111-1111-1111-111111111111';
select code from tests.error($$select set_config('supabase_pat.judged_key', '11111111-1111-1111-1111-111111111111', true)$$);
select code from tests.error($$alter database test_pg_regress set supabase_pat.judged_key = 'x'$$);
select code from tests.error($$create function pg_temp.f() returns int language sql set supabase_pat.judged_key = 'x' as 'select 1'$$);
select code, count(*) from tests.as_each_role($$select set_config('supabase_pat.judged_key', 'x', true)$$) group by code;
select code, count(*) from tests.as_each_role($$select current_setting('supabase_pat.judged_key')$$) group by code;
select count(*) from pg_settings where name = 'supabase_pat.judged_key';
call tests.use_key(:'limited');
begin;
select pat.gate();
reset role;
create function pg_temp.keeps() returns boolean language sql set supabase_pat.judged_key from current as 'select is_valid_api_token()';
rollback;
\c
set role authenticated;
select set_config('supabase_pat.judged_key', :'limited', false) is not null as beforehand;
call tests.use_key(:'limited');
select set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub', '11111111-1111-1111-1111-111111111111',
    'type', 'personal_access_token', 'jti', :'limited')::text, false) is not null as limited;
select is_valid_api_token();
select code from tests.error('show supabase_pat.judged_key');

-- RESET ALL leaves it alone.
begin;
select pat.gate();
select is_valid_api_token();
reset all;
select set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub', '11111111-1111-1111-1111-111111111111',
    'type', 'personal_access_token', 'jti', :'limited')::text, true) is not null as limited;
select is_valid_api_token();
rollback;
