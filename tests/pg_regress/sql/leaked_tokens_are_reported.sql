-- Whoever has found a token somewhere reports it, without a login, and it is dead from then on.
\set alice '11111111-1111-1111-1111-111111111111'
\set bob '22222222-2222-2222-2222-222222222222'
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.error($$select report_leaked_tokens('{x}')$$);
reset role;
set supabase_pat.enable_leak_reports = on;
set supabase_pat.trusted_proxies = 1;
select token as jwt, id as jwt_id from mint_pat(:'alice', 'a jwt') \gset
select token as opaque, id as opaque_id from mint_pat(:'alice', 'opaque', kind => 'opaque', scopes => '{todos:read}', allowed_ips => '{192.0.2.0/24}') \gset
select token as maker, id as maker_id from mint_pat(:'bob', 'maker', scopes => '{tokens:write}') \gset
select pat.import_token(:'bob', 'imported', sha256('a-key-of-old')::text) as imported_id \gset
select token as kept from mint_pat(:'bob', 'kept', kind => 'opaque') \gset
begin;
call tests.use_judged_token(:'maker');
select token as made from mint_pat(name => 'made with it', scopes => '{tokens:write}') \gset
commit;

call tests.request('anon', '{"role": "anon"}');
set request.headers = '{"x-forwarded-for": "198.51.100.7"}';
select report_leaked_tokens(array[:'jwt', ' Bearer ' || :'opaque' || ' ', :'maker', 'a-key-of-old', :'jwt'], 'https://example.com/repository/.env#L3');
reset request.headers;
reset role;
select pat.jwt_status(:'jwt') as jwt, pat.jwt_status(:'opaque') as opaque, pat.jwt_status(:'maker') as maker, pat.jwt_status(:'made') as made,
    pat.jwt_status('a-key-of-old') as imported, pat.jwt_status(:'kept') as kept;
select event, case key_id when :'jwt_id' then 'jwt' when :'opaque_id' then 'opaque' when :'maker_id' then 'maker' when :'imported_id' then 'imported' else 'made' end as token,
    user_id = :'alice' as alice, role, address, detail like 'made with%' as made_with, case when event = 'token_leaked' then detail end as detail
from pat.events where event in ('token_revoked', 'token_leaked') order by 3, 2, 1;
-- Its owner reads where it was found.
call tests.log_in('alice');
select event, detail from api_key_events where event = 'token_leaked' order by detail limit 1;

-- The answer is the same whatever the tokens are, and what is dead already leaves nothing.
reset role;
select count(*) as before from pat.events \gset
call tests.request('anon', '{"role": "anon"}');
select report_leaked_tokens(array[:'jwt', :'opaque', 'a-key-of-old', 'unknown', '', null, 'a.b.c', repeat('x', 100000), left(:'kept', -1), :'kept' || 'x', upper(:'kept')]);
select report_leaked_tokens('{}');
reset role;
select count(*) - :before as new_events from pat.events;
select pat.jwt_status(:'kept');
-- A JWT that somebody else has signed proves nothing, and neither does the id of a token.
select id as kept_id from pat.api_keys where name = 'kept' \gset
select token as other, id as other_id from mint_pat(:'alice', 'another') \gset
select tests.claims(:'other') as claims \gset
select pat.sign(:'claims', 'not the secret of this database') as forged \gset
call tests.request('anon', '{"role": "anon"}');
select report_leaked_tokens(array[:'forged', :'other_id', :'kept_id', split_part(:'other', '.', 1) || '.' || split_part(:'other', '.', 2) || '.' || repeat('A', 43)]);
reset role;
select pat.jwt_status(:'other');
-- A token of a user who is banned may come back to life, unless it was reported.
update auth.users set banned_until = now() + interval '1 day' where id = :'alice';
call tests.request('anon', '{"role": "anon"}');
select report_leaked_tokens(array[:'other']);
reset role;
update auth.users set banned_until = null;
select pat.jwt_status(:'other');

-- What was exchanged for less ends its token, and nothing that it could not have made itself.
select token as giver, id as giver_id from mint_pat(:'bob', 'giver', scopes => '{tokens:write,todos:read}') \gset
begin;
call tests.use_judged_token(:'giver');
select token as given from mint_pat(name => 'given', scopes => '{todos:read}') \gset
select access_token as lesser from exchange_token(scopes => '{todos:read}') \gset
commit;
call tests.request('anon', '{"role": "anon"}');
select report_leaked_tokens(array[:'lesser']);
reset role;
select pat.jwt_status(:'giver') as giver, pat.jwt_status(:'given') as given;
-- Beside the token itself it changes nothing.
select token as giver from mint_pat(:'bob', 'giver', scopes => '{tokens:write,todos:read}') \gset
begin;
call tests.use_judged_token(:'giver');
select token as given from mint_pat(name => 'given', scopes => '{todos:read}') \gset
select access_token as lesser from exchange_token(scopes => '{todos:read}') \gset
commit;
call tests.request('anon', '{"role": "anon"}');
select report_leaked_tokens(array[:'giver', :'lesser']);
reset role;
select pat.jwt_status(:'giver') as giver, pat.jwt_status(:'given') as given;

