-- Alice mints a token for herself.
call tests.log_in('alice');
select token as token, id as id, name, expires_at - date_trunc('second', now()) between '364 days' and '366 days' as a_year
from mint_pat(name => 'zapier') \gset minted_
\echo :minted_name :minted_a_year

-- Its header and claims are as documented.
reset role;
select convert_from(decode(rpad(split_part(:'minted_token', '.', 1), 36, '='), 'base64'), 'utf8') as header;
select key, case when key in ('iat', 'exp', 'jti', 'session_id') then '…' else value::text end as value
from jsonb_each(tests.claims(:'minted_token')) order by key;
select c ->> 'jti' = :'minted_id' as jti_is_the_id,
    c ->> 'session_id' = c ->> 'jti' as session_id_is_the_id,
    (c ->> 'exp')::int - (c ->> 'iat')::int = 365 * 86400 as lives_a_year,
    abs((c ->> 'iat')::int - extract(epoch from now())) < 5 as issued_now
from tests.claims(:'minted_token') c;

-- The table has the same times, and nothing of the token but its last six characters.
select name, scopes, hint = right(:'minted_token', 6) as hint, revoked_at, kind, token_digest, replaced_by,
    user_id = '11111111-1111-1111-1111-111111111111' as alice,
    extract(epoch from expires_at) = (tests.claims(:'minted_token') ->> 'exp')::int as same_expiry,
    floor(extract(epoch from created_at)) = (tests.claims(:'minted_token') ->> 'iat')::int as same_start
from pat.api_keys;
select count(*) from pat.api_keys k where k::text like '%' || split_part(:'minted_token', '.', 3) || '%';

-- The id is a UUIDv7, so it sorts by time.
select substr(:'minted_id', 15, 1) as version;

-- Every way of calling it that SQL has.
call tests.log_in('alice');
select name from mint_pat('11111111-1111-1111-1111-111111111111', 'by position');
select (mint_pat(name => 'as a value')).name;
select jsonb_object_keys(to_jsonb(mint_pat(name => 'as json')));
select expires_at - now() between '6 days' and '8 days' as a_week from mint_pat(name => 'short', expires_in => '7 days');
select name, scopes, is_active from api_keys order by created_at;

-- A token with scopes carries them as OAuth does.
select tests.claims(token) ->> 'scope' as scope from mint_pat(name => 'reader', scopes => '{todos:read,notes:*,todos:read}');
select scopes from api_keys where name = 'reader';
