set local search_path = pg_catalog, pg_temp;

-- How many requests each token made on a day of UTC, and how many were refused: the days that are over for it. The
-- latest one is in pat.api_key_usage, so that writing it costs nothing more than writing when the token was last used. The
-- day comes first in the key, so that the table can be partitioned by it. A row outlives its token.
create table pat.api_key_days (
    day date,
    key_id uuid,
    user_id uuid not null,
    requests bigint not null,
    refused bigint not null,
    primary key (day, key_id)
);
comment on table pat.api_key_days is
    'How many requests each token made on each day, but for its latest one, which is in pat.api_key_usage.';
comment on column pat.api_key_days.day is 'In UTC.';
comment on column pat.api_key_days.requests is 'Those that were let through.';

create index api_key_days_user_id_idx on pat.api_key_days (user_id, day);

alter table pat.api_key_days enable row level security;

select pg_extension_config_dump('pat.api_key_days', '');

create policy owners_see_their_days on pat.api_key_days for select
    using (user_id = pat.uid() and public.has_scope('tokens:read') and public.is_active_session());

create policy trusted_roles_see_the_days on pat.api_key_days for select to current_user using (pat.is_trusted());

comment on column pat.api_key_usage.day is 'The latest day, in UTC, on which it was used or refused, with its counts.';
comment on column pat.api_key_usage.requests is 'Those of that day that were let through.';

create view public.api_key_daily_usage with (security_invoker, security_barrier) as
select
    key_id,
    (select name from pat.api_keys where id = key_id) as name,
    day,
    requests,
    refused
from (
    select key_id, day, requests, refused from pat.api_key_days
    union all
    select key_id, day, requests, refused from pat.api_key_usage where day is not null
) days;
comment on view public.api_key_daily_usage is
    'How many requests each of your personal access tokens made on each day, and how many were refused.';
comment on column public.api_key_daily_usage.name is 'Null if the token has been deleted.';
comment on column public.api_key_daily_usage.day is 'In UTC.';
comment on column public.api_key_daily_usage.requests is 'Those that were let through.';

create view pat.usage_by_day with (security_invoker, security_barrier) as
select
    day,
    user_id,
    key_id,
    (select name from pat.api_keys where id = key_id) as name,
    requests,
    refused
from (
    select day, user_id, key_id, requests, refused from pat.api_key_days
    union all
    select day, user_id, key_id, requests, refused from pat.api_key_usage where day is not null
) days;
comment on view pat.usage_by_day is
    'How many requests each token of each user made on each day, and how many were refused. For trusted roles.';

-- Of how many days they are decides between reading an index and the whole table: three million rows take three times as
-- long with a plan that was made for any number of days.
alter function pat.usage_totals(integer, date) set plan_cache_mode = force_custom_plan;
alter function pat.usage_by_token(integer, date, text, integer) set plan_cache_mode = force_custom_plan;
alter function pat.usage_by_user(integer, date, text, integer) set plan_cache_mode = force_custom_plan;

comment on function pat.usage_totals(integer, date) is
    'How many requests all tokens together made on each day, how many were refused, and how many tokens had any: a row '
    'for each of so many days in UTC, 400 at most, up to last_day or the present one. For trusted roles.';
comment on function pat.usage_by_token(integer, date, text, integer) is
    'The tokens that made most requests in so many days up to last_day, or with order_by => ''refused'' those of which '
    'most were refused: max_rows of them, 1000 at most, and none without any. The name is null if the token has been '
    'deleted. For trusted roles.';
comment on function pat.usage_by_user(integer, date, text, integer) is
    'The same for users, with the number of their tokens that had any. service_account is the name of one that is a '
    'service account. For trusted roles.';

set local search_path = pat, pg_temp;
