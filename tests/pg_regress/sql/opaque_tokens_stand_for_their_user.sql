-- A short token for the header x-api-key. Nothing has to be configured to sign with.
call tests.log_in('alice');
select id as id, token as token from mint_pat(name => 'short', kind => 'opaque', scopes => '{todos:*,tokens:read}', expires_in => '30 days') \gset
select :'token' ~ '^sbpat_[0-9A-Za-z]{42}$' as looks_as_scanners_expect, length(:'token');
select name, kind, scopes, hint = right(:'token', 6) as hint from api_keys;
-- Only its SHA-256 is stored.
reset role;
select token_digest = sha256(:'token'::bytea) as its_hash, signing_key from pat.api_keys;
select count(*) from pat.api_keys k where k::text like '%' || substr(:'token', 7) || '%';
select count(*) from pat.events e where e::text like '%' || substr(:'token', 7) || '%';

-- A request with it has the identity of its user, with the claims that a JWT would have, in the settings that the server uses.
\set headers '{"x-api-key": "' :token '"}'
call tests.request('anon', '{"role": "anon", "iss": "supabase"}');
select code, role, uid, key_id = :'id' as by_key from tests.pass(headers => :'headers');
begin;
select code from tests.pass(headers => :'headers');
select current_user, auth.uid(), auth.role(), pat.uid(), is_valid_api_token(), has_scope('todos:write') as todos, has_scope('notes:read') as notes;
select jsonb_pretty(auth.jwt() - '{iat,exp,jti,session_id}'::text[]);
select auth.jwt() ->> 'jti' = :'id' as jti, auth.jwt() ->> 'session_id' = :'id' as names_no_session,
    (auth.jwt() ->> 'exp')::int - (auth.jwt() ->> 'iat')::int = 30 * 86400 as lifetime;
select current_setting('request.jwt.claim.sub', true) as sub, current_setting('request.jwt.claim.role', true) as role;
select title from todos order by id;
insert into todos (title) values ('by an opaque token') returning title, user_id;
commit;
-- The identity ends with the transaction.
select current_user, auth.uid(), auth.role(), nullif(current_setting('request.jwt.claim.sub', true), '') as sub;

-- An opaque token decides, whatever else the request carries: another login, or service_role.
\set bob '{"role": "authenticated", "sub": "22222222-2222-2222-2222-222222222222", "email": "bob@example.com", "org": "bobs"}'
call tests.request('authenticated', :'bob');
set "request.jwt.claim.sub" = '22222222-2222-2222-2222-222222222222';
set "request.jwt.claim.email" = 'bob@example.com';
set "request.jwt.claim.org" = 'bobs';
set "request.jwt.claims.role" = 'authenticated';
set "request.jwt.claims.org" = 'bobs';
set "request.jwt.claim" = :'bob';
begin;
select code, role, uid from tests.pass(headers => :'headers');
select auth.uid(), auth.email(), auth.jwt() ->> 'sub' as sub, current_setting('request.jwt.claim.org') as legacy, current_setting('request.jwt.claim.role') as role, current_setting('request.jwt.claims.org') as other, current_setting('request.jwt.claims') ~ 'bob' as left_over;
select title from todos order by id;
rollback;
reset "request.jwt.claim"; reset "request.jwt.claim.sub"; reset "request.jwt.claim.email"; reset "request.jwt.claim.org"; reset "request.jwt.claims.role"; reset "request.jwt.claims.org";
call tests.request('service_role', '{"role": "service_role"}');
begin;
select code, role, uid from tests.pass(headers => :'headers');
select title from todos order by id;
rollback;

-- Other keys in that header are left alone.
call tests.request('anon', '{"role": "anon"}');
select code, role from tests.pass(headers => '{"x-api-key": "sk_live_123"}');
-- An opaque token that is cut, doubled, changed or made up is refused before any look-up.
select code, error from tests.pass(headers => jsonb_build_object('x-api-key', left(:'token', -1)));
select code from tests.pass(headers => jsonb_build_object('x-api-key', :'token' || :'token'));
select code from tests.pass(headers => jsonb_build_object('x-api-key', translate(:'token', '0123456789', '1234567890')));
select code from tests.pass(headers => '{"x-api-key": "sbpat_"}');
select code, error from tests.pass(headers => '{"x-api-key": "sbpat_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ2zaKtE"}');

-- It ends by revocation, by expiry, and by a ban of its user.
call tests.log_in('alice');
select revoke_pat(:'id');
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass(headers => :'headers');

-- Rotating, with a grace, makes another opaque token.
call tests.log_in('alice');
select id as old, token as old_token from mint_pat(name => 'ci', kind => 'opaque') \gset
select id as new, token as new_token from rotate_pat(:'old', grace => '1 hour') \gset
select :'new_token' ~ '^sbpat_' as opaque_again, :'new_token' <> :'old_token' as another;
call tests.request('anon', '{"role": "anon"}');
select code, key_id = :'old' as old from tests.pass(headers => jsonb_build_object('x-api-key', :'old_token'));
select code, key_id = :'new' as new from tests.pass(headers => jsonb_build_object('x-api-key', :'new_token'));
reset role;
update pat.api_keys set expires_at = now() - interval '1 second' where id = :'old';
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass(headers => jsonb_build_object('x-api-key', :'old_token'));

-- No secret is needed for it.
reset role;
alter database test_pg_regress reset "app.settings.jwt_secret";
\c
call tests.log_in('alice');
select code from tests.error($$select mint_pat(name => 'a jwt')$$);
select code from tests.error($$select mint_pat(name => 'opaque', kind => 'opaque')$$);
-- A login that may not become authenticated cannot do so by a token either.
reset role;
create role lonely login;
grant usage on schema tests to lonely;
set session authorization lonely;
select code, error from tests.pass(headers => jsonb_build_object('x-api-key', :'new_token'));
reset session authorization;
drop owned by lonely;
drop role lonely;
-- Kinds of tokens that do not exist are refused.
call tests.log_in('alice');
select code, error from tests.error($$select mint_pat(name => 'x', kind => 'magic')$$);
select code from tests.error($$select mint_pat(name => 'x', kind => null)$$);
-- Inspecting such a token says what it is, and what is wrong with it.
reset role;
reset request.jwt.claims;
select token, id from mint_pat(user_id => '11111111-1111-1111-1111-111111111111', name => 'doctored', kind => 'opaque') \gset doctored_
select pat.jwt_status(:'doctored_token'), format, role, signature, problems from pat.inspect_api_key(:'doctored_token');
select pat.jwt_status(left(:'doctored_token', -2)), format, signature, problems from pat.inspect_api_key('"' || left(:'doctored_token', -2) || '"');
select pat.jwt_status(overlay(:'doctored_token' placing '000' from 20)), format, signature, problems from pat.inspect_api_key(overlay(:'doctored_token' placing '000' from 20));
update pat.api_keys set expires_at = now() - interval '1 second' where id = :'doctored_id';
select pat.jwt_status(:'doctored_token');
select revoke_pat(:'doctored_id');
select pat.jwt_status(:'doctored_token'), signature, problems from pat.inspect_api_key(:'doctored_token');
delete from pat.api_keys where id = :'doctored_id';
select pat.jwt_status(:'doctored_token'), signature, problems from pat.inspect_api_key(:'doctored_token');
