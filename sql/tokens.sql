set local search_path = pg_catalog, pg_temp;

-- One row a token. The columns that a check reads come first and have a fixed width: their place
-- in a row is known without walking it. src/request/tables.rs counts on it.
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
    -- For people.
    description text,
    -- What it is limited to beside its scopes: see pat.key_attributes.
    attributes jsonb check (jsonb_typeof(attributes) = 'object'),
    -- Since when it is refused, until somebody enables it again.
    disabled_at timestamptz,
    -- As rate_limit and rate_window, for a second window, a long one as a rule.
    quota integer check (quota > 0),
    quota_window interval check (quota_window > '0'),
    check (num_nulls(rate_limit, rate_window) <> 1),
    check ((kind = 'opaque') = (token_digest is not null)),
    check (num_nulls(quota, quota_window) <> 1)
) with (fillfactor = 90);
comment on table pat.api_keys is 'One row per personal access token. The tokens themselves are not stored.';
comment on column pat.api_keys.replaced_by is 'The token that rotate_pat made in its place.';
comment on column pat.api_keys.hint is 'The last six characters of the token; null for imported ones.';
comment on column pat.api_keys.signing_key is
    'The kid of the signing key that signed the token; null for the configured secret.';
comment on column pat.api_keys.attributes is 'What the token is limited to besides its scopes.';
comment on column pat.api_keys.disabled_at is 'When the token was disabled. It can be enabled again.';

create index api_keys_user_id_idx on pat.api_keys (user_id, created_at);
create unique index api_keys_token_digest_idx on pat.api_keys (token_digest) where token_digest is not null;

alter table pat.api_keys enable row level security;

select pg_extension_config_dump('pat.api_keys', '');

-- An owner's keys, as far as the request may see them: has_scope is true for a login, and false for a
-- token that is dead or whose scopes leave the keys out; is_active_session is false for a login that has ended.
create policy owners_see_their_keys on pat.api_keys for select
    using (user_id = pat.uid() and public.has_scope('tokens:read') and public.is_active_session());

create policy owners_delete_their_keys on pat.api_keys for delete
    using (user_id = pat.uid() and public.has_scope('tokens:delete') and public.is_active_session());

-- For a service role without BYPASSRLS: pat.grant_api_roles() adds it. Where users have a policy too, this one is not for
-- everybody. Postgres puts an OR between all policies of a role, and with pat.is_trusted() in it no index would find a
-- user's rows.
create policy trusted_roles_do_everything on pat.api_keys to current_user
    using (pat.is_trusted()) with check (pat.is_trusted());

-- A key that is deleted leaves its last event behind.
create function pat.key_deleted() returns trigger
    language c
    as 'MODULE_PATHNAME', 'key_deleted_wrapper';
comment on function pat.key_deleted() is 'Trigger: records an event for a token that is deleted.';

create trigger record_the_deletion
    after delete on pat.api_keys
    for each row execute function pat.key_deleted();

-- Where a token comes from: the token that made it, and what it carries of the claims of a login that was restricted.
-- Of others those have a row that have made one for a service account: it says whose they were. A row outlives its token,
-- since what that has made is found through it.
create table pat.api_key_origins (
    key_id uuid primary key,
    user_id uuid not null,
    made_by uuid,
    claims jsonb,
    made_at timestamptz not null default now()
);
comment on table pat.api_key_origins is
    'Which tokens were made with other tokens, or by restricted logins. A row outlives its token.';
comment on column pat.api_key_origins.made_by is 'The token that the request came with.';
comment on column pat.api_key_origins.claims is 'Those claims of the login that the token carries.';

create index api_key_origins_made_by_idx on pat.api_key_origins (made_by) where made_by is not null;

alter table pat.api_key_origins enable row level security;

select pg_extension_config_dump('pat.api_key_origins', '');

-- Which attributes tokens may have. src/tokens/attributes.rs counts on the order of the columns.
create table pat.key_attributes (
    name text primary key,
    schema jsonb,
    required boolean not null default false,
    created_at timestamptz not null default now()
);
comment on table pat.key_attributes is
    'The attributes that tokens may have. Change them with pat.define_key_attribute() and pat.drop_key_attribute().';
