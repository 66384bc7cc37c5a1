set supabase_pat.trusted_proxies = 1;
set request.headers = '{"x-forwarded-for": "192.0.2.1"}';
call tests.log_in('alice');
select id as one, token as token from mint_pat(name => 'one', scopes => '{tokens:write,tokens:read,todos:*}') \gset
select id as two from mint_pat(name => 'two') \gset
begin;
call tests.use_judged_token(:'token');
select id as child from mint_pat(name => 'child', scopes => '{todos:read}') \gset
commit;
call tests.log_in('alice');
select id as next from rotate_pat(:'two') \gset
select revoke_pat(:'next');
delete from api_keys where id = :'child';
call tests.log_in('bob');
select id as bobs from mint_pat(name => 'bobs') \gset
call tests.request('service_role', '{"role": "service_role"}');
select count(*) from mint_pat('22222222-2222-2222-2222-222222222222', 'by the backend');
select revoke_all_pats('22222222-2222-2222-2222-222222222222');
-- Trusted roles see everything.
select event, case user_id when '11111111-1111-1111-1111-111111111111' then 'alice' else 'bob' end as user, (select name from pat.api_keys where id = key_id) as key, role,
    by_key = :'one' as by_one, address, count, detail is not null as detail from pat.events order by id;
select detail = 'in the place of ' || :'two' as which from pat.events where event = 'token_rotated';
-- Users see the events of their own tokens. A token without the scope for it sees none.
call tests.log_in('bob');
select event, role, count, key_id = :'bobs' as first from api_key_events order by happened_at;
call tests.log_in('alice');
select count(*) from api_key_events;
select count(*) from api_key_events where user_id <> auth.uid();
begin;
call tests.use_judged_token(:'token');
select count(*) from api_key_events;
commit;
call tests.request('authenticated', tests.claims(:'token') || '{"scope": "todos:read"}');
select count(*) from api_key_events;
-- Only trusted roles see the other events of a user, and no role can write events.
call tests.request('service_role', '{"role": "service_role"}');
select count(*) from pat.mint_session('11111111-1111-1111-1111-111111111111');
call tests.log_in('alice');
select distinct event from pat.events order by event;
select code from tests.as_each_role($$delete from pat.events$$);
select code from tests.as_each_role($$insert into pat.events (event) values ('x')$$);
select code from tests.as_each_role($$insert into api_key_events (event) values ('x')$$);
select code from tests.as_each_role($$select * from api_key_events$$);
-- A rollback removes the events too.
reset role;
select count(*) as before from pat.events \gset
call tests.log_in('alice');
begin;
select count(*) from mint_pat(name => 'never');
rollback;
reset role;
select count(*) - :before as more from pat.events;

-- Events that are older than the setting allows are removed, a few with each new event.
insert into pat.events (event, happened_at) select 'old', now() - interval '91 days' from generate_series(1, 15);
insert into pat.events (event, happened_at) select 'not so old', now() - interval '89 days';
select count(*) from pat.mint_session('11111111-1111-1111-1111-111111111111');
select count(*) filter (where event = 'old') as old, count(*) filter (where event = 'not so old') as not_so_old from pat.events;
set supabase_pat.event_retention = 0;
select count(*) from pat.mint_session('11111111-1111-1111-1111-111111111111');
select count(*) from pat.events where event = 'old';
set supabase_pat.event_retention = '90d';
select count(*) from pat.mint_session('11111111-1111-1111-1111-111111111111');
select count(*) from pat.events where event = 'old';
