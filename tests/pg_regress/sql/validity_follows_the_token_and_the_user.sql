call tests.log_in('alice');
select token as token, id as id from mint_pat(name => 'x') \gset
reset role;

-- Shows the answer and what a policy lets through, for a request with the token; then undoes the change.
create procedure tests.show(what text, change text, token text) language plpgsql as $$
declare
    valid boolean;
    rows bigint;
begin
    execute change;
    call tests.use_token(token);
    select is_valid_api_token(), (select count(*) from todos) into valid, rows;
    raise info '%: %, % rows', rpad(what, 32), valid, rows;
    rollback;
    perform set_config('role', 'none', false);
end
$$;

call tests.show('as it is', 'select', :'token');
call tests.show('revoked', 'update pat.api_keys set revoked_at = now()', :'token');
call tests.show('revoked in the future', $$update pat.api_keys set revoked_at = now() + '1 day'$$, :'token');
call tests.show('expired in the table only', 'update pat.api_keys set expires_at = clock_timestamp()', :'token');
call tests.show('not yet expired', $$update pat.api_keys set expires_at = now() + '1 minute'$$, :'token');
call tests.show('never expires', $$update pat.api_keys set expires_at = 'infinity'$$, :'token');
call tests.show('key deleted', 'delete from pat.api_keys', :'token');
call tests.show('key of another user', $$update pat.api_keys set user_id = '22222222-2222-2222-2222-222222222222'$$, :'token');
call tests.show('user deleted', $$delete from auth.users where email like 'alice%'$$, :'token');
call tests.show('user deleted softly', 'update auth.users set deleted_at = now()', :'token');
call tests.show('user banned', $$update auth.users set banned_until = now() + '1 minute'$$, :'token');
call tests.show('ban over', $$update auth.users set banned_until = now() - interval '1 second'$$, :'token');
call tests.show('banned for ever', $$update auth.users set banned_until = 'infinity'$$, :'token');
call tests.show('no column for bans', 'alter table auth.users drop column banned_until', :'token');
call tests.show('no column for deletion', 'alter table auth.users drop column deleted_at', :'token');
call tests.show('no index on the id', 'alter table auth.users drop constraint users_pkey cascade', :'token');
call tests.show('table of users renamed', 'alter table auth.users rename to people', :'token');
call tests.show('schema auth renamed', 'alter schema auth rename to elsewhere', :'token');
call tests.show('users in a view', 'alter table auth.users rename to people; create view auth.users as select * from auth.people', :'token');
call tests.show('column id renamed', 'alter table auth.users rename id to uid', :'token');
call tests.show('id of type text', 'drop table auth.users cascade; create table auth.users (id text)', :'token');
call tests.show('as it was', 'select', :'token');
