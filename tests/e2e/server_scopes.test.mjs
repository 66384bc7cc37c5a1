// A token with scopes touches each table and view with the scope for it alone, wherever the statement comes from: through
// a REST server, and in connections of its login that do what it does. Nothing calls the gate.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ALICE } from './fixture.mjs';
import { KINDS, assertRefused, lacks, open } from './gate_world.mjs';

const TABLES = `
  grant truncate on todos to authenticated;
  create table notes (id int primary key, todo int references todos (id) on delete cascade, body text);
  insert into notes values (1, 1, 'note 1');
  create table tags (id int primary key, note int references notes (id) on delete cascade);
  insert into tags values (1, 1);
  create table audit (line text);
  create table logs (line text);
  grant all on notes, tags, audit, logs to authenticated;

  -- What policies read, one behind the other.
  create table teams (id int primary key);
  create table members (team int, user_id uuid);
  insert into teams values (1);
  insert into members values (1, '${ALICE}');
  alter table members enable row level security;
  create policy in_team on members using (team in (select t.id from teams t));
  create function my_teams() returns setof int language sql stable as 'select m.team from members m where m.user_id = pat.uid()';
  create table plans (id int primary key, team int, body text);
  insert into plans values (1, 1, 'plan 1'), (2, 2, 'plan 2');
  alter table plans enable row level security;
  create policy of_team on plans using (team in (select m.team from members m where m.user_id = pat.uid()))
      with check (exists (select from members m where m.team = plans.team));
  create table goals (id int primary key, team int);
  insert into goals values (1, 1);
  alter table goals enable row level security;
  create policy of_team on goals using (team in (select t from my_teams() t));
  grant all on teams, members, plans, goals to authenticated;

  create view owners_notes as select * from notes;
  create view invokers_notes with (security_invoker) as select * from notes;
  create view invokers_plans with (security_invoker) as select * from plans;
  create view writable_notes with (security_invoker) as select id, body from notes where id > 0 with check option;
  create view stead_notes as select id, upper(body) as body from notes;
  create view invokers_stead with (security_invoker) as select id, upper(body) as body from notes;
  grant all on stead_notes, invokers_stead to authenticated;
  create materialized view kept_notes as select * from notes;
  create table parts (id int, level int default 1) partition by range (id);
  create table parts_1 partition of parts for values from (0) to (10);
  create table parents (id int);
  create table children () inherits (parents);
  insert into parts values (1);
  insert into children values (1);
  create table theirs_1 (id int primary key);
  create table theirs_2 (id int references theirs_1 (id) on delete cascade);
  insert into theirs_1 values (1);
  insert into theirs_2 values (1);
  grant create on schema public to authenticated;
  alter table theirs_1 owner to authenticated;
  alter table theirs_2 owner to authenticated;
  revoke create on schema public from authenticated;
  create function theirs_3() returns trigger language plpgsql as $$ begin perform from notes; return old; end $$;
  create table theirs_3 (id int primary key);
  create table theirs_4 (id int references theirs_3 (id) on delete cascade);
  create trigger reads before delete on theirs_4 for each row execute function theirs_3();
  insert into theirs_3 values (1);
  insert into theirs_4 values (1);
  grant create on schema public to authenticated;
  alter table theirs_3 owner to authenticated;
  alter table theirs_4 owner to authenticated;
  revoke create on schema public from authenticated;
  alter table children add primary key (id);
  create table of_children (id int references children (id)) partition by range (id);
  create table of_children_1 partition of of_children for values from (0) to (10);
  alter table parts_1 add primary key (id), add check (level > 0);
  create table guarded (id int primary key, part int, code text, level int not null check (level >= 0), unique (part, code));
  create view guarded_now with (security_invoker) as select * from guarded where level < 5 with check option;
  create table guards (id int, constraint later foreign key (id) references guarded (id) deferrable initially deferred);
  insert into guarded values (1, 1, 'hidden', 1), (2, 2, 'hidden', 2);
  insert into guards values (1);
  create view guarded_levels as select id, level from guarded;
  create table owning (id int primary key);
  create table owned (id int default -1 references owning (id) on delete set default check (id > 0), body text);
  insert into owning values (1), (-1);
  insert into owned values (1, 'hidden');
  grant all on guarded_levels, owning, owned to authenticated;
  create function fail() returns void language plpgsql security definer as $$
  begin
      insert into guarded values (3, 3, 'x', -1);
  end $$;
  grant all on guarded, guarded_now, guards to authenticated;
  create table of_parts (id int references parts_1 (id));
  grant all on of_children, of_children_1, of_parts to authenticated;
  create view behind_plans with (security_barrier, security_invoker) as select * from plans where exists (select from tags);
  create view behind_behind_plans with (security_barrier, security_invoker) as select * from behind_plans where id > 0;
  create view behind_goals with (security_barrier, security_invoker) as select * from goals where id > 0;
  grant all on behind_plans, behind_behind_plans, behind_goals to authenticated;
  create sequence numbers;
  create schema private;
  create table private.papers (id int);
  grant usage on schema private to authenticated;
  grant all on owners_notes, invokers_notes, invokers_plans, writable_notes, kept_notes, parts, parts_1, parents, children, numbers,
      private.papers to authenticated;

  create function notes_3() returns bigint language plpgsql as $$ begin return (select count(*) from notes); end $$;
  create function notes_2() returns bigint language sql as 'select notes_3()';
  create function notes_1() returns bigint language plpgsql as $$ begin return notes_2(); end $$;
  create function owners_notes_1() returns bigint language plpgsql security definer as $$ begin return notes_2(); end $$;
  create function inlined_notes(above int) returns setof notes language sql stable as 'select * from notes where id > above';
  create function inlined_twice() returns setof notes language sql stable as 'select * from inlined_notes(0)';
  create function inlined_plans() returns setof plans language sql stable as 'select * from plans';
  create function in_stead() returns trigger language plpgsql security definer as $$ begin return new; end $$;
  create trigger in_stead instead of update on stead_notes for each row execute function in_stead();
  create trigger in_stead instead of update on invokers_stead for each row execute function in_stead();
  create function parallel_notes(id int) returns bigint language plpgsql parallel safe as 'begin return (select count(*) from notes); end';
  create function parallel_plans(id int) returns bigint language plpgsql parallel safe as 'begin return (select count(*) from plans); end';
  create function by_name(name text) returns bigint language plpgsql as $$
  declare n bigint;
  begin
      execute format('select count(*) from %I', name) into n;
      return n;
  end $$;
  create function by_cursor() returns int language plpgsql as $$
  declare
      found int := 0;
      note record;
  begin
      for note in select * from notes loop
          found := found + 1;
      end loop;
      return found;
  end $$;
  create function swallowing() returns text language plpgsql as $$
  begin
      perform count(*) from notes;
      return 'read';
  exception when others then
      return sqlstate;
  end $$;
  create function with_temporary() returns bigint language plpgsql as $$
  begin
      create temp table found on commit drop as select id from todos;
      create index on found (id);
      return (select count(*) from found);
  end $$;

  -- What servers call as if it were a column of todos, or a table of it.
  create function notes_of(todos) returns bigint language plpgsql security definer as $$ begin return (select count(*) from notes where todo = $1.id); end $$;
  create function rows_of(todos) returns setof notes language sql stable security definer as 'select * from notes where todo = $1.id';
  create function notes_of_all(variadic todos[]) returns bigint language sql stable security definer as 'select count(*) from notes';
  create function own_notes_of(todos) returns bigint language sql stable as 'select count(*) from notes where todo = $1.id';
  create function length_of(todos) returns int language sql immutable as 'select length($1.title)';
  create function all_of(todos) returns bigint language sql stable as 'select notes_of($1)';
  create function private.notes_of(todos) returns bigint language sql stable security definer as 'select notes_of($1)';
  create function count_of(todos) returns bigint language sql stable security definer as 'select count(*) from members where team = $1.id';
  create view counted as select title, notes_of(todos) as notes from todos;
  create view invokers_counted with (security_invoker) as select title, notes_of(todos) as notes from todos;
  create table counts (id int);
  alter table counts enable row level security;
  create policy counted on counts using (exists (select from todos where count_of(todos) = 0));
  insert into counts values (1);
  grant all on counted, invokers_counted, counts to authenticated;

  create function to_audit() returns trigger language plpgsql as $$ begin insert into audit values (new.line); return new; end $$;
  create function owners_to_audit() returns trigger language plpgsql security definer as $$ begin insert into audit values (new.line); return new; end $$;
  create table watched (line text);
  create table owners_watched (line text);
  create table watched_later (line text);
  create trigger audit before insert on watched for each row execute function to_audit();
  create trigger audit before insert on owners_watched for each row execute function owners_to_audit();
  create constraint trigger audit after insert on watched_later deferrable initially deferred for each row execute function to_audit();
  grant all on watched, owners_watched, watched_later to authenticated;
`;

