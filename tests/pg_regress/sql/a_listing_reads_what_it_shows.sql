-- What others have is not read for a user's listing: an index finds the rows. Pages are counted, and not time.
\set alice 11111111-1111-1111-1111-111111111111
create function tests.others(count int) returns table (place int, id uuid) language sql as $$
    select i, md5(i::text)::uuid from generate_series(1, count) i
$$;
insert into pat.api_keys (id, user_id, name, expires_at)
select md5('key ' || place)::uuid, id, 'x', now() + interval '1 day' from tests.others(20000);
insert into pat.events (event, user_id, key_id, role)
select 'token_minted', id, md5('key ' || place)::uuid, 'authenticated' from tests.others(20000);
insert into pat.api_key_usage (key_id, user_id, day, requests)
select md5('key ' || place)::uuid, id, '2026-01-02', 1 from tests.others(20000);
insert into pat.api_key_days (day, key_id, user_id, requests, refused)
select '2026-01-01', md5('key ' || place)::uuid, id, 1, 0 from tests.others(20000);
insert into pat.user_settings (user_id, settings) select id, jsonb_build_object('text', repeat('x', 200)) from tests.others(20000);
insert into pat.user_settings (user_id, settings) values (:'alice', '{}');

call tests.log_in('alice');
select id as one from mint_pat(name => 'one') \gset
select id as two from mint_pat(name => 'two') \gset
select id as three from mint_pat(name => 'three') \gset
select token as reading_token from mint_pat(name => 'reading', scopes => '{tokens:read}') \gset
select token as deleting_token from mint_pat(name => 'deleting', scopes => '{tokens:read,tokens:delete}') \gset
reset role;
insert into pat.api_key_usage (key_id, user_id, day, requests) values (:'one', :'alice', '2026-01-02', 2);
insert into pat.api_key_days (day, key_id, user_id, requests, refused) values ('2026-01-01', :'one', :'alice', 3, 0);
select create_service_account('ci') as ci \gset
select (mint_pat(:'ci', 'deploy')).name;
analyze pat.api_keys, pat.events, pat.api_key_usage, pat.api_key_days, pat.user_settings;
select min(pg_relation_size(oid) / 8192) > 150 as tables_are_large from pg_class
where oid in ('pat.api_keys'::regclass, 'pat.events'::regclass, 'pat.api_key_usage'::regclass, 'pat.api_key_days'::regclass, 'pat.user_settings'::regclass);

-- How many rows there are, and whether few pages are read for them.
create function tests.reading(statement text, out rows bigint, out is_little boolean) language plpgsql as $$
declare
    plan jsonb;
begin
    -- What is looked up once a session is no part of it.
    execute 'explain ' || statement;
    execute 'explain (analyze, buffers, timing off, format json) ' || statement into plan;
    plan := plan -> 0 -> 'Plan';
    rows := (plan ->> 'Actual Rows')::numeric;
    is_little := (plan ->> 'Shared Hit Blocks')::int + (plan ->> 'Shared Read Blocks')::int < 75;
end
$$;

call tests.log_in('alice');
select * from tests.reading('select * from api_keys');
select * from tests.reading('select * from api_keys order by created_at desc limit 2');
select * from tests.reading('select * from api_keys limit 3');
select * from tests.reading(format('select * from api_keys where id = %L', :'one'));
select * from tests.reading($$select * from api_keys where name = 'one' and is_active$$);
select * from tests.reading('select count(*) from api_keys');
select * from tests.reading('select * from api_key_events');
select * from tests.reading('select * from api_key_events order by happened_at desc limit 2');
select * from tests.reading('select * from api_key_daily_usage');
select * from tests.reading($$select day, sum(requests) from api_key_daily_usage where day >= '2026-01-01' group by day$$);
select * from tests.reading('select * from pat.user_settings');
select * from tests.reading('select name, last_used_at from pat.api_keys left join pat.api_key_usage on key_id = id');
-- A plan that is kept for whoever asks.
set plan_cache_mode = force_generic_plan;
prepare of_name (text) as select * from api_keys where name = $1;
select * from tests.reading($$execute of_name('two')$$);
reset plan_cache_mode;

-- With a token, as far as its scopes go.
begin;
call tests.use_judged_token(:'reading_token');
select * from tests.reading('select * from api_keys');
select * from tests.reading('select * from api_key_events');
select * from tests.reading('select * from api_key_daily_usage');
commit;

-- Deleting.
call tests.log_in('alice');
select * from tests.reading(format('delete from api_keys where id = %L returning name', :'one'));
select * from tests.reading($$delete from api_keys where name = 'two' returning name$$);
begin;
call tests.use_judged_token(:'deleting_token');
select * from tests.reading($$delete from api_keys where name = 'three' returning name$$);
commit;
call tests.log_in('alice');
select name from api_keys order by created_at;
reset role;

-- A trusted role without BYPASSRLS sees all, also one that becomes such a role, and changes what it names.
create role backend;
grant select on api_keys, pat.api_keys, pat.api_key_usage to backend;
grant service_role to backend;
set role backend;
select rows from tests.reading('select * from api_keys');
select rows >= 20008 as all_events from tests.reading('select * from api_key_events');
select rows from tests.reading('select * from pat.usage_by_day');
select rows from tests.reading('select * from pat.user_settings');
select * from tests.reading($$select * from api_keys where user_id = '11111111-1111-1111-1111-111111111111'$$);
select * from tests.reading($$update pat.api_keys set name = 'y' where user_id = '11111111-1111-1111-1111-111111111111' returning name$$);
select * from tests.reading($$delete from api_keys where id = md5('key 1')::uuid returning name$$);
select * from tests.reading(format('select * from service_account_tokens(%L)', :'ci'));
reset role;
-- Once it is no member any more, it sees what everybody would with these claims, also by a plan that is there.
set role backend;
prepare what_is_there as select count(*) from api_keys;
execute what_is_there;
reset role;
revoke service_role from backend;
set role backend;
execute what_is_there;
reset role;
drop owned by backend;
drop role backend;
