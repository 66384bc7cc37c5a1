-- A service that is handed a token asks the database, and is told what RFC 7662 has it know.
\set alice 11111111-1111-1111-1111-111111111111
create function pg_temp.told(token text, scope text default null) returns jsonb language sql as $$
    select introspect_token(token, scope) - '{exp,iat,jti}'::text[]
$$;
update auth.users set email = 'alice@example.com' where id = :'alice';
select token as jwt, id as jwt_id from mint_pat(:'alice', 'ci', scopes => '{todos:read,notes:*}') \gset
select token as free, id as free_id from mint_pat(:'alice', 'all of it') \gset
select token as opaque, id as opaque_id from mint_pat(:'alice', 'short', kind => 'opaque', scopes => '{todos:read}', expires_in => '30 days') \gset
insert into auth.sessions (id, user_id) values ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', :'alice');
select (pat.mint_session(:'alice')).access_token as ours \gset
select pat.sign_jwt(jsonb_build_object('sub', :'alice', 'role', 'authenticated', 'aud', 'authenticated', 'iss', 'https://auth.example.com/auth/v1',
    'session_id', 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'email', 'alice@example.com', 'aal', 'aal2', 'is_anonymous', false,
    'client_id', 'an-app', 'scope', 'openid email'), '1 hour') as theirs \gset
select pat.mint_api_key('anon') as anon_key, pat.mint_api_key('service_role') as service_key \gset

set role service_role;
select jsonb_pretty(pg_temp.told(:'jwt'));
select jsonb_pretty(pg_temp.told(:'opaque'));
select pg_temp.told(:'free') ? 'scope' as has_a_list;
select jsonb_pretty(pg_temp.told(:'ours') - 'username');
select jsonb_pretty(pg_temp.told(:'theirs'));
select pg_temp.told(:'anon_key') as anon, pg_temp.told(:'service_key') as service;
-- The times and the id are those of the token.
select (told ->> 'jti')::uuid = :'opaque_id' as jti, (told -> 'exp')::int - (told -> 'iat')::int = 30 * 86400 as lifetime,
    (told ->> 'exp')::int = extract(epoch from k.expires_at) as exp
from introspect_token(:'opaque') told, pat.api_keys k where k.id = :'opaque_id';
select told -> 'jti' = claims -> 'jti' as jti, told -> 'exp' = claims -> 'exp' as exp, told -> 'iat' = claims -> 'iat' as iat
from introspect_token(:'jwt') told, tests.claims(:'jwt') claims;

-- With scopes, a token is active only if it grants each of them, as has_scope() would.
select scope, introspect_token(:'jwt', scope) -> 'active' as jwt, introspect_token(:'opaque', scope) -> 'active' as opaque,
    introspect_token(:'free', scope) -> 'active' as free, introspect_token(:'ours', scope) -> 'active' as login,
    introspect_token(:'service_key', scope) -> 'active' as service, introspect_token(:'anon_key', scope) -> 'active' as anon
from unnest('{todos:read,todos:write,notes:write,notes:*,todos:read notes:read,todos:read other:read,*,tokens:write,no scope,"","todos:read "}'::text[]) scope;

-- Whatever is wrong, the answer is the same, and never an error. Cut, doubled, signed by others, and for other purposes:
select introspect_token(token), count(*) from unnest(array[null, '', ' ', 'x', 'a.b.c', '{}', 'Bearer ' || :'jwt', :'jwt' || :'jwt', left(:'jwt', -1), left(:'jwt', -43),
    ' ' || :'jwt', :'jwt' || '.', :'opaque' || :'opaque', left(:'opaque', -1), upper(:'opaque'), 'sbpat_', 'sbpat_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ2zaKtE',
    'sb_publishable_0123456789012345678901_01234567', 'sb_secret_0123456789012345678901_01234567', repeat('x', 1000000), repeat('a.', 100000),
    pat.sign(tests.claims(:'jwt')::json, 'a secret of somebody else'), pat.sign(tests.claims(:'service_key')::json, 'a secret of somebody else'),
    split_part(:'jwt', '.', 1) || '.' || split_part(:'service_key', '.', 2) || '.' || split_part(:'jwt', '.', 3),
    rtrim(pat.url_encode('{"alg":"none"}')) || '.' || split_part(:'jwt', '.', 2) || '.']) token group by 1;
-- Signed here, but no token of anybody's: without an end, expired, not yet valid, of others' ids, without a user, of another role, of a session
-- that is not there.
create function pg_temp.signed(claims jsonb, lifetime interval default '1 hour') returns jsonb language sql as $$
    select introspect_token(pat.sign_jwt(claims, lifetime))
