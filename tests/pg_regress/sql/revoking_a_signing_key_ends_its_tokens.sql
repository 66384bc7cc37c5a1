select pat.add_signing_key('ES256', kid => 'leaked'), pat.add_signing_key('ES256', kid => 'new');
select pat.rotate_signing_key('leaked');
call tests.log_in('alice');
select token as old from mint_pat(name => 'old') \gset
reset role;
select pat.rotate_signing_key('new');
call tests.log_in('alice');
select token as new from mint_pat(name => 'new') \gset
reset role;
select name, signing_key from pat.api_keys order by name;
select pat.jwt_status(:'old') as old, pat.jwt_status(:'new') as new;
call tests.use_token(:'old');
select is_valid_api_token();
reset role;

-- Tokens that the old key signed are dead at once, for policies too. Tokens of the new key live.
select pat.revoke_signing_key('leaked');
select pat.jwt_status(:'old') as old, pat.jwt_status(:'new') as new;
call tests.use_token(:'old');
select is_valid_api_token();
call tests.use_token(:'new');
select is_valid_api_token();
call tests.log_in('alice');
select name, is_active from api_keys order by name;
reset role;

-- verify_jwt refuses a token that is revoked itself.
select * from tests.error(format('select pat.verify_jwt(%L)', :'old'));
select revoke_pat(id) from pat.api_keys where name = 'new';
select pat.jwt_status(:'new') as new;
select * from tests.error(format('select pat.verify_jwt(%L)', :'new'));

-- A configured secret that was imported and revoked signs and verifies nothing.
delete from pat.signing_keys;
select pat.sign_jwt('{}', '1 hour') as configured \gset
select pat.add_signing_key('HS256', current_setting('app.settings.jwt_secret'), 'old-secret');
select pat.jwt_status(:'configured') as configured;
select pat.revoke_signing_key('old-secret');
select pat.jwt_status(:'configured') as configured;
select pat.jwks_for_verifier();
select * from tests.error($$select pat.sign_jwt('{}', '1 hour')$$);
