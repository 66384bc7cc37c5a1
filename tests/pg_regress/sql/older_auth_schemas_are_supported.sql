-- Columns and tables that a version of Supabase Auth does not have, yet or any more, are not used.
drop table auth.identities, auth.refresh_tokens;
alter table auth.users drop column confirmed_at, drop column instance_id, drop column aud, drop column role, drop column email_confirmed_at,
    drop column confirmation_token, drop column recovery_token, drop column recovery_sent_at, drop column email_change_token_new, drop column email_change,
    drop column last_sign_in_at, drop column raw_app_meta_data, drop column raw_user_meta_data, drop column created_at, drop column updated_at,
    drop column phone, drop column phone_confirmed_at, drop column banned_until, drop column is_sso_user, drop column deleted_at, drop column is_anonymous;
alter table auth.sessions drop column created_at, drop column updated_at, drop column factor_id, drop column aal, drop column not_after, drop column refreshed_at,
    drop column user_agent, drop column ip, drop column tag, drop column oauth_client_id, drop column refresh_token_hmac_key,
    drop column refresh_token_counter, drop column scopes;
\d auth.users
set supabase_pat.enable_sign_up = on;
set supabase_pat.enable_sign_in = on;
set supabase_pat.confirm_sign_up = off;
call tests.request('anon', '{}');
select access_token is not null as session, "user" - 'id' as user from sign_up('carol@example.com', 'a password', '{"name": "Carol"}');
select refresh_token as token from sign_in('carol@example.com', 'a password') \gset
select access_token as login, refresh_token is not null as refreshed from refresh_session(:'token') \gset
call tests.use_token(:'login');
select is_active_session(), signed_in_user() ->> 'email' as email;
select name from mint_pat(name => 'x');
reset role;
select token, code from pat.issue_reset_code('carol@example.com') \gset
call tests.request('anon', '{}');
select reset_password(:'token', :'code', 'another password');
call tests.use_token(:'login');
select is_active_session(), sign_out('global');
call tests.request('anon', '{}');
select sign_in('carol@example.com', 'another password') is not null as signed_in;
reset role;

-- Without a column that is needed there is a clear error.
alter table auth.users drop column encrypted_password;
select * from tests.error($$select sign_in('carol@example.com', 'another password')$$);
select * from tests.error($$select request_password_reset('carol@example.com')$$);
drop table auth.sessions;
select * from tests.error($$select pat.mint_session(id) from auth.users where email = 'carol@example.com'$$);
call tests.use_token(:'login');
select is_active_session();
