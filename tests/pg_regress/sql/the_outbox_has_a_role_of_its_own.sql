-- The role that sends mails may do that, and nothing else that is for trusted roles.
create extension pgcrypto;
create role postman nologin;
grant execute on function pat.claim_messages(integer), pat.message_sent(uuid), pat.message_failed(uuid, text), pat.sign_jwt(jsonb, interval), pat.mint_session(uuid) to postman;
update auth.users set encrypted_password = crypt('x', gen_salt('bf', 4));
call tests.request('anon', '{"role": "anon"}');
select request_password_reset('alice@example.com') is not null as requested;
reset role;
-- There is no such role until a superuser has set it.
select role, code, error from tests.as_each_role('select pat.claim_messages()', '{postman, anon}');
set supabase_pat.mail_worker_role = 'postman';
select role, code, error from tests.as_each_role('select pat.sign_jwt(''{}'')', '{postman}');
select role, code, error from tests.as_each_role('select pat.mint_session(''11111111-1111-1111-1111-111111111111'')', '{postman}');
select role, code, error from tests.as_each_role('select pat.deny_token(''x'')', '{postman}');
select role, code, error from tests.as_each_role('select pat.claim_messages()', '{anon, authenticated, nobody}');
-- The setting grants nothing: the role also needs EXECUTE on the functions.
set supabase_pat.mail_worker_role = 'nobody';
select role, code, error from tests.as_each_role('select pat.claim_messages()', '{postman, nobody}');
set supabase_pat.mail_worker_role = 'postman';
set role postman;
select pat.is_trusted();
select id, purpose, email, length(code) from pat.claim_messages() \gset
select :'purpose' as purpose, :'email' as email, :length as length;
select pat.message_failed(:'id', 'no route');
select pat.message_sent(:'id');
set supabase_pat.mail_worker_role = 'anon';
reset role;
drop owned by postman;
drop role postman;
