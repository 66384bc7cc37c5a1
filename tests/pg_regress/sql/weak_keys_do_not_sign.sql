-- A secret that everybody knows is as good as none: whoever reads the documentation makes any token.
alter database test_pg_regress set "app.settings.jwt_secret" = 'super-secret-jwt-token-with-at-least-32-characters-long';
\c
call tests.log_in('alice');
select * from tests.error($$select mint_pat(name => 'x')$$);
select * from tests.error($$select refresh_session('x')$$);
reset role;
select * from tests.error($$select pat.sign_jwt('{}')$$);
select * from tests.error($$select pat.mint_session('11111111-1111-1111-1111-111111111111')$$);
-- What it has signed elsewhere is no proof of anything either. What kind of key it is can be said.
select * from tests.error($$select pat.verify_jwt(pat.sign('{"role": "service_role"}', 'super-secret-jwt-token-with-at-least-32-characters-long', 'HS256'))$$);
select pat.jwt_status(pat.sign('{"role": "service_role"}', 'super-secret-jwt-token-with-at-least-32-characters-long', 'HS256'));
select signature, unnest(problems) from pat.inspect_api_key(pat.sign('{"role": "service_role", "iss": "supabase", "exp": 4000000000}', 'super-secret-jwt-token-with-at-least-32-characters-long', 'HS256'));
select "check", ok, detail from pat.status() where "check" in ('signing key', 'secret');

-- A key of the ring signs; the doctor does not forget what still verifies.
select pat.add_signing_key('ES256', kid => 'good');
select pat.rotate_signing_key('good');
select length(pat.sign_jwt('{}')) > 100 as signed;
alter database test_pg_regress reset "app.settings.jwt_secret";
\c
set supabase_pat.jwt_secret = 'your-super-secret-jwt-token-with-at-least-32-characters-long';
select "check", ok, detail from pat.status() where "check" in ('signing key', 'secret');
reset supabase_pat.jwt_secret;

-- Nor does one that is made of a few bytes, or that somebody brings along.
select * from tests.error($$select pat.add_signing_key('HS256', 'reallyreallyreallyreallyverysafe')$$);
select * from tests.error($$select pat.add_signing_key('HS256', repeat('secret', 6))$$);
select * from tests.error($$select pat.import_signing_key(jsonb_build_object('kty', 'oct', 'k', repeat('A', 43)))$$);
select count(*) from pat.signing_keys;

-- For development it may be allowed, by superusers alone. The doctor goes on.
set role service_role;
set supabase_pat.allow_weak_keys = on;
reset role;
set supabase_pat.allow_weak_keys = on;
select pat.add_signing_key('HS256', 'reallyreallyreallyreallyverysafe', 'weak');
select pat.rotate_signing_key('weak');
select length(pat.sign_jwt('{}')) > 100 as signed;
select "check", ok, detail from pat.status() where "check" in ('signing key', 'secret');
reset supabase_pat.allow_weak_keys;
select * from tests.error($$select pat.sign_jwt('{}')$$);
-- It is for trusted roles.
select role, code, error from tests.as_each_role('select pat.secret_problem()');
