-- The timeline of an access token, by the claims of a request.
create function pg_temp.info(seconds_left int) returns pat.session_report language plpgsql as $$
begin
    perform set_config('request.jwt.claims', jsonb_build_object('sub', '11111111-1111-1111-1111-111111111111', 'role', 'authenticated',
        'session_id', '33333333-3333-3333-3333-333333333333', 'aal', 'aal1', 'email', 'alice@example.com',
        'iat', extract(epoch from clock_timestamp())::int - 3600 + seconds_left, 'exp', extract(epoch from clock_timestamp())::int + seconds_left)::text, true);
    return session_info();
end
$$;
select user_id, session_id, role, aal, email, is_pat from pg_temp.info(3600);
select seconds_left, should_refresh, expires_in between make_interval(secs => seconds_left - 2) and make_interval(secs => seconds_left + 1) as in_time, expires_at - issued_at as lifetime
from unnest(array[3600, 120, 65, 55, 0, -3600]) seconds_left, pg_temp.info(seconds_left);

-- Requests without a user, and malformed claims.
call tests.request('anon', '{"role": "anon"}');
select * from session_info();
select signed_in_user() is null as nobody;
reset role;
select set_config('request.jwt.claims', '[', false);
select * from session_info();
select set_config('request.jwt.claims', '{"sub": 1, "exp": "soon", "iat": -1, "role": null}', false);
select * from session_info();
reset "request.jwt.claims";

-- The user as they see themselves, without a secret.
update auth.users set encrypted_password = '$2a$10$x', recovery_token = 'secret' where id = '11111111-1111-1111-1111-111111111111';
select access_token as token from pat.mint_session('11111111-1111-1111-1111-111111111111') \gset
call tests.use_token(:'token');
select key from jsonb_each(signed_in_user()) order by key;
select signed_in_user() ->> 'id' as id, signed_in_user() ->> 'email' as email;
select sign_out();
select signed_in_user() is null as signed_out;
