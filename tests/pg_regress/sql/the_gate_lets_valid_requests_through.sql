-- These pass: no claims at all, anon, service_role, a login whose session exists, a live token.
select code, role, uid from tests.pass();
call tests.request('anon', '{"role": "anon"}');
select code, role, uid from tests.pass();
call tests.request('service_role', '{"role": "service_role", "iss": "supabase"}');
select code, role, uid from tests.pass();
reset role;
select pat.mint_session('11111111-1111-1111-1111-111111111111') is not null as a_session;
select jsonb_build_object('role', 'authenticated', 'sub', user_id, 'session_id', id) as claims from auth.sessions \gset
call tests.request('authenticated', :'claims');
select code, role, uid from tests.pass('POST');
select id as id, token as token from mint_pat(name => 'live') \gset
call tests.use_token(:'token');
select code, role, uid, key_id = :'id' as by_key from tests.pass('DELETE');

-- A session that has ended, or never existed, is refused.
reset role;
delete from auth.sessions;
call tests.request('authenticated', :'claims');
select code, error from tests.pass();
-- A login of another issuer, without a session, passes.
call tests.request('authenticated', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111"}');
select code, role, uid from tests.pass();
-- Claims that no issuer writes are refused.
call tests.request('authenticated', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "session_id": 1}');
select code, error from tests.pass();
call tests.request('authenticated', '{"type": "personal_access_token", "sub": "x"}');
select code, error from tests.pass();

-- Tokens that are no longer valid are refused, each with its reason.
call tests.use_token(:'token');
select revoke_pat(:'id');
select code, error from tests.pass();
reset role;
update pat.api_keys set revoked_at = null, expires_at = now() - interval '1 second';
call tests.use_token(:'token');
select code, error from tests.pass();
reset role;
update pat.api_keys set expires_at = now() + interval '1 day';
update auth.users set banned_until = 'infinity' where email like 'alice%';
call tests.use_token(:'token');
select code, error from tests.pass();
reset role;
update auth.users set banned_until = '-infinity', deleted_at = now() where email like 'alice%';
call tests.use_token(:'token');
select code, error from tests.pass();
reset role;
update auth.users set deleted_at = null where email like 'alice%';
call tests.use_token(:'token');
select code from tests.pass();
-- Tokens with a right signature, but for another user, or with an id that does not exist, are refused.
call tests.request('authenticated', tests.claims(:'token') || '{"sub": "22222222-2222-2222-2222-222222222222"}');
select code, error from tests.pass();
call tests.request('authenticated', tests.claims(:'token') || '{"jti": "22222222-2222-2222-2222-222222222222"}');
select code, error from tests.pass();
-- A revocation counts for the next request in the same transaction too, at every isolation level.
call tests.use_token(:'token');
begin isolation level repeatable read;
select code from tests.pass();
select revoke_pat(:'id');
select code, error from tests.pass();
rollback;
select code from tests.pass();

-- The gate uses an answer only as long as it holds, even if nothing is written meanwhile: a token can expire and a
-- session can end by time alone.
reset role;
update pat.api_keys set expires_at = clock_timestamp() + interval '2 seconds';
insert into auth.sessions (id, user_id, not_after)
values ('33333333-3333-3333-3333-333333333333', '11111111-1111-1111-1111-111111111111', clock_timestamp() + interval '2 seconds');
call tests.use_token(:'token');
select code from tests.pass();
select is_valid_api_token();
select pg_sleep(2.1);
select is_valid_api_token();
reset role;
update auth.sessions set not_after = clock_timestamp() + interval '2 seconds';
call tests.request('authenticated', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "session_id": "33333333-3333-3333-3333-333333333333"}');
select code from tests.pass();
select is_active_session();
select pg_sleep(2.1);
select is_active_session();
select code, error from tests.pass();
