set supabase_pat.enable_sign_in = on;
set supabase_pat.confirm_sign_up = off;
set supabase_pat.trusted_proxies = 1;
create extension pgcrypto;
update auth.users set encrypted_password = crypt('password', gen_salt('bf', 4));
create function pg_temp.try(email text, password text, address text default '192.0.2.1') returns text language plpgsql as $$
begin
    perform set_config('request.headers', json_build_object('x-forwarded-for', '203.0.113.9, ' || address, 'user-agent', 'the test')::text, true);
    perform set_config('response.status', '', true);
    if sign_in(email, password) is null then
        return coalesce(nullif(current_setting('response.status', true), ''), 'no status');
    end if;
    return 'in';
end
$$;
-- Five wrong ones are free, then there is a pause, in which not even the right one is looked at.
select n, pg_temp.try('alice@example.com', 'wrong') from generate_series(1, 8) n;
select pg_temp.try('alice@example.com', 'password') as during_the_pause;
-- From elsewhere the owner comes in.
select pg_temp.try('alice@example.com', 'password', '198.51.100.7') as from_elsewhere;
-- What came during the pause did not prolong it.
select wrong from pat.wrong_passwords order by wrong;
update pat.wrong_passwords set last_at = last_at - interval '2 seconds';
select pg_temp.try('alice@example.com', 'password') as after_the_pause;
-- The right one forgets what was wrong from there.
select wrong from pat.wrong_passwords order by wrong;

-- One address that tries many accounts.
select status, count(*) from generate_series(1, 60) n, pg_temp.try('nobody' || n || '@example.com', 'wrong', '192.0.2.2') status group by status;
select pg_temp.try('bob@example.com', 'password', '192.0.2.2') as bob_from_there, pg_temp.try('bob@example.com', 'password', '192.0.2.3') as bob_from_elsewhere;

-- Many addresses that try one account: the owner waits for some seconds at most.
select status, count(*) from generate_series(1, 60) n, pg_temp.try('bob@example.com', 'wrong', '192.0.2.' || 100 + n) status group by status;
select pg_temp.try('bob@example.com', 'password', '192.0.2.3') as bob;
update pat.wrong_passwords set last_at = last_at - interval '5 seconds';
select pg_temp.try('bob@example.com', 'password', '192.0.2.3') as five_seconds_later;

-- After an hour all is forgotten, and what nobody needs is swept.
update pat.wrong_passwords set last_at = last_at - interval '1 hour';
select pg_temp.try('bob@example.com', 'wrong', '192.0.2.' || n) from generate_series(2, 4) n;
select count(*) as left from pat.wrong_passwords;
-- Where the address is not known, because no proxy is trusted, the account alone counts, so that others cannot lock
-- its owner out.
set supabase_pat.trusted_proxies = 0;
select status, count(*) from generate_series(1, 30) n, pg_temp.try('bob@example.com', 'wrong', '192.0.2.' || n) status group by status;
update pat.wrong_passwords set last_at = last_at - interval '5 seconds';
select pg_temp.try('bob@example.com', 'password') as five_seconds_later;
set supabase_pat.trusted_proxies = 1;
-- Neither account nor address is there in the clear.
select count(*) from pat.wrong_passwords where encode(key, 'escape') ~ 'example|192[.]0[.]2';
-- Where the request came from is noted with the session.
select distinct user_agent from auth.sessions;
select distinct ip from auth.sessions order by ip;
