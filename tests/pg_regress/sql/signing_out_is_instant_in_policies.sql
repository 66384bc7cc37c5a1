alter policy owners on todos using (pat.uid() = user_id and is_active_session());
select access_token as phone, refresh_token as phone_refresh from pat.mint_session('11111111-1111-1111-1111-111111111111') \gset
select access_token as laptop from pat.mint_session('11111111-1111-1111-1111-111111111111') \gset
select access_token as tablet from pat.mint_session('11111111-1111-1111-1111-111111111111') \gset
select access_token as bob from pat.mint_session('22222222-2222-2222-2222-222222222222') \gset

call tests.use_token(:'phone');
select count(*) as mine from todos;
select is_active_session(), is_valid_api_token();
-- Scope local: this session only.
select sign_out();
select count(*) as mine from todos;
select is_active_session(), sign_out() as again;
reset role;
select refresh_session(:'phone_refresh') is null as refused;
select count(*) as sessions, (select count(*) from pat.sessions) as ours from auth.sessions;
-- Scope others: the other sessions.
select access_token as watch from pat.mint_session('11111111-1111-1111-1111-111111111111') \gset
call tests.use_token(:'watch');
select sign_out('others');
select is_active_session() as watch;
call tests.use_token(:'laptop');
select is_active_session() as laptop, count(*) as mine from todos;
-- Scope global: all sessions of the user, and nobody else's.
call tests.use_token(:'watch');
select sign_out('global');
select is_active_session() as watch;
call tests.use_token(:'bob');
select is_active_session() as bob, count(*) as his from todos;
reset role;
select user_id from auth.sessions;

-- A session of another user, one that never existed, one that is over, and malformed claims.
create function pg_temp.active(claims jsonb) returns boolean language plpgsql as $$
begin
    perform set_config('request.jwt.claims', claims::text, true);
    return is_active_session();
end
$$;
select (pat.decode_jwt(:'bob')).payload as claims \gset
select pg_temp.active(:'claims') as bob,
    pg_temp.active(:'claims'::jsonb || '{"sub": "11111111-1111-1111-1111-111111111111"}') as not_his,
    pg_temp.active(:'claims'::jsonb || jsonb_build_object('session_id', gen_random_uuid())) as unheard_of,
    pg_temp.active(:'claims'::jsonb || '{"session_id": "x"}') as malformed,
    pg_temp.active(:'claims'::jsonb || '{"session_id": 1}') as a_number,
    pg_temp.active(:'claims'::jsonb - 'sub') as nobody_s,
    pg_temp.active('{"role": "anon"}') as anon, pg_temp.active('{"role": "service_role"}') as service;
update auth.sessions set not_after = now();
select pg_temp.active(:'claims') as over;
update auth.sessions set not_after = now() + interval '1 hour';
select pg_temp.active(:'claims') as not_yet;
update auth.users set banned_until = 'infinity' where id = '22222222-2222-2222-2222-222222222222';
select pg_temp.active(:'claims') as banned;
update auth.users set banned_until = null, deleted_at = now() where id = '22222222-2222-2222-2222-222222222222';
select pg_temp.active(:'claims') as deleted;
update auth.users set deleted_at = null where id = '22222222-2222-2222-2222-222222222222';

-- A personal access token has no session: it is active while it is valid, and can neither sign out nor refresh.
select token, id from mint_pat('22222222-2222-2222-2222-222222222222', 'script') \gset
select refresh_token as bob_refresh from pat.mint_session('22222222-2222-2222-2222-222222222222') \gset
call tests.use_token(:'token');
select is_active_session(), count(*) as his from todos;
select session_id is null as no_session, is_pat, should_refresh from session_info();
select * from tests.error($$select sign_out('global')$$);
select * from tests.error(format('select refresh_session(%L)', :'bob_refresh'));
select * from tests.error($$select pat.mint_session('22222222-2222-2222-2222-222222222222')$$);
reset role;
select revoke_pat(:'id');
call tests.use_token(:'token');
select is_active_session(), count(*) as his from todos;
reset role;

-- A request without a user cannot sign out, and there are three scopes.
call tests.request('authenticated', '{"role": "authenticated"}');
select * from tests.error('select sign_out()');
call tests.use_token(:'bob');
select * from tests.error($$select sign_out('everywhere')$$);
select * from tests.error($$select sign_out(null)$$);
-- A login without a session of ours signs out of all others.
call tests.request('authenticated', '{"role": "authenticated", "sub": "22222222-2222-2222-2222-222222222222"}');
select sign_out() as local, sign_out('others') as others;
call tests.request('anon', '{}');
select * from tests.error('select sign_out()');
