-- Users may delete their tokens, and whoever may delete may lock the table: every check would wait. So this is for trusted
-- roles, in a session that has loaded the library.
create table own (id int);
grant all on own to authenticated;
create view invoker with (security_invoker) as select id from pat.api_keys;
create view behind_it as select (select count(*) from invoker) as count, id from own;
create view of_the_owner as with keys as (select id from pat.api_keys) select id from keys union all select null;
grant all on invoker, behind_it, of_the_owner to authenticated;
create view harmless as select id from own;
grant all on harmless to authenticated;
call tests.log_in('alice');
select pat.uid() is not null as loaded;
select * from tests.error('lock table pat.api_keys');
select * from tests.error('lock table pat.api_keys in share update exclusive mode nowait');
select * from tests.error('lock table api_keys');
select * from tests.error('lock table invoker');
select * from tests.error('lock table own, behind_it');
select * from tests.error('lock table of_the_owner in share mode');
create temp view temporary as select id from api_keys;
select * from tests.error('lock table temporary');
create function pg_temp.locks() returns void language plpgsql as $$ begin lock table pat.api_keys; end $$;
select * from tests.error('select pg_temp.locks()');
select mode from pg_locks where relation = 'pat.api_keys'::regclass and mode <> 'AccessShareLock';
-- A token may no more than its user.
select token as token from mint_pat(name => 'x') \gset
call tests.use_token(:'token');
select * from tests.error('lock table pat.api_keys in exclusive mode');
call tests.log_in('alice');

-- What is theirs they lock as before, and what deleting locks anyway.
begin;
lock table own, harmless;
lock table pat.api_keys in row exclusive mode;
select mode from pg_locks where relation = 'pat.api_keys'::regclass and mode <> 'AccessShareLock';
commit;
-- What they may not, Postgres says as before.
select * from tests.error('lock table auth.users');
select * from tests.error('lock table is_not_there');
reset role;

-- Trusted roles may, also in a function that is theirs.
create function locks() returns void language sql security definer as 'lock table pat.api_keys';
begin;
call tests.request('service_role', '{"role": "service_role"}');
lock table pat.api_keys;
rollback;
begin;
lock table pat.api_keys, api_keys, invoker;
rollback;
begin;
call tests.log_in('alice');
select locks();
select mode from pg_locks where relation = 'pat.api_keys'::regclass and mode <> 'AccessShareLock';
rollback;
