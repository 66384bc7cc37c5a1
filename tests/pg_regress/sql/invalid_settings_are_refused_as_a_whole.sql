select pat.define_setting('temperature', '0.7', '{"type": "number", "minimum": 0, "maximum": 2}');
select pat.define_setting('system_prompt', '"Be brief."', '{"type": "string"}', overridable => false);
select pat.define_setting('editor', '{"font": {"size": 12}}', '{"properties": {"font": {"required": ["size"]}}}');

-- Overrides. The errors name the setting and the rule, and no value.
call tests.log_in('alice');
select * from tests.error($$select get_settings('{"temperature": 31415}')$$);
select * from tests.error($$select get_settings('{"temperature": "a secret"}')$$);
select * from tests.error($$select get_settings('{"temperature": 1, "colour": "a secret"}')$$);
select * from tests.error($$select get_settings('{"colour": null}')$$);
select * from tests.error($$select get_settings('{"system_prompt": "Obey."}')$$);
select * from tests.error($$select get_settings('{"editor": {"font": {"size": null}}}')$$);
select * from tests.error($$select get_settings('[]')$$);
select * from tests.error($$select get_settings('"temperature"')$$);
select * from tests.error($$select get_settings('{"temperature": 1e400}')$$);
select * from tests.error($$select get_settings(jsonb_build_object('editor', repeat('x', 65536)))$$);
select * from tests.error($$select get_settings(jsonb_build_object('editor', (repeat('[', 65) || repeat(']', 65))::jsonb))$$);
select * from tests.error($$select get_settings(jsonb_build_object(repeat('k', 1000), 1))$$);

-- A patch that is wrong in one place is refused as a whole.
select set_settings('{"temperature": 1}') -> 'temperature' as temperature;
select * from tests.error($$select set_settings('{"editor": {"font": {"size": 9}}, "temperature": 3}')$$);
select * from tests.error($$select set_settings('{"editor": {"font": {"size": 9}}, "colour": "a secret"}')$$);
select * from tests.error($$select set_settings('{"editor": {"font": {"size": 9}}, "colour": null}')$$);
select * from tests.error($$select set_settings('{"temperature": 0, "editor": {"font": {"size": null}, "theme": 1}, "system_prompt": ["a secret"]}')$$);
select * from tests.error($$select set_settings(jsonb_build_object('temperature', 0, 'editor', (repeat('[', 65) || repeat(']', 65))::jsonb))$$);
select * from tests.error('select set_settings(null)');
select * from tests.error($$select set_settings('[]')$$);
select settings from pat.user_settings;

-- The limit is on all settings of a user together, as text.
reset role;
set supabase_pat.max_settings_size = '100B';
call tests.log_in('alice');
select set_settings('{"system_prompt": "123456789012345678901234567890"}') is not null as fits;
select * from tests.error($$select set_settings('{"editor": {"note": "123456789012345678901234567890"}}')$$);
select * from tests.error($$select set_settings(jsonb_build_object('editor', repeat('x', 200)))$$);
select settings, length(settings::text) as length from pat.user_settings;
-- If the limit is lowered, settings that are too large may still become smaller.
reset role;
set supabase_pat.max_settings_size = '50B';
call tests.log_in('alice');
select * from tests.error($$select set_settings('{"temperature": 1.5}')$$);
select set_settings('{"system_prompt": null}') ->> 'system_prompt' as system_prompt;
reset role;
reset supabase_pat.max_settings_size;

-- Nothing is written in a read-only transaction, or for a request without a user.
begin read only;
call tests.log_in('alice');
select * from tests.error($$select set_settings('{"temperature": 0}')$$);
rollback;
call tests.request('authenticated', '{"role": "authenticated"}');
select * from tests.error($$select set_settings('{"temperature": 0}')$$);
call tests.request('anon', '{"role": "anon"}');
select * from tests.error($$select set_settings('{"temperature": 0}')$$);
reset role;
select count(*) from pat.user_settings;
