-- A role that may sign can make tokens for any user. So an event names each user, once in a transaction.
create view seen as select event, user_id, key_id, detail, role, count(*) from pat.events group by 1, 2, 3, 4, 5 order by 1, 2, 4;
set role service_role;
select pat.sign_jwt('{"role": "service_role"}', '1 hour') is not null as signed;
select pat.mint_api_key('anon') is not null as signed;
select count(pat.sign_jwt(jsonb_build_object('role', 'authenticated', 'sub', '11111111-1111-1111-1111-111111111111', 'n', n)))
from generate_series(1, 100) n;
select count(pat.sign_jwt(jsonb_build_object('role', role))) from unnest('{a,a,b}'::text[]) role;
select pat.sign_jwt('{"sub": "nobody", "role": 1}') is not null as signed;
reset role;
select * from seen;

-- After a rollback of the event, the next signature leaves another one.
delete from pat.events;
begin;
savepoint s;
select pat.sign_jwt('{"role": "x"}') is not null as signed;
rollback to s;
select pat.sign_jwt('{"role": "x"}') is not null as signed;
commit;
select event, detail, count from seen;

-- Where nothing can be written, the log has it. Users see none of these events, nor do roles that may not sign.
begin read only;
select pat.sign_jwt('{"role": "y"}') is not null as signed;
commit;
call tests.log_in('alice');
select count(*) from api_key_events;
select * from tests.error($$select pat.sign_jwt('{"role": "z"}')$$);
reset role;
select event, detail, count from seen;
