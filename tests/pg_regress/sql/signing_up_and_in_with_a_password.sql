-- Both are off until somebody turns them on.
call tests.request('anon', '{}');
select * from tests.error($$select sign_up('carol@example.com', 'a password')$$);
select * from tests.error($$select sign_in('carol@example.com', 'a password')$$);
reset role;
set supabase_pat.enable_sign_up = on;
set supabase_pat.enable_sign_in = on;

-- Signing up ends with a code that comes by e-mail.
call tests.request('anon', '{}');
select access_token is null as no_session_yet, confirmation_token as token from sign_up(' Carol@Example.com', 'a password', '{"name": "Carol"}') \gset
select :'no_session_yet' as no_session_yet;
select sign_in('carol@example.com', 'a password') is null as not_confirmed, current_setting('response.status') as status;
reset role;
select purpose, email, code from pat.claim_messages() \gset
select :'purpose' as purpose, :'email' as email;
call tests.request('anon', '{}');
select confirm_sign_up(:'token', translate(left(:'code', 1), '0123456789', '1234567890') || substr(:'code', 2)) is null as wrong_code;
select verify_reset_code(:'token', :'code') as for_another_purpose, reset_password(:'token', :'code', 'new password') as nor_a_reset;
select access_token as token_of_carol, refresh_token is not null as has_refresh_token, "user" -> 'user_metadata' as user_metadata, "user" -> 'app_metadata' as app_metadata
from confirm_sign_up(:'token', :'code') \gset
select :'has_refresh_token' as has_refresh_token, :'user_metadata' as user_metadata, :'app_metadata' as app_metadata;
select confirm_sign_up(:'token', :'code') is null as once;
select (pat.decode_jwt(:'token_of_carol')).payload -> 'amr' -> 0 ->> 'method' as method, (pat.decode_jwt(:'token_of_carol')).payload ->> 'email' as email;
reset role;
select instance_id, aud, role, email, encrypted_password like '$2a$10$%' as bcrypt, email_confirmed_at is not null as confirmed, last_sign_in_at is not null as signed_in,
    raw_app_meta_data, raw_user_meta_data, confirmation_token, recovery_token, email_change, email_change_token_new, is_sso_user, is_anonymous
from auth.users where email = 'carol@example.com' \gx
select i.provider, i.provider_id = u.id::text as provider_id, i.identity_data - 'sub' as identity_data, i.email from auth.identities i join auth.users u on u.id = i.user_id;

-- Signing in with the password.
call tests.request('anon', '{}');
select token_type, expires_in, access_token is not null as access, refresh_token is not null as refresh from sign_in('carol@example.com', 'a password');
select token_type from sign_in(' CAROL@example.com ', 'a password');
select sign_in('carol@example.com', 'A password') is null as wrong_password, current_setting('response.status') as status;
select sign_in('nobody@example.com', 'a password') is null as nobody, sign_in('alice@example.com', 'a password') is null as without_a_password,
    sign_in('carol', 'a password') is null as no_address, sign_in(null, 'a password') is null as no_email, sign_in('carol@example.com', null) is null as no_password,
    sign_in('carol@example.com', '') is null as empty, sign_in('carol@example.com', 'a password' || repeat('x', 100)) is null as long;
reset role;
select event, detail, count(*) from pat.events group by event, detail order by event, detail;
select count(*) as sessions from auth.sessions;

delete from pat.wrong_passwords;

-- Hashes of other kinds: Argon2 is verified, Firebase's scrypt is refused with a reason in the trail.
update auth.users set encrypted_password = '$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc' where email = 'carol@example.com';
select sign_in('carol@example.com', 'password') is not null as argon2, sign_in('carol@example.com', 'passwort') is null as wrong;
update auth.users set encrypted_password = '$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=x$y$z' where email = 'carol@example.com';
select sign_in('carol@example.com', 'password') is null as scrypt;
select detail from pat.events order by id desc limit 1;
update auth.users set encrypted_password = null where email = 'carol@example.com';

-- Users who are banned or deleted, or log in with an identity provider, cannot sign in.
update auth.users set encrypted_password = u.hash, banned_until = 'infinity'
from (select encrypted_password as hash from auth.users where false union all select '$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc') u where email = 'carol@example.com';
delete from pat.wrong_passwords;
select sign_in('carol@example.com', 'password') is null as banned;
update auth.users set banned_until = null, deleted_at = now() where email = 'carol@example.com';
select sign_in('carol@example.com', 'password') is null as deleted;
update auth.users set deleted_at = null, is_sso_user = true where email = 'carol@example.com';
select sign_in('carol@example.com', 'password') is null as single_sign_on;
update auth.users set is_sso_user = false where email = 'carol@example.com';
delete from pat.wrong_passwords;
select sign_in('carol@example.com', 'password') is not null as not_any_more;

-- An address that is taken: the same answer, and no mail.
call tests.request('anon', '{}');
select access_token is null as no_session, confirmation_token is not null as token from sign_up('carol@example.com', 'another password');
reset role;
select count(*) as messages from pat.claim_messages();
select count(*) as carols from auth.users where email = 'carol@example.com';
-- If a stranger signs up with the address first, the owner confirms their own password, not the stranger's.
call tests.request('anon', '{}');
select confirmation_token as mallory from sign_up('victim@example.com', 'known to mallory', '{"by": "mallory"}') \gset
select confirmation_token as victim from sign_up('victim@example.com', 'the victim''s own', '{"by": "victim"}') \gset
reset role;
select array_agg(code) as codes from pat.claim_messages() \gset
select confirm_sign_up(:'mallory', (:'codes'::text[])[1]) is null and confirm_sign_up(:'mallory', (:'codes'::text[])[2]) is null as mallory_fails;
select confirm_sign_up(:'victim', (:'codes'::text[])[1]) is not null or confirm_sign_up(:'victim', (:'codes'::text[])[2]) is not null as victim_succeeds;
select sign_in('victim@example.com', 'known to mallory') is null as not_mallory_s, sign_in('victim@example.com', 'the victim''s own') is not null as the_victim_s;
select raw_user_meta_data from auth.users where email = 'victim@example.com';

-- Without confirmation there is a session at once, and a clear error for an address that is taken.
set supabase_pat.confirm_sign_up = off;
call tests.request('anon', '{}');
select token_type, confirmation_token, "user" ->> 'email' as email from sign_up('dave@example.com', 'a password');
select * from tests.error($$select sign_up('dave@example.com', 'a password')$$);
-- Invalid arguments are refused, and nothing is stored.
select * from tests.error($$select sign_up('dave', 'a password')$$);
select * from tests.error($$select sign_up(null, 'a password')$$);
select * from tests.error($$select sign_up('erin@example.com', 'short')$$);
select * from tests.error($$select sign_up('erin@example.com', '')$$);
select * from tests.error($$select sign_up('erin@example.com', null)$$);
select * from tests.error(format($$select sign_up('erin@example.com', %L)$$, repeat('x', 73)));
select * from tests.error($$select sign_up('erin@example.com', 'a password', '[]')$$);
select * from tests.error(format($$select sign_up('erin@example.com', 'a password', %L)$$, jsonb_build_object('x', repeat('x', 9000))));
reset role;
select count(*) from auth.users where email = 'erin@example.com';
begin read only;
select * from tests.error($$select sign_up('erin@example.com', 'a password')$$);
select * from tests.error($$select sign_in('dave@example.com', 'a password')$$);
select * from tests.error($$select confirm_sign_up('x', 'x')$$);
rollback;
