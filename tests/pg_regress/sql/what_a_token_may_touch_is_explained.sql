create table notes (id int primary key, todo_id bigint, text text);
create table secrets (id int primary key, word text);
create table allowed (user_id uuid primary key);
create schema other;
create table other.plans (id int primary key, text text);
grant usage on schema other to authenticated;
grant select on other.plans to authenticated;
revoke all on secrets from authenticated;
alter table notes enable row level security;
create policy readers on notes using (exists (select from allowed where user_id = pat.uid()));
create view todos_and_notes with (security_invoker) as select t.id, n.text from todos t join notes n on n.todo_id = t.id;
create view all_notes as select * from notes;
create function words() returns setof text language sql security definer as $$ select word from secrets $$;
create function texts() returns setof text language sql stable as $$ select text from notes $$;
create function loud() returns int language plpgsql immutable as $$ begin raise notice 'this was called'; return 1; end $$;
create index on notes (id) where loud() = 1;
call tests.log_in('alice');
select id as reader from mint_pat(name => 'reader', scopes => '{todos:read}') \gset
select id as writer from mint_pat(name => 'writer', scopes => '{todos:write,notes:*,other.plans:read}') \gset
select id as everything from mint_pat(name => 'everything') \gset
set role service_role;

-- The user's lines.
select * from pat.explain_access(:'reader', 'select title, (select json_agg(n.text) from notes n where n.todo_id = t.id) from todos t');
select * from pat.explain_access(:'writer', 'insert into todos (title) values ($1) returning id');
select * from pat.explain_access(:'writer', 'with done as (delete from notes where id = $1 returning *) select * from done join other.plans using (id)');
select * from pat.explain_access(:'everything', 'update todos set title = word from secrets');

-- Views with the rights of the request and of their owner, functions of both kinds.
select object, access, scope, granted from pat.explain_access(:'reader', 'select from todos_and_notes, all_notes') offset 1;
select object, access, granted, detail from pat.explain_access(:'reader', 'select texts() union select words()') offset 1;
-- Nothing is called, neither from an index nor by itself, and what policies read is not asked for.
select object, access, granted from pat.explain_access(:'writer', 'select loud(), 1 / 0 from notes where id = loud()') offset 1;
-- Several statements; commands.
select object, access, granted from pat.explain_access(:'reader', 'select from todos; select from notes') offset 1;
select object, access, scope, granted, detail from unnest('{truncate todos,lock notes,drop table notes,create temp table mine (),copy notes to stdout,show work_mem}'::text[]) command,
    pat.explain_access(:'writer', command) where object <> 'token';

-- Without a statement: all that there is.
select object, access, scope, granted, detail from pat.explain_access(:'writer') where object ~ '^public.(todos|notes|secrets|api_keys)$';
select count(*) from pat.explain_access(:'everything') where not granted and object !~ 'secrets|api_key|service_accounts';

-- A token that is dead, and a user who is trusted or gone.
reset role;
update pat.api_keys set revoked_at = now() where id = :'reader';
select * from pat.explain_access(:'reader', 'select from todos');
update auth.users set role = 'service_role' where id = '11111111-1111-1111-1111-111111111111';
select * from pat.explain_access(:'everything', 'select from todos');
delete from auth.users where id = '11111111-1111-1111-1111-111111111111';
select * from pat.explain_access(:'everything', 'select from todos');

-- What is wrong.
select pat.explain_access(null);
select pat.explain_access('00000000-0000-0000-0000-000000000000');
update auth.users set role = null where id = '22222222-2222-2222-2222-222222222222';
call tests.log_in('bob');
select id as of_bob from mint_pat(name => 'x') \gset
select pat.explain_access(:'of_bob', 'select 1');
set role service_role;
select pat.explain_access(:'of_bob', 'select from nothing');
select pat.explain_access(:'of_bob', 'select frm');
select pat.explain_access(:'of_bob', '') is not null;
select current_user, current_setting('search_path');
