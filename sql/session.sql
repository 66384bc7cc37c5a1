-- How far each session has come, beside its row in auth.sessions. There is no secret in it: a refresh
-- token is checked with a key that is derived from a signing key, and rekeyed_at is the number of the
-- first one that was made with the present one.
create table pat.sessions (
    session_id uuid primary key,
    user_id uuid not null,
    method text not null,
    signing_key text,
    previous_signing_key text,
    rekeyed_at bigint not null default 0,
    live bigint not null default 0,
    created_at timestamptz not null,
    refreshed_at timestamptz not null,
    previously_refreshed_at timestamptz not null
);

create index sessions_user_id_idx on pat.sessions (user_id);

select pg_catalog.pg_extension_config_dump('pat.sessions', '');

alter table pat.sessions enable row level security;

-- Wrong passwords of the last hour, by digests of account and address: see src/pg/throttle.rs.
create table pat.wrong_passwords (
    key bytea primary key,
    wrong integer not null,
    last_at timestamptz not null
);

create index wrong_passwords_last_at_idx on pat.wrong_passwords (last_at);

alter table pat.wrong_passwords enable row level security;
