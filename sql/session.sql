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

-- Wrong passwords of the last hour, by digests of account and address: see src/passwords/throttle.rs.
create table pat.wrong_passwords (
    key bytea primary key,
    wrong integer not null,
    last_at timestamptz not null
);

create index wrong_passwords_last_at_idx on pat.wrong_passwords (last_at);

alter table pat.wrong_passwords enable row level security;

-- From where users have signed in lately, the latest 16 networks of each: see src/sessions/known_networks.rs. Supabase
-- keeps the same addresses in auth.sessions.
create table pat.known_networks (
    user_id uuid,
    network cidr,
    last_at timestamptz not null,
    primary key (user_id, network)
);

create index known_networks_last_at_idx on pat.known_networks (last_at);

select pg_catalog.pg_extension_config_dump('pat.known_networks', '');

alter table pat.known_networks enable row level security;

-- Users whom sign_up has made, and who have not confirmed their address: see src/users/sign_ups.rs.
create table pat.pending_sign_ups (
    user_id uuid primary key,
    -- The SHA-256 of the password hash that sign_up has given them; null if version 0.1.0 has made them.
    password_digest bytea
);

select pg_catalog.pg_extension_config_dump('pat.pending_sign_ups', '');

alter table pat.pending_sign_ups enable row level security;