/** What a statement needs: for each scope, the tables that it may be said to be needed for. */
const CASES = [
  ['a read', 'select count(*) from todos', { 'todos:read': 'public.todos' }],
  ['a join', 'select * from todos join notes on todo = todos.id', { 'todos:read': 'public.todos', 'notes:read': 'public.notes' }],
  ['a subquery', 'select (select max(id) from notes) from todos', { 'todos:read': 'public.todos', 'notes:read': 'public.notes' }],
  ['a subquery of a subquery', 'select exists (select from todos where id in (select todo from notes))', { 'todos:read': 'public.todos', 'notes:read': 'public.notes' }],
  ['a lateral join', 'select * from todos, lateral (select * from notes where todo = todos.id limit 1) n', { 'todos:read': 'public.todos', 'notes:read': 'public.notes' }],
  ['a union', 'select id from todos union all select id from notes', { 'todos:read': 'public.todos', 'notes:read': 'public.notes' }],
  ['a common table expression', 'with n as materialized (select * from notes) select count(*) from n', { 'notes:read': 'public.notes' }],
  ['what the planner proves to be empty', 'select * from notes where false', { 'notes:read': 'public.notes' }],
  ['a locked read', 'select * from notes for update', { 'notes:read': 'public.notes', 'notes:write': 'public.notes' }],
  ['a shared lock', 'select * from notes for key share', { 'notes:read': 'public.notes', 'notes:write': 'public.notes' }],
  ['an insertion', "insert into notes values (2, 1, 'x')", { 'notes:write': 'public.notes' }],
  ['an insertion that returns its key', "insert into notes values (2, 1, 'x') returning id", { 'notes:write': 'public.notes' }],
  ['an insertion from a table', "insert into notes select id + 10, id, title from todos", { 'notes:write': 'public.notes', 'todos:read': 'public.todos' }],
  ['a change', "update notes set body = 'x' where id = 1", { 'notes:write': 'public.notes' }],
  ['a change by a table', 'update notes set body = title from todos where todos.id = todo', { 'notes:write': 'public.notes', 'todos:read': 'public.todos' }],
  ['a deletion', 'delete from tags where id = 1', { 'tags:delete': 'public.tags' }],
  ['a conflict that changes', "insert into notes values (1, 1, 'x') on conflict (id) do update set body = excluded.body", { 'notes:write': 'public.notes' }],
  ['a merge', `merge into notes n using todos t on n.todo = t.id when matched and n.id > 5 then delete
     when matched then update set body = t.title when not matched then insert values (t.id + 10, t.id, t.title)`,
  { 'notes:write': 'public.notes', 'notes:delete': 'public.notes', 'todos:read': 'public.todos' }],
  ['a common table expression that writes', "with d as (delete from tags returning 1), u as (update notes set body = 'x' returning 1) select 1",
    { 'tags:delete': 'public.tags', 'notes:write': 'public.notes' }],
  ['a view of its owner', 'select * from owners_notes', { 'owners_notes:read': 'public.owners_notes' }],
  ['a view of the invoker', 'select * from invokers_notes', { 'invokers_notes:read': 'public.invokers_notes', 'notes:read': 'public.notes' }],
  ['a view of the invoker on a table with policies', 'select * from invokers_plans', { 'invokers_plans:read': 'public.invokers_plans', 'plans:read': 'public.plans' }],
  ['a change through a view of its owner', "update owners_notes set body = 'x'", { 'owners_notes:write': 'public.owners_notes' }],
  ['a change through a view of the invoker', "update writable_notes set body = 'x'", { 'writable_notes:write': 'public.writable_notes', 'notes:write': 'public.notes' }],
  ['a change that a trigger makes instead', "update stead_notes set body = 'x'", { 'stead_notes:write': 'public.stead_notes' }],
  ['a change that a trigger makes instead, of what the invoker reads', "update invokers_stead set body = 'x'",
    { 'invokers_stead:write': 'public.invokers_stead', 'notes:read': 'public.notes' }],
  ['a table of its role and its foreign key', 'delete from theirs_1', { 'theirs_1:delete': 'public.theirs_1' }],
  ['a table of its role and the triggers that its foreign key sets off', 'delete from theirs_3', { 'theirs_3:delete': 'public.theirs_3', 'notes:read': 'public.notes' }],
  ['a change through a view with a barrier on a table with policies', "update behind_plans set body = 'x'",
    { 'behind_plans:write': 'public.behind_plans', 'plans:write': 'public.plans', 'tags:read': 'public.tags' }],
  ['a change through two views with barriers on a table with policies', "update behind_behind_plans set body = 'x'",
    { 'behind_behind_plans:write': 'public.behind_behind_plans', 'behind_plans:write': 'public.behind_plans', 'plans:write': 'public.plans', 'tags:read': 'public.tags' }],
  ['a deletion through a view with a barrier on a table whose policy reads through an inlined function', 'delete from behind_goals',
    { 'behind_goals:delete': 'public.behind_goals', 'goals:delete': 'public.goals' }],
  ['a locked read of a view', 'select * from owners_notes for update', { 'owners_notes:read': 'public.owners_notes', 'owners_notes:write': 'public.owners_notes' }],
  ['a materialized view', 'select * from kept_notes', { 'kept_notes:read': 'public.kept_notes' }],
  ['a partitioned table', 'select * from parts', { 'parts:read': 'public.parts' }],
  ['an insertion into a partitioned table', 'insert into parts values (2)', { 'parts:write': 'public.parts' }],
  ['a change of a partitioned table', 'update parts set id = 3', { 'parts:write': 'public.parts' }],
  ['a partition', 'select * from parts_1', { 'parts_1:read': 'public.parts_1' }],
  ['a table with children', 'select * from parents', { 'parents:read': 'public.parents' }],
  ['a child', 'select * from children', { 'children:read': 'public.children' }],
  ['a table whose policy reads tables', 'select * from plans', { 'plans:read': 'public.plans' }, 1],
  ['a table whose policy reads what it is joined with', 'select * from plans join members using (team)', { 'plans:read': 'public.plans', 'members:read': 'public.members' }],
  ['a change that a policy checks', "update plans set body = 'x'", { 'plans:write': 'public.plans' }],
  ['an insertion that a policy checks', "insert into plans values (3, 1, 'x')", { 'plans:write': 'public.plans' }],
  ['a table whose policy reads through an inlined function', 'select * from goals', { 'goals:read': 'public.goals' }, 1],
  ['functions of the invoker, three deep', 'select notes_1()', { 'notes:read': 'public.notes' }],
  ['a function of its owner that calls others', 'select owners_notes_1()', {}],
  ['an inlined function', 'select * from inlined_notes(0)', { 'notes:read': 'public.notes' }, 1],
  ['an inlined function in one', 'select * from inlined_twice()', { 'notes:read': 'public.notes' }],
  ['an inlined function of a table that is read besides', 'select * from notes, inlined_notes(notes.id - 1)', { 'notes:read': 'public.notes' }],
  ['an inlined function with policies', 'select * from inlined_plans()', { 'plans:read': 'public.plans' }, 1],
  ['an inlined function with policies beside what they read', 'select * from inlined_plans() join members using (team)', { 'plans:read': 'public.plans', 'members:read': 'public.members' }],
  ['a view of its owner that calls a function for a row', 'select * from counted', { 'counted:read': 'public.counted' }],
  ['a view of the invoker that calls a function for a row', 'select * from invokers_counted', { 'invokers_counted:read': 'public.invokers_counted', 'todos:read': 'public.todos' }],
  ['a policy that calls a function for a row', 'select * from counts', { 'counts:read': 'public.counts' }, 1],
  ['a function of the invoker for a row', 'select own_notes_of(todos) from todos', { 'todos:read': 'public.todos', 'notes:read': 'public.notes' }],
  ['a function of the invoker for a row that touches nothing', 'select todos.length_of from todos', { 'todos:read': 'public.todos' }],
  ['a function of the invoker for a row that calls another one', 'select all_of(todos) from todos', { 'todos:read': 'public.todos' }],
  ['EXECUTE', "select by_name('notes')", { 'notes:read': 'public.notes' }],
  ['a cursor of a function', 'select by_cursor()', { 'notes:read': 'public.notes' }],
  ['a cursor', 'declare c cursor for select * from notes', { 'notes:read': 'public.notes' }],
  ['EXPLAIN', 'explain select * from notes', { 'notes:read': 'public.notes' }],
  ['a block', 'do $$ begin perform from notes; end $$', { 'notes:read': 'public.notes' }],
  ['a temporary table', 'select with_temporary()', { 'todos:read': 'public.todos' }],
  ['a trigger of the invoker', "insert into watched values ('x')", { 'watched:write': 'public.watched', 'audit:write': 'public.audit' }],
  ['a trigger of its owner', "insert into owners_watched values ('x')", { 'owners_watched:write': 'public.owners_watched' }],
  ['a trigger at the end', "insert into watched_later values ('x'); set constraints all immediate", { 'watched_later:write': 'public.watched_later', 'audit:write': 'public.audit' }],
  ["a foreign key's own queries", 'delete from notes', { 'notes:delete': 'public.notes' }],
  ["a foreign key's check", 'insert into tags values (2, 1)', { 'tags:write': 'public.tags' }],
  ['TRUNCATE', 'truncate tags', { 'tags:delete': 'public.tags' }],
  ['TRUNCATE CASCADE', 'truncate notes cascade', { 'notes:delete': 'public.notes', 'tags:delete': 'public.tags' }],
  ['TRUNCATE CASCADE of a table to whose child others refer', 'truncate parents cascade', { 'parents:delete': 'public.parents', 'of_children:delete': 'public.of_children' }],
  ['TRUNCATE CASCADE of a table to whose partition others refer', 'truncate parts cascade', { 'parts:delete': 'public.parts', 'of_parts:delete': 'public.of_parts' }],
  ['COPY TO', 'copy notes to stdout', { 'notes:read': 'public.notes' }],
  ['COPY of a query', 'copy (select * from notes) to stdout', { 'notes:read': 'public.notes' }],
  ['COPY of a table with policies', 'copy plans to stdout', { 'plans:read': 'public.plans' }],
  ['LOCK as a read does', 'lock table notes in access share mode', { 'notes:read': 'public.notes' }],
  ['LOCK that keeps others out', 'lock table notes', { 'notes:write': 'public.notes' }],
  ['a sequence', 'select last_value from numbers', { 'numbers:read': 'public.numbers' }],
  ['a number of a sequence', "select nextval('numbers')", {}],
  ['a large object', "select lo_from_bytea(0, 'x')", {}],
  ['a table of another schema', 'select * from private.papers', { 'private.papers:read': 'private.papers' }],
  ['catalogs', 'select count(*) from pg_class, information_schema.tables', {}],
  ['statistics with values of tables', 'select * from pg_stats', { 'pg_catalog.pg_stats:read': 'pg_catalog.pg_stats' }],
  ["the user's tokens", 'select * from api_keys', { 'tokens:read': 'public.api_keys' }],
  ["the user's events", 'select * from api_key_events', { 'tokens:read': 'public.api_key_events' }],
  ["the user's usage by day", 'select * from api_key_daily_usage', { 'tokens:read': 'public.api_key_daily_usage' }],
];

