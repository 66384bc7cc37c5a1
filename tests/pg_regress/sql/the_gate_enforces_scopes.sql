call tests.log_in('alice');
create function pg_temp.with_scopes(scopes text[]) returns uuid language sql as $$ select id from mint_pat(name => 'x', scopes => scopes) $$;
create function pg_temp.pass(key uuid, method text, path text) returns text language plpgsql as $$
declare
    done record;
begin
    perform set_config('request.jwt.claims', jsonb_build_object('role', 'authenticated', 'sub', '11111111-1111-1111-1111-111111111111',
        'type', 'personal_access_token', 'jti', key, 'scope', array_to_string((select scopes from pat.api_keys where id = key), ' '))::text, true);
    select * into done from tests.pass(method, path);
    return concat_ws(' ', done.code, done.error);
end
$$;
select pg_temp.with_scopes('{todos:read}') as reader, pg_temp.with_scopes('{todos:*,rpc/add_todo:call}') as writer, pg_temp.with_scopes('{*}') as everything,
    pg_temp.with_scopes('{tokens:read,settings:write}') as own \gset
-- By method and path.
reset role;
select method, path, pg_temp.pass(:'reader', method, path) as reader, pg_temp.pass(:'writer', method, path) as writer, pg_temp.pass(:'everything', method, path) as everything
from unnest('{GET,HEAD,POST,PATCH,PUT,DELETE,OPTIONS}'::text[]) method, unnest('{/todos,/notes}'::text[]) path order by path desc, method;
select method, path, pg_temp.pass(:'reader', method, path) as reader, pg_temp.pass(:'writer', method, path) as writer, pg_temp.pass(:'everything', method, path) as everything
from (values ('POST', '/rpc/add_todo'), ('GET', '/rpc/add_todo'), ('POST', '/rpc/other'), ('DELETE', '/rpc/add_todo'), ('POST', '/rpc/revoke_pat'), ('POST', '/rpc/mint_pat'),
    ('GET', '/'), ('GET', '/todos/1'), ('GET', '/t%6fdos'), ('GET', '//todos/'), ('TRACE', '/todos'), ('', '/todos'), ('GET', '')) r (method, path);
select path, pg_temp.pass(:'own', method, path) from (values ('GET', '/api_keys'), ('DELETE', '/api_keys'), ('GET', '/api_key_events'), ('POST', '/rpc/set_settings'), ('POST', '/rpc/get_settings')) r (method, path);

-- A token that may only read cannot write in any way.
create function write_something() returns void language sql as $$ insert into todos (title) values ('written on the sly') $$;
call tests.use_key(:'reader');
begin;
select set_config('request.jwt.claims', (current_setting('request.jwt.claims')::jsonb || '{"scope": "todos:read"}')::text, true) is not null as reading;
select code from tests.pass('GET', '/todos');
select pat.gate();
select count(*) from todos;
select write_something();
rollback;
-- A token that may also call a function can write through it.
call tests.use_key(:'writer');
begin;
select pat.gate();
show transaction_read_only;
rollback;
