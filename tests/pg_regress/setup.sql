-- The database that each test starts from, as on Supabase. todos.sql runs after this file.
do $$
begin
    if to_regrole('anon') is null then
        create role anon nologin noinherit;
        create role authenticated nologin noinherit;
        create role service_role nologin noinherit bypassrls;
        create role nobody nologin;
    end if;
end
$$;

-- The default privileges of Supabase in the schema public.
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;

create extension supabase_pat;
select pat.install_auth_schema();

-- Does what the REST server does for a request, but for the rest of the session.
create schema tests;
grant usage on schema tests to public;

create function tests.claims(token text) returns jsonb language sql immutable as $$
    select convert_from(decode(rpad(translate(payload, '-_', '+/'),
        (length(payload) + 3) / 4 * 4, '='), 'base64'), 'utf8')::jsonb
    from split_part(token, '.', 2) as payload
$$;

create procedure tests.request(role text, claims jsonb) language plpgsql as $$
begin
    perform set_config('request.jwt.claims', claims::text, false);
    perform set_config('role', role, false);
end
$$;

-- Begins a session of a user as Supabase Auth does, if auth.sessions can be written.
create function tests.begin_session(id uuid) returns uuid language plpgsql security definer as $$
declare
    session uuid := gen_random_uuid();
begin
    insert into auth.sessions (id, user_id) select session, u.id from auth.users u where u.id = begin_session.id;
    return session;
exception when others then
    return session;
end
$$;

create procedure tests.log_in(name text) language plpgsql as $$
declare
    id uuid := case name
        when 'alice' then '11111111-1111-1111-1111-111111111111'
        when 'bob' then '22222222-2222-2222-2222-222222222222'
    end;
begin
    call tests.request('authenticated', jsonb_build_object('role', 'authenticated', 'sub', id,
        'session_id', tests.begin_session(id)));
end
$$;

create procedure tests.use_token(token text) language sql as $$
    call tests.request(tests.claims(token) ->> 'role', tests.claims(token))
$$;

-- Makes the gate judge the request, since a token with scopes is valid only in such a transaction. The request is one to
-- revoke the token, which needs no scope.
create procedure tests.judge() language plpgsql as $$
begin
    perform set_config('request.method', 'POST', true), set_config('request.path', '/rpc/revoke_pat', true);
    perform pat.gate();
end
$$;

create procedure tests.use_judged_token(token text) language plpgsql as $$
begin
    call tests.use_token(token);
    call tests.judge();
end
$$;

-- Makes the request one with the token of this id, without the text of the token.
create procedure tests.use_key(key uuid) language plpgsql as $$
declare
    claims jsonb;
begin
    select jsonb_build_object('role', 'authenticated', 'sub', user_id, 'type', 'personal_access_token', 'jti', id)
    into claims from pat.api_keys where id = key;
    call tests.request('authenticated', claims);
end
$$;

-- Runs a statement that should fail, and shows its error.
create function tests.error(statement text, out code text, out error text) language plpgsql as $$
declare
    detail text;
    hint text;
begin
    execute statement;
    code := 'none';
exception when others then
    get stacked diagnostics code = returned_sqlstate, error = message_text,
        detail = pg_exception_detail, hint = pg_exception_hint;
    error := concat_ws(E'\n', error, 'detail: ' || nullif(detail, ''), 'hint: ' || nullif(hint, ''));
end
$$;

-- Does the same as each of some roles, with the present claims of the request.
create function tests.as_each_role(statement text, roles text[] = '{anon, authenticated, service_role, nobody}')
returns table (role text, code text, error text) language plpgsql as $$
begin
    foreach role in array roles loop
        perform set_config('role', role, true);
        select e.code, e.error into code, error from tests.error(statement) e;
        perform set_config('role', session_user, true);
        return next;
    end loop;
end
$$;

-- Calls the gate as the REST server does, with the present claims of the request, and shows the outcome. A statement
-- after it shows the identity that the request has got.
create function tests.pass(method text default 'GET', path text default '/todos', headers jsonb default '{}',
    out code text, out error text, out role text, out uid uuid, out key_id uuid) language plpgsql as $$
declare
    hint text;
begin
    perform set_config('request.method', method, true), set_config('request.path', path, true),
        set_config('request.headers', headers::text, true);
    perform pat.gate();
    code := 'passed';
    role := current_user;
    uid := auth.uid();
    key_id := current_api_key_id();
exception when others then
    get stacked diagnostics code = returned_sqlstate, error = message_text, hint = pg_exception_hint;
    error := concat_ws(E'\n', error, 'hint: ' || nullif(hint, ''));
end
$$;

-- For a test that counts what happens on a day (UTC): waits until the next one begins, if this one is about to end.
create procedure tests.stay_within_a_day() language plpgsql as $$
declare
    left_over float := 86400 - extract(epoch from clock_timestamp())::numeric % 86400;
begin
    if left_over < 120 then
        perform pg_sleep(left_over + 0.1);
    end if;
end
$$;