let world;
let connection;
before(async () => {
  world = await open({ sql: TABLES, settings: { 'supabase_pat.max_keys_per_user': 1000 }, env: { PGRST_DB_PRE_REQUEST: '' } });
  connection = await world.cluster.connect('postgres', 'authenticator');
});
after(async () => {
  await connection?.end();
  await world?.close();
});

/** The claims of a token with these scopes, as a REST server sets them. */
async function claimsOf(scopes) {
  const { token } = await world.mint(ALICE, { scopes });
  return Buffer.from(token.split('.')[1], 'base64url').toString();
}

/** Does in one transaction what a REST server does; a path that needs no scope stands for all. Returns the rows. */
async function requesting(claims, statements, db = connection) {
  await db.query('begin');
  try {
    await db.query(`select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true),
      set_config('request.method', 'POST', true), set_config('request.path', '/rpc/revoke_pat', true)`, [claims]);
    let rows;
    for (const statement of [statements].flat()) {
      ({ rows } = [await db.query(statement)].flat().at(-1));
    }
    return rows;
  } finally {
    await db.query('rollback');
  }
}

const refusal = (scope, table) => ({
  code: 'PT403',
  message: `the personal access token lacks the scope ${scope}`,
  detail: `The statement touches ${table} with the rights of the request.`,
  hint: 'Use a token with that scope.',
});

