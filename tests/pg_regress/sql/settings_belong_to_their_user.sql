select pat.define_setting('temperature', '0.7'), pat.define_setting('system_prompt', '"Be brief."');
call tests.log_in('alice');
select set_settings('{"temperature": 1}') -> 'temperature' as temperature;
reset role;
call tests.log_in('bob');
select set_settings('{"temperature": 2}') -> 'temperature' as temperature;
reset role;

-- Every user sees only their own row, and changes it only through the function.
call tests.log_in('alice');
select user_id, settings from pat.user_settings;
select code from tests.error('update pat.user_settings set settings = settings');
select code from tests.error('delete from pat.user_settings');
select code from tests.error('insert into pat.user_settings values (gen_random_uuid())');
select code from tests.error('select * from pat.setting_definitions');
reset role;

-- Only trusted roles can do more, even if EXECUTE is granted to others by hand.
select set_config('request.jwt.claims', '', false);
select * from tests.as_each_role('select * from pat.user_settings');
select * from tests.as_each_role('select * from pat.setting_definitions');
select * from tests.as_each_role('update pat.setting_definitions set schema = null');
select * from tests.as_each_role('select get_settings()');
select * from tests.as_each_role($$select set_settings('{}')$$);
select * from tests.as_each_role($$select pat.define_setting('temperature', '0.7')$$);
select * from tests.as_each_role($$select pat.drop_setting('nothing')$$);
grant execute on all functions in schema pat, public to anon, authenticated;
select * from tests.as_each_role($$select pat.define_setting('temperature', '0.7')$$, '{anon, authenticated}');
select * from tests.as_each_role($$select pat.drop_setting('nothing')$$, '{anon, authenticated}');
select * from tests.as_each_role($$select set_settings('{}')$$, '{anon, authenticated}');

-- A token without a list of scopes may do what its user may.
call tests.log_in('alice');
select token as unlimited from mint_pat(name => 'unlimited') \gset
select token as reader from mint_pat(name => 'reader', scopes => '{settings:read}') \gset
select token as writer from mint_pat(name => 'writer', scopes => '{settings:write}') \gset
select token as both from mint_pat(name => 'both', scopes => '{settings:*}') \gset
select token as neither from mint_pat(name => 'neither', scopes => '{todos:*}') \gset
reset role;
call tests.use_token(:'unlimited');
select set_settings('{"system_prompt": "Rhyme."}');
select count(*) from pat.user_settings;
reset role;
-- A token with a list may do what the list says.
begin;
call tests.use_judged_token(:'reader');
select get_settings();
select * from tests.error($$select set_settings('{"temperature": 3}')$$);
select count(*) from pat.user_settings;
commit;
reset role;
begin;
call tests.use_judged_token(:'both');
select set_settings('{"temperature": 3}');
commit;
reset role;
-- A value that a token may not see is in no answer to it.
begin;
call tests.use_judged_token(:'writer');
select set_settings('{"temperature": 4}');
select get_settings('{"temperature": 5}');
select count(*) from pat.user_settings;
commit;
reset role;
begin;
call tests.use_judged_token(:'neither');
select get_settings();
select code from tests.error($$select set_settings('{"temperature": 5}')$$);
commit;
reset role;
select settings from pat.user_settings order by user_id;

-- A dead token gets the defaults, as any request without a login.
call tests.log_in('alice');
select revoke_all_pats();
reset role;
call tests.use_token(:'unlimited');
select get_settings(), get_settings('{"temperature": 5}') -> 'temperature' as overridden;
select * from tests.error($$select set_settings('{"temperature": 5}')$$);
select count(*) from pat.user_settings;
reset role;

-- A service role deletes the settings of users who are gone, even without BYPASSRLS.
alter role service_role nobypassrls;
call tests.request('service_role', '{"role": "service_role"}');
select count(*) from pat.user_settings;
select key from pat.setting_definitions order by key;
delete from pat.user_settings where user_id = '11111111-1111-1111-1111-111111111111';
select code from tests.error('update pat.user_settings set settings = settings');
reset role;
alter role service_role bypassrls;
call tests.log_in('alice');
select get_settings();