comment on column pat.key_attributes.required is 'Whether a token must have it to be minted.';

alter table pat.key_attributes enable row level security;

select pg_extension_config_dump('pat.key_attributes', '');

create policy trusted_roles_see_the_attributes on pat.key_attributes for select using (pat.is_trusted());

-- Tells every backend to read the attributes anew, whoever changes them and however.
create function pat.key_attributes_changed() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_key_attributes_changed';
comment on function pat.key_attributes_changed() is
    'Trigger: tells every backend to read the attributes of tokens again.';

create trigger tell_every_backend
    after insert or update or delete or truncate on pat.key_attributes
    for each statement execute function pat.key_attributes_changed();

-- Also where session_replication_role is replica.
alter table pat.key_attributes enable always trigger tell_every_backend;

-- What a subscription applies fires no triggers but those for each row.
create trigger tell_every_backend_of_a_row
    after insert or update or delete on pat.key_attributes
    for each row execute function pat.key_attributes_changed();

alter table pat.key_attributes enable replica trigger tell_every_backend_of_a_row;

-- When each token was last used, and what it counted on its latest day: see pat.api_key_days. A table of its own, so that
-- writing this neither waits for a change of the key nor makes one wait or fail, and a check finds no old row versions on
-- its way. A token that was only ever refused has no last use. No index has a
-- column that changes, and pages have room for all their rows twice: so each update stays in its page (HOT),
-- also if all of them are used between two visits of the writer.
create table pat.api_key_usage (
    key_id uuid primary key,
    user_id uuid not null,
    last_used_at timestamptz,
    last_used_ip inet,
    day date,
    requests bigint not null default 0,
    refused bigint not null default 0
) with (fillfactor = 45);

create index api_key_usage_user_id_idx on pat.api_key_usage (user_id);

alter table pat.api_key_usage enable row level security;

select pg_extension_config_dump('pat.api_key_usage', '');

comment on table pat.api_key_usage is 'When each token was last used, and how often on its latest day.';

create policy owners_see_their_usage on pat.api_key_usage for select
    using (user_id = pat.uid() and public.has_scope('tokens:read') and public.is_active_session());

create policy trusted_roles_see_the_usage on pat.api_key_usage for select to current_user using (pat.is_trusted());

-- How many requests of a window a token has been granted, for limits whose window is a day or longer: before they are
-- made, and on disk. No index has a column that changes within a window, so that each update stays in its page.
create table pat.api_key_counters (
    key_id uuid,
    limit_name text check (limit_name in ('rate', 'quota')),
    window_ends_at timestamptz not null,
    granted integer not null,
    primary key (key_id, limit_name)
) with (fillfactor = 45);
comment on table pat.api_key_counters is
    'How many requests tokens have been granted in the windows of their limits of a day or longer. Only the worker '
    'writes it.';

alter table pat.api_key_counters enable row level security;

select pg_extension_config_dump('pat.api_key_counters', '');

create view public.api_keys with (security_invoker, security_barrier) as
select
    id,
    user_id,
    name,
    kind,
    scopes,
    allowed_ips,
    rate_limit,
    rate_window,
    hint,
    created_at,
    expires_at,
    (select last_used_at from pat.api_key_usage where key_id = id) as last_used_at,
    (select last_used_ip from pat.api_key_usage where key_id = id) as last_used_ip,
    revoked_at,
    revoked_at is null and expires_at > statement_timestamp() and disabled_at is null as is_active,
    description,
    attributes,
    disabled_at,
    quota,
    quota_window
from pat.api_keys;
comment on view public.api_keys is
    'Your personal access tokens. Deleting a row revokes its token.';
comment on column public.api_keys.id is 'The jti claim of the token.';
comment on column public.api_keys.hint is 'The last six characters of the token.';
comment on column public.api_keys.scopes is
    'What the token may do: null for everything except what needs a scope by name, such as tokens:write.';
comment on column public.api_keys.is_active is 'Neither revoked nor expired nor disabled.';
comment on column public.api_keys.attributes is 'What the token is limited to besides its scopes.';