describe('with the rights of the request', () => {
  for (const [name, statement, needs, rows] of CASES) {
    test(`${name} needs ${Object.keys(needs).join(' and ') || 'no scope'}`, async () => {
      const scopes = Object.keys(needs);
      // What only reads is READ ONLY.
      const found = await requesting(await claimsOf([...scopes, 'nothing:else']), statement);
      if (rows !== undefined) assert.equal(found.length, rows);
      for (const scope of scopes) {
        const others = await claimsOf([...scopes.filter((other) => other !== scope), 'nothing:else']);
        await assert.rejects(requesting(others, statement), refusal(scope, needs[scope]));
      }
    });
  }

  test('what is written is returned to who may read it', async () => {
    for (const [statement, isShown] of [
      ["insert into notes values (2, 1, 'x') returning *", true],
      ["insert into notes values (2, 1, 'x') returning notes", true],
      ["insert into notes values (2, 1, 'x') returning (select notes.body)", true],
      ["insert into notes values (2, 1, 'x') returning id, ctid, tableoid", false],
      ["update notes set body = 'x' returning id", true],
      ["update notes set body = 'x' returning 1", false],
      ["with u as (update notes set body = 'x' returning body) select 1", true],
      ["update writable_notes set body = 'x' returning id", true],
    ]) {
      const claims = await claimsOf(['notes:write', 'writable_notes:write']);
      if (isShown) {
        await assert.rejects(requesting(claims, statement), ({ code, message }) => code === 'PT403'
          && /lacks the scope (writable_)?notes:read, so the rows that it writes cannot be returned$/.test(message), statement);
      } else await requesting(claims, statement);
      await requesting(await claimsOf(['notes:write', 'notes:read', 'writable_notes:*']), statement);
    }
  });

  test('an upsert returns the key to a token that may not read, if the row was found by it', async () => {
    for (const [conflict, isShown] of [
      ['(id) do update set level = 5 returning id', false],
      ['on constraint guarded_pkey do update set level = 5 returning id', false],
      ['(part, code) do update set level = 5 returning id', true],
      ['on constraint guarded_part_code_key do update set level = 5 returning id', true],
      ['(part, code) do update set level = 5 returning 1', false],
      ['(part, code) do nothing returning id', false],
    ]) {
      const statement = `insert into guarded values (1, 1, 'hidden', 5) on conflict ${conflict}`;
      const answer = requesting(await claimsOf(['guarded:write']), statement);
      if (isShown) await assert.rejects(answer, { message: 'the personal access token lacks the scope guarded:read, so the rows that it writes cannot be returned' });
      else await answer;
      await requesting(await claimsOf(['guarded:write', 'guarded:read']), statement);
    }
  });

  test('a function that runs with the rights of its owner needs its own scope where it is called for a row', async () => {
    const calls = (function_, scope) => ({ ...refusal(scope), detail: `The statement calls ${function_} for a row, with the rights of its owner.` });
    for (const [statement, function_, scope] of [
      ['select todos.notes_of from todos', 'public.notes_of', 'rpc/notes_of:call'],
      ['select notes_of(todos) from todos', 'public.notes_of', 'rpc/notes_of:call'],
      ['select id from todos where todos.notes_of > 5', 'public.notes_of', 'rpc/notes_of:call'],
      ['select id from todos order by (select todos.notes_of)', 'public.notes_of', 'rpc/notes_of:call'],
      ['with t as materialized (select notes_of(t) from todos t) select 1 from t', 'public.notes_of', 'rpc/notes_of:call'],
      ["update todos set title = 'x' returning todos.notes_of", 'public.notes_of', 'rpc/notes_of:call'],
      ['select body from todos, rows_of(todos)', 'public.rows_of', 'rpc/rows_of:call'],
      ['select todos.notes_of_all from todos', 'public.notes_of_all', 'rpc/notes_of_all:call'],
      ['select private.notes_of(todos) from todos', 'private.notes_of', 'rpc/private.notes_of:call'],
      ['prepare once as select todos.notes_of from todos; execute once', 'public.notes_of', 'rpc/notes_of:call'],
      ['declare c cursor for select todos.notes_of from todos', 'public.notes_of', 'rpc/notes_of:call'],
    ]) {
      await requesting(await claimsOf(['todos:read', 'todos:write', scope]), [statement, 'deallocate all']);
      await assert.rejects(requesting(await claimsOf(['todos:read', 'todos:write']), statement), calls(function_, scope), statement);
      await connection.query('deallocate all');
    }
    // Whoever has no list of scopes needs none.
    await requesting(await claimsOf(null), 'select todos.notes_of from todos');
    const explained = await world.rows(`select object, scope, granted from pat.explain_access($1, 'select todos.notes_of, todos.length_of from todos')`,
      [(await world.mint(ALICE, { scopes: ['todos:read'] })).id]);
    assert.ok(explained.some(({ object, scope, granted }) => object === 'public.notes_of(public.todos)' && scope === 'rpc/notes_of:call' && !granted), JSON.stringify(explained));
  });

  test('nor does it return what was found by an expression of the key', async () => {
    await world.rows('create table codes (code text primary key); create unique index on codes (lower(code)); grant all on codes to authenticated');
    await world.rows("insert into codes values ('HIDDEN')");
    const statement = "insert into codes values ('hidden') on conflict (lower(code)) do update set code = codes.code returning code";
    await assert.rejects(requesting(await claimsOf(['codes:write']), statement),
      { message: 'the personal access token lacks the scope codes:read, so the rows that it writes cannot be returned' });
    assert.deepEqual(await requesting(await claimsOf(['codes:write', 'codes:read']), statement), [{ code: 'HIDDEN' }]);
  });

  test('COPY FROM needs write', async () => {
    const copying = async (scopes) => requesting(await claimsOf(scopes), 'copy logs from stdin').then(
      () => assert.fail('it waited for no rows'), ({ code }) => code);
    assert.equal(await copying(['logs:read', 'nothing:else']), 'PT403');
    // The client sends no rows.
    assert.notEqual(await copying(['logs:write']), 'PT403');
  });

  test('what is made for the session needs no scope, and what stays is not made', async () => {
    const claims = await claimsOf(['notes:read', 'nothing:else']);
    const temporary = ['create temp table mine (id int) on commit drop', 'insert into mine values (1)', 'create index on mine (id)',
      'alter table mine add body text', 'analyze mine', 'reindex table mine', 'select * from mine', 'drop table mine'];
    await requesting(claims, temporary);
    for (const statement of ['create table pg_catalog.x (id int)', 'create temp view v as select * from notes', 'drop table notes',
      'alter table notes disable row level security', 'create function pg_temp.f() returns int language sql as $$select 1$$', 'comment on table notes is $$x$$',
      'create table x as select 1', 'grant select on notes to anon', 'analyze', 'analyze verbose theirs_1', 'reindex table theirs_1']) {
      await assert.rejects(requesting(claims, statement), { code: 'PT403', message: 'no scope covers this request, so a token with a list of scopes may not make it' }, statement);
    }
    for (const statement of temporary.slice(0, 1)) await requesting(claims, statement);
  });

  test('a view that the role of the request has made gives no other rights', async () => {
    await world.rows(`create view theirs as select * from notes; alter view theirs owner to authenticated;
      create function theirs_1() returns bigint language plpgsql security definer as 'begin return (select count(*) from notes); end';
      grant create on schema public to authenticated;
      alter function theirs_1() owner to authenticated`);
    const claims = await claimsOf(['theirs:read']);
    for (const statement of ['select * from theirs', 'select theirs_1()']) {
      await assert.rejects(requesting(claims, statement), refusal('notes:read', 'public.notes'));
      // Nor when the request has another role.
      await world.rows('grant select on theirs to anon');
      await assert.rejects(requesting(claims, ['set local role anon', statement]), refusal('notes:read', 'public.notes'));
    }
  });

  test('scopes hold to the end of the transaction, whatever the request becomes in it', async () => {
    const claims = await claimsOf(['tags:read', 'nothing:else']);
    const wider = await claimsOf(['tags:read', 'notes:read']);
    const unlimited = await claimsOf(null);
    for (const change of ["set local request.jwt.claims = ''", "select set_config('request.jwt.claims', '', true), set_config('request.method', '', true)",
      'reset all', 'set local role anon; set local role authenticated', 'set local role none; reset all; set local role authenticated',
      `set local request.jwt.claims = '${JSON.stringify({ sub: ALICE, role: 'authenticated' })}'`,
      ...[wider, unlimited].map((other) => `set local request.jwt.claims = '${other}'`)]) {
      await assert.rejects(requesting(claims, [change, 'select from notes']), refusal('notes:read', 'public.notes'), change);
      await requesting(claims, [change, 'select from tags']);
    }
    // And no longer.
    await requesting(wider, 'select from notes');
    // Those of a narrower one are in force.
    await assert.rejects(requesting(wider, [`set local request.jwt.claims = '${await claimsOf(['tags:read'])}'`, 'select from notes']), refusal('notes:read', 'public.notes'));
    await requesting(claims, ['savepoint s', `set local request.jwt.claims = ''`, 'select from tags', 'rollback to s', 'select from tags']);
  });

  test('a refusal that a function swallows has read nothing', async () => {
    assert.deepEqual(await requesting(await claimsOf(['nothing:else']), 'select swallowing()'), [{ swallowing: 'PT403' }]);
    assert.deepEqual(await requesting(await claimsOf(['notes:read']), 'select swallowing()'), [{ swallowing: 'read' }]);
  });
});

