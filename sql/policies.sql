-- Which operators a policy means is settled here, where it is created.
set local search_path = pg_catalog, pg_temp;

-- An owner's keys, as far as the request may see them: has_scope is true for a login, and false for a
-- token that is dead or whose scopes leave the keys out; is_active_session is false for a login that has ended.
create policy owners_see_their_keys on pat.api_keys for select
    using (user_id = pat.uid() and public.has_scope('tokens:read') and public.is_active_session());

create policy owners_delete_their_keys on pat.api_keys for delete
    using (user_id = pat.uid() and public.has_scope('tokens:delete') and public.is_active_session());

-- For a service role without BYPASSRLS.
create policy trusted_roles_do_everything on pat.api_keys
    using (pat.is_trusted()) with check (pat.is_trusted());

create policy owners_see_their_usage on pat.api_key_usage for select
    using (user_id = pat.uid() and public.has_scope('tokens:read') and public.is_active_session());

create policy trusted_roles_see_the_usage on pat.api_key_usage for select using (pat.is_trusted());

-- What happened to a user's keys. What else happened to the user is for trusted roles.
create policy owners_see_the_events_of_their_keys on pat.events for select
    using (user_id = pat.uid() and key_id is not null and public.has_scope('tokens:read') and public.is_active_session());

create policy trusted_roles_see_the_events on pat.events for select using (pat.is_trusted());

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
    revoked_at is null and expires_at > statement_timestamp() as is_active
from pat.api_keys;

create view public.api_key_events with (security_invoker, security_barrier) as
select
    happened_at,
    event,
    key_id,
    user_id,
    role,
    by_key,
    address,
    count,
    detail
from pat.events
where key_id is not null;

set local search_path = pat, pg_temp;
