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

-- Other commands lock a table before Postgres looks at the privileges of the role, which needs none.
call tests.request('anon', '{"role": "anon"}');
create temp table parts (id uuid) partition by list (id);
create temp table mine (id uuid);
create function pg_temp.on_change() returns trigger language plpgsql as 'begin return null; end';
select * from tests.error('create rule x as on insert to pat.api_keys do nothing');
select * from tests.error('alter table parts attach partition pat.api_keys default');
select * from tests.error('alter table parts detach partition pat.api_keys');
select * from tests.error('create temp table x partition of pat.api_keys default');
select * from tests.error('alter materialized view pat.api_keys depends on extension plpgsql');
select * from tests.error('alter index pat.api_keys_pkey depends on extension plpgsql');
-- These do not keep checks waiting, but whoever revokes.
select * from tests.error('create trigger x after insert on pat.api_keys execute function pg_temp.on_change()');
select * from tests.error('create temp table x (id uuid references pat.api_keys)');
select * from tests.error('alter table mine add foreign key (id) references pat.api_keys');
select * from tests.error('alter table mine add column x int, add column key uuid references pat.api_keys');
-- What is theirs they change as before.
create temp table part partition of parts default;
alter table parts detach partition part;
create rule x as on insert to mine do nothing;
create trigger x after update on mine execute function pg_temp.on_change();
alter table mine add primary key (id), add column other uuid references mine;
drop table parts, part, mine;
reset role;

-- A role may do so that has been granted what it needs.
begin;
grant references (id), trigger on pat.api_keys to authenticated;
grant create on schema public to authenticated;
call tests.log_in('alice');
create table of_keys (id uuid references pat.api_keys);
create trigger x after insert on pat.api_keys execute function suppress_redundant_updates_trigger();
rollback;
