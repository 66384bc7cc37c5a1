alter database :"DBNAME" set supabase_pat.enable_sign_in = on;
alter database :"DBNAME" set supabase_pat.confirm_sign_up = off;
alter database :"DBNAME" set supabase_pat.trusted_proxies = 1;
\c
create extension pgcrypto;
update auth.users set encrypted_password = crypt('password', gen_salt('bf', 4));
create function tests.try(email text, password text, address text default '192.0.2.1') returns text language plpgsql as $$
begin
    perform set_config('request.headers', json_build_object('x-forwarded-for', '203.0.113.9, ' || address, 'user-agent', 'the test')::text, true);
    perform set_config('response.status', '', true);
    if sign_in(email, password) is null then
        return coalesce(nullif(current_setting('response.status', true), ''), 'no status');
    end if;
    return 'in';
end
$$;
-- Five wrong passwords are free. Then there is a pause, in which not even the right one is checked.
select n, tests.try('alice@example.com', 'wrong') from generate_series(1, 8) n;
select tests.try('alice@example.com', 'password') as during_the_pause;
-- From another address the owner can sign in.
select tests.try('alice@example.com', 'password', '198.51.100.7') as from_elsewhere;
-- Tries during the pause have not made it longer.
select wrong from pat.wrong_passwords order by wrong;
update pat.wrong_passwords set last_at = last_at - interval '2 seconds';
-- Each connection knows its own tries at once; a new one knows those that were committed.
\c
select tests.try('alice@example.com', 'password') as after_the_pause;
-- The right password resets the count of that address.
select wrong from pat.wrong_passwords order by wrong;

-- One address tries many accounts.
select status, count(*) from generate_series(1, 60) n, tests.try('nobody' || n || '@example.com', 'wrong', '192.0.2.2') status group by status;
select tests.try('bob@example.com', 'password', '192.0.2.2') as bob_from_there, tests.try('bob@example.com', 'password', '192.0.2.3') as bob_from_elsewhere;

-- Many addresses try one account. The owner can sign in from a network where they have signed in before, and waits for
-- some seconds at most elsewhere.
select status, count(*) from generate_series(1, 60) n, tests.try('bob@example.com', 'wrong', '192.0.2.' || 100 + n) status group by status;
select tests.try('bob@example.com', 'password', '192.0.2.3') as where_bob_was_before, tests.try('bob@example.com', 'password', '192.0.2.4') as elsewhere;
update pat.wrong_passwords set last_at = last_at - interval '5 seconds';
\c
select tests.try('bob@example.com', 'password', '192.0.2.4') as five_seconds_later;
-- In such a network, tries for other accounts do not make the owner wait. Tries for the owner's account do, for half a
-- minute at most.
select status, count(*) from generate_series(1, 60) n, tests.try('nobody' || n || '@example.com', 'wrong', '192.0.2.3') status group by status;
select tests.try('bob@example.com', 'password', '192.0.2.3') as bob, tests.try('alice@example.com', 'password', '192.0.2.3') as alice_who_never_was_there;
select status, count(*) from generate_series(1, 8) n, tests.try('bob@example.com', 'wrong' || n, '192.0.2.3') status group by status;
select tests.try('bob@example.com', 'password', '192.0.2.3') as not_at_once;
update pat.wrong_passwords set wrong = wrong + 20, last_at = last_at - interval '30 seconds';
\c
select tests.try('bob@example.com', 'password', '192.0.2.3') as half_a_minute_later;
-- The latest 16 networks are known, for 90 days. A /64 of IPv6 is one network.
select count(*) from generate_series(1, 20) n, tests.try('bob@example.com', 'password', '2001:db8:0:' || n || '::1');
select count(*), min(network), max(network) from pat.known_networks join auth.users on id = user_id where email = 'bob@example.com';
select status, count(*) from generate_series(1, 60) n, tests.try('bob@example.com', 'wrong', '198.51.100.' || 100 + n) status group by status;
select tests.try('bob@example.com', 'password', '2001:db8:0:20:1:2:3:4') as same_network, tests.try('bob@example.com', 'password', '2001:db8:0:21::1') as another;
update pat.known_networks set last_at = last_at - interval '90 days';
select tests.try('bob@example.com', 'password', '2001:db8:0:20::1') as after_90_days;
-- After a reset, the network of the user is known, and no other one.
select token, code from pat.issue_reset_code('bob@example.com') \gset
select set_config('request.headers', '{"x-forwarded-for": "203.0.113.7"}', false);
select reset_password(:'token', :'code', 'new password');
select network, last_at > now() - interval '1 minute' as now from pat.known_networks join auth.users on id = user_id where email = 'bob@example.com';
select tests.try('bob@example.com', 'new password', '203.0.113.7') as from_there;
update auth.users set encrypted_password = crypt('password', gen_salt('bf', 4));

-- After an hour the counts are forgotten, and their rows are removed.
update pat.wrong_passwords set last_at = last_at - interval '1 hour';
\c
select tests.try('bob@example.com', 'wrong', '192.0.2.' || n) from generate_series(2, 4) n;
select count(*) as left from pat.wrong_passwords;
-- If no proxy is trusted, the address is not known. Then only tries for the account count, and others cannot lock its
-- owner out.
set supabase_pat.trusted_proxies = 0;
select status, count(*) from generate_series(1, 30) n, tests.try('bob@example.com', 'wrong', '192.0.2.' || n) status group by status;
update pat.wrong_passwords set last_at = last_at - interval '5 seconds';
\c
set supabase_pat.trusted_proxies = 0;
select tests.try('bob@example.com', 'password') as five_seconds_later;
reset supabase_pat.trusted_proxies;
-- Neither accounts nor addresses are stored in the clear.
select count(*) from pat.wrong_passwords where encode(key, 'escape') ~ 'example|192[.]0[.]2';
-- Where the request came from is noted with the session.
select distinct user_agent from auth.sessions;
select distinct ip from auth.sessions where family(ip) = 4 or ip is null order by ip;
