-- With a leaked token that has tokens:write, others can be minted, and more with those. All are revoked together.
\set alice 11111111-1111-1111-1111-111111111111
create procedure pg_temp.use(key uuid) language plpgsql as $$
declare
    claims jsonb;
begin
    select jsonb_build_object('role', 'authenticated', 'sub', user_id, 'type', 'personal_access_token', 'jti', id,
        'scope', array_to_string(scopes, ' ')) into claims from pat.api_keys where id = key;
    call tests.request('authenticated', claims);
    call tests.judge();
end
$$;
create view live as
select string_agg(name, ', ' order by name) as live from pat.api_keys where revoked_at is null and expires_at > now();
-- b and c are made with a, and d with b.
select id as a from mint_pat(:'alice', 'a', scopes => '{tokens:*,tokens:write,tokens:delete,todos:read}') \gset
select id as z from mint_pat(:'alice', 'z') \gset
begin;
call pg_temp.use(:'a');
select id as b from mint_pat(name => 'b', scopes => '{tokens:read,tokens:write,tokens:delete}') \gset
select id as c from mint_pat(name => 'c', scopes => '{todos:read}') \gset
commit;
reset role;
begin;
call pg_temp.use(:'b');
select id as d from mint_pat(name => 'd', scopes => '{tokens:write}') \gset
-- The leaked token rotates what was made with it, and deletes the token in between, to leave no trace.
select name from rotate_pat(:'d');
delete from api_keys where id = :'b';
commit;
reset role;
select * from live;

-- Revoking the token alone leaves the others.
begin;
select revoke_pat(:'a'), revoke_pat(:'a', false);
select * from live;
rollback;

-- Revoking it with those made with it ends them all.
call tests.log_in('alice');
begin;
select revoke_pat(:'a', true) as first, revoke_pat(:'a', true) as second;
reset role;
select * from live;
select event, name, by_key, regexp_replace(e.detail, '[-0-9a-f]{36}', '…') as detail
from pat.events e left join pat.api_keys k on k.id = e.key_id where event = 'token_revoked' order by name;
rollback;

-- This works for a token that is dead already, or was deleted, too.
begin;
select revoke_pat(:'a');
select revoke_pat(:'a', true) as others;
select * from live;
rollback;
begin;
delete from pat.api_keys where id = :'a';
select revoke_pat(:'a', true) as others;
select * from live;
rollback;
begin;
call tests.log_in('alice');
delete from api_keys where id = :'a';
select revoke_pat(:'a', true) as others;
reset role;
select * from live;
rollback;
-- For a token in the middle, only those made with it end.
begin;
select revoke_pat(:'b', true) as others;
select * from live;
rollback;

-- Tokens of other users stay, and a token without tokens:delete ends none.
call tests.log_in('bob');
select revoke_pat(:'a', true), revoke_pat(:'b', true);
reset role;
begin;
call pg_temp.use(:'c');
select * from tests.error(format('select revoke_pat(%L, true)', :'a'));
select * from tests.error(format('select revoke_pat(%L, null)', :'a'));
select revoke_pat(:'c', true);
commit;
reset role;
select * from live;

-- Denying a leaked token does the same, even if the user has deleted it before.
begin;
delete from pat.api_keys where id = :'a';
select pat.deny_token(pat.sign_jwt(jsonb_build_object('role', 'authenticated', 'sub', :'alice',
    'type', 'personal_access_token', 'jti', :'a'), '1 hour'));
select * from live;
rollback;
select pat.deny_token(pat.sign_jwt(jsonb_build_object('role', 'authenticated', 'sub', :'alice',
    'type', 'personal_access_token', 'jti', :'a'), '1 hour'));
select * from live;

-- In a database whose extension has not been updated yet, tokens are made and denied as before.
delete from pat.api_keys;
begin;
alter extension supabase_pat drop table pat.api_key_origins;
drop table pat.api_key_origins;
select id as a from mint_pat(:'alice', 'a', scopes => '{tokens:write}') \gset
call pg_temp.use(:'a');
select name from mint_pat(name => 'b', scopes => '{tokens:write}');
select name from rotate_pat(:'a');
reset role;
set local supabase_pat.mint_for_restricted_logins = on;
call tests.request('authenticated', jsonb_build_object('role', 'authenticated', 'sub', :'alice', 'client_id', 'x'));
select * from tests.error($$select mint_pat(name => 'x')$$);
reset role;
select revoke_pat(id, true), name from pat.api_keys where name = 'b';
rollback;
