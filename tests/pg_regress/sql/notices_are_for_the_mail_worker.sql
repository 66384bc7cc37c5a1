-- Notices are read by nobody but whoever sends mails, by three functions.
\set alice '11111111-1111-1111-1111-111111111111'
update auth.users set email_confirmed_at = now();
set supabase_pat.notices = 'minted';
select mint_pat(:'alice', 'x') is not null as minted;
call tests.log_in('alice');
set role none;
select role, code, error from tests.as_each_role('select from pat.notices');
select role, code, error from tests.as_each_role('select from pat.notice_marks');
select role, code, error from tests.as_each_role($$insert into pat.notices (kind, user_id, happened_at, due_at) values ('minted', gen_random_uuid(), now(), now())$$);
select role, code, error from tests.as_each_role('select pat.claim_notices()');
select role, code, error from tests.as_each_role('select pat.notice_sent(1000000)');
select role, code, error from tests.as_each_role('select pat.notice_failed(1000000)');
-- A role that was granted them is trusted with nothing else, and only if the setting names it.
create role notice_postman;
grant execute on function pat.claim_notices(integer), pat.notice_sent(bigint), pat.notice_failed(bigint, text) to notice_postman;
select role, code, error from tests.as_each_role('select pat.claim_notices()', '{notice_postman}');
select role, code, error from tests.as_each_role('select pat.notice_sent(1000000)', '{notice_postman}');
select role, code, error from tests.as_each_role('select pat.notice_failed(1000000)', '{notice_postman}');
set supabase_pat.mail_worker_role = 'notice_postman';
set role notice_postman;
select kind, email from pat.claim_notices();
select code, error from tests.error('select from pat.notices');
select code, error from tests.error('select mint_pat()');
reset role;
drop owned by notice_postman;
drop role notice_postman;

select * from tests.error('select pat.claim_notices(null)');
select * from tests.error('select pat.notice_sent(null)');
select * from tests.error('select pat.notice_failed(null)');
select count(*) from pat.claim_notices(-1);
begin read only;
select * from tests.error('select pat.claim_notices()');
select * from tests.error('select pat.notice_sent(1000000)');
select * from tests.error('select pat.notice_failed(1000000)');
commit;
select * from tests.error('select pat.key_revoked()');
-- The setting is a list of what there is, and for superusers.
select * from tests.error($$set supabase_pat.notices = 'minted,everything'$$);
select * from tests.error($$set supabase_pat.notices = 'minted revoked'$$);
call tests.log_in('alice');
select * from tests.error($$set supabase_pat.notices = ''$$);
reset role;

-- Whose names are hostile writes no second line, and not against the direction; they are cut.
set supabase_pat.notices = 'minted,revoked';
delete from pat.notices;
insert into pat.api_keys (id, user_id, name, hint, expires_at) values
    (gen_random_uuid(), :'alice', E'a\r\nBcc: mallory@example.com\r\n\r\n<script>', E'\u202ehint', 'infinity'),
    (gen_random_uuid(), :'alice', repeat(U&'\05D0', 10000), null, 'infinity');
select revoke_all_pats(:'alice') as revoked;
select left(token_name, 45) as name, length(token_name), case when token_name <> 'x' then token_hint end as hint from pat.claim_notices() order by 2;
