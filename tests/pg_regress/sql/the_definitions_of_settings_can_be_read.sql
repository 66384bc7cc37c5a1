-- Whoever makes a form of them reads what is declared, and nothing of what users have set.
select pat.define_setting('temperature', '0.7', '{"type": "number", "maximum": 2}');
select pat.define_setting('note', '"none"', overridable => false);
call tests.log_in('alice');
select set_settings('{"temperature": 1.5}') -> 'temperature' as own;
select jsonb_pretty(setting_definitions());
reset role;
-- A new definition is seen by the next statement.
select pat.define_setting('temperature', '0.9', '{"type": "number", "maximum": 2}');
call tests.log_in('bob');
select setting_definitions() #> '{temperature,default}' as standard;
reset role;

-- Nobody without a login, and nobody writes through it.
call tests.request('anon', '{"role": "anon"}');
select * from tests.error('select setting_definitions()');
reset role;
call tests.log_in('alice');
begin transaction read only;
select setting_definitions() ? 'note' as is_there;
commit;
-- The table behind it stays closed.
select count(*) from pat.setting_definitions;
reset role;
-- Without declarations it is empty, not null.
select pat.drop_setting('temperature'), pat.drop_setting('note');
select setting_definitions();
