-- The installation stops at whatever has the name of a function, relation or type that the extension has in public. The
-- names are those of the catalogue, and a warning here tells which of them sql/schema.sql does not look for.
create temporary table ours as
select name, creation
from pg_depend d
    cross join lateral (
        select proname, pronamespace, format('create function public.%I(pg_lsn) returns int language sql return 1', proname)
        from pg_proc where d.classid = 'pg_proc'::regclass and oid = d.objid
        union all
        select relname, relnamespace, format('create table public.%I ()', relname)
        from pg_class where d.classid = 'pg_class'::regclass and oid = d.objid
        union all
        select typname, typnamespace, format('create type public.%I as (a int)', typname)
        from pg_type where d.classid = 'pg_type'::regclass and oid = d.objid
            -- From 17 on, the row type of a view and the array type of each are members too.
            and typtype = 'c' and exists (select from pg_class where pg_class.oid = typrelid and relkind = 'c')
    ) as object (name, schema, creation)
where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and schema = 'public'::regnamespace
    and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat');
select name from ours where creation !~ '^create function' order by name;
set client_min_messages to warning;
drop extension supabase_pat cascade;
do $$
declare
    object record;
begin
    for object in select distinct name, creation from ours order by name loop
        begin
            execute object.creation;
            create extension supabase_pat;
            raise exception 'nothing stops the installation';
        exception when others then
            if sqlerrm not like 'supabase_pat needs the names of existing objects: %' then
                raise warning '%: %', object.name, sqlerrm;
            end if;
        end;
    end loop;
end
$$;
