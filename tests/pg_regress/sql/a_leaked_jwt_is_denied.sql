-- The two keys of a project, made in the same second, and a login.
select pat.sign_jwt('{"role": "service_role", "iss": "supabase", "iat": 1700000000, "exp": 4102444800}') as service,
    pat.sign_jwt('{"role": "anon", "iss": "supabase", "iat": 1700000000, "exp": 4102444800}') as anon,
    pat.sign_jwt('{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "iat": 1700000000}', '1 hour') as login \gset
create function pg_temp.with_token(token text, claims jsonb default null, sent text default null) returns text language plpgsql as $$
declare
    done record;
begin
    claims := coalesce(claims, tests.claims(token));
    perform set_config('request.jwt.claims', claims::text, true), set_config('role', claims ->> 'role', true);
    select * into done from tests.pass(headers => jsonb_build_object('authorization', coalesce(sent, 'Bearer ' || token)));
    return concat_ws(' ', done.code, done.error);
end
$$;
select pg_temp.with_token(:'service') as service, pg_temp.with_token(:'anon') as anon, pg_temp.with_token(:'login') as login;
call tests.request('service_role', '{"role": "service_role"}');
select pat.deny_token(:'service', 'in a public repository');
select role, user_id, reason, expires_at from pat.denied_tokens;
select event, role, detail from pat.events;
reset role;
select pg_temp.with_token(:'service') as service, pg_temp.with_token(:'anon') as anon, pg_temp.with_token(:'login') as login;
select pat.jwt_status(:'service') as service, pat.jwt_status(:'anon') as anon;

-- However it is brought: with another spelling of the signature or the scheme, and, where a server verifies the first
-- of two headers and shows the other, by its claims alone, in whatever order and form.
select pg_temp.with_token(:'service', sent => 'bearer  ' || left(:'service', -1) || 'x');
select pg_temp.with_token(:'service', sent => 'Bearer ' || :'anon');
select pg_temp.with_token(:'service', sent => '');
select pg_temp.with_token(:'service', '{"exp": 4.1024448e9, "iat": 1700000000.0, "role": "service_role", "iss": "supabase"}', '');
select pg_temp.with_token(:'anon', sent => 'Bearer ' || :'service');
-- Not even an opaque token gets through a gateway with a denied key.
call tests.log_in('alice');
select token as opaque from mint_pat(name => 'x', kind => 'opaque') \gset
call tests.request('service_role', tests.claims(:'service'));
select code, error from tests.pass(headers => jsonb_build_object('x-api-key', :'opaque', 'authorization', 'Bearer ' || :'service'));
-- In other transactions at every isolation level.
begin isolation level repeatable read;
select code from tests.pass();
rollback;

-- Deleting the row accepts it again, and a denial that is rolled back was none.
delete from pat.denied_tokens;
reset role;
select pg_temp.with_token(:'service');
begin;
select pat.deny_token(:'anon');
select pg_temp.with_token(:'anon');
rollback;
select pg_temp.with_token(:'anon');

-- A personal access token is revoked besides, so that policies know without the gate.
call tests.log_in('alice');
select id as id, token as token from mint_pat(name => 'leaked') \gset
reset role;
select pat.deny_token(:'token', 'found in a log');
call tests.use_token(:'token');
select is_valid_api_token();
select code, error from tests.pass();
reset role;
select pat.deny_token(:'opaque');
select name, revoked_at is not null as revoked from pat.api_keys order by name;
select event, detail from pat.events where event = 'token_denied' order by id;

-- What is no token of ours, or is cut.
select code, error from tests.error(format('select pat.deny_token(%L)', 'x'));
select code, error from tests.error(format('select pat.deny_token(%L)', left(:'opaque', -1)));
select code, error from tests.error('select pat.deny_token(null)');
select pat.deny_token(left(:'anon', -2) || 'AA');
select code from tests.as_each_role($$select pat.deny_token('x')$$);
-- Twice is once, with the later reason.
select pat.deny_token(:'anon', 'again');
select reason from pat.denied_tokens where role = 'anon';