describe('plans that are kept', () => {
  const MODES = ['force_generic_plan', 'force_custom_plan', 'auto'];
  for (const mode of MODES) {
    test(`are asked again for each token (${mode})`, async () => {
      const db = await world.cluster.connect('postgres', 'authenticator');
      const may = await claimsOf(['notes:read', 'plans:read']);
      const mayNot = await claimsOf(['nothing:else']);
      const login = JSON.stringify({ sub: ALICE, role: 'authenticated' });
      try {
        await db.query(`set plan_cache_mode = ${mode}`);
        // Planned before this connection has seen a token with scopes.
        const statements = ['execute kept(0)', 'select notes_1()', 'execute kept_plans'];
        await requesting(login, ['prepare kept (int) as select count(*) from notes where id > $1', 'prepare kept_plans as select * from plans', ...statements], db);
        for (let round = 0; round < 8; round += 1) {
          for (const statement of statements) {
            await requesting(may, statement, db);
            await assert.rejects(requesting(mayNot, statement, db), ({ message }) => /lacks the scope (notes|plans):read$/.test(message));
            await requesting(login, statement, db);
          }
        }
      } finally {
        await db.end();
      }
    });
  }

  test('rest on the functions that were put in place of their calls', async () => {
    const db = await world.cluster.connect('postgres', 'authenticator');
    const claims = await claimsOf(['notes:read', 'tags:read']);
    try {
      await db.query('set plan_cache_mode = force_generic_plan');
      await world.rows(`create function inlined_late() returns setof int language sql stable as 'select id from notes';
        create function inlined_in_turn() returns setof int language sql stable as 'select * from inlined_late()'`);
      await requesting(claims, 'prepare kept as select * from inlined_in_turn()', db);
      const plan = await requesting(claims, 'explain execute kept', db);
      assert.match(JSON.stringify(plan), /Scan.* on notes/);
      assert.equal((await requesting(claims, 'execute kept', db)).length, 1);
      await world.rows("create or replace function inlined_late() returns setof int language sql stable as 'select id from tags where false'");
      assert.equal((await requesting(claims, 'execute kept', db)).length, 0);
      await assert.rejects(requesting(await claimsOf(['notes:read']), 'execute kept', db), refusal('tags:read', 'public.tags'));
    } finally {
      await db.end();
    }
  });

  test('parallel workers do what their leader may', async () => {
    const parallel = ['set local parallel_setup_cost = 0', 'set local parallel_tuple_cost = 0', 'set local min_parallel_table_scan_size = 0'];
    const statement = [...parallel, 'select count(*) from plans'];
    const plan = await requesting(await claimsOf(['plans:read']), [...parallel, 'explain (analyze, costs off, timing off) select count(*) from plans']);
    assert.match(JSON.stringify(plan), /Workers Launched: [1-9]/);
    assert.deepEqual(await requesting(await claimsOf(['plans:read']), statement), [{ count: '1' }]);
    await assert.rejects(requesting(await claimsOf(['nothing:else']), statement), refusal('plans:read', 'public.plans'));
  });

  test('what functions touch while a parallel worker starts is asked there', async () => {
    await world.rows(`
      create table parted (id int, body text) partition by range (id);
      create table parted_1 partition of parted for values from (0) to (5000);
      create table parted_2 partition of parted for values from (5000) to (100000);
      insert into parted select n, repeat('x', 100) from generate_series(1, 30000) n;
      grant select on parted to authenticated;
      -- In the leader it touches nothing. In a worker it leaves nothing to scan, so that it is called while the worker starts alone.
      create function bound(leader int) returns int language plpgsql stable parallel safe as $$
      begin
        if pg_backend_pid() <> leader then
          return -(select count(*) from notes);
        end if;
        return 100000;
      end $$`);
    await world.rows('analyze parted');
    const { rows: [{ pid }] } = await connection.query('select pg_backend_pid() as pid');
    const reading = ['set local parallel_setup_cost = 0', 'set local parallel_tuple_cost = 0', 'set local min_parallel_table_scan_size = 0',
      'set local max_parallel_workers_per_gather = 2', 'set local parallel_leader_participation = off', `select count(*) from parted where id < bound(${pid})`];
    assert.deepEqual(await requesting(await claimsOf(['parted:read', 'notes:read']), reading), [{ count: '0' }]);
    await assert.rejects(requesting(await claimsOf(['parted:read']), reading), refusal('notes:read', 'public.notes'));
  });

  test('what functions touch in a parallel worker is asked there', async () => {
    const parallel = ['set local force_parallel_mode = on', 'set local parallel_leader_participation = off'];
    if (Number(process.env.PG ?? 15) >= 16) parallel[0] = 'set local debug_parallel_query = on';
    const calling = (name) => [...parallel, `select ${name}(1) as n`];
    const plan = await requesting(await claimsOf(['notes:read']), [...parallel, 'explain (analyze, costs off, timing off) select parallel_notes(1)']);
    assert.match(JSON.stringify(plan), /Workers Launched: 1/);
    for (const [name, table] of [['parallel_notes', 'notes'], ['parallel_plans', 'plans']]) {
      assert.deepEqual(await requesting(await claimsOf([`${table}:read`]), calling(name)), [{ n: '1' }]);
      await assert.rejects(requesting(await claimsOf(['nothing:read']), calling(name)), refusal(`${table}:read`, `public.${table}`));
    }
  });
});

