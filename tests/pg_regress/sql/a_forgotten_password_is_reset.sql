create extension pgcrypto;
update auth.users set email = 'alice@example.com', encrypted_password = crypt('old password', gen_salt('bf', 4)), recovery_token = 'x',
    recovery_sent_at = now(), updated_at = '2020-01-01', email_change = 'x', email_change_token_new = 'y'
where id = '11111111-1111-1111-1111-111111111111';
insert into auth.sessions (id, user_id) values (gen_random_uuid(), '11111111-1111-1111-1111-111111111111'), (gen_random_uuid(), '22222222-2222-2222-2222-222222222222');
insert into auth.refresh_tokens (token, user_id, session_id) select id::text, user_id::text, id from auth.sessions;
insert into auth.refresh_tokens (token, user_id) values ('without a session', '11111111-1111-1111-1111-111111111111');
call tests.log_in('alice');
select name from mint_pat(name => 'script');

-- Somebody who is not logged in asks for a code and keeps the token.
call tests.request('anon', '{}');
select request_password_reset(' Alice@Example.COM ') as token \gset
reset role;
-- A mail worker takes the message.
call tests.request('service_role', '{}');
select purpose, email, code ~ '^[0-9]{16}$' as sixteen_digits, expires_at between now() + '14 min' and now() + '15 min' as in_time, attempt from pat.claim_messages();
select count(*) as claimed_already from pat.claim_messages();
reset role;
update pat.outbox set claimed_until = null;
call tests.request('service_role', '{}');
select id, code, attempt from pat.claim_messages() \gset
select :attempt as attempt, pat.message_sent(:'id') as sent, pat.message_sent(:'id') as again;
reset role;
select sealed is null as forgotten, sent_at is not null as sent from pat.outbox;

-- A page may check a right code as often as it likes.
call tests.request('anon', '{}');
select verify_reset_code(:'token', :'code') as right, verify_reset_code(:'token', left(:'code', 4) || '-' || right(:'code', 12)) as typed;
select reset_password(:'token', :'code', 'a new password');
-- A code sets a password only once.
select verify_reset_code(:'token', :'code') as right, reset_password(:'token', :'code', 'another password');
reset role;

select encrypted_password like '$2a$10$%' as bcrypt, encrypted_password = crypt('a new password', encrypted_password) as verified,
    updated_at > now() - interval '1 min' as updated, recovery_token, recovery_sent_at, email_change, email_change_token_new, email_confirmed_at is not null as confirmed
from auth.users where email = 'alice@example.com';
select user_id from auth.sessions;
select user_id from auth.refresh_tokens;
select name, revoked_at is not null as revoked from pat.api_keys;
select event, user_id, detail from pat.events order by id;

-- A backend that sends the mail itself gets the code.
call tests.request('service_role', '{}');
select token, code, expires_at > now() as later from pat.issue_reset_code('ALICE@example.com') \gset
select count(*) as messages from pat.claim_messages();
select * from tests.error($$select pat.issue_reset_code('nobody@example.com')$$);
select * from tests.error($$select pat.issue_reset_code('alice')$$);
select * from tests.error($$select pat.issue_reset_code(null)$$);
call tests.request('anon', '{}');
-- A password that is refused does not use up the code.
select * from tests.error(format($$select reset_password(%L, %L, '')$$, :'token', :'code'));
select * from tests.error(format($$select reset_password(%L, %L, 'short')$$, :'token', :'code'));
select * from tests.error(format($$select reset_password(%L, %L, %L)$$, :'token', :'code', repeat('é', 37)));
select * from tests.error(format($$select reset_password(%L, %L, 'a new password')$$, :'token', :'code'));
select * from tests.error(format($$select reset_password(%L, %L, null)$$, :'token', :'code'));
reset role;
set supabase_pat.reset_revokes_pats = off;
set supabase_pat.min_password_length = 1;
call tests.log_in('alice');
select name from mint_pat(name => 'kept');
select reset_password(:'token', :'code', 'x');
call tests.log_in('alice');
select name, is_active from api_keys order by name;
reset role;

-- A user without a password gets one.
update auth.users set email = 'bob@example.com' where id = '22222222-2222-2222-2222-222222222222';
select token, code from pat.issue_reset_code('bob@example.com') \gset
select reset_password(:'token', :'code', 'the first password');
