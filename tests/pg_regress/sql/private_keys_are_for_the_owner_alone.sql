select pat.add_signing_key('HS256', 'a-secret-of-my-own-that-is-long-enough', 'a'), pat.add_signing_key('RS256', kid => 'b');
select pat.rotate_signing_key('a');
analyze pat.signing_keys, pat.private_keys;
select tablename, attname from pg_stats where schemaname = 'pat' and tablename like '%keys' order by 1, 2;

-- Other roles read them neither by name nor by number of the column, neither as a whole nor in part.
select * from tests.as_each_role('select * from pat.private_keys');
select * from tests.as_each_role('select kid from pat.private_keys');
select * from tests.as_each_role('select count(*) from pat.private_keys');
select * from tests.as_each_role('lock pat.private_keys in access share mode');
select * from tests.as_each_role($$insert into pat.private_keys values ('a', 'x')$$);
select * from tests.as_each_role('select * from pat.signing_keys');
select * from tests.as_each_role('update pat.signing_keys set status = status');
select * from tests.as_each_role('delete from pat.signing_keys');
select * from tests.as_each_role('select pat.jwks_for_verifier()');
select * from tests.as_each_role('select pat.take_private_jwk()');

-- EXECUTE that somebody granted by hand changes nothing for roles that are not trusted.
grant execute on all functions in schema pat to anon, authenticated;
select * from tests.as_each_role('select pat.jwks_for_verifier()', '{anon, authenticated}');
select * from tests.as_each_role($$select pat.add_signing_key('HS256')$$, '{anon, authenticated}');
select * from tests.as_each_role($$select pat.import_signing_key('{}')$$, '{anon, authenticated}');
select * from tests.as_each_role($$select pat.rotate_signing_key('b')$$, '{anon, authenticated}');
select * from tests.as_each_role($$select pat.revoke_signing_key('b')$$, '{anon, authenticated}');
select * from tests.as_each_role($$select pat.mint_api_key('service_role')$$, '{anon, authenticated}');
call tests.request('anon', '{}');
select pat.take_private_jwk() is null as nothing;
reset role;

-- What every role can read shows public keys only.
call tests.request('anon', '{}');
select jsonb_array_length(pat.jwks() -> 'keys') as keys, pat.jwks()::text ~ '"(k|d|p|q|dp|dq|qi)":' as private;
select signature from pat.inspect_api_key('a-secret-of-my-own-that-is-long-enough');
reset role;

-- Trusted roles see which keys there are.
call tests.request('service_role', '{}');
select kid, status, algorithm from pat.signing_keys order by kid;
reset role;

-- Errors show no part of a key, not even to the owner.
select * from tests.error($$select pat.add_signing_key('HS256', 'a-secret-of-my-own-that-is-long-enough', 'a')$$);
select * from tests.error($$update pat.private_keys set kid = 'b' where kid = 'a'$$);
select * from tests.error($$insert into pat.private_keys values ('a', 'a-secret-of-my-own')$$);
select * from tests.error($$update pat.private_keys set jwk = null$$);
