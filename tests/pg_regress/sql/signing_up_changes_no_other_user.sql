-- A sign-up gets the same answer whether or not the address is taken, and changes only users whom sign_up itself has
-- made.
set supabase_pat.enable_sign_up = on;
set supabase_pat.enable_sign_in = on;
create extension pgcrypto;
create table users (email text, made text);
insert into users values
    ('made@example.com', 'by sign_up'),
    ('auth@example.com', 'by Supabase Auth, and not confirmed'),
    ('invited@example.com', 'by an invitation'),
    ('phone@example.com', 'for a phone, the address was added later'),
    ('anonymous@example.com', 'anonymous, and about to be somebody'),
    ('confirmed@example.com', 'by sign_up, then confirmed'),
    ('session@example.com', 'by sign_up, then a trusted role began a session'),
    ('token@example.com', 'by sign_up, then a trusted role minted a token'),
    ('oauth@example.com', 'by sign_up, then logged in by an identity provider'),
    ('admin@example.com', 'by sign_up, then an administrator set a password'),
    ('number@example.com', 'by sign_up, then a phone was confirmed');
alter table auth.users add invited_at timestamptz;
select count(sign_up(email, 'first password', '{"n": 1}')) from users where made like 'by sign_up%';
insert into auth.users (email, encrypted_password, raw_user_meta_data) select email, crypt('first password', gen_salt('bf', 4)), '{"n": 1}' from users where made not like 'by sign_up%';
select count(*) from pat.pending_sign_ups;
update auth.users set invited_at = now() where email like 'invited%';
update auth.users set phone = '4912345', phone_confirmed_at = now() where email like 'phone%';
update auth.users set is_anonymous = true where email like 'anonymous%';
update auth.users set email_confirmed_at = now() where email like 'confirmed%';
select count(pat.mint_session(id)) from auth.users where email like 'session%';
select count(mint_pat(id, 'x')) from auth.users where email like 'token%';
update auth.users set last_sign_in_at = now() where email like 'oauth%';
update auth.users set encrypted_password = crypt('first password', gen_salt('bf', 4)) where email like 'admin%';
update auth.users set phone = '4967890', phone_confirmed_at = now() where email like 'number%';
delete from pat.outbox;

call tests.request('anon', '{}');
select count(confirmation_token) as answers, count(access_token) as sessions
from users, lateral sign_up(email, 'second password', '{"n": 2}');
reset role;
select made, encrypted_password = crypt('second password', encrypted_password) as has_another_password, raw_user_meta_data ->> 'n' as n
from users join auth.users u using (email) order by made;
-- Each sign-up leaves a row in the outbox, and only one is a mail to send.
select count(*) as requests, count(*) filter (where is_deliverable) as mails from pat.outbox;

-- A code is no longer valid once the user has signed in by other means.
select confirmation_token as token from sign_up('late@example.com', 'a password') \gset
select code from pat.claim_messages() where email like 'late%' \gset
select token_type from auth.users u, pat.mint_session(u.id) where email = 'late@example.com';
select confirm_sign_up(:'token', :'code') is null as refused;
select email_confirmed_at from auth.users where email = 'late@example.com';
-- What sign_up of version 0.1.0 has made is known without the password that it had.
select confirmation_token as token from sign_up('older@example.com', 'a password') \gset
update pat.pending_sign_ups set password_digest = null;
select confirmation_token as token from sign_up('older@example.com', 'another password') \gset
select code from pat.claim_messages() where email like 'older%' order by expires_at desc, id desc limit 1 \gset
select confirm_sign_up(:'token', :'code') is not null as confirmed;
select count(*) as pending from pat.pending_sign_ups p join auth.users u on u.id = user_id where email like 'older%';
-- The rows of deleted users do not stay for long: each new sign-up checks four of them.
delete from auth.users;
select count(*) > 4 as some from pat.pending_sign_ups;
create table before as select count(*) as n from pat.pending_sign_ups;
select (sign_up('new@example.com', 'a password')).confirmation_token is not null as signed_up;
select n + 1 - count(*) >= 3 as cleared_away from before, pat.pending_sign_ups group by n;
-- API roles do not see who has signed up, or from where.
select * from tests.as_each_role('select * from pat.pending_sign_ups');
select * from tests.as_each_role('select * from pat.known_networks');
