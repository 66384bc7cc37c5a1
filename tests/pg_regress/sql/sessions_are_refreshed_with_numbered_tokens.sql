update auth.users set raw_app_meta_data = '{"provider": "email"}', raw_user_meta_data = '{"name": "Alice"}' where id = '11111111-1111-1111-1111-111111111111';
\set alice '''11111111-1111-1111-1111-111111111111'''
-- A trusted role begins one.
call tests.request('service_role', '{}');
select access_token as a0, refresh_token as r0, token_type, expires_in, expires_at - extract(epoch from now())::int between 3599 and 3601 as in_an_hour,
    "user" - 'id' - 'created_at' - 'updated_at' - 'last_sign_in_at' as user_without_times from pat.mint_session(:alice) \gset shown_
select :'shown_token_type' as token_type, :shown_expires_in as expires_in, :'shown_in_an_hour' as in_an_hour;
select :'shown_user_without_times'::jsonb as user_without_times;
select key, case when key in ('iat', 'exp', 'session_id', 'amr') then '…' else value::text end as value
from jsonb_each((pat.decode_jwt(:'shown_a0')).payload) order by key;
select pat.verify_jwt(:'shown_a0') -> 'amr' -> 0 ->> 'method' as method;
reset role;
select user_id, aal, not_after, user_agent, ip, refreshed_at from auth.sessions;
select last_sign_in_at is not null as noted from auth.users where id = :alice;
select event, user_id from pat.events;

-- The refresh token gets the next one.
call tests.request('anon', '{}');
select refresh_token as r1, access_token as a1 from refresh_session(:'shown_r0') \gset
select refresh_token as r2 from refresh_session(:'r1') \gset
select :'r1' <> :'shown_r0' and :'r2' <> :'r1' as all_differ, (pat.decode_jwt(:'a1')).payload ->> 'session_id' = (pat.decode_jwt(:'shown_a0')).payload ->> 'session_id' as same_session;
-- A client that did not get the answer may ask again, and gets the same.
select (refresh_session(:'r1')).refresh_token = :'r2' as the_same, (refresh_session(:'r1')).refresh_token = :'r2' as and_again;
-- A refresh token that is two behind may have been under way, but not for long.
select (refresh_session(:'shown_r0')).refresh_token = :'r2' as on_its_way;
reset role;
select live from pat.sessions;
select refreshed_at between (now() at time zone 'utc') - interval '1 min' and (now() at time zone 'utc') + interval '1 min' as in_utc from auth.sessions;
set supabase_pat.refresh_reuse_interval = 0;
call tests.request('anon', '{}');
-- After that it must be a copy: the session ends, and this stays so although the caller is refused.
select refresh_session(:'shown_r0') is null as refused, current_setting('response.status') as status;
select refresh_session(:'r2') is null as refused;
reset role;
reset supabase_pat.refresh_reuse_interval;
select count(*) as sessions, (select count(*) from pat.sessions) as ours from auth.sessions;
select event, user_id from pat.events order by id;

-- Texts that are not refresh tokens are refused.
call tests.request('anon', '{}');
select refresh_session(null) is null as missing, refresh_session('') is null as empty, refresh_session('x') is null as short,
    refresh_session(:'a1') is null as access_token, refresh_session(left(:'r2', -1)) is null as cut, refresh_session(:'r2' || :'r2') is null as doubled,
    refresh_session(:'r2' || 'A') is null as longer;
reset role;
-- A token of a live session with one character changed: in its MAC, its number or its session.
select refresh_token as live from pat.mint_session(:alice) \gset
select place, refresh_session(overlay(:'live' placing case substr(:'live', place, 1) when 'A' then 'B' else 'A' end from place for 1)) is null as changed
from unnest(array[5, 30, 33, 40, 60, 74]) place;
select refresh_session(:'live') is null as unchanged;
delete from auth.sessions;

-- The limits: a session that is idle for too long, or exists for too long.
select refresh_token as r0 from pat.mint_session(:alice) \gset
update pat.sessions set refreshed_at = now() - interval '6 days 23:59';
select refresh_token as r1 from refresh_session(:'r0') \gset
update pat.sessions set refreshed_at = now() - interval '7 days';
select refresh_session(:'r1') is null as idle_for_a_week;
select count(*) as sessions from auth.sessions;
select event from pat.events order by id desc limit 1;
-- A user who comes back every few days never has to sign in again.
do $$
declare
    token text := (select refresh_token from pat.mint_session('11111111-1111-1111-1111-111111111111'));
begin
    for i in 1..100 loop
        update pat.sessions set refreshed_at = refreshed_at - interval '6 days', created_at = created_at - interval '6 days';
        token := (refresh_session(token)).refresh_token;
        assert token is not null;
    end loop;
end
$$;
select live, created_at < now() - interval '1 year' as more_than_a_year_ago from pat.sessions where live > 0;
delete from auth.sessions;
set supabase_pat.session_timebox = '1h';
select refresh_token as r0 from pat.mint_session(:alice) \gset
select not_after - created_at as timebox from auth.sessions;
update pat.sessions set created_at = now() - interval '59 min';
select refresh_token as r1 from refresh_session(:'r0') \gset
update pat.sessions set created_at = now() - interval '1 hour';
select refresh_session(:'r1') is null as over;
reset supabase_pat.session_timebox;

-- A rotation of the signing key changes nothing; a revocation ends what the key signed.
select refresh_token as r0 from pat.mint_session(:alice) \gset
select pat.add_signing_key('ES256', kid => 'a'), pat.add_signing_key('EdDSA', kid => 'b');
select pat.rotate_signing_key('a');
select refresh_token as r1 from refresh_session(:'r0') \gset
select (refresh_session(:'r0')).refresh_token = :'r1' as the_same;
select refresh_token as r2, (pat.decode_jwt(access_token)).header ->> 'kid' as kid from refresh_session(:'r1') \gset
select :'kid' as kid, signing_key, previous_signing_key, rekeyed_at, live from pat.sessions;
select pat.rotate_signing_key('b');
select (refresh_session(:'r1')).refresh_token = :'r2' as live_again;
select pat.revoke_signing_key('a');
select refresh_session(:'r2') is null as its_key_was_revoked;

-- Users who may not log in, and sessions that somebody else ended.
select refresh_token as r0 from pat.mint_session(:alice) \gset
update auth.users set banned_until = 'infinity' where id = :alice;
select refresh_session(:'r0') is null as banned;
select * from tests.error(format('select pat.mint_session(%L)', :alice));
update auth.users set banned_until = null where id = :alice;
select refresh_session(:'r0') is not null as not_any_more;
delete from auth.sessions;
select refresh_session(:'r0') is null as ended;
select count(*) as orphans from pat.sessions;
select * from tests.error($$select pat.mint_session('00000000-0000-0000-0000-000000000000')$$);
select * from tests.error($$select pat.mint_session(null)$$);

-- Each user has one session only, if the setting says so.
set supabase_pat.single_session = on;
select refresh_token as r0 from pat.mint_session(:alice) \gset
select refresh_token as r1 from pat.mint_session(:alice) \gset
select refresh_session(:'r0') is null as the_older, refresh_session(:'r1') is null as the_newer;

-- Only trusted roles mint sessions, and API roles see nothing of them.
grant execute on function pat.mint_session(uuid) to authenticated;
call tests.log_in('alice');
select * from tests.error(format('select pat.mint_session(%L)', :alice));
select * from tests.error('select * from pat.sessions');
begin read only;
select * from tests.error(format('select refresh_session(%L)', :'r1'));
rollback;
