\set alice 11111111-1111-1111-1111-111111111111
\set bob 22222222-2222-2222-2222-222222222222
-- Without a function, only trusted roles manage accounts.
select create_service_account('of the operator') as operators \gset
call tests.log_in('alice');
select * from tests.error($$select create_service_account('x')$$);
select * from tests.error(format('select delete_service_account(%L)', :'operators'));
select * from tests.error(format('select service_account_tokens(%L)', :'operators'));
select * from tests.error(format('select mint_pat(%L, %L)', :'operators', 'x'));
select count(*) from service_accounts;
call tests.request('anon', '{"role": "anon"}');
select * from tests.error($$select create_service_account('x')$$);
select * from tests.error(format('select delete_service_account(%L)', :'operators'));
select * from tests.error(format('select service_account_tokens(%L)', :'operators'));
select code from tests.error('select * from service_accounts');
reset role;

-- Organisations: whoever administers one manages its accounts.
create table members (org text, user_id uuid, is_admin boolean not null default false, primary key (org, user_id));
create function manages_account(account uuid) returns boolean language sql stable security definer set search_path = '' as $$
    select exists (
        select from public.members me
        where me.user_id = auth.uid() and me.is_admin
            and (account is null or exists (select from public.members it where it.org = me.org and it.user_id = account))
    )
$$;
insert into members values ('acme', :'alice', true), ('acme', :'bob', false), ('other', :'bob', true);
set supabase_pat.service_account_manager = 'public.manages_account';
select ok, detail from pat.status() where "check" = 'service accounts';
call tests.log_in('alice');
select create_service_account('ci') as ci \gset
-- The application puts it into the organisation. Until then, whoever has created it does not manage it.
select count(*) from service_accounts;
select * from tests.error(format('select mint_pat(%L, %L)', :'ci', 'deploy'));
reset role;
insert into members values ('acme', :'ci');
call tests.log_in('alice');
select id = :'ci' as ci, name, description, created_by = auth.uid() as mine from service_accounts;
select token, id as key from mint_pat(:'ci', 'deploy') \gset
select edit_pat(:'key', description => 'for the pipeline');
select id as next from rotate_pat(:'key') \gset
select name, description, is_active, id = :'next' as next from service_account_tokens(:'ci');
select revoke_pat(:'next');
select name from mint_pat(:'ci', 'another');
select revoke_all_pats(:'ci');
-- Her own tokens and those of the account are apart.
select count(*) from api_keys;
select name from mint_pat(name => 'of her own');
select count(*) from api_keys;
select name, is_active from service_account_tokens(:'ci') order by 1, 2;
reset role;
-- The trail says who did it.
select event, user_id = :'ci' as ci, role, replace(replace(detail, :'alice', '<alice>'), :'key', '<key>') as detail
from pat.events where user_id = :'ci' order by id;

-- What a member who administers nothing there, or something else, gets: what a stranger gets.
call tests.log_in('alice');
select id as key from mint_pat(:'ci', 'live') \gset
call tests.log_in('bob');
select count(*) from service_accounts;
create function pg_temp.try(account uuid, key uuid) returns table (call text, code text, error text) language sql as $$
    select call, e.code, replace(replace(e.error, $1::text, '<it>'), $2::text, '<key>')
    from unnest(array['mint_pat(%1$L, $x$x$x$)', 'revoke_all_pats(%1$L)', 'rotate_pat(%2$L)', 'edit_pat(%2$L, name => $x$x$x$)',
            'service_account_tokens(%1$L)']) call,
        tests.error(format('select ' || call, account, key)) e
$$;
select * from pg_temp.try(:'ci', :'key');
select revoke_pat(:'key'), revoke_pat(:'key', true), delete_service_account(:'ci');
-- Nobody is told whether a user is an account.
select t.* from pg_temp.try(:'alice', :'key') t except select t.* from pg_temp.try(:'ci', :'key') t;
select t.* from pg_temp.try('99999999-9999-4999-8999-999999999999', :'key') t except select t.* from pg_temp.try(:'ci', :'key') t;
-- An ordinary user of the organisation is no account, whatever the function says: alice administers bob, too.
call tests.log_in('bob');
select id as bobs from mint_pat(name => 'of bob') \gset
call tests.log_in('alice');
select manages_account(:'bob');
select * from pg_temp.try(:'bob', :'bobs');
select revoke_pat(:'bobs'), delete_service_account(:'bob');
select pat.manages_service_account(:'bob'), pat.manages_service_account(:'ci'), pat.manages_service_account(:'operators'), pat.manages_service_account(null);
reset role;
select pat.manages_service_account(:'bob'), pat.manages_service_account(:'ci');

