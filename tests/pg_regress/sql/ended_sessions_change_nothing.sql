-- An access token lives for an hour, even if its session ends before. Once the session has ended, the token changes
-- nothing for the user, and sees nothing of the extension's.
\set alice 11111111-1111-1111-1111-111111111111
\set session cccccccc-0000-4000-8000-000000000001
select pat.define_setting('theme', '"light"');
insert into auth.sessions (id, user_id) values (:'session', :'alice');
create procedure pg_temp.use_session() language sql as $$
    call tests.request('authenticated', jsonb_build_object('role', 'authenticated',
        'sub', '11111111-1111-1111-1111-111111111111', 'session_id', 'cccccccc-0000-4000-8000-000000000001'))
$$;

call pg_temp.use_session();
select id as key from mint_pat(name => 'mine') \gset
select set_settings('{"theme": "dark"}');
select name from api_keys;
reset role;

-- A session has ended if its row is gone or another user's, if its time is over, or if its user may not log in.
create function pg_temp.tries(key uuid) returns table (statement text, code text, error text) language sql as $$
    select statement, e.code, e.error
    from (values ('select mint_pat(name => ''x'')'), ('select rotate_pat(' || quote_literal(key) || ')'),
        ('select revoke_pat(' || quote_literal(key) || ')'), ('select revoke_pat(' || quote_literal(key) || ', true)'),
        ('select revoke_all_pats()'), ('select set_settings(''{"theme": "x"}'')'), ('select sign_out(''global'')')) s (statement),
        tests.error(statement) e
$$;
create function pg_temp.try(key uuid) returns table (code text, error text, tries bigint) language sql as $$
    select code, error, count(*) from pg_temp.tries(key) group by 1, 2 order by 1, 2
$$;
delete from auth.sessions where id = :'session';
call pg_temp.use_session();
select replace(statement, :'key', 'key') as statement, code, error from pg_temp.tries(:'key');
delete from api_keys;
select (select count(*) from api_keys) as keys, (select count(*) from api_key_events) as events,
    (select count(*) from pat.api_key_usage) as uses, (select count(*) from pat.user_settings) as settings,
    get_settings(), signed_in_user();
reset role;

insert into auth.sessions (id, user_id) values (:'session', '22222222-2222-2222-2222-222222222222');
call pg_temp.use_session();
select * from pg_temp.try(:'key');
reset role;
update auth.sessions set user_id = :'alice', not_after = now();
call pg_temp.use_session();
select * from pg_temp.try(:'key');
reset role;
update auth.sessions set not_after = null;
update auth.users set banned_until = 'infinity' where id = :'alice';
call pg_temp.use_session();
select * from pg_temp.try(:'key');
reset role;
update auth.users set banned_until = null, deleted_at = now() where id = :'alice';
call pg_temp.use_session();
select * from pg_temp.try(:'key');
reset role;
update auth.users set deleted_at = null where id = :'alice';

-- Claims with a malformed session id count as those of a session that has ended.
call tests.request('authenticated', jsonb_build_object('role', 'authenticated', 'sub', :'alice', 'session_id', 'x'));
select * from pg_temp.try(:'key');
reset role;

-- A login by other means has no session. It is valid as long as its user may log in.
call tests.request('authenticated', jsonb_build_object('role', 'authenticated', 'sub', :'alice'));
select * from tests.error(format('select revoke_pat(%L)', gen_random_uuid()));
reset role;
update auth.users set banned_until = 'infinity' where id = :'alice';
call tests.request('authenticated', jsonb_build_object('role', 'authenticated', 'sub', :'alice'));
select * from pg_temp.try(:'key');
reset role;
update auth.users set banned_until = null where id = :'alice';

-- Nothing has changed.
select name, revoked_at, replaced_by from pat.api_keys;
select settings from pat.user_settings;
call pg_temp.use_session();
select revoke_pat(:'key');
