-- What jwt_status and decode_jwt say of a token, whoever asks.
call tests.request('anon', '{}');
select (pat.decode_jwt('eyJhbGciOiJub25lIn0.eyJhIjogMS41MCwgImIiOiBbXX0.')).*;
select * from tests.error($$select pat.decode_jwt('x')$$);
select * from tests.error($$select pat.decode_jwt('')$$);
select * from tests.error($$select pat.decode_jwt('eyJhbGciOiJub25lIn0.bm8ganNvbg.')$$);
select pat.decode_jwt(null) is null as strict;

select pat.jwt_status(null), pat.jwt_status('') as empty, pat.jwt_status('eyJhbGciOiJub25lIn0.e30.') as unsigned,
    pat.jwt_status(repeat('x', 1000000)) as long, pat.jwt_status('Bearer a.b.c') as bearer;

select pat.bearer_token('Bearer a.b.c'), pat.bearer_token('bearer   a.b.c '), pat.bearer_token('Basic a') is null as basic,
    pat.bearer_token('Bearer a b') is null as two, pat.bearer_token('') is null as empty, pat.bearer_token(null) is null as missing;
reset role;

select pat.jwt_status(pat.sign_jwt('{}', '1 hour')) as valid, pat.jwt_status(pat.sign_jwt('{}')) as without_expiry,
    pat.jwt_status(pat.sign_jwt('{"exp": 1}')) as expired, pat.jwt_status(pat.sign_jwt('{"nbf": 4102444700}', '1 hour')) as not_yet_valid,
    pat.jwt_status(pat.sign_jwt('{}', '1 hour') || 'AAAA') as bad_signature,
    pat.jwt_status((select pat.sign('{"exp": 4102444800}', 'x'))) as other_secret,
    pat.jwt_status('eyJhbGciOiJFUzI1NiJ9.e30.AAAA') as unknown_key;

select pat.jwt_expires_in(pat.sign_jwt('{}', '1 day 2 hours')) between '1 day 01:59:58' and '1 day 02:00:00' as within,
    pat.jwt_expires_in(pat.sign_jwt('{"exp": 1}')) < '-50 years' as past,
    pat.jwt_expires_in(pat.sign_jwt('{}')) is null as never,
    pat.jwt_expires_in(pat.sign_jwt('{"exp": 9007199254740992}')) is null as beyond_intervals;
select * from tests.error($$select pat.jwt_expires_in('x')$$);

-- A setting says how far the clock of another issuer may be off. For the extension's own tokens it may not.
create function pg_temp.status(issuer text, ends_in int) returns text language sql as $$
    select pat.jwt_status(pat.sign_jwt(jsonb_build_object('iss', issuer, 'exp', extract(epoch from clock_timestamp())::int + ends_in)))
$$;
select pg_temp.status('supabase_pat', -5) as ours, pg_temp.status('https://auth.example.com', -5) as theirs, pg_temp.status(null, -5) as nobody_s,
    pg_temp.status('https://auth.example.com', -40) as long_past;
set supabase_pat.clock_skew = 0;
select pg_temp.status('https://auth.example.com', -5) as theirs;
reset supabase_pat.clock_skew;
-- An expiry may be left out if the caller says so.
select pat.verify_jwt(pat.sign_jwt('{"iat": 1}'), require_exp => false);
select * from tests.error($$select pat.verify_jwt(pat.sign_jwt('{"exp": 1}'), require_exp => false)$$);
