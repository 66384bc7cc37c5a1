set local search_path = pg_catalog, pg_temp;

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
comment on table pat.events is
    'The audit trail: what happened, to which user and token, and by whom. No secret is in it.';

create index events_user_id_idx on pat.events (user_id, happened_at);

alter table pat.events enable row level security;

select pg_extension_config_dump('pat.events', '');
select pg_extension_config_dump('pat.events_id_seq', '');

-- What happened to a user's keys. What else happened to the user is for trusted roles.
create policy owners_see_the_events_of_their_keys on pat.events for select
    using (user_id = pat.uid() and key_id is not null
        and public.has_scope('tokens:read') and public.is_active_session());

create policy trusted_roles_see_the_events on pat.events for select to current_user using (pat.is_trusted());

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
comment on view public.api_key_events is
    'What happened to the caller''s personal access tokens: minted, rotated, revoked, deleted, refused.';

set local search_path = pat, pg_temp;
