call tests.request('service_role', '{}');
select pat.mint_api_key('anon') as anon \gset
select pat.mint_api_key('service_role', ref => 'abcdefghijklmnopqrst', expires_in => '5 years') as service \gset
select payload - 'iat' - 'exp' as claims, to_timestamp((payload ->> 'exp')::int) - to_timestamp((payload ->> 'iat')::int) between '3652 days' and '3653 days' as ten_years
from pat.decode_jwt(:'anon');
select payload - 'iat' - 'exp' as claims from pat.decode_jwt(:'service');
select pat.jwt_status(:'anon');
select * from tests.error($$select pat.mint_api_key('authenticated')$$);
select * from tests.error($$select pat.mint_api_key('postgres')$$);
select * from tests.error($$select pat.mint_api_key(null)$$);
select * from tests.error($$select pat.mint_api_key('anon', 'not a ref')$$);
select * from tests.error($$select pat.mint_api_key('anon', expires_in => '-1 day')$$);
select * from tests.error($$select pat.mint_api_key('anon', expires_in => null)$$);

-- Every role that has a key may inspect it.
call tests.request('anon', '{}');
\x on
select format, role, ref, iss, expires_at > now() + '9 years' as in_years, length > 100 as long, signature, problems from pat.inspect_api_key(:'anon');
select format, role, ref, signature, problems from pat.inspect_api_key(:'service');
select format, role, signature, problems from pat.inspect_api_key(E' "Bearer ' || :'anon' || E'\n"');
select format, role, signature, problems from pat.inspect_api_key(left(:'anon', -5));
select format, role, signature, problems from pat.inspect_api_key(:'anon' || :'anon');
select format, role, signature, problems from pat.inspect_api_key(split_part(:'anon', '.', 1) || '.' || split_part(:'anon', '.', 2));
select format, role, iss, signature, problems from pat.inspect_api_key(pat.sign('{"iss": "supabase", "role": "anon", "iat": 1700000000, "exp": 1800000000}', 'another-secret'));
select format, role, signature, problems from pat.inspect_api_key(pat.sign('{"role": "anon", "iat": 1600000000, "exp": 1600000001}', 'the-secret-of-the-regression-tests-is-long-enough'));
select * from pat.inspect_api_key('sb_publishable_AAECAwQFBgcICQoLDA0ODw_kF53ynCj');
select * from pat.inspect_api_key('sb_secret_AAECAwQFBgcICQoLDA0ODw_KwxO5rOb');
select * from pat.inspect_api_key('the-secret-of-the-regression-tests-is-long-enough');
select * from pat.inspect_api_key('sbp_0123456789');
select * from pat.inspect_api_key('');
select * from pat.inspect_api_key(null);
\x off
-- A personal access token can be inspected too, while it lives and after.
call tests.log_in('alice');
select token, id from mint_pat(name => 'x') \gset
select format, role, signature, problems from pat.inspect_api_key(:'token');
select revoke_pat(:'id');
select format, role, signature, problems from pat.inspect_api_key(:'token');
