-- Calls each function of the extension with null for all arguments, then for all that are not of type text. XX000 would
-- be an error that the code does not handle.
set supabase_pat.enable_sign_in = on;
set supabase_pat.enable_sign_up = on;
create function tests.calls(filler text) returns table (call text, code text, error text) language plpgsql as $$
declare
    f regprocedure;
begin
    for f in
        select p.oid from pg_proc p, pg_depend d
        where d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
            and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
            and p.proname not in ('install_auth_schema', 'grant_api_roles')
        order by p.oid::regprocedure::text
    loop
        select format('select %s(%s)', p.oid::regproc, string_agg(
            case when filler is not null and type = 'text'::regtype then quote_literal(filler) else 'null::' || type::regtype::text end, ', ' order by n))
        into call
        from pg_proc p left join unnest(p.proargtypes) with ordinality as a (type, n) on true
        where p.oid = f group by p.oid, p.pronargs;
        if call like '%(null::)' or call like '%()' then
            call := format('select %s()', f::regproc);
        end if;
        select * from tests.error(call) into code, error;
        return next;
    end loop;
end
$$;
select count(*) > 50 as enough from tests.calls(null);
select * from tests.calls(null) where code ~ '^XX';
select * from tests.calls('x') where code ~ '^XX';
select * from tests.error($$select pat.verify_jwt('x', null, null)$$);
select * from tests.error('select pat.key_deleted()');
select * from tests.error('select pat.claim_notices(null)');
select * from tests.error('select pat.notice_sent(null)');
select * from tests.error('select pat.notice_failed(null)');

-- The next pre-request function is called directly, without a query around it.
set supabase_pat.trusted_proxies = 0;
create function tests.rows() returns setof int language sql as 'select 1';
create aggregate tests.total(*) (sfunc = int8inc, stype = int8, initcond = '0');
create function tests.on_change() returns trigger language plpgsql as 'begin return null; end';
create function tests.answers() returns int language sql as 'select 1';
create function tests.next(name text) returns table (named text, code text, error text) language plpgsql as $$
begin
    perform set_config('supabase_pat.next_pre_request', name, true);
    return query select name, e.* from tests.error('select pat.gate()') e;
end
$$;
select * from unnest('{pg_catalog.row_number, pg_catalog.rank, pg_catalog.count, tests.total, tests.rows, tests.on_change,
    pg_catalog.plpgsql_call_handler, pg_catalog.pg_cursor, pg_catalog.suppress_redundant_updates_trigger, tests.answers}'::text[]) name,
    tests.next(name);
