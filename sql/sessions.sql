set local search_path = pg_catalog, pg_temp;

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
comment on table pat.sessions is
    'How often the refresh tokens of each session have been rotated, and when last. No token is stored.';

create index sessions_user_id_idx on pat.sessions (user_id);

alter table pat.sessions enable row level security;

select pg_extension_config_dump('pat.sessions', '');

-- From where users have signed in lately, the latest 16 networks of each: see src/sessions/known_networks.rs. Supabase
-- keeps the same addresses in auth.sessions.
create table pat.known_networks (
    user_id uuid,
    network cidr,
    last_at timestamptz not null,
    primary key (user_id, network)
);
comment on table pat.known_networks is
    'Networks from which users have signed in recently. Wrong passwords that others try from elsewhere do not slow '
    'down signing in from them.';

create index known_networks_last_at_idx on pat.known_networks (last_at);

alter table pat.known_networks enable row level security;

select pg_extension_config_dump('pat.known_networks', '');

comment on function pat.mint_session(uuid) is
    'Begins a session of a user, for tests and support, and writes an event. For trusted roles.';
comment on function public.refresh_session(text) is
    'New tokens of a session in exchange for its refresh token, which they replace. Null, with status 401 over REST, '
    'for a refresh token that is refused. A token that was replaced longer ago than '
    'supabase_pat.refresh_reuse_interval ends the session.';
comment on function public.sign_out(text) is
    'Ends sessions of the caller: local, the present one; others; or global, all of them. Returns how many.';
comment on function public.session_info() is
    'What the claims of the request say about its session. should_refresh: less than a minute is left.';
comment on function public.signed_in_user() is
    'The user of the request, as Supabase Auth shows a user to themselves; null without one. A token with a list of '
    'scopes needs user:read.';

set local search_path = pat, pg_temp;
