-- A token that another system has minted goes on working, as an opaque token, by its SHA-256.
\set alice '11111111-1111-1111-1111-111111111111'
\set bob '22222222-2222-2222-2222-222222222222'
call tests.request('service_role', '{"role": "service_role"}');
select pat.import_token(:'alice', 'by hex', encode(sha256('key-one'), 'hex')) as one \gset
select pat.import_token(:'alice', 'by base64', encode(sha256('key-two'), 'base64'), scopes => '{todos:read}') as two \gset
select pat.import_token(:'alice', 'by base64url', translate(rtrim(encode(sha256('key-three'), 'base64'), '='), '+/', '-_'),
    expires_at => 'infinity', created_at => '2020-01-01', allowed_ips => '{192.0.2.0/24}') as three \gset
select pat.import_token(:'bob', 'by bytea', sha256('key-four')::text, rate_limit => 1, rate_window => '23 hours') as four \gset
select pat.import_token(:'bob', 'expired', encode(sha256('key-five'), 'hex'), expires_at => '2021-01-01') as five \gset
reset role;
select name, kind, scopes, hint, rate_limit, allowed_ips, created_at < '2020-01-02' as is_old,
    case when isfinite(expires_at) and expires_at > now() then round(extract(epoch from expires_at - now()) / 86400) end as days
from pat.api_keys order by name;
select event, key_id = :'one' as of_one, role from pat.events where event = 'token_imported' order by happened_at, id limit 1;
-- Importing a token again changes nothing.
select pat.import_token(:'alice', 'again', sha256('key-one')::text) = :'one' as same;
select count(*) from pat.api_keys where token_digest = sha256('key-one');
select count(*) from pat.events where event = 'token_imported' and key_id = :'one';

-- The gate takes them as what they are. Behind the word Bearer too.
call tests.request('anon', '{"role": "anon"}');
begin;
select code, role, uid = :'alice' as alice, key_id = :'one' as by_one from tests.pass(headers => '{"x-api-key": "key-one"}');
select is_valid_api_token(), current_user, auth.jwt() ->> 'jti' = :'one' as jti, count(*) as todos from todos;
rollback;
select code, role from tests.pass(headers => '{"x-api-key": "Bearer key-one"}');
select code, role from tests.pass(headers => '{"x-api-key": "  key-one "}');
select code, error from tests.pass('POST', headers => '{"x-api-key": "key-two"}');
select code, error from tests.pass(headers => '{"x-api-key": "key-three"}');
select code from tests.pass(headers => '{"x-api-key": "key-four"}');
select code from tests.pass(headers => '{"x-api-key": "key-four"}');
select code, error from tests.pass(headers => '{"x-api-key": "key-five"}');
-- One that never expires says so: its claims have an expiry that no clock reaches.
reset role;
select pat.import_token(:'alice', 'for ever', sha256('key-for-ever')::text, expires_at => 'infinity') is not null as imported;
call tests.request('anon', '{"role": "anon"}');
begin;
select code, role from tests.pass(headers => '{"x-api-key": "key-for-ever"}');
select is_valid_api_token(), (auth.jwt() ->> 'exp')::numeric > 4e12 as exp, count(*) as todos from todos;
rollback;
-- Each character counts, and what is not known is left alone in this header.
select code, role from tests.pass(headers => '{"x-api-key": "key-onf"}');
select code, role from tests.pass(headers => '{"x-api-key": "KEY-ONE"}');
select code, role from tests.pass(headers => jsonb_build_object('x-api-key', 'key-one' || repeat('x', 2000)));
-- The digest itself opens nothing.
select code, role from tests.pass(headers => jsonb_build_object('x-api-key', encode(sha256('key-one'), 'hex')));
-- Keys of Supabase's stand there too, and pass, whatever was imported.
select code, role from tests.pass(headers => jsonb_build_object('x-api-key', pat.sign('{"role": "anon"}', 'another secret')));
select code, role from tests.pass(headers => '{"x-api-key": "sb_publishable_AAECAwQFBgcICQoLDA0ODw_kF53ynCj"}');
-- In other headers nothing is looked for.
select code, role from tests.pass(headers => '{"x-old-key": "key-one"}');

-- A header that the operator names is for tokens alone: what is not known there is refused.
reset role;
set supabase_pat.token_headers = 'x-api-key, X-Old-Key';
show supabase_pat.token_headers;
call tests.request('anon', '{"role": "anon"}');
select code, role from tests.pass(headers => '{"x-old-key": "key-one"}');
select code, role from tests.pass(headers => '{"x-old-key": "Bearer key-one"}');
select code, error from tests.pass(headers => '{"x-old-key": "key-onf"}');
select code, error from tests.pass(headers => jsonb_build_object('x-old-key', repeat('x', 2000)));
select code, error from tests.pass(headers => jsonb_build_object('x-old-key', pat.sign('{"role": "anon"}', 'another secret')));
select code, error from tests.pass(headers => '{"x-old-key": "sbpat_123"}');
select code, role from tests.pass(headers => '{"x-old-key": ""}');
-- Two headers: both must hold the same token, and a dead or unknown one is not outweighed by a good one.
select code, key_id = :'one' as by_one from tests.pass(headers => '{"x-api-key": "key-one", "x-old-key": "key-one"}');
select code, error from tests.pass(headers => '{"x-api-key": "key-one", "x-old-key": "key-four"}');
select code, error from tests.pass(headers => '{"x-api-key": "key-five", "x-old-key": "key-one"}');
select code, error from tests.pass(headers => '{"x-api-key": "key-one", "x-old-key": "key-five"}');
select code, error from tests.pass(headers => '{"x-api-key": "key-one", "x-old-key": "no key"}');
select code, key_id = :'one' as by_one from tests.pass(headers => '{"x-api-key": "sb_publishable_x", "x-old-key": "key-one"}');
-- Without a header for tokens there are no opaque tokens.
reset role;
set supabase_pat.token_headers = '';
call tests.request('anon', '{"role": "anon"}');
select code, role from tests.pass(headers => '{"x-api-key": "key-one"}');
reset role;
set supabase_pat.token_headers = 'authorization';
set supabase_pat.token_headers = 'x-api-key, two words';
call tests.log_in('alice');
set supabase_pat.token_headers = 'x-mine';
reset role;
reset supabase_pat.token_headers;

