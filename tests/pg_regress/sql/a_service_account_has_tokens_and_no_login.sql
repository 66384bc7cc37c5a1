-- An operator creates it and mints for it.
select create_service_account('ci', 'deploys the app') as ci \gset
select token, id as key from mint_pat(:'ci', 'deploy') \gset
call tests.use_token(:'token');
insert into todos (title) values ('by the machine');
select title, user_id = :'ci' as its_own, is_service_account(), is_valid_api_token() from todos;
select signed_in_user() ->> 'email' as email, signed_in_user() -> 'app_metadata' ->> 'provider' as provider;
-- A user is none, and nobody is none.
call tests.log_in('alice');
select is_service_account();
call tests.request('anon', '{"role": "anon"}');
select is_service_account();
reset role;

-- It is a user as Supabase Auth writes them, with nothing to log in with.
select jsonb_pretty(jsonb_strip_nulls(to_jsonb(u) - 'id' - 'created_at' - 'updated_at')) as user from auth.users u where id = :'ci';
select count(*) as identities from auth.identities where user_id = :'ci';
select user_id = :'ci' as ci, name, description, created_by from pat.service_accounts;
select event, user_id = :'ci' as ci, role, detail from pat.events where event like 'service%';

-- No road leads to a login, also if somebody gives it an address and a password.
select code, replace(error, :'ci', '<ci>') as error from tests.error(format('select pat.mint_session(%L)', :'ci'));
update auth.users set email = 'ci@example.com', encrypted_password = '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW',
    email_confirmed_at = now() where id = :'ci';
set supabase_pat.enable_sign_in = on;
set supabase_pat.enable_sign_up = on;
set supabase_pat.debug_reset_code = '123456';
set client_min_messages = error;
select code, replace(error, :'ci', '<ci>') as error from tests.error(format('select pat.mint_session(%L)', :'ci'));
select * from tests.error($$select pat.issue_reset_code('ci@example.com')$$);
call tests.request('anon', '{"role": "anon"}');
select access_token from sign_in('ci@example.com', 'U*U');
select request_password_reset('ci@example.com') as reset \gset
select verify_reset_code(:'reset', '123456');
select reset_password(:'reset', '123456', 'correct horse');
select confirmation_token as confirm from sign_up('ci@example.com', 'correct horse') \gset
select access_token from confirm_sign_up(:'confirm', '123456');
-- A login that Supabase Auth gives it changes nothing in its name.
reset role;
insert into auth.sessions (id, user_id) values ('cccccccc-0000-4000-8000-000000000001', :'ci');
call tests.request('authenticated', jsonb_build_object('role', 'authenticated', 'sub', :'ci', 'session_id', 'cccccccc-0000-4000-8000-000000000001'));
select code, replace(error, :'ci', '<ci>') as error from tests.error($$select mint_pat(name => 'x')$$);
select code, replace(error, :'ci', '<ci>') as error from tests.error(format('select rotate_pat(%L)', :'key'));
select code, replace(error, :'ci', '<ci>') as error from tests.error(format('select edit_pat(%L, name => %L)', :'key', 'x'));
select code, replace(error, :'ci', '<ci>') as error from tests.error('select revoke_all_pats()');
select code, replace(error, :'ci', '<ci>') as error from tests.error($$select set_settings('{}')$$);
select code, replace(error, :'ci', '<ci>') as error from tests.error($$select create_service_account('x')$$);
-- The tokens go on working: whoever breaks an account by mistake does not stop the machines. The doctor says it.
call tests.use_token(:'token');
select is_valid_api_token();
reset role;
select ok, replace(detail, :'ci', '<ci>') as detail from pat.status() where "check" = 'service accounts';
insert into auth.identities (provider_id, user_id, identity_data, provider) values ('x', :'ci', '{}', 'github');
update auth.users set email = null, encrypted_password = '' where id = :'ci';
select ok, replace(detail, :'ci', '<ci>') as detail from pat.status() where "check" = 'service accounts';
delete from auth.identities;
select ok, detail from pat.status() where "check" = 'service accounts';

-- What it is called.
select * from tests.error('select create_service_account(null)');
select * from tests.error($$select create_service_account(' ')$$);
select * from tests.error($$select create_service_account(E'two\nlines')$$);
select * from tests.error($$select create_service_account(repeat('x', 101))$$);
select * from tests.error($$select create_service_account('x', repeat('x', 1001))$$);
select count(*) from pat.service_accounts;

