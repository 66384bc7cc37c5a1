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
            message = format('supabase_pat needs a database with the encoding UTF8, and this one has %s', getdatabaseencoding()),
            hint = 'Create another with: create database NAME template template0 encoding ''UTF8''.';
    end if;

    select string_agg(object, ', ' order by object) into found
    from (
        select pg_describe_object('pg_class'::regclass, c.oid, 0) as object
        from pg_class c
        where c.relnamespace = 'pat'::regnamespace
            or c.relnamespace = 'public'::regnamespace and c.relname in ('api_keys', 'api_key_events', 'minted_pat', 'minted_session', 'signed_up')
        union all
        select pg_describe_object('pg_proc'::regclass, p.oid, 0)
        from pg_proc p
        where p.pronamespace = 'pat'::regnamespace
            or p.pronamespace = 'public'::regnamespace
            and p.proname in ('mint_pat', 'rotate_pat', 'revoke_pat', 'revoke_all_pats',
                'is_valid_api_token', 'has_scope', 'current_api_key_id',
                'request_password_reset', 'verify_reset_code', 'reset_password',
                'sign_up', 'confirm_sign_up', 'sign_in', 'refresh_session', 'sign_out',
                'is_active_session', 'session_info', 'signed_in_user',
                'get_settings', 'set_settings')
        union all
        select pg_describe_object('pg_operator'::regclass, o.oid, 0)
        from pg_operator o
        where o.oprnamespace = 'pat'::regnamespace
    ) in_the_way;
    if found is not null then
        raise exception using
            errcode = 'duplicate_object',
            message = format('in the way of supabase_pat: %s', found),
            hint = 'Rename what is there, create the extension, and import the keys: see '
                '"Coming from a hand-written api_keys table" in the README.';
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

-- What mint_pat and rotate_pat return. It is in public for the sake of the clients that generate
-- types from the schemas that the REST server exposes.
create type public.minted_pat as (token text, id uuid, name text, expires_at timestamptz);

-- One row a token. The columns that a check reads come first and have a fixed width: their place
-- in a row is known without walking it. src/pg/relations.rs counts on the order.
create table pat.api_keys (
    id uuid primary key,
    user_id uuid not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    replaced_by uuid,
    -- How many requests it may make in each window of time, if there is a limit.
    rate_limit integer check (rate_limit > 0),
    rate_window interval check (rate_window > '0'),
    name text not null,
    scopes text[],
    -- From where it may be used, if not from everywhere.
    allowed_ips cidr[],
    hint text,
    signing_key text,
    kind text not null default 'jwt' check (kind in ('jwt', 'opaque')),
    -- The SHA-256 of an opaque token.
    token_digest bytea,
    check (num_nulls(rate_limit, rate_window) <> 1),
    check ((kind = 'opaque') = (token_digest is not null))
) with (fillfactor = 90);

create index api_keys_user_id_idx on pat.api_keys (user_id, created_at);
create unique index api_keys_token_digest_idx on pat.api_keys (token_digest) where token_digest is not null;

alter table pat.api_keys enable row level security;

select pg_extension_config_dump('pat.api_keys', '');

-- Where a token comes from: the token that made it, and what it carries of the claims of a login that was restricted.
-- Others have no row. A row outlives its token, since what that has made is found through it.
create table pat.api_key_origins (
    key_id uuid primary key,
    user_id uuid not null,
    made_by uuid,
    claims jsonb,
    made_at timestamptz not null default now()
);

create index api_key_origins_made_by_idx on pat.api_key_origins (made_by) where made_by is not null;

alter table pat.api_key_origins enable row level security;

select pg_extension_config_dump('pat.api_key_origins', '');

-- When each token was last used. A table of its own, so that writing this neither waits for a change of
-- the key nor makes one wait or fail, and a check finds no old row versions on its way. No index has a
-- column that changes, and pages have room for all their rows twice: so each update stays in its page (HOT),
-- also if all of them are used between two visits of the writer.
create table pat.api_key_usage (
    key_id uuid primary key,
    user_id uuid not null,
    last_used_at timestamptz not null,
    last_used_ip inet
) with (fillfactor = 45);

alter table pat.api_key_usage enable row level security;

select pg_extension_config_dump('pat.api_key_usage', '');

-- What happened to whom, and who did it: the role that was in force, and the token that it came with, if
-- any. count: of refusals of one kind, which are added up. The time comes first in the key, so that the
-- table can be partitioned by it.
create table pat.events (
    id bigint generated always as identity,
    happened_at timestamptz not null default clock_timestamp(),
    event text not null,
    user_id uuid,
    key_id uuid,
    role text,
    by_key uuid,
    address inet,
    count bigint not null default 1,
    detail text,
    primary key (happened_at, id)
);

create index events_user_id_idx on pat.events (user_id, happened_at);

alter table pat.events enable row level security;

select pg_extension_config_dump('pat.events', '');
select pg_extension_config_dump('pat.events_id_seq', '');

-- JWTs that the gate no longer accepts, by digests: see crates/core/src/denied.rs. Deleting a row accepts the
-- token again.
create table pat.denied_tokens (
    message_digest bytea primary key,
    claims_digest bytea not null,
    role text,
    user_id uuid,
    reason text,
    denied_at timestamptz not null default now(),
    expires_at timestamptz,
    -- Of the claims as servers may hand them over, with another role: 32 bytes each.
    other_claims_digests bytea
);

alter table pat.denied_tokens enable row level security;

select pg_extension_config_dump('pat.denied_tokens', '');

-- The keys that tokens are signed with. src/signing_keys/ring.rs counts on the order of the columns.
create table pat.signing_keys (
    kid text primary key,
    status text not null default 'standby'
        check (status in ('standby', 'current', 'previous', 'revoked')),
    algorithm text not null,
    created_at timestamptz not null default now(),
    activated_at timestamptz,
    revoked_at timestamptz,
    -- An exclusion constraint can wait for the end of a statement, which a rotation needs.
    constraint one_signing_key_is_current exclude using btree (status with =)
        where (status = 'current') deferrable initially immediate
);

-- Their private parts, for the owner alone. They have a table to themselves, with no constraint that
-- a row could fail for more than its kid: Postgres prints the row that fails one. And ANALYZE takes
-- no samples. A foreign key would be there before the rows in a restore, and pg_restore with several jobs
-- keeps no order among tables: sql/signing_keys.sql has a trigger instead.
create table pat.private_keys (
    kid text primary key,
    jwk text not null
);

alter table pat.private_keys alter column jwk set statistics 0;

alter table pat.signing_keys enable row level security;
alter table pat.private_keys enable row level security;

select pg_extension_config_dump('pat.signing_keys', '');
select pg_extension_config_dump('pat.private_keys', '');

-- What pat.decode_jwt and pat.inspect_api_key return.
create type pat.decoded_jwt as (header jsonb, payload jsonb);

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

-- What pat.issue_reset_code returns.
create type pat.issued_reset_code as (token text, code text, expires_at timestamptz);

-- What refresh_session and its like return: what setSession of Supabase's clients takes.
create type public.minted_session as (
    access_token text,
    token_type text,
    expires_in integer,
    expires_at bigint,
    refresh_token text,
    "user" jsonb
);

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

-- The functions that follow are created without a schema.
set local search_path = pat, pg_temp;
