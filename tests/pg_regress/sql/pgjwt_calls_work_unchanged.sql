-- Calls as they stand in a database that used pgjwt, with nothing but the search path changed.
set search_path = public, pat;
call tests.request('anon', '{}');
select sign('{"sub":"1234567890","name":"John Doe","admin":true}', 'secret');
select sign('{"sub":"1234567890","name":"John Doe","admin":true}', 'secret', 'HS384');
select sign('{"sub":"1234567890","name":"John Doe","admin":true}', 'secret', algorithm := 'HS512');
select * from verify('eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiYWRtaW4iOnRydWV9.TJVA95OrM7E2cBab30RMHrHDcEfxjoYZgeFONFh7HgQ', 'secret');
select header ->> 'typ' as typ, payload ->> 'name' as name, valid from verify(token := sign('{"name":"x"}', 'secret', 'HS512'), secret := 'secret', algorithm := 'HS512');
select (verify(sign('{"a" :  1.50,"a":2}', 'secret'), 'secret')).*;
select url_encode('\xfbff'), url_decode('-_8'), url_encode(''), url_decode(''), algorithm_sign('a.b', 'secret', 'HS256');
select url_encode(decode(repeat('00', 60), 'hex')) as long;

-- Wrong secret, another algorithm, out of its time.
select valid from verify(sign('{}', 'secret'), 'other');
select valid from verify(sign('{}', 'secret'), 'secret', 'HS512');
select exp, (select valid from verify(sign(json_build_object('exp', exp), 'secret'), 'secret'))
from unnest(array[1, 4102444800, 4102444800.5]) exp;
select valid from verify(sign('{"nbf": 4102444800}', 'secret'), 'secret');

-- Null arguments give null.
select sign(null, 'x') is null and sign('{}', null) is null and sign('{}', 'x', null) is null and url_encode(null) is null and url_decode(null) is null as nulls;
select * from verify(null, 'x');
select * from verify('e30.e30.x', null);

-- Where pgjwt raises an error, so does the extension.
select * from tests.error($$select pat.sign('{}', 'x', 'none')$$);
select * from tests.error($$select * from pat.verify('a.b.c', 'x')$$);
select * from tests.error($$select * from pat.verify('e30.bm8ganNvbg.x', 'x')$$);
select * from tests.error($$select * from pat.verify('e30.gA.x', 'x')$$);
select * from tests.error($$select pat.url_decode('a')$$);

-- What is better: valid is never null, a fourth part is not ignored, a token whose expiry is not a number is not valid
-- for ever, and an empty secret is refused.
select valid from verify('e30.e30', 'x');
select valid from verify(sign('{}', 'x') || '.x', 'x');
select valid from verify(sign('{"exp": "never"}', 'x'), 'x');
select valid from verify(sign('{"nbf": 2, "exp": 1}', 'x'), 'x');
select * from tests.error($$select pat.sign('{}', '')$$);
select * from tests.error($$select * from pat.verify('e30.e30.', '')$$);
reset role;

-- Their volatility: sign may be used in an index, verify reads the clock.
select p.oid::regprocedure::text as function, provolatile, proparallel, pg_get_function_result(p.oid) as result, pg_get_function_arguments(p.oid) as arguments
from pg_proc p where pronamespace = 'pat'::regnamespace and proname in ('sign', 'verify', 'algorithm_sign', 'url_encode', 'url_decode') order by 1;
