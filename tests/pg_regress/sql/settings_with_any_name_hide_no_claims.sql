-- Names of settings may have letters beyond ASCII, and Postgres sorts these in its own way. Settings outlive the
-- transaction that creates them, and DISCARD ALL: so whoever creates many must not keep later requests of the same
-- connection from having claims.

\set claims '{"sub":"11111111-1111-1111-1111-111111111111","role":"authenticated","type":"personal_access_token","jti":"99999999-9999-7999-8999-999999999999"}'

begin;
set local role authenticated;
select count(set_config(first || '.a' || n, '', true))
from unnest('{é,ÿ,request.é,request.jwt.claimé}'::text[]) first, generate_series(1, 1000) n;
rollback;
discard all;

begin;
set local role authenticated;
select set_config('request.jwt.claims', :'claims', true) is null as is_missing;
-- No such token.
select is_valid_api_token(), pat.uid(), current_api_key_id(), has_scope('notes:read');
rollback;