-- Whoever is no longer an administrator manages nothing from then on.
update members set is_admin = false where user_id = :'alice';
call tests.log_in('alice');
select * from tests.error(format('select mint_pat(%L, %L)', :'ci', 'x'));
select * from tests.error($$select create_service_account('x')$$);
select delete_service_account(:'ci');
select count(*) from service_accounts;
reset role;
update members set is_admin = true where user_id = :'alice';

-- A personal access token manages accounts with the scopes for it alone, and hands out no more than it has.
call tests.log_in('alice');
select token as unlimited from mint_pat(name => 'without a list') \gset
select token as wide from mint_pat(name => 'wide', scopes => '{*,tokens:write,tokens:delete}') \gset
select token as manager from mint_pat(name => 'manager', scopes => '{todos:read,tokens:write,tokens:delete,service_accounts:write,service_accounts:read}') \gset
select token as limited from mint_pat(name => 'limited', scopes => '{tokens:write,service_accounts:write}', rate_limit => 1000) \gset
create function pg_temp.with_token(token text, account uuid, key uuid) returns table (call text, code text, error text) language plpgsql as $$
begin
    call tests.use_judged_token(token);
    for call in select unnest(array['create_service_account($x$x$x$)', 'mint_pat(%1$L, $x$x$x$)', 'mint_pat(%1$L, $x$x$x$, scopes => $x${todos:read}$x$)',
        'mint_pat(%1$L, $x$x$x$, scopes => $x${notes:read}$x$)', 'edit_pat(%2$L, name => $x$y$x$)', 'service_account_tokens(%1$L)',
        'delete_service_account(%1$L)']) loop
        select e.code, replace(e.error, account::text, '<it>') into code, error from tests.error(format('select ' || call, account, key)) e;
        return next;
    end loop;
end
$$;
begin;
select * from pg_temp.with_token(:'unlimited', :'ci', :'key');
rollback;
-- In policies it manages what its user does, as long as it is valid.
begin;
call tests.use_token(:'unlimited');
select pat.manages_service_account(:'ci') as before, revoke_pat();
select pat.manages_service_account(:'ci') as after;
rollback;
begin;
select * from pg_temp.with_token(:'wide', :'ci', :'key');
rollback;
begin;
select * from pg_temp.with_token(:'manager', :'ci', :'key');
select count(*) from service_accounts;
rollback;
begin;
select * from pg_temp.with_token(:'limited', :'ci', :'key');
rollback;
begin;
call tests.use_judged_token(:'wide');
select count(*) from service_accounts;
rollback;

-- A token of an account is as any other: it manages nothing unless it was given that and the function says so, and then
-- it creates no accounts.
reset role;
select token as machine from mint_pat(:'ci', 'machine', scopes => '{tokens:write,tokens:delete,service_accounts:write,service_accounts:delete}') \gset
select create_service_account('second') as second \gset
insert into members values ('acme', :'second');
begin;
select * from pg_temp.with_token(:'machine', :'second', :'key');
rollback;
update members set is_admin = true where user_id = :'ci';
begin;
select * from pg_temp.with_token(:'machine', :'second', :'key');
rollback;
begin;
select * from pg_temp.with_token(:'machine', :'operators', :'key');
rollback;
update members set is_admin = false where user_id = :'ci';

-- A restricted login manages no accounts, as it mints nothing, and neither does one of another role.
call tests.log_in('alice');
select set_config('tests.login', current_setting('request.jwt.claims'), false) is not null as is_set;
create function pg_temp.as_login(claims jsonb, account uuid) returns table (call text, code text, error text) language plpgsql as $$
begin
    call tests.request('authenticated', current_setting('tests.login')::jsonb || claims);
    for call in select unnest(array['create_service_account($x$x$x$)', 'mint_pat(%1$L, $x$x$x$)', 'delete_service_account(%1$L)']) loop
        select e.code, e.error into code, error from tests.error(format('select ' || call, account)) e;
        return next;
    end loop;
end
$$;
select * from pg_temp.as_login('{"client_id": "app"}', :'ci');
select * from pg_temp.as_login('{"is_anonymous": true}', :'ci');
reset role;
set supabase_pat.mint_requires_aal = 'aal2';
select * from pg_temp.as_login('{"aal": "aal1"}', :'ci');
reset role;
reset supabase_pat.mint_requires_aal;
-- If restricted logins may mint, the token of the account carries the restriction.
set supabase_pat.mint_for_restricted_logins = on;
call tests.request('authenticated', current_setting('tests.login')::jsonb || '{"client_id": "app"}');
select tests.claims(token) ->> 'client_id' as client, tests.claims(token) ->> 'sub' = :'ci' as ci from mint_pat(:'ci', 'by the application');
reset role;
reset supabase_pat.mint_for_restricted_logins;
-- A session that has ended, a user who is banned.
delete from auth.sessions where user_id = :'alice';
select * from pg_temp.as_login('{}', :'ci');
reset role;

