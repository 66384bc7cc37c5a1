-- What PostgREST answers and the REST server of the demo does not.

-- What the console offers as scopes: the tables and functions that the role of the request may use. PostgREST tells so
-- at its root by itself, if `openapi-mode` is not disabled; the REST server of the demo does not. With PostgREST this
-- function may take the place of its own answer: `db-root-spec = "root"`.
create function public.root() returns json
    language sql stable
    set search_path = pg_catalog, pg_temp
as $$
    select json_build_object('swagger', '2.0', 'paths', coalesce(json_object_agg(path, methods), '{}'))
    from (
        select '/' || c.relname as path, json_object_agg(method, '{}'::json) as methods
        from pg_class c
            cross join (values ('get', 'select'), ('post', 'insert'), ('patch', 'update'), ('delete', 'delete')) as m (method, privilege)
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'm', 'f', 'p') and not c.relispartition
            and case privilege when 'delete' then has_table_privilege(c.oid, privilege) else has_any_column_privilege(c.oid, privilege) end
        group by c.oid, c.relname
        union all
        select '/rpc/' || p.proname, '{"post": {}}'
        from pg_proc p
        where p.pronamespace = 'public'::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
            and p.proname <> 'root' and has_function_privilege(p.oid, 'execute')
        group by p.proname
    ) reachable
$$;
revoke all on function public.root() from public;
grant execute on function public.root() to anon, authenticated, service_role;

-- That server leaves out arrays in what functions return as one row.
create function public.inspect_api_key(key text) returns jsonb
    language sql stable
    set search_path = pg_catalog, pg_temp
    return to_jsonb(pat.inspect_api_key(key));
