-- One session sees what changes between its statements, and within one.
call tests.log_in('alice');
select token as alice, id as id from mint_pat(name => 'a') \gset
reset role;
call tests.log_in('bob');
select token as bob from mint_pat(name => 'b') \gset
reset role;
select tests.claims(:'alice') as alice_claims, tests.claims(:'bob') as bob_claims \gset

-- A prepared statement, with a plan of its own and with the generic one.
prepare mine as select count(*) as todos, is_valid_api_token() as valid, left(pat.uid()::text, 1) as who from todos;
set plan_cache_mode = force_generic_plan;
call tests.use_token(:'alice');
execute mine;
call tests.use_token(:'bob');
execute mine;
reset role;
update pat.api_keys set revoked_at = now() where user_id::text like '2%';
call tests.use_token(:'bob');
execute mine;
call tests.use_token(:'alice');
execute mine;
reset role;
set plan_cache_mode = force_custom_plan;
update pat.api_keys set revoked_at = case when user_id::text like '1%' then now() end;
call tests.use_token(:'alice');
execute mine;
call tests.use_token(:'bob');
execute mine;
reset role;
reset plan_cache_mode;
update pat.api_keys set revoked_at = null;

-- A PL/pgSQL function keeps the state of its expressions from call to call.
create function tests.valid() returns boolean language plpgsql as $$ begin return is_valid_api_token(); end $$;
create function tests.valid_stable() returns boolean language plpgsql stable as $$ begin return is_valid_api_token(); end $$;
create function tests.whose() returns text language plpgsql stable as $$ begin return left(pat.uid()::text, 1); end $$;
select set_config('request.jwt.claims', :'alice_claims', false) is not null as alice;
begin isolation level repeatable read;
select tests.valid(), tests.valid_stable(), tests.whose();
update pat.api_keys set revoked_at = now();
select tests.valid(), tests.valid_stable(), tests.whose();
update pat.api_keys set revoked_at = null;
select tests.valid(), tests.valid_stable(), tests.whose();
select set_config('request.jwt.claims', '', true) = '' as nobody;
select tests.valid(), tests.valid_stable(), tests.whose();
savepoint s;
select set_config('request.jwt.claims', :'bob_claims', true) <> '' as bob;
select tests.valid(), tests.valid_stable(), tests.whose();
rollback to s;
select tests.valid(), tests.valid_stable(), tests.whose();
rollback;

-- A loop that revokes what it checks.
do $$
declare
    valid boolean;
    found_rows int;
begin
    for i in 1..2 loop
        valid := is_valid_api_token();
        select count(*) into found_rows from todos where is_valid_api_token();
        raise info 'expression %, query %, function %', valid, found_rows > 0, tests.valid_stable();
        perform revoke_pat(current_api_key_id());
    end loop;
    -- An error undoes the revocation, and the answers with it.
    begin
        update pat.api_keys set revoked_at = null;
        raise info 'expression %, function %', is_valid_api_token(), tests.valid_stable();
        perform 1 / (select count(*) from todos where not is_valid_api_token());
    exception when division_by_zero then
        raise info 'expression %, function %', is_valid_api_token(), tests.valid_stable();
    end;
end
$$;
update pat.api_keys set revoked_at = null;

-- The same in a function that a query calls: its expressions do not get the query's answer.
create function tests.revoke_midway(out before boolean, out after boolean, out whose_after text) language plpgsql as $$
begin
    before := is_valid_api_token();
    perform revoke_pat(current_api_key_id());
    after := is_valid_api_token();
    perform set_config('request.jwt.claims', '{"sub": "22222222-2222-2222-2222-222222222222"}', true);
    whose_after := left(pat.uid()::text, 1);
end
$$;
begin;
select is_valid_api_token() as query, left(pat.uid()::text, 1) as whose, f.* from tests.revoke_midway() f;
rollback;
begin;
select is_valid_api_token() as query, (tests.revoke_midway()).after, is_valid_api_token() as query_still;
rollback;

-- A statement changes the claims while it runs: the answer in each row is for the claims of that
-- moment, and values that were returned before stay as they were.
select who, left(pat.uid()::text, 1) as uid, is_valid_api_token() as valid,
    set_config('request.jwt.claims', next, true) is not null as then_set
from (values (1, 'alice', :'bob_claims'), (2, 'bob', ''), (3, 'nobody', 'x'), (4, 'malformed', :'alice_claims'), (5, 'alice', ''))
    as step (number, who, next);
select left(pat.uid()::text, 1) as before, set_config('request.jwt.claims', :'bob_claims', true) is not null as bob,
    left(pat.uid()::text, 1) as after;

-- A cursor: each FETCH is a statement.
begin;
declare todo cursor for select title, is_valid_api_token() as valid from todos order by id;
fetch 1 from todo;
update pat.api_keys set revoked_at = now();
fetch 1 from todo;
rollback;
