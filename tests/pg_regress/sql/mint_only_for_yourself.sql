-- If a user names another user, the answer is the same whether or not that user exists.
call tests.log_in('alice');
select * from tests.error($$select mint_pat('22222222-2222-2222-2222-222222222222', 'stolen')$$);
select * from tests.error($$select mint_pat('99999999-9999-9999-9999-999999999999', 'stolen')$$);

-- A session that never logged in.
reset role;
call tests.request('anon', '{"role": "anon"}');
select * from tests.error($$select mint_pat(name => 'x')$$);
reset role;
call tests.request('authenticated', '{"role": "authenticated"}');
select * from tests.error($$select mint_pat(name => 'x')$$);
select * from tests.error($$select mint_pat('11111111-1111-1111-1111-111111111111', 'x')$$);
reset role;
call tests.request('authenticated', '{"role": "authenticated", "sub": "not a uuid"}');
select * from tests.error($$select mint_pat(name => 'x')$$);

-- The service role mints for anyone who exists.
reset role;
call tests.request('service_role', '{"role": "service_role"}');
select name from mint_pat('22222222-2222-2222-2222-222222222222', 'for bob');
select * from tests.error($$select mint_pat('99999999-9999-9999-9999-999999999999', 'for nobody')$$);
select * from tests.error($$select mint_pat(name => 'for whom')$$);

-- A role that inherits from the service role is trusted, one that does not is not.
reset role;
create role backend in role service_role;
create role connector noinherit in role service_role;
set role backend;
select pat.is_trusted();
select name from mint_pat('22222222-2222-2222-2222-222222222222', 'by the backend');
set role connector;
select pat.is_trusted();
reset role;

-- Users who are gone or banned get no token.
update auth.users set deleted_at = now() where id = '22222222-2222-2222-2222-222222222222';
select * from tests.error($$select mint_pat('22222222-2222-2222-2222-222222222222', 'x')$$);
update auth.users set deleted_at = null, banned_until = now() + '1 day';
select * from tests.error($$select mint_pat('22222222-2222-2222-2222-222222222222', 'x')$$);
call tests.log_in('alice');
select * from tests.error($$select mint_pat(name => 'x')$$);
reset role;
update auth.users set banned_until = now() - interval '1 second';
call tests.log_in('alice');
select name from mint_pat(name => 'free again');
reset role;
select name from pat.api_keys order by created_at;

-- Without auth.users there is nobody to mint for.
drop schema auth cascade;
select mint_pat('22222222-2222-2222-2222-222222222222', 'x');
drop role backend;
drop role connector;