describe('what began before the scopes were known', () => {
  const announcing = async (scopes) => `select set_config('request.jwt.claims', '${await claimsOf(scopes)}', true), set_config('request.method', 'GET', true),
    set_config('request.path', '/tags', true)`;
  const begun = ['begin', 'set local role authenticated'];

  test('a cursor does not go on, also in one message', async () => {
    for (const [scopes, ends] of [[['tags:read'], 'PT403'], [null, undefined]]) {
      const statements = [...begun, 'declare k cursor for select body from notes', await announcing(scopes), 'fetch all from k'].join('; ');
      const code = await connection.query(statements).then(() => undefined, (error) => error.code);
      await connection.query('rollback');
      assert.equal(code, ends);
    }
  });

  test('a portal does not go on that was bound before the announcement was executed', async () => {
    for (const [scopes, ends] of [[['tags:read'], 'PT403'], [null, undefined]]) {
      const db = await world.cluster.connect('postgres', 'authenticator');
      try {
        const announcement = await announcing(scopes);
        const { connection: wire } = db;
        for (const event of ['dataRow', 'errorMessage', 'readyForQuery', 'commandComplete', 'parseComplete']) wire.removeAllListeners(event);
        const answers = { rows: [], code: undefined };
        await new Promise((resolve) => {
          wire.on('dataRow', ({ fields }) => answers.rows.push(fields.map(String).join()));
          wire.on('errorMessage', ({ code }) => { answers.code = code; });
          wire.on('readyForQuery', resolve);
          for (const text of begun) {
            wire.parse({ name: '', text, types: [] });
            wire.bind({ portal: '', statement: '', values: [] });
            wire.execute({ portal: '', rows: 0 });
          }
          for (const [name, text] of [['announcement', announcement], ['notes', 'select body from notes']]) wire.parse({ name, text, types: [] });
          for (const name of ['announcement', 'notes']) wire.bind({ portal: name, statement: name, values: [] });
          for (const portal of ['announcement', 'notes']) wire.execute({ portal, rows: 0 });
          wire.sync();
        });
        assert.equal(answers.code, ends);
        assert.equal(answers.rows.includes('note 1'), ends === undefined);
      } finally {
        await db.end();
      }
    }
  });
});

