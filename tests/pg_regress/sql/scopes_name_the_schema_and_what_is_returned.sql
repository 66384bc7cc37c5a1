-- A server may expose more schemas than one. In all but the default one, the name of a table is schema.table.
create function pg_temp.claims(key uuid) returns text language sql security definer as $$
    select jsonb_build_object('role', 'authenticated', 'sub', '11111111-1111-1111-1111-111111111111',
        'type', 'personal_access_token', 'jti', key, 'scope', array_to_string((select scopes from pat.api_keys where id = key), ' '))::text
$$;
call tests.log_in('alice');
create function pg_temp.with_scopes(scopes text[]) returns uuid language sql as $$ select id from mint_pat(name => 'x', scopes => scopes) $$;
create function pg_temp.pass(key uuid, method text, path text, headers jsonb default '{}') returns text language plpgsql as $$
declare
    done record;
begin
    perform set_config('request.jwt.claims', pg_temp.claims(key), true);
    select * into done from tests.pass(method, path, headers);
    return concat_ws(' ', done.code, done.error);
end
$$;
select pg_temp.with_scopes('{todos:*,rpc/f:call,tokens:*}') as here, pg_temp.with_scopes('{private.todos:*,rpc/private.f:call}') as there, pg_temp.with_scopes('{*:read}') as all_reading \gset
reset role;
create temp table asked as select * from (values
    ('GET', '/todos', '{}'), ('GET', '/todos', '{"accept-profile": "public"}'), ('GET', '/todos', '{"accept-profile": "private"}'),
    ('HEAD', '/todos', '{"accept-profile": "private"}'), ('POST', '/todos', '{"content-profile": "private"}'),
    ('DELETE', '/todos', '{"content-profile": "private"}'), ('POST', '/rpc/f', '{"content-profile": "private"}'), ('GET', '/rpc/f', '{"accept-profile": "private"}'),
    -- Servers differ in which of the two headers they use.
    ('GET', '/todos', '{"content-profile": "private"}'), ('POST', '/todos', '{"accept-profile": "private"}'),
    ('POST', '/todos', '{"accept-profile": "private", "content-profile": "public"}'),
    ('GET', '/api_keys', '{"accept-profile": "private"}'), ('GET', '/api_keys', '{"accept-profile": "public"}'),
    ('POST', '/rpc/revoke_pat', '{"content-profile": "private"}'), ('POST', '/rpc/revoke_pat', '{"content-profile": "public"}')) r (method, path, headers);
select method, path, headers, pg_temp.pass(:'here', method, path, headers::jsonb) as here, pg_temp.pass(:'there', method, path, headers::jsonb) as there,
    pg_temp.pass(:'all_reading', method, path, headers::jsonb) as all_reading from asked;
-- A header that stands twice is shown once. Servers begin the search path with the schema that they have chosen.
begin;
set local search_path = private, public;
select pg_temp.pass(:'here', 'GET', '/todos', '{"accept-profile": "public"}');
set local search_path = public, private;
select pg_temp.pass(:'here', 'GET', '/todos', '{"accept-profile": "public"}');
set local search_path = '';
select pg_temp.pass(:'here', 'GET', '/todos', '{"accept-profile": "public"}');
-- Without such a header it is the default one, whatever it is called.
set local search_path = api, public;
select pg_temp.pass(:'here', 'GET', '/todos');
rollback;
set supabase_pat.default_schema = 'api';
select pg_temp.pass(:'here', 'GET', '/todos', '{"accept-profile": "api"}') as api, pg_temp.pass(:'here', 'GET', '/todos', '{"accept-profile": "public"}') as public,
    pg_temp.pass(:'here', 'GET', '/api_keys', '{"accept-profile": "public"}') as api_keys;
reset supabase_pat.default_schema;

-- A token that may write and not read is not shown what it writes, whatever the header Prefer says.
call tests.log_in('alice');
select pg_temp.with_scopes('{notes:write,notes:delete,my_notes:write}') as writer, pg_temp.with_scopes('{notes:*}') as both, pg_temp.with_scopes('{tokens:delete}') as deleter,
    pg_temp.with_scopes('{rpc/add_note:call}') as caller, pg_temp.with_scopes('{rpc/add_note:call,notes:write,notes:read}') as adder \gset
