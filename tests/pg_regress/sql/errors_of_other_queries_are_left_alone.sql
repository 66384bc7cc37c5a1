-- Every query of the backend runs through the extension, which hooks the executor. So it must pass on
-- errors unchanged, with the names of constraints and with SQLSTATEs that Postgres does not know.
select is_valid_api_token();
create table people (id int constraint people_pk primary key, age int constraint grown_up check (age > 17));
create function fail(statement text, out state text, out message text, out detail text, out hint text,
    out constraint_name text, out table_name text, out column_name text)
language plpgsql as $$
begin
    execute statement;
exception when others then
    get stacked diagnostics state = returned_sqlstate, message = message_text, detail = pg_exception_detail,
        hint = pg_exception_hint, constraint_name = constraint_name, table_name = table_name,
        column_name = column_name;
end
$$;
create function teapot() returns void language plpgsql as $$
begin
    raise sqlstate 'PT418' using message = 'short and stout', detail = 'handle', hint = 'spout',
        constraint = 'lid', table = 'tea', column = 'milk';
end
$$;
insert into people values (1, 20);
select * from fail('insert into people values (1, 20)');
select * from fail('insert into people values (2, 3)');
select * from fail('select teapot()');
select * from fail('select teapot() from people where is_valid_api_token()');

-- After such an error, in the same statement, a check works as before.
select is_valid_api_token(), state, is_valid_api_token() as still from fail('select teapot()');
-- The position of an error is passed on too.
select id from people where
    id = 1 and nonsense;
select 1 / (age - 20) from people;
