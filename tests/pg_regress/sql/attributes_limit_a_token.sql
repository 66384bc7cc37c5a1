-- An operator declares what tokens may be limited to.
select pat.define_key_attribute('project', '{"type": "array", "items": {"type": "string"}, "minItems": 1}');
select pat.define_key_attribute('env', '{"enum": ["prod", "dev"]}');
create table projects (id text primary key, owner uuid not null, title text);
insert into projects values ('p1', '11111111-1111-1111-1111-111111111111', 'one'), ('p2', '11111111-1111-1111-1111-111111111111', 'two'),
    ('p3', '22222222-2222-2222-2222-222222222222', 'bob''s');
insert into projects values ('p0', '11111111-1111-1111-1111-111111111111', null);
alter table projects enable row level security;
create policy members on projects using (owner = pat.uid() and api_key_allows('project', id));
create table loose (project text);
insert into loose values ('p1'), ('p2'), (null);
alter table loose enable row level security;
create policy members on loose using (api_key_allows('project', project));

-- The user's lines.
call tests.log_in('alice');
select token, id from mint_pat(name => 'ci of p1', attributes => '{"project": ["p1"]}', description => 'Deploys p1.') \gset
select token as everything from mint_pat(name => 'all') \gset
select id from projects order by id;
select count(*) from loose;
call tests.use_token(:'token');
select id from projects order by id;
select count(*) from loose;
select api_key_attribute('project'), api_key_attribute('env'), api_key_allows('project', 'p2'), api_key_allows('project', null), api_key_allows('env', 'x'), api_key_allows(null, 'x');
select name, description, attributes, disabled_at from api_keys where id = :'id';
call tests.use_token(:'everything');
select id from projects order by id;
select api_key_attribute('project'), api_key_allows('project', 'anything'), api_key_allows('project', null);

-- They count as they are now, in the same transaction and in a plan that is kept.
call tests.use_token(:'token');
prepare seen as select array_agg(id order by id) from projects;
begin;
execute seen;
set local role postgres;
update pat.api_keys set attributes = '{"project": ["p1", "p2"]}' where id = :'id';
set local role authenticated;
execute seen;
rollback;
execute seen;

-- The attacker's lines: a token makes no wider one, edits itself to no wider one, and nobody changes the row.
reset role;
call tests.log_in('alice');
select token as minter, id as minter_id from mint_pat(name => 'minter', scopes => '{*,tokens:write,tokens:delete}', attributes => '{"project": ["p1", "p2"]}') \gset
begin;
call tests.use_judged_token(:'minter');
select name from mint_pat(name => 'narrower', scopes => '{*}', attributes => '{"project": ["p1"], "env": "dev"}');
commit;
call tests.use_token(:'minter');
begin; call tests.judge();
select mint_pat(name => 'wider', scopes => '{*}');
rollback;
begin; call tests.judge();
select mint_pat(name => 'wider', scopes => '{*}', attributes => '{"project": ["p1", "p3"]}');
rollback;
begin; call tests.judge();
select mint_pat(name => 'wider', scopes => '{*}', attributes => '{"env": "dev"}');
rollback;
begin; call tests.judge();
select edit_pat(:'minter_id', attributes => '{"project": ["p1", "p2", "p3"]}');
rollback;
begin; call tests.judge();
select edit_pat(:'minter_id', attributes => '{"project": null}');
rollback;
begin; call tests.judge();
select rotate_pat(:'id') is not null as a_narrower_one;
rollback;
begin; call tests.judge();
select id as every from api_keys where name = 'all' \gset
select rotate_pat(:'every');
rollback;
update api_keys set attributes = null where id = :'minter_id';
select * from pat.key_attributes;

-- A rotation takes them over; a token that is dead is allowed nothing.
call tests.log_in('alice');
select id as successor from rotate_pat(:'id') \gset
select name, description, attributes from api_keys where id = :'successor';
call tests.use_token(:'token');
select count(*) from loose;
select api_key_allows('project', 'p1'), api_key_allows('env', null), api_key_attribute('project');

-- Values that are declared, and no others.
call tests.log_in('alice');
select mint_pat(name => 'x', attributes => '{"tenant": "t"}');
select mint_pat(name => 'x', attributes => '{"project": []}');
select mint_pat(name => 'x', attributes => '{"env": "test"}');
select mint_pat(name => 'x', attributes => '["p1"]');
select mint_pat(name => 'x', description => repeat('x', 1001));
select mint_pat(name => 'x', attributes => jsonb_build_object('project', array(select repeat('x', 100) || n from generate_series(1, 2000) n)));
select name from mint_pat(name => 'a thousand', attributes => jsonb_build_object('project', array(select gen_random_uuid() from generate_series(1, 1000))));

-- One that is required.
reset role;
select pat.define_key_attribute('tenant', required => true);
call tests.log_in('alice');
select mint_pat(name => 'x');
select mint_pat(name => 'x', attributes => '{"tenant": null}');
select name from mint_pat(name => 'x', attributes => '{"tenant": 7}');
select mint_pat(name => 'x', attributes => '{"tenant": 7, "project": ["p1"]}') is not null as minted;
select pat.define_key_attribute('x');
reset role;
set role service_role;
select name, schema, required from pat.key_attributes order by name;
select pat.drop_key_attribute('tenant'), pat.drop_key_attribute('tenant');
select pat.define_key_attribute('Project');
select pat.define_key_attribute('x', '{"type": 1}');
select pat.define_key_attribute('x', '{"$ref": "https://example.com"}');
select pat.define_key_attribute(null);

-- One that is deleted while a statement runs that has found it valid is allowed nothing more.
reset role;
create function tests.delete_token(token uuid) returns boolean language sql security definer
    as 'delete from pat.api_keys where id = token returning true';
call tests.log_in('alice');
select token, id from mint_pat(name => 'short-lived', attributes => '{"project": ["p1"]}') \gset
call tests.use_token(:'token');
select case when is_valid_api_token() and tests.delete_token(:'id') then api_key_allows('project', 'p2') end as another,
    api_key_attribute('project') as project;

-- An id is compared as its text, in a scan and by itself.
reset role;
create table tasks (project uuid);
insert into tasks values ('abcdef00-0000-4000-8000-000000000001'), ('abcdef00-0000-4000-8000-000000000002'), (null);
alter table tasks enable row level security;
create policy members on tasks using (api_key_allows('project', project));
select token as of_id, id as of_id_id from mint_pat('11111111-1111-1111-1111-111111111111', 'x', attributes => '{"project": ["abcdef00-0000-4000-8000-000000000001", "ABCDEF00-0000-4000-8000-000000000002"]}') \gset
grant select on tasks to authenticated;
call tests.use_token(:'of_id');
select project, api_key_allows('project', project) = api_key_allows('project', project::text) as as_text from tasks;
select api_key_allows('project', 'abcdef00-0000-4000-8000-000000000001'::uuid), api_key_allows('project', 'abcdef00-0000-4000-8000-000000000002'::uuid),
    api_key_allows('project', null::uuid), api_key_allows('env', null::uuid), api_key_allows(null, 'abcdef00-0000-4000-8000-000000000001'::uuid);
call tests.log_in('alice');
select count(*) from tasks;
reset role;
select revoke_pat(:'of_id_id');
call tests.use_token(:'of_id');
select count(*) from tasks;
select api_key_allows('project', 'abcdef00-0000-4000-8000-000000000001'::uuid), api_key_allows('env', null::uuid);
reset role;
