set local search_path = pg_catalog, pg_temp;

-- Which settings users have. src/user_settings/store.rs counts on the order of the columns.
create table pat.setting_definitions (
    key text primary key,
    default_value jsonb not null,
    schema jsonb,
    overridable boolean not null default true,
    created_at timestamptz not null default now()
);
comment on table pat.setting_definitions is
    'The settings that users have. Change them with pat.define_setting() and pat.drop_setting().';
comment on column pat.setting_definitions.overridable is 'Whether a request may override it.';

alter table pat.setting_definitions enable row level security;

select pg_extension_config_dump('pat.setting_definitions', '');

create policy trusted_roles_see_the_definitions on pat.setting_definitions for select
    using (pat.is_trusted());

-- Tells every backend to read the definitions anew, whoever changes them and however.
create function pat.setting_definitions_changed() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_setting_definitions_changed';
comment on function pat.setting_definitions_changed() is
    'Trigger: tells every backend to read the definitions of settings again.';

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

-- What users have set, one row a user. A foreign key to auth.users would be in the way of a restore.
create table pat.user_settings (
    user_id uuid primary key,
    settings jsonb not null,
    updated_at timestamptz not null default now()
);
comment on table pat.user_settings is
    'What users have set, where it differs from the defaults. Change it with set_settings().';

alter table pat.user_settings enable row level security;

select pg_extension_config_dump('pat.user_settings', '');

-- Writing goes through set_settings, which checks.
create policy owners_see_their_settings on pat.user_settings for select
    using (user_id = pat.uid() and public.has_scope('settings:read') and public.is_active_session());

-- For a service role without BYPASSRLS.
create policy trusted_roles_see_the_settings on pat.user_settings for select to current_user using (pat.is_trusted());
create policy trusted_roles_delete_settings on pat.user_settings for delete to current_user using (pat.is_trusted());

comment on function pat.define_setting(text, jsonb, jsonb, boolean) is
    'Declares a setting that every user has, or changes its declaration. default_value: the value until a user sets '
    'one. schema: a JSON Schema that its values must meet, null for any. overridable: whether a request may override '
    'it in get_settings. Refused if the default, or a value that a user has stored, does not meet the schema. For '
    'trusted roles.';
comment on function pat.drop_setting(text) is
    'Removes a setting and the users'' values of it. False if there is no such setting. For trusted roles.';
comment on function public.get_settings(jsonb) is
    'The settings that count for this request: for each declared setting its default, patched with the user''s own '
    'value, patched with the value in overrides (RFC 7396). A null override counts as none. Without a login: the '
    'defaults and the overrides.';
comment on function public.set_settings(jsonb) is
    'Patches your own settings (RFC 7396), all of them or none, and returns what get_settings() then returns. null '
    'removes your value, so that the default counts again. A token with a list of scopes needs settings:write.';

comment on function public.setting_definitions() is
    'The settings that are declared, for a program that shows a form for them: an object with the default, schema (a '
    'JSON Schema, or null) and overridable of each. It holds no user''s values.';

set local search_path = pat, pg_temp;
