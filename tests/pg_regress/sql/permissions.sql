-- Every object of the extension, and who may do what with it. Supabase's default privileges are in
-- force. A new object changes this table: grant it by name in sql/grants.sql or not at all.
with api (role) as (values ('anon'), ('authenticated'), ('service_role'), ('nobody')),
objects as (
    select d.classid, d.objid from pg_depend d
    where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
        and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
),
grants as (
    select 'function ' || p.oid::regprocedure as object, role,
        case when has_function_privilege(role, p.oid, 'execute') then 'execute' end as privileges
    from objects join pg_proc p on classid = 'pg_proc'::regclass and p.oid = objid, api
    union all
    select 'relation ' || c.oid::regclass, role, (
        select string_agg(privilege, ' ' order by n) from (values
            (1, case when has_table_privilege(role, c.oid, 'select') then 'select'
                when has_any_column_privilege(role, c.oid, 'select') then 'select(' || (
                    select string_agg(attname, ',' order by attnum) from pg_attribute
                    where attrelid = c.oid and attnum > 0 and has_column_privilege(role, c.oid, attnum, 'select')) || ')' end),
            (2, case when has_any_column_privilege(role, c.oid, 'insert') then 'insert' end),
            (3, case when has_any_column_privilege(role, c.oid, 'update') then 'update' end),
            (4, case when has_table_privilege(role, c.oid, 'delete') then 'delete' end),
            (5, case when has_table_privilege(role, c.oid, 'truncate') then 'truncate' end),
            (6, case when has_any_column_privilege(role, c.oid, 'references') then 'references' end),
            (7, case when has_table_privilege(role, c.oid, 'trigger') then 'trigger' end)
        ) as p (n, privilege))
    from objects join pg_class c on classid = 'pg_class'::regclass and c.oid = objid, api
    union all
    select 'type ' || t.oid::regtype, role, case when has_type_privilege(role, t.oid, 'usage') then 'usage' end
    from objects join pg_type t on classid = 'pg_type'::regclass and t.oid = objid
        join pg_class c on c.oid = t.typrelid and c.relkind = 'c', api
)
select object,
    max(privileges) filter (where role = 'anon') as anon,
    max(privileges) filter (where role = 'authenticated') as authenticated,
    max(privileges) filter (where role = 'service_role') as service_role,
    max(privileges) filter (where role = 'nobody') as others
from grants group by object order by object;

-- Schemas.
select nspname, role, has_schema_privilege(role, nspname, 'usage') as usage, has_schema_privilege(role, nspname, 'create') as create
from (values ('anon'), ('authenticated'), ('service_role')) as api (role), pg_namespace where nspname = 'pat';

-- What is stored in the catalogues: no SECURITY DEFINER, everything described, the table under RLS,
-- its rows in a dump.
select count(*) filter (where prosecdef) as definers,
    count(*) filter (where obj_description(p.oid) is null) as undescribed
from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
    and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat');
select count(*) filter (where typacl is null) as ungranted_types
from pg_type t join pg_depend d on d.objid = t.oid and d.classid = 'pg_type'::regclass and d.deptype = 'e'
    and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
    join pg_class c on c.oid = t.typrelid and c.relkind = 'c';
select p.oid::regprocedure as function, provolatile, proparallel, proconfig from pg_proc p
join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
    and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat') order by p.oid::regprocedure::text;
select relname, relrowsecurity, reloptions, obj_description(oid) is not null as described from pg_class where relname = 'api_keys' order by relkind;
select dumped::regclass, condition from pg_extension, unnest(extconfig, extcondition) t (dumped, condition)
where extname = 'supabase_pat' order by dumped::regclass::text collate "C";
