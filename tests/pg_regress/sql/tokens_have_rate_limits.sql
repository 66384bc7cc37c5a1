-- Windows follow each other from 1970 on; one of a month does not end during this test.
call tests.log_in('alice');
select id as three, token as token from mint_pat(name => 'three', rate_limit => 3, rate_window => '23 hours') \gset
select id as other from mint_pat(name => 'other', rate_limit => 1, rate_window => '23 hours') \gset
select id as free from mint_pat(name => 'free') \gset
select name, rate_limit, rate_window from api_keys order by created_at;
call tests.use_key(:'three');
select n, code from generate_series(1, 3) n, tests.pass(path => '/todos' || n);
-- The fourth request is refused. PostgREST makes the body of the answer from an error of SQLSTATE PGRST.
select code, regexp_replace(error, '\d+ seconds\.', '… seconds.') from tests.pass();
do $$
declare
    message text;
    detail text;
begin
    perform pat.gate();
exception when others then
    get stacked diagnostics message = message_text, detail = pg_exception_detail;
    raise notice '% %', message::jsonb - 'details', detail::jsonb -> 'status';
    if (detail::jsonb -> 'headers' ->> 'Retry-After')::int not between 1 and 31 * 86400 then
        raise exception 'retry after %', detail;
    end if;
end $$;
-- A request that was rolled back counts too. Other tokens have their own count.
reset role;
call tests.use_key(:'other');
begin;
select code from tests.pass();
rollback;
select code from tests.pass();
reset role;
call tests.use_key(:'free');
select count(*) from generate_series(1, 100) n, tests.pass(path => '/todos' || n) where code = 'passed';

-- A request that is refused for another reason does not count.
call tests.log_in('bob');
select id as scoped from mint_pat(name => 'scoped', scopes => '{todos:read}', rate_limit => 1, rate_window => '23 hours') \gset
call tests.request('authenticated', jsonb_build_object('sub', '22222222-2222-2222-2222-222222222222', 'type', 'personal_access_token', 'jti', :'scoped', 'scope', 'todos:read'));
select code from tests.pass('POST');
select code from tests.pass('GET');
select code from tests.pass('GET');

-- A rotated token keeps its limit.
call tests.log_in('alice');
select id as rotated from rotate_pat(:'other') \gset
select rate_limit, rate_window from api_keys where name = 'other' and is_active;

-- Limits that are refused.
select code, error from tests.error($$select mint_pat(name => 'x', rate_limit => 0)$$);
select code, error from tests.error($$select mint_pat(name => 'x', rate_limit => 10, rate_window => '0')$$);
select code from tests.error($$select mint_pat(name => 'x', rate_limit => 10, rate_window => '-1 minute')$$);
select code from tests.error($$select mint_pat(name => 'x', rate_limit => 10, rate_window => '32 days')$$);
select code from tests.error($$select mint_pat(name => 'x', rate_limit => 10, rate_window => null)$$);
select code from tests.error($$select mint_pat(name => 'x', rate_limit => 2147483647)$$);