$$;
\set pat '{"type": "personal_access_token", "role": "authenticated", "jti": "' :jwt_id '", "sub": "' :alice '"}'
select pg_temp.signed(:'pat') -> 'active' as it_is_signed;
select pg_temp.signed(claims, lifetime), count(*) from (values
    (:'pat'::jsonb, null::interval), (:'pat', '-1 s'), (:'pat'::jsonb || jsonb_build_object('nbf', extract(epoch from now() + '1 hour')::int), '2 hours'),
    (:'pat'::jsonb || '{"sub": "22222222-2222-2222-2222-222222222222"}', '1 hour'), (:'pat'::jsonb || '{"jti": "22222222-2222-2222-2222-222222222222"}', '1 hour'),
    (:'pat'::jsonb - 'jti', '1 hour'), (:'pat'::jsonb - 'sub', '1 hour'), (:'pat'::jsonb || '{"scope": 1}', '1 hour'),
    ('{"role": "authenticated"}', '1 hour'), ('{"role": "postgres"}', '1 hour'), ('{}', '1 hour'), ('{"role": ["service_role"]}', '1 hour'),
    ('{"sub": "somebody", "role": "authenticated"}', '1 hour'), ('{"sub": "33333333-3333-3333-3333-333333333333", "role": "authenticated"}', '1 hour'),
    ('{"sub": "11111111-1111-1111-1111-111111111111", "role": "authenticated", "session_id": "x"}', '1 hour'),
    ('{"sub": "22222222-2222-2222-2222-222222222222", "role": "authenticated", "session_id": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"}', '1 hour'),
    ('{"sub": "11111111-1111-1111-1111-111111111111", "role": "authenticated", "session_id": "00000000-0000-0000-0000-000000000000"}', '1 hour')
) as t (claims, lifetime) group by 1;
-- A login that names no session is its user's.
select pg_temp.signed(jsonb_build_object('sub', :'alice', 'role', 'authenticated')) ->> 'kind' as kind;

-- A token for certain addresses, or with a limit, is not active: only the gate can hold it to them.
reset role;
select token as office from mint_pat(:'alice', 'office', allowed_ips => '{0.0.0.0/0}') \gset
select token as limited from mint_pat(:'alice', 'limited', kind => 'opaque', rate_limit => 1000000) \gset
set role service_role;
select introspect_token(:'office') as addresses, introspect_token(:'limited') as a_limit;

-- The next look sees whatever ends a token or a login, also in a transaction that has begun before.
reset role;
create temp table tokens as select * from (values ('jwt', :'jwt'), ('opaque', :'opaque'), ('free', :'free'), ('ours', :'ours'), ('theirs', :'theirs'),
    ('anon', :'anon_key'), ('service', :'service_key')) as t (name, token);
create function pg_temp.who_is_live() returns text language sql as $$
    select string_agg(name, ' ' order by name) from tokens where (introspect_token(token) ->> 'active')::boolean
$$;
select pg_temp.who_is_live();
update auth.users set banned_until = now() + '1 day' where id = :'alice';
select pg_temp.who_is_live() as banned;
update auth.users set banned_until = null, deleted_at = now() where id = :'alice';
select pg_temp.who_is_live() as deleted;
update auth.users set deleted_at = null where id = :'alice';
delete from auth.sessions where id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa';
select pg_temp.who_is_live() as session_ended;
select pat.deny_token(:'service_key'), pat.deny_token(:'ours');
select pg_temp.who_is_live() as denied;
select revoke_pat(:'free_id');
begin isolation level repeatable read;
select pg_temp.who_is_live() as revoked;
select revoke_pat(:'jwt_id');
select pg_temp.who_is_live() as revoked_too;
savepoint before;
delete from api_keys where id = :'opaque_id';
select pg_temp.who_is_live() as gone;
rollback to before;
select pg_temp.who_is_live() as back;
commit;
update pat.api_keys set expires_at = now() - interval '1 s' where id = :'opaque_id';
select pg_temp.who_is_live() as expired;
-- A token that was rotated ends with its grace, and says so.
select token as old, id as old_id from mint_pat(:'alice', 'old') \gset
select count(*) from rotate_pat(:'old_id', '1 minute');
select (introspect_token(:'old') -> 'exp')::int - extract(epoch from clock_timestamp())::int between 50 and 60 as ends_soon;

-- Live claims: the role is that of the user's row, and one that is not for tokens makes the token inactive.
select token as live from mint_pat(:'alice', 'live', kind => 'opaque') \gset
set supabase_pat.live_claims = on;
update auth.users set role = 'nobody' where id = :'alice';
select introspect_token(:'live') ->> 'role' as role;
update auth.users set role = 'service_role' where id = :'alice';
select introspect_token(:'live');
reset supabase_pat.live_claims;
select introspect_token(:'live') ->> 'role' as role;

-- It is for trusted roles alone, whatever has been granted.
grant execute on function introspect_token to anon, authenticated, nobody;
select * from tests.as_each_role('select introspect_token(null)');
revoke execute on function introspect_token from anon, authenticated, nobody;
select * from tests.as_each_role('select introspect_token(null)', '{anon,authenticated}');
-- A signing key that has been revoked verifies nothing.
select pat.add_signing_key('ES256', kid => 'es') is not null, pat.rotate_signing_key('es') is not null;
select pat.sign_jwt(jsonb_build_object('sub', :'alice', 'role', 'authenticated'), '1 hour') as by_es \gset
select introspect_token(:'by_es') ->> 'kind' as kind;
select pat.add_signing_key('ES256', kid => 'next') is not null, pat.rotate_signing_key('next') is not null, pat.revoke_signing_key('es') is null;
select introspect_token(:'by_es');
-- The catalogue says that it neither writes nor runs in a parallel worker.
select provolatile, proparallel, prosecdef from pg_proc where proname in ('introspect_token', 'exchange_token');