describe('whatever Postgres logs', () => {
  const BLIND = [
    ['update guarded set level = -1 where id = 1', '23514', 'Failing row contains (1, 1, hidden, -1).'],
    ["insert into guarded values (7, 2, 'hidden', 1)", '23505', 'Key (part, code)=(2, hidden) already exists.'],
    // At the end of the transaction.
    ['delete from guarded where id = 1', '23503', 'Key (id)=(1) is still referenced from table "guards".'],
  ];
  const LOG = () => readFileSync(world.cluster.log, 'utf8');
  for (const level of ['warning', 'log', 'fatal', 'panic']) {
    test(`a token that may not read is told no row by an error: log_min_messages = ${level}`, async () => {
      // By the configuration: what is set for a role stays when that is read anew.
      world.cluster.configure({ log_min_messages: level });
      world.cluster.control('reload');
      const db = await world.cluster.connect('postgres', 'authenticator');
      while ((await db.query('show log_min_messages')).rows[0].log_min_messages !== level) await sleep(20);
      const writing = async (scopes, statements) => {
        const claims = await claimsOf(scopes);
        await db.query('begin');
        try {
          await db.query(`select set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1, true),
            set_config('request.method', 'POST', true), set_config('request.path', '/rpc/revoke_pat', true)`, [claims]);
          for (const statement of statements) await (typeof statement === 'string' ? db.query(statement) : statement());
          await db.query('commit');
        } catch (error) {
          await db.query('rollback');
          return [error.code, error.detail];
        }
        return assert.fail(`${statements} passed`);
      };
      const settingNow = async () => (await db.query('show log_min_messages')).rows[0].log_min_messages;
      try {
        const before = LOG().length;
        for (const [statement, code, detail] of BLIND) {
          const scopes = ['guarded:write', 'guarded:delete'];
          // What the configuration says, said again, counts for the next statement.
          const again = async () => { await world.rows('select pg_reload_conf()'); };
          for (const around of [[statement], ['savepoint s', statement], ['update guarded set level = 1 where id = 1', 'savepoint s', 'rollback to s', statement]]) {
            assert.deepEqual(await writing(scopes, around), [code, undefined], around.join('; '));
            await again();
            assert.equal(await settingNow(), level);
          }
          assert.deepEqual(await writing([...scopes, 'guarded:read'], [statement]), [code, detail]);
        }
        // Also just before the end of the transaction.
        const reloaded = () => world.rows('select pg_reload_conf(), pg_sleep(0.2)');
        for (const last of [[], ['set constraints all immediate']]) {
          assert.deepEqual(await writing(['guarded:delete', 'guarded:write'], ['delete from guarded where id = 1', reloaded, ...last]), ['23503', undefined]);
        }
        // Nothing is logged that would not have been: neither errors, nor what a function wants to be logged.
        await assert.rejects(requesting(await claimsOf(['rpc/x:call']), ["do $$ begin raise log 'for the log'; end $$", 'select 1/0'], db), { code: '22012' });
        const logged = LOG().slice(before);
        assert.equal(/ERROR: .*guarded_level_check/.test(logged), level === 'warning');
        assert.equal(/ERROR: .*division by zero/.test(logged), level === 'warning');
        assert.equal(/LOG: .*for the log/.test(logged), ['warning', 'log'].includes(level));
      } finally {
        await db.end();
        world.cluster.configure({ log_min_messages: 'warning' });
        world.cluster.control('reload');
      }
    });
  }
});

