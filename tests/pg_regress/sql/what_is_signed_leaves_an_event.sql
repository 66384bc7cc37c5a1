-- Whoever may sign makes tokens for anybody, so it is written down for whom: once a transaction for each.
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

-- An event that is rolled back does not stand for what is signed after it.
delete from pat.events;
begin;
savepoint s;
select pat.sign_jwt('{"role": "x"}') is not null as signed;
rollback to s;
select pat.sign_jwt('{"role": "x"}') is not null as signed;
commit;
select event, detail, count from seen;

-- Where nothing can be written it is in the log. No user sees any of it, nor whoever may not sign.
begin read only;
select pat.sign_jwt('{"role": "y"}') is not null as signed;
commit;
call tests.log_in('alice');
select count(*) from api_key_events;
select * from tests.error($$select pat.sign_jwt('{"role": "z"}')$$);
reset role;
select event, detail, count from seen;
