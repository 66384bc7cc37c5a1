-- A published secret is as good as none: with the documentation alone, anybody could make any token.
alter database test_pg_regress set "app.settings.jwt_secret" = 'super-secret-jwt-token-with-at-least-32-characters-long';
\c
call tests.log_in('alice');
select * from tests.error($$select mint_pat(name => 'x')$$);
select * from tests.error($$select refresh_session('x')$$);
reset role;
select * from tests.error($$select pat.sign_jwt('{}')$$);
select * from tests.error($$select pat.mint_session('11111111-1111-1111-1111-111111111111')$$);
-- Tokens that such a secret has signed elsewhere are not accepted either. Inspecting one says what it is.
select * from tests.error($$select pat.verify_jwt(pat.sign('{"role": "service_role"}', 'super-secret-jwt-token-with-at-least-32-characters-long', 'HS256'))$$);
select pat.jwt_status(pat.sign('{"role": "service_role"}', 'super-secret-jwt-token-with-at-least-32-characters-long', 'HS256'));
select signature, unnest(problems) from pat.inspect_api_key(pat.sign('{"role": "service_role", "iss": "supabase", "exp": 4000000000}', 'super-secret-jwt-token-with-at-least-32-characters-long', 'HS256'));
select "check", ok, detail from pat.status() where "check" in ('signing key', 'secret');

-- With a signing key of the table, signing works. The doctor still names the weak secret, which could verify.
select pat.add_signing_key('ES256', kid => 'good');
select pat.rotate_signing_key('good');
select length(pat.sign_jwt('{}')) > 100 as signed;
alter database test_pg_regress reset "app.settings.jwt_secret";
\c
set supabase_pat.jwt_secret = 'your-super-secret-jwt-token-with-at-least-32-characters-long';
select "check", ok, detail from pat.status() where "check" in ('signing key', 'secret');
reset supabase_pat.jwt_secret;

-- A secret that repeats a few bytes does not sign either, nor one that is imported.
select * from tests.error($$select pat.add_signing_key('HS256', 'reallyreallyreallyreallyverysafe')$$);
select * from tests.error($$select pat.add_signing_key('HS256', repeat('secret', 6))$$);
select * from tests.error($$select pat.import_signing_key(jsonb_build_object('kty', 'oct', 'k', repeat('A', 43)))$$);
select count(*) from pat.signing_keys;

-- For development superusers can allow it. The doctor still warns.
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
