-- A token may have two limits. The windows here are short: longer ones need the library to be preloaded, and are in e2e/quotas.
\set alice 11111111-1111-1111-1111-111111111111
call tests.log_in('alice');
select id as both from mint_pat(name => 'both', rate_limit => 2, rate_window => '22 hours', quota => 3, quota_window => '23 hours') \gset
select id as alone from mint_pat(name => 'alone', quota => 1, quota_window => '23 hours') \gset
select name, rate_limit, rate_window, quota, quota_window from api_keys order by created_at;
call tests.use_key(:'both');
select n, code from generate_series(1, 3) n, tests.pass(path => '/todos' || n);
reset role;
-- What the rate limit has refused does not count for the quota.
update pat.api_keys set rate_limit = 100 where id = :'both';
call tests.use_key(:'both');
select n, code, error::json ->> 'message' as message from generate_series(1, 2) n, tests.pass(path => '/todos' || n);
-- And the other way around.
begin;
select code from tests.pass();
reset role;
update pat.api_keys set quota = 4 where id = :'both';
call tests.use_key(:'both');
select pat.gate();
select current_api_key() -> 'rate_limit' ->> 'remaining' as of_rate, current_api_key() -> 'quota' ->> 'remaining' as of_quota,
    current_api_key() -> 'quota' -> 'window' as quota_window;
-- What answers tell, after what was there before.
select header ->> 'RateLimit-Policy' as policy, regexp_replace(header ->> 'RateLimit', 't=\d+', 't=…', 'g') as state
from json_array_elements(current_setting('response.headers')::json) header;
rollback;
reset role;
update pat.api_keys set quota = 100 where id = :'both';
call tests.use_key(:'both');
begin;
select set_config('response.headers', '[{"X-Own": "1"}, {"ratelimit": "forged"}]', true);
select pat.gate();
select jsonb_path_query_array(current_setting('response.headers')::jsonb, '$[*].keyvalue().key') as headers;
rollback;
begin;
select set_config('response.headers', 'no list', true);
select pat.gate();
show response.headers;
rollback;
-- PostgREST takes headers of a refusal from its detail.
reset role;
update pat.api_keys set quota = 1 where id = :'both';
call tests.use_key(:'both');
do $$
declare
    detail jsonb;
begin
    perform pat.gate();
exception when others then
    get stacked diagnostics detail = pg_exception_detail;
    raise notice '%', regexp_replace((detail #- '{headers,Retry-After}')::text, 't=\d+', 't=…', 'g');
end $$;
-- Without a limit there are no headers.
reset role;
call tests.log_in('alice');
select id as free from mint_pat(name => 'free') \gset
call tests.use_key(:'free');
begin;
select pat.gate();
select nullif(current_setting('response.headers', true), '') as headers;
rollback;

-- A token with a quota counts as limited: it makes none, is not exchanged, is not active for services, and needs the gate.
reset role;
call tests.use_key(:'alone');
select is_valid_api_token() as without_the_gate;
begin;
select pat.gate();
select is_valid_api_token() as with_it;
select error from tests.error($$select exchange_token()$$);
rollback;
reset role;
select token as maker from mint_pat(:'alice', 'maker', kind => 'opaque', scopes => '{tokens:write}', quota => 5, quota_window => '1 hour') \gset
begin;
select set_config('request.headers', json_build_object('x-api-key', :'maker')::text, true) is not null as sent,
    set_config('request.method', 'POST', true), set_config('request.path', '/rpc/mint_pat', true);
select pat.gate();
select error from tests.error($$select mint_pat(name => 'x', scopes => '{tokens:write}')$$);
rollback;
select token as opaque from mint_pat(:'alice', 'opaque', kind => 'opaque', quota => 1, quota_window => '1 hour') \gset
select introspect_token(:'opaque');

-- A rotation keeps it; editing only tightens it.
call tests.log_in('alice');
select id as rotated from rotate_pat(:'alone') \gset
select quota, quota_window from api_keys where name = 'alone' and is_active;
select code, error from tests.error(format('select edit_pat(%L, quota => 2)', :'rotated'));
select code, error from tests.error(format('select edit_pat(%L, quota_window => ''22 hours'')', :'rotated'));
select code, error from tests.error(format('select edit_pat(%L, quota_window => ''1 hour'')', :'free'));
select edit_pat(:'free', quota => 10, quota_window => '1 hour');
select edit_pat(:'free', quota => 5);
select quota, quota_window from api_keys where id = :'free';

-- Limits that are refused, and windows that cannot be counted here.
select code, error from tests.error($$select mint_pat(name => 'x', quota => 0)$$);
select code, error from tests.error($$select mint_pat(name => 'x', quota => 10, quota_window => '0')$$);
select code, error from tests.error($$select mint_pat(name => 'x', quota => 10, quota_window => null)$$);
select code, error from tests.error($$select mint_pat(name => 'x', quota => 10)$$);
select code, error from tests.error($$select mint_pat(name => 'x', rate_limit => 10, rate_window => '1 day')$$);
select code, error from tests.error(format('select edit_pat(%L, quota => 1, quota_window => ''1 day'')', :'free'));
reset role;
select code, error from tests.error(format('select pat.import_token(%L, ''x'', %L, rate_limit => 1, rate_window => ''1 day'')', :'alice', sha256('x')));
insert into pat.api_keys (id, user_id, name, expires_at, quota, quota_window)
    values ('cccccccc-cccc-4ccc-8ccc-cccccccccccc', :'alice', 'by hand', now() + interval '1 day', 10, '1 day');
call tests.use_key('cccccccc-cccc-4ccc-8ccc-cccccccccccc');
select code, error from tests.pass();

-- Nobody but the extension sees or writes what was granted.
call tests.log_in('alice');
select code, error from tests.error($$select * from pat.api_key_counters$$);
select code, error from tests.error($$delete from pat.api_key_counters$$);
select code, error from tests.error($$insert into pat.api_key_counters values (gen_random_uuid(), 'quota', now(), 0)$$);
set role service_role;
select code, error from tests.error($$update pat.api_key_counters set granted = 0$$);
