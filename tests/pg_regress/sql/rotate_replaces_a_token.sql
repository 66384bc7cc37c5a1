-- A new token with the same name, scopes and lifetime; the old one dies at once.
call tests.log_in('alice');
select id as old, token as old_token from mint_pat(name => 'ci', expires_in => '30 days', scopes => '{todos:read}') \gset
select id as new, token as new_token, name from rotate_pat(:'old') \gset
select name, scopes, is_active, id = :'new' as is_new, expires_at - created_at > '29 days' as a_month from api_keys order by created_at;
reset role;
select id = :'old' as is_old, replaced_by = :'new' as replaced_by_new, revoked_at is not null as revoked from pat.api_keys order by created_at;
select tests.claims(:'new_token') ->> 'jti' = :'new' as jti, tests.claims(:'new_token') ->> 'scope' as scope;
call tests.use_token(:'old_token');
select is_valid_api_token();
begin;
call tests.use_judged_token(:'new_token');
select is_valid_api_token();
commit;
reset role;

-- A token that is dead, missing or somebody else's cannot be rotated, and the answer is the same for each.
call tests.log_in('alice');
select code, replace(error, :'old', 'THE ID') as error from tests.error(format('select rotate_pat(%L)', :'old'));
select * from tests.error($$select rotate_pat('99999999-9999-9999-9999-999999999999')$$);
select id as expired from mint_pat(name => 'old') \gset
reset role;
update pat.api_keys set expires_at = now() - interval '1 second' where id = :'expired';
call tests.log_in('bob');
select code, replace(error, :'new', 'THE ID') as error from tests.error(format('select rotate_pat(%L)', :'new'));
reset role;
call tests.log_in('alice');
select code, replace(error, :'expired', 'THE ID') as error from tests.error(format('select rotate_pat(%L)', :'expired'));
select * from tests.error('select rotate_pat(null)');
select * from tests.error(format('select rotate_pat(%L, null)', :'new'));
select * from tests.error(format('select rotate_pat(%L, %L)', :'new', '-1 second'));

-- With a grace, both live until it ends, and the old one is not rotated again.
select token as newest_token, id as newest from rotate_pat(:'new', grace => '1 hour') \gset
begin;
call tests.use_judged_token(:'new_token');
select is_valid_api_token();
commit;
begin;
call tests.use_judged_token(:'newest_token');
select is_valid_api_token();
commit;
reset role;
call tests.log_in('alice');
select expires_at - now() between '59 minutes' and '61 minutes' as ends_in_an_hour from api_keys where id = :'new';
select expires_at - created_at > '29 days' as a_month_again from api_keys where id = :'newest';
select code from tests.error(format('select rotate_pat(%L)', :'new'));

-- A grace that is longer than the token's life does not move its end.
select id as newer from rotate_pat(:'newest', grace => '1000000 years') \gset
select expires_at - created_at between '29 days' and '31 days' as unchanged from api_keys where id = :'newest';

-- A trusted role rotates anyone's, and a lifetime over the limit is cut.
reset role;
set supabase_pat.max_lifetime = '1d';
call tests.request('service_role', '{"role": "service_role"}');
select name, expires_at - now() < interval '25 hours' as a_day from rotate_pat(:'newer');
reset role;
select user_id, count(*) from pat.api_keys group by 1;