comment on function public.mint_pat(uuid, text, interval, text[], text, cidr[], integer, interval, jsonb, text, integer, interval) is
    'Mints a personal access token and returns it with its id, name and expiry. The token is shown only this once. '
    'user_id: null for the caller; only a trusted role may name another user, and a manager a service account. name: '
    'what will use it. expires_in: null for supabase_pat.default_lifetime. scopes: null for everything except what '
    'needs a scope by name. kind: jwt, or opaque for a short token that goes into a header of '
    'supabase_pat.token_headers. allowed_ips: the networks from which it may be used; null for all. rate_limit: how '
    'many requests it may make in each rate_window; null for no limit. quota: the same for a second limit, in each '
    'quota_window. Opaque tokens, scopes, allowed_ips and limits need the guard or pat.gate(). attributes: an object '
    'of what it is also limited to, as declared with pat.define_key_attribute(). description: for people. A request '
    'made with a token needs the scope tokens:write, and grants no more than it has. A restricted login (of an '
    'application, of an anonymous user) mints none unless supabase_pat.mint_for_restricted_logins is on.';
comment on function public.edit_pat(uuid, text, text, text[], jsonb, interval, cidr[], integer, interval, boolean, integer, interval) is
    'Changes a live token of the caller (of anyone, for a trusted role): its name and description, and what it may '
    'do, which can only become less. null leaves something as it is; an empty description removes it. expires_in: '
    'counted from now. attributes: a patch (RFC 7396). disabled: true refuses the token until it is enabled again '
    'with false. A token may narrow itself; for everything else a request made with a token needs the scopes '
    'tokens:write and, for other tokens, tokens:delete.';
comment on function public.rotate_pat(uuid, interval) is
    'Replaces a live token of the caller (of anyone, for a trusted role) by a new one of the same kind, name, scopes, '
    'limits and lifetime. The old one is valid until the end of grace, which by default is at once. A request made '
    'with a token needs the scope tokens:write and, for other tokens, tokens:delete.';
comment on function pat.define_key_attribute(text, jsonb, boolean) is
    'Declares an attribute that tokens may have, such as the projects that they are for, or changes its declaration. '
    'schema: a JSON Schema that values must meet when a token is minted or edited, null for any. required: whether a '
    'token must have it. For trusted roles.';
comment on function pat.drop_key_attribute(text) is
    'Removes an attribute, which new tokens then cannot have. Tokens that have it keep it. False if there is no such '
    'attribute. For trusted roles.';
comment on function public.revoke_pat(uuid) is
    'Revokes a token of the caller (of anyone, for a trusted role), from the next statement on; without an id, the '
    'token that the request was made with. True if it was live; false if it was not, or is not yours.';
comment on function public.revoke_pat(uuid, boolean) is
    'As revoke_pat(id); with cascade it also revokes the tokens that were made with the token, those that were made '
    'with these, and so on, even if the token itself is no longer live or has been deleted. True if any of them was '
    'live.';
comment on function public.revoke_all_pats(uuid) is
    'Revokes all live tokens of a user, null for the caller, and returns how many there were. A request made with a '
    'token needs the scope tokens:delete.';
comment on function pat.import_token(uuid, text, text, text[], timestamptz, timestamptz, cidr[], integer, interval) is
    'Registers a token of another system, given by its SHA-256, as an opaque token of the user, and returns its id. '
    'name: as its user has chosen it; control characters are replaced, and what is too long is cut off. digest: in '
    'hexadecimal, base64 or base64url. expires_at: null for supabase_pat.default_lifetime from now on. The other '
    'arguments are as for mint_pat. Importing a token twice makes one token; for another user it is an error. For '
    'trusted roles.';
comment on function public.exchange_token(interval, text[]) is
    'For a request that is made with a personal access token: returns a short-lived JWT in its place, for servers '
    'that take only JWTs, or for somebody who should be allowed less. The JWT has the id of the token, so whatever '
    'ends the token ends it too. It lives no longer than the token, and an hour at most. It has the token''s scopes, '
    'or those of them that are named, without tokens:write and tokens:delete. Tokens with allowed_ips or a limit '
    'cannot be exchanged. Stores nothing, and needs no scope.';

set local search_path = pat, pg_temp;
