-- Whatever the schema and the value are, the check ends, or is ended when its time is over.
set statement_timeout = '3s';
select pat.define_setting('pattern', '"y"', '{"pattern": "y|(x{1,100}){1,100}z"}');
select pat.define_setting('patterns', '[]', '{"items": {"pattern": "y|(x{1,100}){1,100}z"}}');
call tests.log_in('alice');
select * from tests.error($$select set_settings(jsonb_build_object('pattern', repeat('x', 60000)))$$);
select length(set_settings(jsonb_build_object('pattern', repeat('x', 500) || 'z')) ->> 'pattern');
-- Each match is bounded; when all of them together take too long, the statement ends.
set statement_timeout = '100ms';
create function pg_temp.how_long() returns interval language plpgsql as $$
declare
    start timestamptz := clock_timestamp();
begin
    perform set_settings(jsonb_build_object('patterns', (select jsonb_agg(repeat('x', 900) || 'z') from generate_series(1, 70))));
    return clock_timestamp() - start;
exception when query_canceled then
    return clock_timestamp() - start;
end
$$;
select pg_temp.how_long() < '2 seconds' as cut_short;
reset statement_timeout;
reset role;
-- What is matched against names must be small, and a schema as a whole.
select * from tests.error($$select pat.define_setting('names', '{}', '{"patternProperties": {"y|(x{1,100}){1,100}z": true}}')$$);
select * from tests.error($$select pat.define_setting('long', '1', jsonb_build_object('enum', (select jsonb_agg(i) from generate_series(1, 20000) i)))$$);
