-- Users are told by mail of their tokens, by a worker that claims what there is to tell.
\set alice '11111111-1111-1111-1111-111111111111'
\set bob '22222222-2222-2222-2222-222222222222'
update auth.users set email_confirmed_at = now(), raw_user_meta_data = '{"locale": "es_MX"}' where id = :'alice';
update auth.users set email_confirmed_at = now() where id = :'bob';
-- Nothing is written until somebody asks for it.
select id as silent from mint_pat(:'alice', 'silent') \gset
select revoke_pat(:'silent');
select count(*) as notices from pat.notices;
set supabase_pat.notices = 'minted, revoked, leaked, expiring';

-- The user, one of their tokens, an operator.
call tests.log_in('alice');
select id as maker, token as maker_token from mint_pat(name => 'maker', scopes => '{tokens:write,tokens:delete}') \gset
begin;
call tests.use_judged_token(:'maker_token');
select id as made, token as made_token from mint_pat(name => 'made', scopes => '{tokens:write}') \gset
commit;
reset role;
select id as given from mint_pat(:'bob', 'given') \gset
select kind, email, language, token_name, length(token_hint) as hint, is_rotation, others, actor, actor_token, found_at, happened_at > now() - interval '1 minute' as now, expires_at, attempt
from pat.claim_notices() order by happened_at;
select count(*) as left_for_others from pat.claim_notices();
-- What is confirmed is sent, and what is returned comes again.
select id as first from pat.notices order by happened_at limit 1 \gset
select pat.notice_sent(:'first') as first, pat.notice_sent(:'first') as again, pat.notice_sent(1000000) as unknown;
select id as second from pat.notices where ended_at is null order by happened_at limit 1 \gset
select pat.notice_failed(:'second', 'mailbox full'), pat.notice_failed(:'first', 'x') as sent_already;
select attempts, last_error, claimed_until > clock_timestamp() as is_paused, outcome from pat.notices where id = :'second';
select outcome, name, hint from pat.notices where id = :'first';
delete from pat.notices;

-- A rotation makes a token, and ends another: that is one notice. In its grace a token may be revoked all the same.
call tests.log_in('alice');
select id as successor from rotate_pat(:'maker') \gset
select id as last_one from rotate_pat(:'successor', '1 hour') \gset
select revoke_pat(:'successor');
-- Whatever ends a token tells of it: a token, a deletion, an operator by hand, all at once.
begin;
call tests.use_judged_token(:'made_token');
select revoke_pat();
commit;
call tests.log_in('alice');
delete from api_keys where id = :'made';
delete from api_keys where id = :'last_one';
reset role;
update pat.api_keys set revoked_at = now() where id = :'given';
update pat.api_keys set revoked_at = now() where id = :'given';
select kind, email, token_name, is_rotation, actor, actor_token from pat.claim_notices() order by happened_at;
select pat.notice_sent(id) as sent from pat.notices;

-- A reset password, a signing key that is revoked, a token that is denied.
select mint_pat(:'bob', 'before the reset') is not null as minted;
select token, code from pat.issue_reset_code('bob@example.com') \gset
call tests.request('anon', '{"role": "anon"}');
select reset_password(:'token', :'code', 'a new password');
reset role;
select pat.rotate_signing_key(pat.add_signing_key('ES256', kid => 'es1'));
select mint_pat(:'bob', 'signed with a key') is not null as minted;
select pat.rotate_signing_key(pat.add_signing_key('ES256', kid => 'es2'));
select pat.revoke_signing_key('es1');
select token as opaque from mint_pat(:'bob', 'opaque', kind => 'opaque') \gset
select pat.deny_token(:'opaque');
select token_name, actor from pat.claim_notices() where kind = 'revoked' order by happened_at;
delete from pat.notices;

-- Leaked: the token itself, and what it has made. Where it was found is what somebody has written.
set supabase_pat.enable_leak_reports = on;
select token as leaked from mint_pat(:'bob', 'leaked', scopes => '{tokens:write}') \gset
begin;
call tests.use_judged_token(:'leaked');
select mint_pat(name => 'made with it', scopes => '{tokens:write}') is not null as made;
commit;
call tests.request('anon', '{"role": "anon"}');
select report_leaked_tokens(array[:'leaked'], 'https://example.com/.env');
reset role;
select kind, token_name, actor, found_at from pat.claim_notices() where kind <> 'minted' order by kind;
-- Who wants to hear of revocations alone hears of these too.
set supabase_pat.notices = 'revoked';
delete from pat.notices;
select token as leaked from mint_pat(:'bob', 'leaked again') \gset
call tests.request('anon', '{"role": "anon"}');
select report_leaked_tokens(array[:'leaked']);
reset role;
select kind, token_name, actor, found_at from pat.claim_notices();
delete from pat.notices;

-- What is rolled back was never told.
set supabase_pat.notices = 'minted,revoked';
begin;
select id as undone from mint_pat(:'bob', 'undone') \gset
savepoint before;
select revoke_pat(:'undone');
rollback to before;
select kind, name from pat.notices;
rollback;
select count(*) as notices from pat.notices;
-- In a transaction with one snapshot too.
begin isolation level repeatable read;
select id as seen from mint_pat(:'bob', 'in one snapshot') \gset
select revoke_pat(:'seen');
commit;
select kind, name from pat.notices order by happened_at;

-- Metadata that users have filled make nobody wait: they are not read, and say nothing of a language.
set supabase_pat.notices = 'minted';
delete from pat.notices;
update auth.users set raw_user_meta_data = jsonb_build_object('locale', 'es', 'x', repeat('y', 65000)) where id = :'alice';
update auth.users set raw_user_meta_data = jsonb_build_object('locale', 'es', 'x', repeat('y', 66000)) where id = :'bob';
select mint_pat(:'alice', 'much') is not null, mint_pat(:'bob', 'too much') is not null;
select token_name, language from pat.claim_notices() order by happened_at;
