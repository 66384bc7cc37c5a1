-- Which operators a policy means is settled here, where it is created.
set local search_path = pg_catalog, pg_temp;

-- Which settings users have. src/user_settings/store.rs counts on the order of the columns.
create table pat.setting_definitions (
    key text primary key,
    default_value jsonb not null,
    schema jsonb,
    overridable boolean not null default true,
    created_at timestamptz not null default now()
);

-- What users have set, one row a user. A foreign key to auth.users would be in the way of a restore.
create table pat.user_settings (
    user_id uuid primary key,
    settings jsonb not null,
    updated_at timestamptz not null default now()
);

-- Tells every backend to read the definitions anew, whoever changes them and however.
create function pat.setting_definitions_changed() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_setting_definitions_changed';

create trigger tell_every_backend
    after insert or update or delete or truncate on pat.setting_definitions
    for each statement execute function pat.setting_definitions_changed();

-- Also where session_replication_role is replica.
alter table pat.setting_definitions enable always trigger tell_every_backend;

-- What a subscription applies fires no triggers but those for each row.
create trigger tell_every_backend_of_a_row
    after insert or update or delete on pat.setting_definitions
    for each row execute function pat.setting_definitions_changed();

alter table pat.setting_definitions enable replica trigger tell_every_backend_of_a_row;

alter table pat.setting_definitions enable row level security;
alter table pat.user_settings enable row level security;

-- Writing goes through set_settings, which checks.
create policy owners_see_their_settings on pat.user_settings for select
    using (user_id = pat.uid() and public.has_scope('settings:read') and public.is_active_session());

-- For a service role without BYPASSRLS.
create policy trusted_roles_see_the_settings on pat.user_settings for select using (pat.is_trusted());
create policy trusted_roles_delete_settings on pat.user_settings for delete using (pat.is_trusted());
create policy trusted_roles_see_the_definitions on pat.setting_definitions for select
    using (pat.is_trusted());

select pg_extension_config_dump('pat.setting_definitions', '');
select pg_extension_config_dump('pat.user_settings', '');

set local search_path = pat, pg_temp;
