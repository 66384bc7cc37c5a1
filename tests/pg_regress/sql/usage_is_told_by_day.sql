call tests.log_in('bob');
select id as bobs from mint_pat(name => 'bobs') \gset
call tests.log_in('alice');
select id as one, token as token_one from mint_pat(name => 'one') \gset
select id as two from mint_pat(name => 'two') \gset
select id as gone from mint_pat(name => 'gone') \gset
select id as narrow, token as narrow_token from mint_pat(name => 'narrow', scopes => '{todos:read}') \gset
select id as reading, token as reading_token from mint_pat(name => 'reading', scopes => '{tokens:read}') \gset
-- As the worker writes it: days that are over, and the latest one of each token.
reset role;
insert into pat.api_key_days (day, key_id, user_id, requests, refused) values
    ('2026-01-01', :'one', '11111111-1111-1111-1111-111111111111', 10, 1),
    ('2026-01-01', :'gone', '11111111-1111-1111-1111-111111111111', 20, 2),
    ('2026-01-01', :'bobs', '22222222-2222-2222-2222-222222222222', 30, 3);
insert into pat.api_key_usage (key_id, user_id, last_used_at, day, requests, refused) values
    (:'one', '11111111-1111-1111-1111-111111111111', '2026-01-02 10:00Z', '2026-01-02', 11, 0),
    (:'two', '11111111-1111-1111-1111-111111111111', '2025-06-01 10:00Z', null, 0, 0),
    (:'bobs', '22222222-2222-2222-2222-222222222222', null, '2026-01-02', 0, 5);
delete from pat.api_keys where id = :'gone';

-- Users see their own tokens, those too that they have deleted.
call tests.log_in('alice');
select name, day, requests, refused from api_key_daily_usage where day < '2026-02-01' order by day, requests;
select day, sum(requests) as requests from api_key_daily_usage where day < '2026-02-01' group by day order by day;
call tests.log_in('bob');
select name, day, requests, refused from api_key_daily_usage order by day;
-- One that was only ever refused has no last use.
select name, last_used_at from api_keys;
-- A token needs the scope to see tokens.
call tests.use_token(:'token_one');
select count(*) from api_key_daily_usage where day < '2026-02-01';
begin;
call tests.use_judged_token(:'reading_token');
select count(*) from api_key_daily_usage where day < '2026-02-01';
commit;

-- Nobody sees those of others, however they ask.
begin;
call tests.use_judged_token(:'narrow_token');
select count(*) from api_key_daily_usage;
rollback;
begin;
call tests.use_judged_token(:'narrow_token');
select count(*) from pat.api_key_days;
rollback;
call tests.log_in('bob');
select count(*) from api_key_daily_usage where key_id = :'one' or name = 'one' or true;
select count(*) from pat.api_key_days where user_id = '11111111-1111-1111-1111-111111111111';
create function pg_temp.tell(requests bigint) returns boolean language plpgsql cost 0.0001 as $$
begin
    raise notice '%', requests;
    return true;
end
$$;
select count(*) from api_key_daily_usage where pg_temp.tell(requests);
call tests.use_token(:'token_one');
reset role;
delete from pat.api_keys where id = :'one';
call tests.use_token(:'token_one');
select count(*) from api_key_daily_usage;
call tests.log_in('alice');
select sign_out('local');
select count(*) from api_key_daily_usage;
select role, code from tests.as_each_role('select count(*) from api_key_daily_usage');
select role, code from tests.as_each_role('select count(*) from pat.api_key_days');
select role, code from tests.as_each_role('select count(*) from pat.usage_by_day');
-- Nobody but the worker writes.
select role, code from tests.as_each_role($$insert into pat.api_key_days values (now(), gen_random_uuid(), gen_random_uuid(), 1, 1)$$);
select role, code from tests.as_each_role($$update pat.api_key_days set requests = 0$$);
select role, code from tests.as_each_role($$delete from pat.api_key_days$$);
select role, code from tests.as_each_role($$update pat.api_key_usage set requests = 0$$);
select role, code from tests.as_each_role($$update api_key_daily_usage set requests = 0$$);

-- Trusted roles see everybody's, with and without BYPASSRLS.
reset role;
create role backend in role service_role;
set role backend;
select day, right(user_id::text, 1) as user, name, requests, refused from pat.usage_by_day where day < '2026-02-01' order by day, requests;
reset role;
drop role backend;
call tests.request('service_role', '{"role": "service_role"}');
select day, sum(requests) as requests, sum(refused) as refused from pat.usage_by_day where day < '2026-02-01' group by day order by day;
select count(*) from api_key_daily_usage where day < '2026-02-01';