reset role;
create table notes (id int generated always as identity, owner uuid default pat.uid(), body text, primary key (owner, id));
grant all on notes to authenticated;
create view my_notes as select id, body from notes;
grant all on my_notes to authenticated;
insert into notes (owner, body) values ('11111111-1111-1111-1111-111111111111', 'secret');
create function add_note() returns text language sql as $$ insert into notes (body) values ('by a function') returning body $$;
create function pg_temp.request(key uuid, method text, path text) returns text language plpgsql as $$
begin
    perform set_config('request.method', method, true), set_config('request.path', path, true), set_config('request.headers', '{}', true),
        set_config('request.jwt.claims', pg_temp.claims(key), true), set_config('role', 'authenticated', true);
    perform pat.gate();
    return 'ready';
end
$$;
begin; select pg_temp.request(:'writer', 'POST', '/notes');
-- Statements of servers pass if they return no rows, or only what the header Location needs. Others are refused.
insert into notes (body) values ('a');
with source as (insert into notes (body) values ('b') returning 1) select count(*) from source;
with source as (insert into notes (body) values ('c') returning owner, id) select count(*), min(id) from source;
with source as (insert into notes (body) values ('d') on conflict do nothing returning id, xmax = 0 as inserted) select count(*) from source;
insert into my_notes (body) values ('e') returning id;
with source as (insert into notes (body) values ('f') returning id, body) select * from source;
rollback;
begin; select pg_temp.request(:'writer', 'POST', '/notes'); insert into notes (body) values ('g') returning *; rollback;
begin; select pg_temp.request(:'writer', 'POST', '/notes'); insert into notes as n (body) values ('g') returning n; rollback;
begin; select pg_temp.request(:'writer', 'POST', '/notes'); insert into my_notes (body) values ('g') returning body; rollback;
begin; select pg_temp.request(:'writer', 'POST', '/notes'); insert into notes (body) values ('g') returning upper(body); rollback;
begin; select pg_temp.request(:'writer', 'PATCH', '/notes');
with source as (update notes set body = 'x' returning 1) select count(*) from source;
with source as (update notes set body = 'x' from (select 1 as one) as payload where one = 1 returning 1) select count(*) from source;
with source as (update notes set body = 'x' returning id) select * from source;
rollback;
begin; select pg_temp.request(:'writer', 'PATCH', '/notes'); update notes set body = body from (values ('other'), ('more')) payload (other) returning other; rollback;
begin; select pg_temp.request(:'writer', 'DELETE', '/notes');
delete from notes where false returning 1;
delete from notes returning body;
rollback;
-- A prepared statement is checked too. With the scope, and without a token, rows are returned. Scopes hold to the end of the
-- transaction, whosever request it becomes.
prepare deleting as delete from notes returning body;
begin; select pg_temp.request(:'writer', 'DELETE', '/notes'); execute deleting; rollback;
begin; select pg_temp.request(:'both', 'DELETE', '/notes'); execute deleting; rollback;
begin; select pg_temp.request(:'writer', 'DELETE', '/notes'); select set_config('request.jwt.claims', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111"}', true) is not null as login; select pat.gate(); execute deleting; rollback;
execute deleting;
insert into notes (owner, body) values ('11111111-1111-1111-1111-111111111111', 'secret');
-- Statements inside functions and triggers need the same scopes.
begin; select pg_temp.request(:'caller', 'POST', '/rpc/add_note'); select add_note(); rollback;
begin; select pg_temp.request(:'adder', 'POST', '/rpc/add_note'); select add_note(); rollback;
create function note_it() returns trigger language plpgsql as $$
begin
    insert into notes (body) select 'noted ' || new.body where new.body not like 'noted%' returning body into new.body;
    return null;
end
$$;
create trigger note_it after insert on notes for each row execute function note_it();
begin; select pg_temp.request(:'writer', 'POST', '/notes'); insert into notes (body) values ('a'); rollback;
begin; select pg_temp.request(:'adder', 'POST', '/rpc/add_note'); insert into notes (body) values ('a'); rollback;
-- Deleting tokens shows none of them.
begin; select pg_temp.request(:'deleter', 'DELETE', '/api_keys'); delete from api_keys where id = :'caller' returning 1; delete from api_keys returning name; rollback;
