-- Alice, as authenticated, sees only her own rows. She tries a function that reports its arguments and costs next to
-- nothing, so that the planner would like to call it first, and the statistics that Postgres has about the tables.
insert into pat.api_keys (id, user_id, name, expires_at) select gen_random_uuid(), '22222222-2222-2222-2222-222222222222', 'of bob', 'infinity'
    from generate_series(1, 1000);
insert into pat.api_key_usage (key_id, user_id, last_used_at) select id, user_id, now() from pat.api_keys;
insert into pat.events (event, user_id, key_id, detail) select 'token_minted', user_id, id, 'of bob' from pat.api_keys;
insert into pat.user_settings (user_id, settings) values ('22222222-2222-2222-2222-222222222222', '{"secret": "of bob"}');
analyze pat.api_keys, pat.api_key_usage, pat.events, pat.user_settings;
grant create on schema public to authenticated;
call tests.log_in('alice');
select name from mint_pat(name => 'of alice');
create function tell(anyelement) returns boolean language plpgsql cost 0.0000001 as $$
begin
    raise info 'seen: %', $1;
    return true;
end
$$;
select count(*) from api_keys where tell(name);
select count(*) from pat.api_keys where tell(name);
select count(*) from api_key_events where tell(event);
select count(*) from pat.events where tell(event);
select count(*) from pat.api_key_usage where tell(user_id);
select count(*) from pat.user_settings where tell(settings);
delete from pat.api_keys where tell(name) and name = 'of bob';
delete from api_keys where tell(name) and name = 'of bob' returning name;
select name from api_keys where name ~ '(of bob)' or 1 / (length(name) - 6) >= 0;

-- COPY, statistics, locks, foreign keys, triggers, rules, policies and comments show her nothing either.
copy (select name from api_keys) to stdout;
copy pat.api_keys (name) to stdout;
copy pat.api_keys to stdout;
select count(*) from pg_stats where schemaname in ('pat', 'auth');
select * from tests.error('select count(*) from pg_statistic');
select * from tests.error('lock table pat.signing_keys in access share mode');
select * from tests.error('create table probe (id uuid references pat.api_keys)');
select * from tests.error('create trigger t before delete on pat.api_keys for each row execute function suppress_redundant_updates_trigger()');
select * from tests.error('create rule r as on delete to public.api_keys do instead nothing');
select * from tests.error('create policy p on pat.api_keys using (true)');
select * from tests.error('alter table pat.api_keys disable row level security');
select * from tests.error('comment on table pat.api_keys is $$mine$$');
select * from tests.error('create statistics s on id, user_id from pat.api_keys');
select * from tests.error('create index on pat.api_keys (tell(name))');
select * from tests.error('create function pat.sign(text, text) returns text language sql as $$select $1$$');
set row_security = off;
select * from tests.error('select id from pat.api_keys');
-- This is the last statement, since some versions of psql take what follows for its rows.
copy pat.api_keys (name) from stdin;