describe('through a REST server', () => {
  beforeEach(() => world.rows(`truncate todos restart identity cascade; insert into todos (user_id, title) values ('${ALICE}', 'alice 1');
    insert into notes values (1, 1, 'note 1')`));
  const asking = async (kind, scopes, method, path, body, headers) => {
    const { send } = await world.mint(ALICE, { kind, scopes });
    return world.ask(method, path, { ...send, body, headers: { ...send.headers, ...headers } });
  };
  const refused = (answer, scope, table) => {
    const [status, message, hint] = lacks(scope);
    assert.deepEqual([answer.status, answer.data], [status, { code: 'PT403', message, hint, details: refusal(scope, table).detail }]);
  };

  for (const kind of KINDS) {
    test(`a ${kind} token embeds what it may read, both ways`, async () => {
      const both = ['todos:read', 'notes:read'];
      assert.deepEqual((await asking(kind, both, 'GET', '/todos?select=title,notes(body)')).data, [{ title: 'alice 1', notes: [{ body: 'note 1' }] }]);
      assert.deepEqual((await asking(kind, both, 'GET', '/notes?select=body,todos(title)')).data, [{ body: 'note 1', todos: { title: 'alice 1' } }]);
      refused(await asking(kind, ['todos:read'], 'GET', '/todos?select=title,notes(body)'), 'notes:read', 'public.notes');
      refused(await asking(kind, ['notes:read'], 'GET', '/notes?select=body,todos(title)'), 'todos:read', 'public.todos');
      assertRefused(await asking(kind, ['notes:read'], 'GET', '/todos'), lacks('todos:read'));
    });

    test(`a ${kind} token embeds in what it has written what it may read`, async () => {
      const write = (scopes) => asking(kind, scopes, 'PATCH', '/todos?id=eq.1&select=title,notes(body)', { title: 'new' }, { prefer: 'return=representation' });
      refused(await write(['todos:*']), 'notes:read', 'public.notes');
      assert.deepEqual((await write(['todos:*', 'notes:read'])).data, [{ title: 'new', notes: [{ body: 'note 1' }] }]);
    });

    test(`a ${kind} token calls a function, which touches what the token may`, async () => {
      const call = (scopes) => asking(kind, ['rpc/notes_1:call', ...scopes], 'POST', '/rpc/notes_1', {});
      refused(await call([]), 'notes:read', 'public.notes');
      assert.equal((await call(['notes:read'])).data, 1);
      assert.equal((await asking(kind, ['rpc/owners_notes_1:call'], 'POST', '/rpc/owners_notes_1', {})).data, 1);
    });

    test(`a ${kind} token calls a function as a column with the scope for it`, async () => {
      for (const [method, path, body] of [['GET', '/todos?select=title,notes_of'], ['GET', '/todos?select=title&notes_of=gt.0'],
        ['PATCH', '/todos?id=eq.1&select=title,notes_of', { title: 'alice 1' }]]) {
        const headers = { prefer: 'return=representation' };
        const answer = await asking(kind, ['todos:*'], method, path, body, headers);
        const [status, message] = lacks('rpc/notes_of:call');
        assert.deepEqual([answer.status, answer.data.message], [status, message]);
        assert.equal((await asking(kind, ['todos:*', 'rpc/notes_of:call'], method, path, body, headers)).data[0].title, 'alice 1');
      }
    });
  }

  for (const kind of KINDS) {
    test(`a ${kind} token that may write and not read is told no row by an error`, async () => {
      const EXPECTED = [
        ['PATCH', '/guarded?id=eq.1', { level: -1 }, 'new row for relation "guarded" violates check constraint "guarded_level_check"', 'Failing row contains (1, 1, hidden, -1).'],
        ['PATCH', '/guarded?id=eq.1', { level: null }, 'null value in column "level" of relation "guarded" violates not-null constraint', 'Failing row contains (1, 1, hidden, null).'],
        ['PATCH', '/guarded?id=eq.1', { part: 2 }, 'duplicate key value violates unique constraint "guarded_part_code_key"', 'Key (part, code)=(2, hidden) already exists.'],
        ['PATCH', '/guarded_now?id=eq.1', { level: 9 }, 'new row violates check option for view "guarded_now"', 'Failing row contains (1, 1, hidden, 9).'],
        ['DELETE', '/guarded?level=eq.1', undefined, 'update or delete on table "guarded" violates foreign key constraint "later" on table "guards"', 'Key (id)=(1) is still referenced from table "guards".'],
      ];
      for (const [method, path, body, message, details] of EXPECTED) {
        const writing = [`${path.slice(1).split('?')[0]}:write`, 'guarded:write', 'guarded:delete'];
        const blind = await asking(kind, writing, method, path, body);
        assert.deepEqual([blind.data.message, blind.data.details], [message, null]);
        const seeing = await asking(kind, [...writing, 'guarded:read', 'guarded_now:read'], method, path, body);
        assert.deepEqual([seeing.data.message, seeing.data.details], [message, details]);
      }
      // By a view that shows less than its table, and by a foreign key that changes another table.
      for (const [scope, path, body, table] of [['guarded_levels', '/guarded_levels?id=eq.1', { level: -1 }, 'guarded'], ['owning', '/owning?id=eq.1', undefined, 'owned']]) {
        const method = body ? 'PATCH' : 'DELETE';
        const blind = await asking(kind, [`${scope}:*`], method, path, body);
        assert.deepEqual([blind.data.code, blind.data.details], ['23514', null]);
        assert.match((await asking(kind, [`${scope}:*`, `${table}:read`], method, path, body)).data.details, /^Failing row contains/);
      }
      const partition = ['parts:write', 'parts:read'];
      assert.match((await asking(kind, partition, 'POST', '/parts', { id: 5, level: -1 })).data.details, /^Failing row contains/);
      // With the rights of somebody else, whose table it is.
      assert.match((await asking(kind, ['rpc/fail:call', 'todos:write'], 'POST', '/rpc/fail', {})).data.details, /^Failing row contains/);
    });
  }

  test('the log has what a token is not told', async () => {
    await asking('jwt', ['guarded:write'], 'PATCH', '/guarded?id=eq.1', { level: -77 });
    assert.match(readFileSync(world.cluster.log, 'utf8'), /Failing row contains \(1, 1, hidden, -77\)/);
  });

  test('a login, and a token without a list, touch what they may', async () => {
    const free = await world.mint(ALICE);
    for (const token of [free.token, await world.login(ALICE)]) {
      assert.equal((await world.ask('GET', '/todos?select=title,notes(body)', { token })).status, 200);
    }
  });
});
