call tests.log_in('bob');
select id as of_bob, token as token_of_bob from mint_pat(name => 'bob') \gset
reset role;
call tests.log_in('alice');
select id as one, token as token_one from mint_pat(name => 'one') \gset
select id as two, token as token_two from mint_pat(name => 'two') \gset
select name, user_id, scopes, hint = right(:'token_one', 6) as hint_of_one, last_used_at, revoked_at, is_active from api_keys order by created_at;
select name from api_keys where user_id = '22222222-2222-2222-2222-222222222222' or true order by created_at;
-- The table behind the view shows no more.
select name from pat.api_keys order by created_at;
select * from tests.error('select * from pat.api_keys');
select * from tests.error('select replaced_by from pat.api_keys');

-- Deleting a row revokes.
delete from api_keys where id = :'of_bob';
delete from api_keys where id = :'one' returning name;
call tests.use_token(:'token_one');
select is_valid_api_token(), (select count(*) from todos) as todos;
reset role;
call tests.use_token(:'token_two');
select is_valid_api_token(), (select count(*) from todos) as todos;
select name from api_keys;

-- Owners can write nothing else.
reset role;
call tests.log_in('alice');
select * from tests.error($$insert into api_keys (id, user_id, name, expires_at) values (gen_random_uuid(), pat.uid(), 'forged', 'infinity')$$);
select * from tests.error($$insert into pat.api_keys (id, user_id, name, expires_at) values (gen_random_uuid(), pat.uid(), 'forged', 'infinity')$$);
select * from tests.error($$update api_keys set name = 'renamed'$$);
select * from tests.error($$update api_keys set scopes = null$$);
select * from tests.error($$update pat.api_keys set expires_at = 'infinity'$$);
select * from tests.error($$update pat.api_keys set revoked_at = null$$);
select * from tests.error($$truncate pat.api_keys$$);
select * from tests.error($$select id from pat.api_keys for update$$);

-- A trusted role sees all, with and without BYPASSRLS.
reset role;
create role backend in role service_role;
set role backend;
select name from api_keys order by created_at;
delete from api_keys where name = 'bob';
insert into pat.api_keys (id, user_id, name, expires_at) values (gen_random_uuid(), '11111111-1111-1111-1111-111111111111', 'imported', now() + '1 day');
select name, hint is null as no_hint from api_keys order by created_at;
reset role;
drop role backend;
call tests.request('service_role', '{"role": "service_role"}');
select name from api_keys order by created_at;
insert into pat.api_keys (id, user_id, name, expires_at) values (gen_random_uuid(), '22222222-2222-2222-2222-222222222222', 'imported too', now() + '1 day');
reset role;

-- anon sees nothing.
call tests.request('anon', '{"role": "anon"}');
select * from tests.error('select * from api_keys');
select * from tests.error('select id from pat.api_keys');
select * from tests.error('delete from api_keys');
