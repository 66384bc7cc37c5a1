select pat.verify_jwt(pat.sign_jwt('{"sub": "x", "n": 1.5}', '1 hour')) - 'iat' - 'exp' as claims;
select (c ->> 'exp')::int - (c ->> 'iat')::int as lifetime from pat.verify_jwt(pat.sign_jwt('{}', '1 hour')) c;
select pat.verify_jwt(pat.sign_jwt('{"iat": 5, "exp": 4102444800}')) as kept;
select * from tests.error($$select pat.sign_jwt('[]')$$);
select * from tests.error($$select pat.sign_jwt(null)$$);
select * from tests.error($$select pat.verify_jwt(null)$$);
select * from tests.error($$select pat.verify_jwt('x')$$);
select * from tests.error($$select pat.verify_jwt(pat.sign_jwt('{}'))$$);
select * from tests.error($$select pat.verify_jwt(pat.sign_jwt('{"exp": 5}'))$$);
select * from tests.error($$select pat.verify_jwt(pat.sign_jwt('{"nbf": 4102444800}', '1 hour'))$$);
select * from tests.error($$select pat.verify_jwt(pat.sign_jwt('{}', '1 hour') || 'x')$$);
select * from tests.error($$select pat.verify_jwt('eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.' || split_part(pat.sign_jwt('{}', '1 hour'), '.', 2) || '.')$$);
select pat.verify_jwt(pat.sign_jwt('{"aud": "authenticated"}', '1 hour'), 'authenticated') ->> 'aud' as aud;
select * from tests.error($$select pat.verify_jwt(pat.sign_jwt('{"aud": "authenticated"}', '1 hour'), 'another')$$);

-- For trusted roles only, even if somebody grants EXECUTE.
call tests.log_in('alice');
select * from tests.error($$select pat.sign_jwt('{"role": "service_role"}')$$);
reset role;
grant execute on function pat.sign_jwt(jsonb, interval), pat.verify_jwt(text, text, boolean) to authenticated;
call tests.log_in('alice');
select * from tests.error($$select pat.sign_jwt('{"role": "service_role"}')$$);
select * from tests.error($$select pat.verify_jwt('x')$$);
reset role;
call tests.request('service_role', '{"role": "service_role"}');
select pat.verify_jwt(pat.sign_jwt('{"sub": "x"}', '1 hour')) ->> 'sub' as sub;
