-- A declaration is refused as a whole, with a reason.
select * from tests.error($$select pat.define_setting(null, '1')$$);
select * from tests.error($$select pat.define_setting('', '1')$$);
select * from tests.error($$select pat.define_setting(' ', '1')$$);
select * from tests.error($$select pat.define_setting(E'a\nb', '1')$$);
select * from tests.error($$select pat.define_setting(repeat('x', 101), '1')$$);
select * from tests.error($$select pat.define_setting('a', null)$$);
select * from tests.error($$select pat.define_setting('a', '1', overridable => null)$$);
select * from tests.error($$select pat.define_setting('a', '1', '{"type": "nummer"}')$$);
select * from tests.error($$select pat.define_setting('a', '1', '[]')$$);
select * from tests.error($$select pat.define_setting('a', '1', '{"type": "string"}')$$);
select * from tests.error($$select pat.define_setting('a', (repeat('[', 65) || repeat(']', 65))::jsonb)$$);

-- Nothing outside of a schema is fetched.
select * from tests.error($$select pat.define_setting('a', '1', '{"$ref": "https://example.com/schema.json"}')$$);
select * from tests.error($$select pat.define_setting('a', '1', '{"$ref": "file:///etc/passwd"}')$$);
select * from tests.error($$select pat.define_setting('a', '1', '{"$schema": "file:///etc/passwd"}')$$);
select pat.define_setting('tree', '{}', '{"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}}}}');
select * from tests.error($$select get_settings('{"tree": {"a": {"b": {"c": 1}}}}')$$);

-- A pattern takes time that grows in proportion to the text; others are refused.
select pat.define_setting('pattern', '""', '{"pattern": "^((a+)+b)?$"}');
select code from tests.error($$select get_settings(jsonb_build_object('pattern', repeat('a', 60000)))$$);
select * from tests.error($$select pat.define_setting('pattern', '""', '{"pattern": "(?=a)b"}')$$);
select * from tests.error($$select pat.define_setting('pattern', '""', '{"pattern": "((a{1,100}){1,100}){1,100}"}')$$);

-- Declared anew: the default counts at once for those who have no value of their own.
select pat.define_setting('temperature', '0.7', '{"type": "number", "maximum": 2}');
call tests.log_in('alice');
select set_settings('{"temperature": 1.5}') -> 'temperature' as temperature;
reset role;
call tests.log_in('bob');
select set_settings('{"temperature": 0.5}') -> 'temperature' as temperature;
reset role;
select pat.define_setting('temperature', '0.9', '{"type": "number", "maximum": 2}', overridable => false);
call tests.request('anon', '{"role": "anon"}');
select get_settings() -> 'temperature' as temperature;
select code from tests.error($$select get_settings('{"temperature": 1}')$$);
reset role;

-- A declaration is refused if users have stored values that it would not allow.
select * from tests.error($$select pat.define_setting('temperature', '0.9', '{"type": "number", "maximum": 1}')$$);
select * from tests.error($$select pat.define_setting('temperature', '"warm"', '{"type": "string"}')$$);
select key, default_value, schema, overridable from pat.setting_definitions where key = 'temperature';
insert into pat.user_settings (user_id, settings) select gen_random_uuid(), '{"temperature": 2}' from generate_series(1, 2500);
select error from tests.error($$select pat.define_setting('temperature', '0.9', '{"type": "number", "maximum": 1}')$$);
delete from pat.user_settings where settings @> '{"temperature": 2}';

-- It is also refused if a stored value, merged into the new default, would not be allowed.
select pat.define_setting('editor', '{"theme": "light"}');
call tests.log_in('alice');
select set_settings('{"editor": {"font": 1}}') -> 'editor' as editor;
reset role;
select * from tests.error($$select pat.define_setting('editor', '{}', '{"maxProperties": 0}')$$);

-- Dropping a setting removes the values of all users.
select pat.drop_setting('temperature'), pat.drop_setting('temperature');
select * from tests.error('select pat.drop_setting(null)');
select settings from pat.user_settings order by user_id;
select pat.define_setting('temperature', '"warm"', '{"type": "string"}');
call tests.log_in('alice');
select get_settings() - 'tree' - 'pattern' as settings;
reset role;

-- A rollback undoes a declaration.
begin;
select pat.define_setting('new', '1');
select get_settings() ? 'new' as declared;
rollback;
select get_settings() ? 'new' as declared;

-- Changes of the table by hand take effect too.
update pat.setting_definitions set default_value = '"cold"' where key = 'temperature';
select get_settings() ->> 'temperature' as temperature;
truncate pat.setting_definitions;
select get_settings();

-- A schema that was broken by hand accepts no value; defaults and stored values can still be read.
insert into pat.setting_definitions values ('broken', '1', '{"type": 1}');
call tests.log_in('alice');
select get_settings();
select * from tests.error($$select get_settings('{"broken": 2}')$$);
select * from tests.error($$select set_settings('{"broken": 2}')$$);
