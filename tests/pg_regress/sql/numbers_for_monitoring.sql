-- Without preloading nothing is known of requests.
select kind, name, labels from pat.metrics() where name not in ('supabase_pat_tokens', 'supabase_pat_sessions', 'supabase_pat_library_info')
    order by name, labels;
select count(*) filter (where value < 0 or value = 'nan') as impossible, count(*) = count(distinct (name, labels)) as each_once,
    bool_and(help <> '') as are_described from pat.metrics();
select labels ->> 'version' = extversion as is_ours from pat.metrics(), pg_extension where name = 'supabase_pat_library_info' and extname = 'supabase_pat';

-- What there is, is counted.
select count(*) from pat.rotate_signing_key(pat.add_signing_key());
select count(*) from pat.add_signing_key();
select pat.deny_token(pat.sign_jwt('{"role": "service_role", "exp": 4000000000}'));
select count(*) from pat.mint_session('11111111-1111-1111-1111-111111111111');
select count(*) from request_password_reset('alice@example.com');
select count(*) from request_password_reset('nobody@example.com');
select name, labels, value from pat.metrics() where name in ('supabase_pat_signing_keys', 'supabase_pat_denied_tokens', 'supabase_pat_outbox_messages',
    'supabase_pat_recent_events') order by name, labels;
select value between 0 and 60 as is_new from pat.metrics() where name = 'supabase_pat_signing_key_age_seconds';
call tests.log_in('alice');
select count(*) from mint_pat(name => 'one') union all select count(*) from mint_pat(name => 'two');
select revoke_pat(id) from api_keys where name = 'one';
reset role;
-- Of the number of tokens the statistics tell.
select labels, value from pat.metrics() where name = 'supabase_pat_tokens';
analyze pat.api_keys;
analyze pat.sessions;
select name, labels, value from pat.metrics() where name in ('supabase_pat_tokens', 'supabase_pat_sessions') order by name, labels;
-- For trusted roles and those who monitor, and for nobody else.
select role, code, error from tests.as_each_role('select count(*) from pat.metrics()');
create role watcher in role pg_monitor;
set role watcher;
select count(*) > 10 as are_told from pat.metrics();
select code from tests.error('select count(*) from pat.events');
select code from tests.error('select count(*) from pat.status()');
reset role;
grant execute on function pat.metrics() to authenticated;
call tests.log_in('alice');
select * from tests.error('select count(*) from pat.metrics()');
reset role;
drop role watcher;
