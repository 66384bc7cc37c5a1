-- What a chat application declares.
select pat.define_setting('temperature', '0.7', '{"type": "number", "minimum": 0, "maximum": 2}');
select pat.define_setting('system_prompt', '"Be brief."', '{"type": "string", "maxLength": 100}', overridable => false);
select pat.define_setting('default_model', '"small"');
select pat.define_setting('editor', '{"theme": "light", "font": {"size": 12, "family": "mono"}}',
    '{"type": "object", "required": ["font"], "properties": {"theme": {"enum": ["light", "dark"]}}}');

-- Without a login, and for a user who has set nothing: the defaults.
call tests.request('anon', '{"role": "anon"}');
select jsonb_pretty(get_settings());
select get_settings('{"temperature": 0}') -> 'temperature' as temperature;
reset role;
call tests.log_in('alice');
select get_settings() = get_settings('{}') and get_settings() = get_settings(null) and get_settings() = get_settings('null') as same;

-- Values that she sets are hers, within objects too. The rest stays as the default says.
select jsonb_pretty(set_settings('{"temperature": 1.10, "system_prompt": "Rhyme.", "editor": {"font": {"size": 14}}}'));
select set_settings('{"editor": {"theme": "dark"}}') -> 'editor' as editor;
select settings from pat.user_settings;
select get_settings() = set_settings('{}') as same;
reset role;
call tests.log_in('bob');
select get_settings() ->> 'temperature' as temperature, get_settings() -> 'editor' as editor;
reset role;

-- A request overrides what may be overridden, and nothing of that is kept.
call tests.log_in('alice');
select get_settings('{"temperature": 2, "editor": {"font": {"family": "serif"}}}');
select get_settings() -> 'temperature' as temperature;

-- Null within an object removes a member: in an override from the result, in a patch from what she had set.
select get_settings('{"editor": {"theme": null}}') -> 'editor' as editor;
select set_settings('{"editor": {"theme": null}}') -> 'editor' as editor;
-- Null for a whole setting means no override, or the default again.
select get_settings('{"temperature": null, "system_prompt": null}') -> 'temperature' as temperature;
select set_settings('{"temperature": null, "system_prompt": null}') - 'editor' as defaults;
select settings from pat.user_settings;
-- A value that is not an object is replaced as a whole, and replaces another one as a whole.
select set_settings('{"default_model": {"name": "large", "context": [1, 2]}}') -> 'default_model' as model;
select get_settings('{"default_model": {"context": [3]}}') -> 'default_model' as model;
select set_settings('{"default_model": "large"}') -> 'default_model' as model;

-- Numbers stay what they are, to the last digit.
select set_settings('{"default_model": 12345678901234567890.123456789012345678900}') -> 'default_model' as model;
reset role;

-- Without any setting there is an empty object.
select bool_and(pat.drop_setting(key)) as dropped from pat.setting_definitions;
select get_settings();
select settings from pat.user_settings;

-- The settings can be read in a read-only transaction, in a policy, and in parallel workers.
select pat.define_setting('limit', '2');
begin read only;
call tests.log_in('alice');
select title from todos limit (get_settings() ->> 'limit')::int;
rollback;
create table numbers as select i as n from generate_series(1, 1000) i;
grant select on numbers to authenticated;
alter table numbers enable row level security;
create policy within_the_limit on numbers using (n <= (get_settings(jsonb_build_object('limit', 3)) ->> 'limit')::int);
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;
call tests.log_in('alice');
explain (costs off) select sum(n) from numbers;
select sum(n) from numbers;
