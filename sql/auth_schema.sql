set local search_path = pg_catalog, pg_temp;

-- A minimal auth schema for plain Postgres, with the columns of Supabase's. What it creates is the
-- database's own, not the extension's: it is dumped, and stays when the extension is dropped.
create function pat.install_auth_schema() returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $install$
declare
    anon text;
    authenticated text;
    service_role text;
    role text;
    object record;
begin
    if to_regclass('auth.users') is not null then
        raise exception using
            errcode = 'duplicate_table',
            message = 'auth.users already exists',
            hint = 'The extension uses it as it is. Nothing was changed.';
    end if;

    -- Whoever owns the schema can drop the table of users and put another in its place.
    if exists (
        select from pg_namespace n
        where n.nspname = 'auth' and n.nspowner <> current_user::regrole
            and not (select rolsuper from pg_roles where oid = n.nspowner)
    ) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('schema auth belongs to %s',
                (select nspowner::regrole from pg_namespace where nspname = 'auth')),
            hint = 'Drop it, or give it to a superuser.';
    end if;

    perform pat.is_trusted();  -- loads the library, and with it the settings
    anon := current_setting('supabase_pat.anon_role');
    authenticated := current_setting('supabase_pat.authenticated_role');
    service_role := current_setting('supabase_pat.service_role');

    foreach role in array array[anon, authenticated, service_role] loop
        if to_regrole(quote_ident(role)) is null then
            execute format('create role %I nologin noinherit %s', role,
                case when role = service_role then 'bypassrls' end);
        end if;
    end loop;
    if to_regrole('authenticator') is null then
        -- The role that the REST server logs in as; it has no password until you give it one.
        create role authenticator login noinherit;
    end if;
    execute format('grant %I, %I, %I to authenticator', anon, authenticated, service_role);
    execute format('grant usage on schema public to %I, %I, %I', anon, authenticated, service_role);

    create schema if not exists auth;

    create type auth.aal_level as enum ('aal1', 'aal2', 'aal3');

    create table auth.users (
        instance_id uuid default '00000000-0000-0000-0000-000000000000',
        id uuid primary key default gen_random_uuid(),
        aud varchar(255) default 'authenticated',
        role varchar(255) default 'authenticated',
        email varchar(255),
        encrypted_password varchar(255),
        email_confirmed_at timestamptz,
        confirmation_token varchar(255) default '',
        recovery_token varchar(255) default '',
        recovery_sent_at timestamptz,
        email_change_token_new varchar(255) default '',
        email_change varchar(255) default '',
        last_sign_in_at timestamptz,
        raw_app_meta_data jsonb,
        raw_user_meta_data jsonb,
        created_at timestamptz default now(),
        updated_at timestamptz default now(),
        phone text unique,
        phone_confirmed_at timestamptz,
        confirmed_at timestamptz generated always as (least(email_confirmed_at, phone_confirmed_at)) stored,
        banned_until timestamptz,
        is_sso_user boolean not null default false,
        deleted_at timestamptz,
        is_anonymous boolean not null default false
    );
    create unique index users_email_partial_key on auth.users (email) where not is_sso_user;
    create index users_instance_id_email_idx on auth.users (instance_id, lower(email::text));

    create table auth.identities (
        provider_id text not null,
        user_id uuid not null references auth.users on delete cascade,
        identity_data jsonb not null,
        provider text not null,
        last_sign_in_at timestamptz,
        created_at timestamptz default now(),
        updated_at timestamptz default now(),
        email text generated always as (lower(identity_data ->> 'email')) stored,
        id uuid primary key default gen_random_uuid(),
        unique (provider_id, provider)
    );
    create index identities_user_id_idx on auth.identities (user_id);

    create table auth.sessions (
        id uuid primary key,
        user_id uuid not null references auth.users on delete cascade,
        created_at timestamptz,
        updated_at timestamptz,
        factor_id uuid,
        aal auth.aal_level,
        not_after timestamptz,
        refreshed_at timestamp,
        user_agent text,
        ip inet,
        tag text,
        oauth_client_id uuid,
        refresh_token_hmac_key text,
        refresh_token_counter bigint,
        scopes text
    );
    create index sessions_user_id_idx on auth.sessions (user_id);

    create table auth.refresh_tokens (
        instance_id uuid,
        id bigserial primary key,
        token varchar(255) unique,
        user_id varchar(255),
        revoked boolean,
        created_at timestamptz,
        updated_at timestamptz,
        parent varchar(255),
        session_id uuid references auth.sessions on delete cascade
    );
    create index refresh_tokens_session_id_idx on auth.refresh_tokens (session_id, revoked);

    create function auth.uid() returns uuid language sql stable parallel safe as $$
        select coalesce(
            nullif(current_setting('request.jwt.claim.sub', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
        )::uuid
    $$;
    create function auth.role() returns text language sql stable parallel safe as $$
        select coalesce(
            nullif(current_setting('request.jwt.claim.role', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
        )
    $$;
    create function auth.email() returns text language sql stable parallel safe as $$
        select coalesce(
            nullif(current_setting('request.jwt.claim.email', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
        )
    $$;
    create function auth.jwt() returns jsonb language sql stable parallel safe as $$
        select coalesce(
            nullif(current_setting('request.jwt.claim', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')
        )::jsonb
    $$;

    -- Default privileges give on what is new, hashes of passwords too, whatever somebody once said of all tables.
    -- Take away what they gave, then grant by name what Supabase has: the functions, for policies run them as
    -- whoever asks, and the use of the schema.
    for object in
        select format('schema %I', nspname) as name, nspowner as owner, coalesce(nspacl, acldefault('n', nspowner)) as acl
        from pg_namespace where nspname = 'auth'
        union all
        select format('%s %s', case relkind when 'S' then 'sequence' else 'table' end, oid::regclass), relowner,
            coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
        from pg_class
        where oid = any (array['auth.users', 'auth.identities', 'auth.sessions', 'auth.refresh_tokens',
            'auth.refresh_tokens_id_seq']::regclass[])
        union all
        select format('type %s', oid::regtype), typowner, coalesce(typacl, acldefault('T', typowner))
        from pg_type where oid = 'auth.aal_level'::regtype
        union all
        select format('function %s', oid::regprocedure), proowner, coalesce(proacl, acldefault('f', proowner))
        from pg_proc where oid = any (array['auth.uid()', 'auth.role()', 'auth.email()', 'auth.jwt()']::regprocedure[])
    loop
        for role in
            select distinct coalesce(nullif(grantee, 0)::regrole::text, 'public')
            from aclexplode(object.acl) where grantee <> object.owner
        loop
            execute format('revoke all on %s from %s cascade', object.name, role);
        end loop;
    end loop;
    execute format('grant usage on schema auth to %I, %I, %I', anon, authenticated, service_role);
    grant execute on function auth.uid(), auth.role(), auth.email(), auth.jwt() to public;

    -- Without a policy, nobody but the owner and those whom policies do not bind sees a row, should somebody
    -- grant what must not be granted.
    alter table auth.users enable row level security;
    alter table auth.identities enable row level security;
    alter table auth.sessions enable row level security;
    alter table auth.refresh_tokens enable row level security;

    perform pat.grant_api_roles();
end
$install$;
comment on function pat.install_auth_schema() is
    'For plain Postgres: creates the API roles and a minimal auth schema with the columns and functions of '
    'Supabase''s. Refuses if auth.users exists. What it creates does not belong to the extension.';

set local search_path = pat, pg_temp;
