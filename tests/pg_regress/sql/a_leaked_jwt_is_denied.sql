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

-- It is refused in each form: with another spelling of the signature or the scheme, and by its claims alone, in any
-- order and form, for a server that verifies the first of two headers and shows the other one.
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
-- It is refused in other transactions too, at every isolation level.
begin isolation level repeatable read;
select code from tests.pass();
rollback;

-- If the row is deleted, the JWT is accepted again. A denial that is rolled back has no effect.
delete from pat.denied_tokens;
reset role;
select pg_temp.with_token(:'service');
begin;
select pat.deny_token(:'anon');
select pg_temp.with_token(:'anon');
rollback;
select pg_temp.with_token(:'anon');

-- A personal access token is also revoked, so that policies refuse it without the gate.
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

-- Texts that are not tokens, and tokens that are cut.
select code, error from tests.error(format('select pat.deny_token(%L)', 'x'));
select code, error from tests.error(format('select pat.deny_token(%L)', left(:'opaque', -1)));
select code, error from tests.error('select pat.deny_token(null)');
select pat.deny_token(left(:'anon', -2) || 'AA');
select code from tests.as_each_role($$select pat.deny_token('x')$$);
-- A second denial of the same JWT replaces the reason of the first.
select pat.deny_token(:'anon', 'again');
select reason from pat.denied_tokens where role = 'anon';

-- A server may take the role from another place in the payload, and pass it on as the claim. A client can make it show
-- any header: here one that looks like the claims.
delete from pat.denied_tokens;
create function pg_temp.made_up(claims jsonb) returns text language sql as $$
    select 'Bearer ' || string_agg(translate(encode(convert_to(part, 'utf8'), 'base64'), E'+/=\n', '-_'), '.') || '.x'
    from unnest(array['{"alg":"HS256"}', claims::text]) part
$$;
select pat.sign_jwt('{"app_metadata": {"roles": ["service_role"]}, "role": "authenticated", "iss": "supabase", "iat": 1700000000, "exp": 4102444800}') as elsewhere,
    pat.sign_jwt('{"app_metadata": {"roles": ["service_role"]}, "role": "authenticated", "iss": "supabase", "iat": 1700000001, "exp": 4102444800}') as other \gset
create function pg_temp.as_role(token text, role text, header text default '') returns text language sql as $$
    select pg_temp.with_token(token, tests.claims(token) || jsonb_build_object('role', role), header)
$$;
select pat.deny_token(:'elsewhere');
select role, pg_temp.as_role(:'elsewhere', role) as denied, pg_temp.as_role(:'elsewhere', role, pg_temp.made_up(tests.claims(:'elsewhere') || jsonb_build_object('role', role))) as made_up,
    pg_temp.as_role(:'other', role) as another from unnest('{service_role,authenticated}'::text[]) role;
-- The JWT of a login is known by its user, with the anonymous role too; an API key is not known by that role alone.
select pg_temp.as_role(:'elsewhere', 'anon') as of_a_key;
select pat.deny_token(:'login');
select role, pg_temp.as_role(:'login', role) from unnest('{authenticated,anon}'::text[]) role;
-- A tab after Bearer changes nothing.
select pg_temp.with_token(:'anon', tests.claims(:'anon'), E'bearer\t' || :'elsewhere');

-- An API key whose claims are those of a request without a login is known only by its signed text.
select pat.sign_jwt('{"role": "anon"}') as bare \gset
select pat.deny_token(:'bare');
select pg_temp.with_token(:'bare') as by_the_key, pg_temp.with_token(:'bare', '{"role": "anon"}', '') as without_one;

-- The extension reads tokens strictly, and some servers do not: an expiry out of range, a name twice, a number that is
-- not one. While anything is denied, claims that cannot be compared are refused.
create function pg_temp.odd(payload text) returns text language sql as $$
    select string_agg(translate(encode(convert_to(part, 'utf8'), 'base64'), E'+/=\n', '-_'), '.') || '.x' from unnest(array['{"alg":"HS256"}', payload]) part
$$;
set client_min_messages = error;
select pat.deny_token(pg_temp.odd('{"role":"service_role","exp":1e300}')), pat.deny_token(pg_temp.odd('{"role":"service_role","sub":"a","sub":"b"}')),
    pat.deny_token(pg_temp.odd('{"role":"service_role","exp":1e999}'));
reset client_min_messages;
select claims ->> 'sub' as sub, claims ->> 'exp' is not null as exp, pg_temp.with_token(:'service', claims, '')
    from unnest(array['{"role":"service_role","exp":1e300}', '{"role":"service_role","sub":"a"}', '{"role":"service_role","sub":"b"}', '{"role":"service_role","sub":"33333333-3333-3333-3333-333333333333"}']::jsonb[]) claims;
select count(*), count(*) filter (where expires_at is null) as for_ever, count(other_claims_digests) as with_others from pat.denied_tokens where role = 'service_role';
select code, error from tests.error(format('select pat.deny_token(%L)', pg_temp.odd('[]')));
begin;
select set_config('request.jwt.claims', '{"role":"anon","n":1e999}', true) is not null as odd;
select code, error from tests.pass();
delete from pat.denied_tokens;
select code, error from tests.pass();
rollback;
