call tests.log_in('alice');
select id as one, token as token_one from mint_pat(name => 'one') \gset
select id as two from mint_pat(name => 'two') \gset
select id as reading, token as reading_token from mint_pat(name => 'reading', scopes => '{tokens:read,rpc/usage_totals:call}') \gset
call tests.log_in('bob');
select id as bobs from mint_pat(name => E'<script>\u202e"bobs"') \gset
reset role;
select create_service_account('deployer') as account \gset
-- As the worker writes it: days that are over, and the latest one of each token.
insert into pat.api_key_days (day, key_id, user_id, requests, refused) values
    ('2026-01-01', :'one', '11111111-1111-1111-1111-111111111111', 10, 1),
    ('2026-01-01', :'bobs', '22222222-2222-2222-2222-222222222222', 30, 0),
    ('2026-01-03', :'one', '11111111-1111-1111-1111-111111111111', 5, 0),
    ('2026-01-03', 'dddddddd-0000-4000-8000-000000000001', '22222222-2222-2222-2222-222222222222', 0, 9),
    ('2025-12-31', :'two', '11111111-1111-1111-1111-111111111111', 1000, 1000);
insert into pat.api_key_usage (key_id, user_id, last_used_at, day, requests, refused) values
    (:'one', '11111111-1111-1111-1111-111111111111', '2026-01-04 10:00Z', '2026-01-04', 7, 2),
    (:'two', '11111111-1111-1111-1111-111111111111', '2026-01-05 10:00Z', '2026-01-05', 500, 0),
    (:'bobs', '22222222-2222-2222-2222-222222222222', '2025-06-01 10:00Z', null, 0, 0),
    ('eeeeeeee-0000-4000-8000-000000000001', :'account', '2026-01-02 10:00Z', '2026-01-02', 4, 0);

-- Each day has a row, and those before and after are not in it.
call tests.request('service_role', '{"role": "service_role"}');
select * from pat.usage_totals(4, '2026-01-04');
select case when user_id = :'account' then 'deployer' else right(user_id::text, 1) end as user, replace(name, E'\u202e', '(turned)') as name, requests, refused from pat.usage_by_token(4, '2026-01-04');
select name, requests, refused from pat.usage_by_token(4, '2026-01-04', order_by => 'refused');
select name, requests from pat.usage_by_token(5, '2026-01-05', max_rows => 1);
select case when service_account is null then right(user_id::text, 1) end as user, service_account, tokens, requests, refused
from pat.usage_by_user(4, '2026-01-04');
select right(user_id::text, 1) as user, tokens, requests, refused from pat.usage_by_user(4, '2026-01-04', 'refused', 1);
-- Up to the present day in UTC, if none is named.
set timezone = 'Pacific/Kiritimati';
select count(*), min(day) = (now() at time zone 'UTC')::date - 29 as first, max(day) = (now() at time zone 'UTC')::date as last,
    sum(requests) as requests
from pat.usage_totals();
reset timezone;
select count(*) from pat.usage_by_token();
select count(*) from pat.usage_by_user(1);
select min(day), max(day), count(*) from pat.usage_totals(400, '1970-01-01');
select max(day) from pat.usage_totals(1, '9999-12-31');

-- What is not fit is said.
select * from pat.usage_totals(0);
select * from pat.usage_totals(401);
select * from pat.usage_totals(-2147483648, '1970-01-01');
select * from pat.usage_totals(null);
select * from pat.usage_totals(1, 'infinity');
select * from pat.usage_totals(1, '-infinity');
select * from pat.usage_totals(400, '4713-01-01 BC');
select * from pat.usage_totals(1, '5874897-12-31');
select * from pat.usage_by_token(order_by => 'name desc; select 1');
select * from pat.usage_by_token(order_by => null);
select * from pat.usage_by_user(max_rows => 1001);
select * from pat.usage_by_user(max_rows => null);

-- The largest counts that a table can have are no error, and neither is their sum.
reset role;
begin;
insert into pat.api_key_days (day, key_id, user_id, requests, refused)
select '2026-02-01', id, '11111111-1111-1111-1111-111111111111', 9223372036854775807, 9223372036854775807 from unnest(array[:'one', :'two']::uuid[]) id;
call tests.request('service_role', '{"role": "service_role"}');
select * from pat.usage_totals(1, '2026-02-01');
select tokens, requests, refused from pat.usage_by_user(1, '2026-02-01');
select name, requests, refused from pat.usage_by_token(1, '2026-02-01') order by name;
rollback;

-- They are for trusted roles, whatever a token may and whatever somebody has granted.
select role, code from tests.as_each_role('select count(*) from pat.usage_totals()');
select role, code from tests.as_each_role('select count(*) from pat.usage_by_token()');
select role, code from tests.as_each_role('select count(*) from pat.usage_by_user()');
call tests.use_token(:'token_one');
select * from pat.usage_by_token();
begin;
call tests.use_judged_token(:'reading_token');
select * from pat.usage_totals();
rollback;
reset role;
begin;
grant execute on all functions in schema pat to authenticated;
call tests.log_in('alice');
savepoint before;
select * from pat.usage_totals();
rollback to before;
select * from pat.usage_by_token();
rollback to before;
select * from pat.usage_by_user();
rollback;
