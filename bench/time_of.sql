create schema if not exists hand;

-- Microseconds a call of an expression, which may use `input`, `inputs` and the call's number `i`. PL/pgSQL evaluates each under a
-- snapshot of its own, as a statement of its own would be.
create function hand.time_of(expression text, calls int, argument text, list text[] default '{}') returns float language plpgsql as $$
declare
    micros float;
begin
    execute format('create or replace function hand.loop(calls int, input text, inputs text[]) returns float language plpgsql as $loop$
        declare
            start timestamptz := clock_timestamp();
            result boolean;
        begin
            for i in 1..calls loop
                result := %s;
            end loop;
            return extract(epoch from clock_timestamp() - start) * 1e6 / calls;
        end $loop$', expression);
    execute 'select hand.loop($1, $2, $3)' into micros using calls, argument, list;
    return micros;
end
$$;
