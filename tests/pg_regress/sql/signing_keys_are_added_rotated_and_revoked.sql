-- Shows the header of a token.
create function pg_temp.header(token text) returns jsonb language sql as $$ select (pat.decode_jwt(token)).header $$;
create function pg_temp.signed() returns text language sql as $$ select pat.sign_jwt('{"sub": "x"}', '1 hour') $$;

-- The configured secret signs as long as no key has been made current.
select pat.jwks();
select pg_temp.header(pg_temp.signed());
select pg_temp.signed() as configured \gset
select pat.add_signing_key('ES256', kid => 'a');
select kid, status, algorithm, activated_at is null as never_active from pat.signing_keys;
select pg_temp.header(pg_temp.signed());
select jsonb_path_query_array(pat.jwks(), '$.keys[*].kid') as published;

select pat.rotate_signing_key('a');
select pg_temp.header(pg_temp.signed());
select pg_temp.signed() as by_a \gset
select pat.jwt_status(:'configured') as configured, pat.jwt_status(:'by_a') as by_a;

-- The next key is published before it signs, and the previous one still verifies.
select pat.add_signing_key('EdDSA', kid => 'b');
select jsonb_path_query_array(pat.jwks(), '$.keys[*].kid') as published;
select pat.rotate_signing_key('b');
select kid, status from pat.signing_keys order by kid;
select pg_temp.signed() as by_b \gset
select pat.jwt_status(:'by_a') as by_a, pat.jwt_status(:'by_b') as by_b, pg_temp.header(:'by_b');
select jsonb_path_query_array(pat.jwks(), '$.keys[*].kid') as published;

-- A rotation that went wrong can be undone, and done again.
select pat.rotate_signing_key('a');
select pat.rotate_signing_key('a');
select kid, status from pat.signing_keys order by kid;
select pat.rotate_signing_key('b');

-- A revoked key cannot be used again.
select * from tests.error($$select pat.revoke_signing_key('b')$$);
select pat.revoke_signing_key('a');
select pat.revoke_signing_key('a');
select pat.jwt_status(:'by_a') as by_a, pat.jwt_status(:'by_b') as by_b;
select * from tests.error(format('select pat.verify_jwt(%L)', :'by_a'));
select * from tests.error($$select pat.rotate_signing_key('a')$$);
select jsonb_path_query_array(pat.jwks(), '$.keys[*].kid') as published;
select jsonb_path_query_array(pat.jwks_for_verifier(), '$.keys[*].kty') as for_the_verifier;

-- Every algorithm, with keys that are generated.
select alg, pat.add_signing_key(alg) ~ '^[0-9a-f]{8}-[0-9a-f]{4}-4' as has_a_uuid
from unnest('{HS256, HS384, HS512, ES256, RS256, EdDSA}'::text[]) alg;
do $$
declare
    key record;
    claims jsonb;
begin
    for key in select kid, algorithm from pat.signing_keys where status = 'standby' order by algorithm loop
        perform pat.rotate_signing_key(key.kid);
        claims := pat.verify_jwt(pat.sign_jwt(jsonb_build_object('alg', key.algorithm), '1 hour'));
        raise notice '% % %', claims ->> 'alg', claims ->> 'alg' = pg_temp.header(pg_temp.signed()) ->> 'alg',
            key.kid = pg_temp.header(pg_temp.signed()) ->> 'kid';
    end loop;
end
$$;
select key ->> 'kty' as kty, key ->> 'alg' as alg, array_agg(member order by member) as members
from jsonb_array_elements(pat.jwks() -> 'keys') key, jsonb_object_keys(key) member group by key order by 2, 1, key ->> 'kid' = 'b';

-- A shared secret can be given as text.
select pat.add_signing_key('HS256', 'a-secret-of-my-own-that-is-long-enough', 'mine');
select pat.rotate_signing_key('mine');
select valid from pat.verify(pg_temp.signed(), 'a-secret-of-my-own-that-is-long-enough');

-- These calls are refused.
select * from tests.error($$select pat.add_signing_key('HS256', kid => 'mine')$$);
select * from tests.error($$select pat.add_signing_key('HS1')$$);
select * from tests.error($$select pat.add_signing_key(null)$$);
select * from tests.error($$select pat.add_signing_key('ES256', 'a-secret-of-my-own-that-is-long-enough')$$);
select * from tests.error($$select pat.add_signing_key('HS512', 'a-secret-of-my-own-that-is-not-long-enough')$$);
select * from tests.error($$select pat.add_signing_key('HS256', '')$$);
select * from tests.error($$select pat.add_signing_key('HS256', '-----BEGIN PRIVATE KEY-----MIGHAgEAMBMGByqGSM49')$$);
select * from tests.error($$select pat.add_signing_key('HS256', kid => '')$$);
select * from tests.error($$select pat.add_signing_key('HS256', kid => 'a b')$$);
select * from tests.error($$select pat.add_signing_key('HS256', kid => repeat('a', 201))$$);
select * from tests.error($$select pat.rotate_signing_key('unheard-of')$$);
select * from tests.error($$select pat.revoke_signing_key('unheard-of')$$);
select * from tests.error($$select pat.rotate_signing_key(null)$$);
select * from tests.error($$select pat.revoke_signing_key(null)$$);
select count(*) from pat.signing_keys;

-- A rollback undoes all of it.
begin;
select pat.add_signing_key('ES256', kid => 'gone');
select pat.rotate_signing_key('gone');
select pg_temp.signed() as by_gone \gset
select pat.jwt_status(:'by_gone');
rollback;
select pat.jwt_status(:'by_gone'), pg_temp.header(pg_temp.signed()) ->> 'kid' as kid;
begin;
savepoint s;
select pat.add_signing_key('ES256', kid => 'gone');
select pat.rotate_signing_key('gone');
rollback to s;
select pg_temp.header(pg_temp.signed()) ->> 'kid' as kid;
commit;