-- A leaked token is revoked with what it has made for accounts, and what those have made, also when it is deleted.
call tests.log_in('alice');
select token as leaked, id as leaked_id from mint_pat(name => 'leaked', scopes => '{tokens:write,service_accounts:write,tokens:delete}') \gset
begin;
call tests.use_judged_token(:'leaked');
select token as child, id as child_id from mint_pat(:'ci', 'child', scopes => '{tokens:write}') \gset
commit;
begin;
call tests.use_judged_token(:'child');
select id as grandchild_id from mint_pat(name => 'grandchild', scopes => '{tokens:write}') \gset
commit;
-- The account may not end it by the id of its maker, nor what else that has made.
begin;
call tests.log_in('alice');
delete from api_keys where id = :'leaked_id';
reset role;
select token as ender from mint_pat(:'ci', 'ender', scopes => '{tokens:delete}') \gset
call tests.use_judged_token(:'ender');
select revoke_pat(:'leaked_id', true);
call tests.log_in('alice');
select revoke_pat(:'leaked_id', true);
reset role;
select name, revoked_at is not null as revoked from pat.api_keys where id in (:'child_id', :'grandchild_id') order by name;
rollback;
reset role;
begin;
select pat.deny_token(:'leaked');
select name, revoked_at is not null as revoked from pat.api_keys where id in (:'leaked_id', :'child_id', :'grandchild_id') order by name;
rollback;
set supabase_pat.enable_leak_reports = on;
select report_leaked_tokens(array[:'leaked']);
select name, revoked_at is not null as revoked from pat.api_keys where id in (:'leaked_id', :'child_id', :'grandchild_id') order by name;

-- An account has an allowance of its own.
select revoke_all_pats(:'alice') > 0 as revoked;
set supabase_pat.max_keys_per_user = 1;
call tests.log_in('alice');
select name from mint_pat(:'second', 'one');
select code, replace(error, :'second', '<it>') as error from tests.error(format('select mint_pat(%L, %L)', :'second', 'two'));
select name from mint_pat(name => 'of her own');
reset role;
reset supabase_pat.max_keys_per_user;

-- The simplest rule: whoever has created it. A user may create some.
set supabase_pat.service_account_manager = 'pat.created_service_account';
set supabase_pat.max_service_accounts_per_user = 2;
select ok, detail from pat.status() where "check" = 'service accounts';
call tests.log_in('bob');
select name, created_by from service_accounts;
select create_service_account('one') as one, create_service_account('two') as two \gset
select * from tests.error($$select create_service_account('three')$$);
select name, created_by = auth.uid() as mine from service_accounts order by name;
select name from mint_pat(:'one', 'x');
select * from tests.error(format('select mint_pat(%L, %L)', :'ci', 'x'));
select delete_service_account(:'two'), delete_service_account(:'ci');
select create_service_account('three') is not null as three;
-- Trusted roles have no limit, and see all.
call tests.request('service_role', '{"role": "service_role"}');
select create_service_account('four') is not null as four;
select name, created_by is not null as by_a_user from service_accounts order by name;
-- Whoever created it is deleted: nobody else manages it, but trusted roles.
reset role;
delete from auth.users where id = :'bob';
call tests.log_in('bob');
select * from tests.error(format('select mint_pat(%L, %L)', :'one', 'x'));
call tests.log_in('alice');
select * from tests.error(format('select mint_pat(%L, %L)', :'one', 'x'));
reset role;
select name from mint_pat(:'one', 'by the operator');

-- No role writes the table.
select role, code from tests.as_each_role($$insert into pat.service_accounts (user_id, name) values ('11111111-1111-1111-1111-111111111111', 'x')$$);
select role, code from tests.as_each_role($$update pat.service_accounts set created_by = '11111111-1111-1111-1111-111111111111'$$);
select role, code from tests.as_each_role($$delete from pat.service_accounts$$);
select role, code from tests.as_each_role($$insert into service_accounts (id, name) values ('11111111-1111-1111-1111-111111111111', 'x')$$);
-- Whoever sees none is not told of them by a function of their own.
call tests.log_in('alice');
create function pg_temp.leak(name text) returns boolean language plpgsql cost 0.0001 as $$ begin raise notice '%', name; return true; end $$;
select name from service_accounts where pg_temp.leak(name);
reset role;
