-- A role that may write auth.users must not be able to make a user trusted. The same rule is in force for sign-ins,
-- sessions, refreshes and live claims.
set supabase_pat.enable_sign_in = on;
create extension pgcrypto;
create role roles_editor nologin;
create role roles_leader nologin;
grant service_role to roles_leader;
update auth.users set encrypted_password = crypt('password', gen_salt('bf', 4)), email_confirmed_at = now();
select refresh_token as token from pat.mint_session('11111111-1111-1111-1111-111111111111') \gset
create table roles (role text);
insert into roles values (''), (null), ('roles_editor'), ('service_role'), ('roles_leader'), ('postgres'), ('none');
create function tests.with_role(named text, out sign_in text, out session text) language plpgsql as $$
begin
    update auth.users set role = named where id = '11111111-1111-1111-1111-111111111111';
    sign_in := (pat.decode_jwt((sign_in('alice@example.com', 'password')).access_token)).payload ->> 'role';
    select coalesce(code, '') || ' ' || error into session from tests.error('select pat.mint_session(''11111111-1111-1111-1111-111111111111'')');
end
$$;
select coalesce(role, 'null') as role, sign_in, session from roles, tests.with_role(role);
select event, detail, count(*) from pat.events where event like '%refused' group by event, detail;
-- A session that was begun before gets no more tokens, but does not end.
update auth.users set role = 'roles_leader' where id = '11111111-1111-1111-1111-111111111111';
select refresh_session(:'token') is null as refused;
update auth.users set role = 'roles_editor' where id = '11111111-1111-1111-1111-111111111111';
select (pat.decode_jwt(access_token)).payload ->> 'role' as role from refresh_session(:'token');
select event, detail from pat.events where event = 'refresh_refused';
drop role roles_editor, roles_leader;
