-- A login has every scope.
call tests.log_in('alice');
select has_scope('todos:read'), has_scope('tokens:write'), has_scope('*');
reset role;

-- No claims, or those of anon: no token, so no limits.
call tests.request('anon', '{"role": "anon"}');
select has_scope('todos:read');
reset role;

-- A token without scopes has all but those for minting and ending others: a leaked one cannot end the rest.
call tests.log_in('alice');
select token as unlimited from mint_pat(name => 'unlimited') \gset
select token as reader, id as reader_id from mint_pat(name => 'reader', scopes => '{todos:read}') \gset
select token as wide from mint_pat(name => 'wide', scopes => '{*}') \gset
select token as minter, id as minter_id from mint_pat(name => 'minter', scopes => '{tokens:write,todos:*}') \gset
call tests.use_token(:'unlimited');
select has_scope('todos:read'), has_scope('tokens:delete'), has_scope('*'), has_scope('tokens:write');
reset role;
begin;
call tests.use_judged_token(:'wide');
select has_scope('todos:read'), has_scope('tokens:delete'), has_scope('*'), has_scope('tokens:write');
commit;
reset role;
begin;
call tests.use_judged_token(:'reader');
select has_scope('todos:read'), has_scope('todos:write'), has_scope('todos:*'), has_scope('notes:read'), has_scope('*:read');

-- This token may not read the user's tokens, nor end any but itself.
select * from tests.error('select from api_keys');
select * from tests.error('delete from api_keys');
select * from tests.error(format('select revoke_pat(%L)', :'minter_id'));
select * from tests.error('select revoke_all_pats()');
select is_valid_api_token();

-- A token does not renew itself, nor make another, whatever else it may do.
select * from tests.error($$select mint_pat(name => 'child')$$);
select code from tests.error(format('select rotate_pat(%L)', :'reader_id'));
commit;
reset role;
call tests.use_token(:'unlimited');
select * from tests.error($$select mint_pat(name => 'child')$$);
select * from tests.error(format('select rotate_pat(%L)', :'reader_id'));
select * from tests.error(format('select revoke_pat(%L)', :'reader_id'));
select * from tests.error('select revoke_all_pats()');
delete from api_keys;
select name from api_keys order by created_at;
reset role;
begin;
call tests.use_judged_token(:'wide');
select * from tests.error($$select mint_pat(name => 'child')$$);
select * from tests.error('select revoke_all_pats()');
commit;
reset role;
select token as ender from mint_pat('11111111-1111-1111-1111-111111111111', 'ender', scopes => '{tokens:delete}') \gset
-- Whoever may make tokens ends no other one by rotating it, without the scope for that.
begin;
call tests.use_judged_token(:'minter');
select * from tests.error(format('select rotate_pat(%L)', :'reader_id'));
select name from rotate_pat(:'minter_id');
rollback;
reset role;
begin;
call tests.use_judged_token(:'ender');
select revoke_pat(:'reader_id') as one, revoke_all_pats() > 0 as others;
reset role;
rollback;

-- With user:read it sees who its user is.
begin;
call tests.use_judged_token(:'reader');
select * from tests.error('select signed_in_user()');
commit;
reset role;
begin;
call tests.use_judged_token(:'wide');
select signed_in_user() ->> 'id' as user;
commit;
reset role;

-- A token that may mint gives no more scopes than it has.
begin;
call tests.use_judged_token(:'minter');
select name from mint_pat(name => 'child', scopes => '{todos:read}');
select name from mint_pat(name => 'second minter', scopes => '{tokens:write}');
select * from tests.error($$select mint_pat(name => 'child', scopes => '{notes:read}')$$);
select * from tests.error($$select mint_pat(name => 'child', scopes => '{*}')$$);
select * from tests.error($$select mint_pat(name => 'child')$$);
select * from tests.error($$select mint_pat('22222222-2222-2222-2222-222222222222', 'child', scopes => '{todos:read}')$$);
commit;
reset role;
select name from pat.api_keys where name like '%child%' or name like 'second%' order by created_at;
select id as unlimited_id from pat.api_keys where name = 'unlimited' \gset
select token as both from mint_pat('11111111-1111-1111-1111-111111111111', 'both', scopes => '{tokens:write,tokens:delete,todos:*}') \gset
begin;
call tests.use_judged_token(:'both');
select name from rotate_pat(:'reader_id');
-- It cannot rotate a token that has more: that one stays as it is.
select * from tests.error(format('select rotate_pat(%L)', :'unlimited_id'));
commit;
reset role;
select name, revoked_at, replaced_by from pat.api_keys where name = 'unlimited';

-- One that nobody has judged has none, nor has a dead one.
call tests.use_token(:'wide');
select has_scope('todos:read'), is_valid_api_token();
reset role;
call tests.log_in('alice');
select revoke_all_pats() > 0 as revoked;
call tests.use_token(:'wide');
select has_scope('todos:read');

-- A text that is not a scope is an error, for a login as well, so that a typo in a policy is noticed.
reset role;
call tests.log_in('alice');
select * from tests.error($$select has_scope('todos')$$);
select * from tests.error($$select has_scope('')$$);
select has_scope(null);