-- A key of the service role is denied, and the operator told. The anonymous one is public, and stays.
select pat.mint_api_key('service_role') as service, pat.mint_api_key('anon') as anon \gset
select (pat.mint_session(:'bob')).access_token as login \gset
call tests.request('anon', '{"role": "anon"}');
select report_leaked_tokens(array[:'service', :'anon', :'login'], 'a pastebin');
select report_leaked_tokens(array[:'service'], 'again');
reset role;
select role, reason from pat.denied_tokens;
select event, user_id, key_id, role, detail from pat.events where detail in ('a pastebin', 'again');
select pat.jwt_status(:'service') as service, pat.jwt_status(:'anon') as anon, pat.jwt_status(:'login') as login;

-- What is not fit. Where it was found is one line of 200 characters.
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.error($$select report_leaked_tokens(null)$$);
select code, error from tests.error($$select report_leaked_tokens(array_fill('x'::text, '{101}'))$$);
select code, error from tests.error($$select report_leaked_tokens('{x}', E'two\nlines')$$);
select code, error from tests.error($$select report_leaked_tokens('{x}', U&'right\202Eleft')$$);
select report_leaked_tokens(array[:'kept'], repeat('x', 300));
reset role;
select length(detail) from pat.events where event = 'token_leaked' order by happened_at desc, id desc limit 1;
begin read only;
select code, error from tests.error($$select report_leaked_tokens('{x}')$$);
rollback;

-- A stranger's network may report 300 tokens at once. What is beyond that is not looked at, and answered with 429.
\c
set supabase_pat.enable_leak_reports = on;
set supabase_pat.trusted_proxies = 1;
select token as last from mint_pat(:'bob', 'last', kind => 'opaque') \gset
call tests.request('anon', '{"role": "anon"}');
set request.headers = '{"x-forwarded-for": "198.51.100.8"}';
do $$ begin for i in 1..3 loop perform report_leaked_tokens(array_fill('no token'::text, '{100}')); end loop; end $$;
begin;
select report_leaked_tokens(array[:'last']);
select current_setting('response.status') as status;
commit;
select pat.jwt_status(:'last');
-- A transaction that is rolled back has paid too, and another network has a budget of its own.
set request.headers = '{"x-forwarded-for": "2001:db8::1"}';
begin;
do $$ begin for i in 1..3 loop perform report_leaked_tokens(array_fill('no token'::text, '{100}')); end loop; end $$;
rollback;
set request.headers = '{"x-forwarded-for": "2001:db8::ffff"}';
begin;
select report_leaked_tokens(array[:'last']);
select current_setting('response.status') as status;
commit;
set request.headers = '{"x-forwarded-for": "2001:db8:0:1::1"}';
select report_leaked_tokens(array[:'last']);
select pat.jwt_status(:'last');
-- Trusted roles have none, and users one of their own.
reset role;
call tests.request('service_role', '{"role": "service_role"}');
do $$ begin for i in 1..4 loop perform report_leaked_tokens(array_fill('no token'::text, '{100}')); end loop; end $$;
select nullif(current_setting('response.status', true), '') as status;
call tests.log_in('alice');
set request.headers = '{"x-forwarded-for": "198.51.100.8"}';
begin;
select report_leaked_tokens(array_fill('no token'::text, '{100}'));
select nullif(current_setting('response.status', true), '') as status;
commit;
-- Anybody can become an anonymous user, again and again: such a user is a stranger.
reset role;
update auth.users set is_anonymous = true where id = :'alice';
call tests.log_in('alice');
set request.headers = '{"x-forwarded-for": "198.51.100.8"}';
begin;
select report_leaked_tokens('{x}');
select current_setting('response.status') as status;
commit;
-- So is one who does not exist.
call tests.request('authenticated', '{"role": "authenticated", "sub": "44444444-4444-4444-4444-444444444444"}');
set request.headers = '{"x-forwarded-for": "198.51.100.8"}';
begin;
select report_leaked_tokens('{x}');
select current_setting('response.status') as status;
commit;
