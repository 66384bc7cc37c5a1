-- An owner's keys, as far as the request may see them: has_scope is true for a login, and false for a
-- token that is dead or whose scopes leave the keys out.
create policy owners_see_their_keys on pat.api_keys for select
    using (user_id = pat.uid() and public.has_scope('tokens:read'));

create policy owners_delete_their_keys on pat.api_keys for delete
    using (user_id = pat.uid() and public.has_scope('tokens:delete'));

-- For a service role without BYPASSRLS.
create policy trusted_roles_do_everything on pat.api_keys
    using (pat.is_trusted()) with check (pat.is_trusted());

create view public.api_keys with (security_invoker, security_barrier) as
select
    id,
    user_id,
    name,
    scopes,
    hint,
    created_at,
    expires_at,
    last_used_at,
    revoked_at,
    revoked_at is null and expires_at > statement_timestamp() as is_active
from pat.api_keys;
