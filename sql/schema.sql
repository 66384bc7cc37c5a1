-- Many projects wrote an api_keys table and is_valid_api_token() themselves. Installing over them
-- would leave policies that call the old function beside tokens that only the new one knows. And
-- whatever is in the schema pat already could stand in for a function that this script calls, so
-- that schema comes into the search path only when it is known to be empty and ours.
set local search_path = pg_catalog, pg_temp;

do $$
declare
    found text;
begin
    -- JSON and JWTs are UTF-8. What another encoding has for letters would be signed as something else.
    if getdatabaseencoding() <> 'UTF8' then
        raise exception using
            errcode = 'feature_not_supported',
            message = format('supabase_pat needs a database with the encoding UTF8, and this one has %s',
                getdatabaseencoding()),
            hint = 'Create another with: create database NAME template template0 encoding ''UTF8''.';
    end if;

    select string_agg(object, ', ' order by object) into found
    from (
        select pg_describe_object('pg_class'::regclass, c.oid, 0) as object
        from pg_class c
        where c.relnamespace = 'pat'::regnamespace
            or c.relnamespace = 'public'::regnamespace
            and c.relname in ('api_keys', 'api_key_events', 'minted_pat', 'minted_session', 'signed_up',
                'exchanged_token', 'service_accounts', 'api_key_daily_usage')
        union all
        select pg_describe_object('pg_proc'::regclass, p.oid, 0)
        from pg_proc p
        where p.pronamespace = 'pat'::regnamespace
            or p.pronamespace = 'public'::regnamespace
            and p.proname in ('mint_pat', 'rotate_pat', 'revoke_pat', 'revoke_all_pats',
                'is_valid_api_token', 'has_scope', 'current_api_key_id', 'current_api_key', 'edit_pat',
                'api_key_allows', 'api_key_attribute',
                'request_password_reset', 'verify_reset_code', 'reset_password',
                'sign_up', 'confirm_sign_up', 'sign_in', 'refresh_session', 'sign_out',
                'is_active_session', 'session_info', 'signed_in_user',
                'get_settings', 'set_settings', 'setting_definitions', 'report_leaked_tokens',
                'introspect_token', 'exchange_token', 'create_service_account', 'delete_service_account',
                'service_account_tokens', 'is_service_account')
        union all
        select pg_describe_object('pg_operator'::regclass, o.oid, 0)
        from pg_operator o
        where o.oprnamespace = 'pat'::regnamespace
    ) in_the_way;
    if found is not null then
        raise exception using
            errcode = 'duplicate_object',
            message = format('supabase_pat needs the names of existing objects: %s', found),
            hint = 'Rename what is there, create the extension, and import the keys: see '
                '"Coming from a hand-written api_keys table" in docs/operations.md.';
    end if;

    -- So can whoever may create objects in it, by a default privilege on schemas for instance.
    for found in
        select distinct coalesce(nullif(a.grantee, 0)::regrole::text, 'public')
        from pg_namespace, aclexplode(nspacl) a
        where nspname = 'pat' and a.grantee <> nspowner
    loop
        execute format('revoke all on schema pat from %s', found);
    end loop;

    -- Whoever owns the schema can put functions beside ours, and rename it.
    select nspowner::regrole::text into found
    from pg_namespace
    where nspname = 'pat' and nspowner <> current_user::regrole
        and not (select rolsuper from pg_roles where oid = nspowner);
    if found is not null then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('schema pat belongs to %s', found),
            hint = format('Drop it, or run: alter schema pat owner to %s', current_user::regrole);
    end if;
end
$$;

-- The composite types that functions return. They stand here because a type has to be there before its function, and
-- the file of its capability, which has the comments on the functions, comes after them.

-- What mint_pat and rotate_pat return. It is in public for the sake of the clients that generate
-- types from the schemas that the REST server exposes.
create type public.minted_pat as (token text, id uuid, name text, expires_at timestamptz);
comment on type public.minted_pat is 'A token that has just been minted, shown once.';

-- What exchange_token returns, by the names of RFC 8693 section 2.2.1.
create type public.exchanged_token as (access_token text, token_type text, expires_in integer, scope text);
comment on type public.exchanged_token is 'A short-lived JWT that exchange_token has made from a token, shown once.';

-- What pat.decode_jwt and pat.inspect_api_key return.
create type pat.decoded_jwt as (header jsonb, payload jsonb);
comment on type pat.decoded_jwt is 'The parts of a token, unverified.';

create type pat.api_key_report as (
    format text,
    role text,
    ref text,
    iss text,
    issued_at timestamptz,
    expires_at timestamptz,
    length integer,
    signature text,
    problems text[]
);
comment on type pat.api_key_report is 'What pat.inspect_api_key finds.';

-- What pat.issue_reset_code returns.
create type pat.issued_reset_code as (token text, code text, expires_at timestamptz);
comment on type pat.issued_reset_code is 'A token and its code, shown once.';

-- What refresh_session and its like return: what setSession of Supabase's clients takes.
create type public.minted_session as (
    access_token text,
    token_type text,
    expires_in integer,
    expires_at bigint,
    refresh_token text,
    "user" jsonb
);
comment on type public.minted_session is 'The tokens of a session, shown once.';

-- What sign_up returns: either a session, or a token for confirm_sign_up.
create type public.signed_up as (
    access_token text,
    token_type text,
    expires_in integer,
    expires_at bigint,
    refresh_token text,
    "user" jsonb,
    confirmation_token text
);
comment on type public.signed_up is 'A session, or a token for confirm_sign_up.';

-- What session_info returns.
create type pat.session_report as (
    user_id uuid,
    session_id uuid,
    role text,
    aal text,
    email text,
    issued_at timestamptz,
    expires_at timestamptz,
    expires_in interval,
    should_refresh boolean,
    is_pat boolean
);
comment on type pat.session_report is 'What session_info returns.';

-- What pat.server_state returns.
create type pat.server_state as (
    is_preloaded boolean,
    worker integer,
    flushed_at timestamptz,
    requests bigint,
    last_request_at timestamptz,
    lost bigint,
    signing_key text,
    signing_problem text,
    next_pre_request oid,
    next_problem text,
    has_debug_code boolean,
    version text
);
comment on type pat.server_state is 'What pat.server_state() returns.';

-- The functions of the library are created without a schema, in pat, which is first in the search path. Each file
-- puts pg_catalog there instead: Postgres settles which operators a policy or a view means when it is created.
set local search_path = pat, pg_temp;
