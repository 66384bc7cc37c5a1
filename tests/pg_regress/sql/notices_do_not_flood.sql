-- Whoever makes and revokes tokens all day floods neither their mailbox nor the table.
call tests.stay_within_a_day();
\set alice '11111111-1111-1111-1111-111111111111'
update auth.users set email_confirmed_at = now();
set supabase_pat.notices = 'minted,expiring,revoked,leaked';
do $$
declare
    token uuid;
begin
    for i in 1 .. 300 loop
        token := (mint_pat('11111111-1111-1111-1111-111111111111', 'number ' || i)).id;
        perform revoke_pat(token);
    end loop;
end
$$;
select kind, count(*), count(key_id) as of_one_token, max(due_at) > now() as one_is_late from pat.notices group by kind order by kind;
select kind, count(*), max(others) as others from pat.claim_notices(1000) group by kind order by kind;
-- The one that stands for all others comes at the end of the day, and counts them.
select kind, due_at = date_trunc('day', now(), 'UTC') + interval '1 day' as at_midnight from pat.notices where key_id is null order by kind;
update pat.notices set due_at = now() where key_id is null;
select kind, token_name, others from pat.claim_notices() order by kind;
-- The next day there is room again.
delete from pat.notices where key_id is null;
update pat.notices set happened_at = happened_at - interval '1 day', ended_at = now();
select mint_pat(:'alice', 'tomorrow') is not null as minted;
select kind, token_name, others from pat.claim_notices();
-- Other kinds, and other users, have rooms of their own.
delete from pat.notices;
insert into pat.notices (kind, user_id, happened_at, due_at) select 'minted', :'alice', now(), now() + interval '1 day' from generate_series(1, 11);
select mint_pat(:'alice', 'beyond') is not null as minted;
select id as own from mint_pat('22222222-2222-2222-2222-222222222222', 'of bob') \gset
select revoke_pat(:'own');
select kind, user_id = :'alice' as alice, count(*) from pat.notices group by 1, 2 order by 1, 2;

-- Many tokens that expire at once, also in one second, and of many users.
delete from pat.notices;
delete from pat.notice_marks;
insert into pat.api_keys (id, user_id, name, created_at, expires_at)
select gen_random_uuid(), :'alice', 'old ' || i, now() - interval '1 year', date_trunc('second', now()) + interval '3 days' from generate_series(1, 1500) i;
insert into pat.api_keys (id, user_id, name, created_at, expires_at)
select gen_random_uuid(), gen_random_uuid(), 'of others', now() - interval '1 year', now() + interval '10 days' + i * interval '1 minute' from generate_series(1, 2500) i;
select kind, count(*) from pat.claim_notices(1000) group by kind;
select user_id = :'alice' as alice, count(*), count(key_id) as of_one_token from pat.notices group by 1 order by 1;
select outcome, count(*) from pat.notices group by 1 order by 1;
-- Step by step, without a pause until all have been looked at.
select count(*) from pat.claim_notices(0);
select days, reached > now() + days * interval '1 day' - interval '1 minute' as is_there from pat.notice_marks order by days;
select count(*) from pat.claim_notices(0);
select user_id = :'alice' as alice, count(*) from pat.notices group by 1 order by 1;
select days, reached > now() + days * interval '1 day' - interval '1 minute' as is_there from pat.notice_marks order by days;
update pat.notices set due_at = now() where user_id = :'alice' and key_id is null;
select kind, token_name, others from pat.claim_notices(1000);

-- What was told on other days is not read, however much: revoking many tokens would take a while.
delete from pat.api_keys;
delete from pat.notices;
insert into pat.notices (kind, user_id, happened_at, due_at, ended_at)
select 'revoked', :'alice', now() - i * interval '1 day', now(), now() from generate_series(1, 8) i, generate_series(1, 1000);
select revoke_pat((mint_pat(:'alice', 'the first')).id);
begin;
select idx_tup_fetch as read, seq_scan as scans from pg_stat_xact_user_tables where relid = 'pat.notices'::regclass \gset
select revoke_pat((mint_pat(:'alice', 'one of many')).id);
-- A few: dead rows count as long as nobody has marked them.
select idx_tup_fetch - :read < 50 as reads_few, seq_scan - :scans as scans from pg_stat_xact_user_tables where relid = 'pat.notices'::regclass;
rollback;

-- What was written while the clock was years ahead silences nobody afterwards, and keeps nothing from being removed.
delete from pat.notices;
insert into pat.notices (kind, user_id, happened_at, due_at)
select kind, :'alice', '2222-01-01', '2222-01-01' from unnest('{minted,expiring}'::text[]) kind, generate_series(1, 11);
insert into pat.notices (kind, user_id, happened_at, due_at, ended_at) values ('minted', :'alice', now() - interval '10 days', now(), now());
update pat.notice_marks set reached = '2222-01-01';
delete from pat.api_keys;
delete from pat.notices where kind = 'revoked';
insert into pat.api_keys (id, user_id, name, created_at, expires_at)
values (gen_random_uuid(), :'alice', 'ends soon', now() - interval '1 year', now() + interval '6 days');
select mint_pat(:'alice', 'afterwards') is not null as minted;
select kind, token_name, others from pat.claim_notices() order by kind;
select kind, happened_at > now() as is_to_come, count(*) from pat.notices group by 1, 2 order by 1, 2;
select days, reached < now() + interval '31 days' as is_there from pat.notice_marks order by days;