-- It is deleted with its user, and its tokens are dead.
select kind, name, is_active, hint is not null as hint from service_account_tokens(:'ci');
select pat.define_key_attribute('project');
select id as full from mint_pat(:'ci', 'with all', kind => 'opaque', scopes => '{a:read,b:*}', allowed_ips => '{192.0.2.0/24,2001:db8::/32}', rate_limit => 7,
    rate_window => '23 hours 3 seconds', attributes => '{"project": ["p1"]}', description => 'says all') \gset
insert into pat.api_key_usage values (:'full', :'ci', '2026-01-01', '192.0.2.1');
select edit_pat(:'full', disabled => true);
select t.kind, t.name, t.is_active, t.scopes, t.allowed_ips, t.rate_limit, t.rate_window, t.description, t.attributes, t.last_used_ip,
    t.allowed_ips::cidr[] = k.allowed_ips and (t.rate_window, t.created_at, t.expires_at, t.last_used_at, t.disabled_at, t.quota, t.quota_window, t.hint)
        is not distinct from (k.rate_window, k.created_at, k.expires_at, k.last_used_at, k.disabled_at, k.quota, k.quota_window, k.hint) as as_the_view
from service_account_tokens(:'ci') t join api_keys k using (id) where id = :'full';
select delete_service_account(:'ci');
select delete_service_account(:'ci');
select * from tests.error(format('select service_account_tokens(%L)', '99999999-9999-4999-8999-999999999999'));
select * from tests.error('select service_account_tokens(null)');
select * from tests.error('select delete_service_account(null)');
select (select count(*) from auth.users where id = :'ci') as users, (select count(*) from pat.service_accounts) as accounts,
    (select count(*) from pat.api_keys where user_id = :'ci' and revoked_at is null) as live;
call tests.use_token(:'token');
select is_valid_api_token();
reset role;
select event, user_id = :'ci' as ci, role, detail from pat.events where user_id = :'ci' and event not like 'session%' order by id;

-- An ordinary user is none, and is not deleted as one.
select delete_service_account('11111111-1111-1111-1111-111111111111');
select count(*) from auth.users where id = '11111111-1111-1111-1111-111111111111';
select * from tests.error($$select service_account_tokens('11111111-1111-1111-1111-111111111111')$$);

-- What stands in the way of its user keeps all as it was.
select create_service_account('with rows') as kept \gset
select id as key from mint_pat(:'kept', 'x') \gset
create table owned (owner uuid references auth.users);
insert into owned values (:'kept');
select code, regexp_replace(error, '[0-9a-f-]{36}', '<id>') as error from tests.error(format('select delete_service_account(%L)', :'kept'));
select is_active from api_keys where id = :'key';
-- A user who was deleted at Supabase Auth leaves an account behind that can be deleted.
delete from owned;
delete from auth.users where id = :'kept';
select ok, detail from pat.status() where "check" = 'service accounts';
select delete_service_account(:'kept');
-- A trigger that keeps the user away.
create function no_users() returns trigger language plpgsql as 'begin return null; end';
create trigger no_users before insert on auth.users for each row execute function no_users();
select * from tests.error($$select create_service_account('x')$$);
drop trigger no_users on auth.users;
-- One that makes it another user.
create function another_id() returns trigger language plpgsql as 'begin new.id = gen_random_uuid(); return new; end';
create trigger another_id before insert on auth.users for each row execute function another_id();
select * from tests.error($$select create_service_account('x')$$);
select count(*) from auth.users where raw_user_meta_data ->> 'name' = 'x';
drop trigger another_id on auth.users;
-- One that keeps the user there: without its account, it would be one of those who log in.
select create_service_account('kept') as kept \gset
select id as key from mint_pat(:'kept', 'x') \gset
create trigger all_users before delete on auth.users for each row execute function no_users();
select * from tests.error(format('select delete_service_account(%L)', :'kept'));
select revoked_at is null as is_live from pat.api_keys where id = :'key';
drop trigger all_users on auth.users;
-- One that only notes it.
create function note_deletion() returns trigger language plpgsql as $$
begin
    update auth.users set deleted_at = now() where id = old.id;
    return null;
end
$$;
create trigger note_deletion before delete on auth.users for each row execute function note_deletion();
select delete_service_account(:'kept');
select deleted_at is not null as is_deleted from auth.users where id = :'kept';
drop trigger note_deletion on auth.users;
drop schema auth cascade;
select * from tests.error($$select create_service_account('x')$$);
select count(*) from pat.service_accounts;