-- The owner sees, rotates, revokes them. What it is rotated into is a token of ours.
call tests.log_in('alice');
select name, kind, is_active from api_keys order by name;
select left(token, 6) as new, name from rotate_pat(:'one');
select revoke_pat(:'two');
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass(headers => '{"x-api-key": "key-one"}');
select code, error from tests.pass(headers => '{"x-api-key": "key-two"}');
-- Importing what was revoked does not bring it back.
reset role;
select pat.import_token(:'alice', 'again', sha256('key-two')::text) = :'two' as same;
call tests.request('anon', '{"role": "anon"}');
select code from tests.pass(headers => '{"x-api-key": "key-two"}');

-- What is known of them by their text.
reset role;
select pat.jwt_status('key-three'), pat.jwt_status('key-five'), pat.jwt_status('key-one'), pat.jwt_status('key-six');
select format, role, signature, problems from pat.inspect_api_key(' key-three');
select format, role, signature, problems from pat.inspect_api_key('"three-of-a-kind"');
select pat.import_token(:'alice', 'whole', sha256('three-of-a-kind')::text) is not null as imported;
select format, role, signature, problems from pat.inspect_api_key('"three-of-a-kind"');
select pat.deny_token('three-of-a-kind', 'leaked');
select pat.jwt_status('three-of-a-kind');
select code, error from tests.error($$select pat.deny_token('key-six')$$);

-- They may have any form: that of a JWT, that of a name before a value, and the present prefix at the beginning.
set supabase_pat.token_prefix = 'acme_';
select count(pat.import_token(:'alice', 'of any form', sha256(text::bytea)::text)) as imported from unnest(array[
    'SG.one.two', 'eyJhbGciOiJub25lIn0.e30.c2ln', 'team:secret', 'acme_live_1', 'sk_live_' || repeat('0', 42)]) text;
select left(text, 20) as text, pat.jwt_status(text), introspect_token(text) -> 'active' as active, report.format, report.signature, report.problems
from unnest(array['SG.one.two', 'eyJhbGciOiJub25lIn0.e30.c2ln', 'team:secret', 'acme_live_1', 'sk_live_' || repeat('0', 42)]) text,
    pat.inspect_api_key(text) report;
reset supabase_pat.token_prefix;

-- A token of ours with something around it is not taken for none, and neither is a list of them.
select token from mint_pat(:'alice', 'ours', kind => 'opaque') \gset
call tests.request('anon', '{"role": "anon"}');
select value, code, error from unnest(array['"%s"', '%s,', '%s, %s', 'Token %s', 'Bearer Bearer %s', 'sb_publishable_x, %s']) value,
    lateral tests.pass(headers => jsonb_build_object('x-api-key', replace(value, '%s', :'token')));
select code, error from tests.pass(headers => jsonb_build_object('x-api-key', array[:'token']));
select code, role from tests.pass(headers => '{"x-api-key": ["sb_publishable_x"]}');
reset role;

-- A digest belongs to one user.
select code, error from tests.error($$select pat.import_token('22222222-2222-2222-2222-222222222222', 'of bob', sha256('key-three')::text)$$);
-- A name that a user has chosen does not stop the import of all.
begin;
select count(pat.import_token(:'alice', name, sha256(name::bytea)::text)) from unnest(array[U&'\00a0', E'a\nb', repeat('x', 101)]) name;
select name from pat.api_keys where token_digest = any (array[sha256(U&'\00a0'::bytea), sha256(E'a\nb'::text::bytea), sha256(repeat('x', 101)::bytea)]) order by name;
rollback;
-- What cannot be imported.
select code, error from tests.error($$select pat.import_token('33333333-3333-3333-3333-333333333333', 'of nobody', sha256('x')::text)$$);
select code, error from tests.error($$select pat.import_token('11111111-1111-1111-1111-111111111111', 'x', 'key-three')$$);
select code, error from tests.error($$select pat.import_token('11111111-1111-1111-1111-111111111111', 'x', null)$$);
select code, error from tests.error($$select pat.import_token(null, 'x', sha256('x')::text)$$);
select code, error from tests.error($$select pat.import_token('11111111-1111-1111-1111-111111111111', 'x', sha256('x')::text, scopes => '{x}')$$);
select code, error from tests.error($$select pat.import_token('11111111-1111-1111-1111-111111111111', 'x', sha256('x')::text, rate_limit => 0)$$);
begin read only;
select code, error from tests.error($$select pat.import_token('11111111-1111-1111-1111-111111111111', 'x', sha256('x')::text)$$);
rollback;
-- Nobody else may.
grant execute on function pat.import_token(uuid, text, text, text[], timestamptz, timestamptz, cidr[], integer, interval) to anon, authenticated;
call tests.log_in('alice');
select code, error from tests.error($$select pat.import_token('11111111-1111-1111-1111-111111111111', 'x', sha256('x')::text)$$);
