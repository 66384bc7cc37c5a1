call tests.log_in('bob');
select id as of_bob, token as token_of_bob from mint_pat(name => 'bob') \gset
reset role;
call tests.log_in('alice');
select id as one, token as token_one from mint_pat(name => 'one') \gset
select id as two, token as token_two from mint_pat(name => 'two') \gset

-- True once; false if it was dead, is not there, or is not yours.
select revoke_pat(:'one');
select revoke_pat(:'one');
select revoke_pat('99999999-9999-9999-9999-999999999999');
select revoke_pat(:'of_bob');
select * from tests.error('select revoke_pat(null)');
select name, is_active, revoked_at between now() - interval '5 seconds' and now() as just_now from api_keys order by created_at;

-- The token sees nothing from now on, and can do nothing to the others.
call tests.use_token(:'token_one');
select count(*) from todos;
select count(*) from api_keys;
select * from tests.error(format('select revoke_pat(%L)', :'two'));
select * from tests.error('select revoke_all_pats()');
delete from api_keys;
reset role;

-- The others live.
call tests.use_token(:'token_two');
select count(*) from todos;
reset role;
call tests.use_token(:'token_of_bob');
select count(*) from todos;

-- A live token may revoke itself.
select revoke_pat(:'of_bob');
select count(*) from todos;
reset role;

-- A user revokes all of their own tokens, and nobody else's.
call tests.log_in('alice');
select name from mint_pat(name => 'three');
select * from tests.error($$select revoke_all_pats('22222222-2222-2222-2222-222222222222')$$);
select revoke_all_pats();
select revoke_all_pats();
select revoke_all_pats('11111111-1111-1111-1111-111111111111');
select name, is_active from api_keys order by created_at;
select id as four from mint_pat(name => 'four') \gset
reset role;

-- A trusted role revokes anyone's, but not everyone's by leaving the user out.
call tests.request('service_role', '{"role": "service_role"}');
select * from tests.error('select revoke_all_pats()');
select revoke_pat(:'four');
select revoke_all_pats('11111111-1111-1111-1111-111111111111');
reset role;

-- An expired token cannot be revoked, since it is dead already.
call tests.log_in('alice');
select id as five from mint_pat(name => 'five') \gset
reset role;
update pat.api_keys set expires_at = now() - interval '1 second' where id = :'five';
call tests.log_in('alice');
select revoke_pat(:'five');
select revoke_all_pats();
