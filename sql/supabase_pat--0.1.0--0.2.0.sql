-- From 0.1.0 to 0.2.0. docs/releasing.md says what an upgrade script has to mind.
\echo Use "alter extension supabase_pat update" to load this file. \quit

-- Which operators an index or a policy means is settled here, where it is created.
set local search_path = pg_catalog, pg_temp;

-- What would end in the middle with an error of Postgres's that does not say what to do.
do $$
declare
    loaded text := (pat.server_state()).version;
    found text;
begin
    if string_to_array(substring(loaded from '^[0-9.]+'), '.')::integer[] < '{0,2,0}' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('the update to 0.2.0 needs its library, and this session has loaded that of %s', loaded),
            hint = 'Restart the server if supabase_pat is in shared_preload_libraries, else begin a new session. Nothing was changed.';
    end if;

    -- What others commit while this waits for its locks must be seen below.
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('the update to 0.2.0 does not run in a transaction that is %s', current_setting('transaction_isolation')),
            hint = 'Run it in one that is read committed: set default_transaction_isolation = ''read committed''. Nothing was changed.';
    end if;

    -- A function beside ours could be what a client calls, with the rights of that client; or leave it open which of them
    -- a policy below means.
    select string_agg(object, ', ' order by object) into found
    from (
        select pg_describe_object('pg_class'::regclass, c.oid, 0) as object
        from pg_class c
        where c.relnamespace = 'public'::regnamespace
            and c.relname in ('exchanged_token', 'service_accounts', 'api_key_daily_usage')
        union all
        select pg_describe_object('pg_type'::regclass, t.oid, 0)
        from pg_type t
        where t.typnamespace = 'public'::regnamespace and t.typrelid = 0
            and t.typname in ('exchanged_token', 'service_accounts', 'api_key_daily_usage')
        union all
        select pg_describe_object('pg_proc'::regclass, p.oid, 0)
        from pg_proc p
        where p.pronamespace = 'public'::regnamespace
            and (p.proname in ('current_api_key', 'edit_pat', 'api_key_allows', 'api_key_attribute', 'setting_definitions',
                    'report_leaked_tokens', 'introspect_token', 'exchange_token', 'create_service_account',
                    'delete_service_account', 'service_account_tokens', 'is_service_account')
                or p.proname in ('has_scope', 'is_active_session') and not exists (
                    select from pg_depend
                    where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e'
                        and refobjid = (select oid from pg_extension where extname = 'supabase_pat'))
                or p.oid = to_regprocedure('public.revoke_pat(uuid, boolean)')
                or p.oid = to_regprocedure('public.mint_pat(uuid, text, interval, text[], text, cidr[], integer, interval, jsonb, text, integer, interval)'))
        union all
        -- Columns with a default cannot be added to a table while another one has its rows as values.
        select pg_describe_object(d.classid, d.objid, d.objsubid)
        from pg_type t
            join pg_depend d on d.refclassid = 'pg_type'::regclass and d.refobjid in (t.oid, t.typarray)
                and d.classid = 'pg_class'::regclass and d.objsubid > 0
            join pg_class c on c.oid = d.objid and c.relkind in ('r', 'p', 'm')
        where t.typrelid = 'pat.api_key_usage'::regclass
    ) in_the_way;
    if found is not null then
        raise exception using
            errcode = 'duplicate_object',
            message = format('in the way of supabase_pat 0.2.0: %s', found),
            hint = 'Rename what is there, or drop it if it is not yours, and update again. Nothing was changed.';
    end if;
end
$$;

-- All that is changed below, before anything is read: what the events tell of is taken over from them, and whoever is
-- minting or signing up by the old ways has ended by then. Whoever comes later finds the new tables. In the order in which
-- the functions lock them, and the view before its tables, as those who read it do. Others have another order, or are at
-- it for long. So after less than a second all is given back for a moment and taken anew: that is less than anybody's
-- deadlock_timeout, so no request ends in a deadlock with this, and none waits behind a transaction that was left open.
-- Where one long request follows another there is no such gap: after ten seconds each try is longer than the one before,
-- and the last one takes half of the time that there is.
-- Our own deadlock_timeout is shorter yet, since it is then that an autovacuum is told to make room.
do $$
declare
    given_up_after interval := make_interval(secs => coalesce(
        nullif(extract(epoch from current_setting('lock_timeout')::interval), 0), 60));
    former text := current_setting('lock_timeout');
    former_patience text := current_setting('deadlock_timeout');
    attempt_began timestamptz;
    attempt_lasts interval := '0.8 s';
    names text[] := array['public.api_keys', 'pat.user_settings', 'pat.denied_tokens', 'pat.code_attempts',
        'pat.api_keys', 'pat.api_key_usage', 'pat.events', 'pat.outbox'];
    name text;
begin
    perform set_config('deadlock_timeout', '100ms', true);
    loop
        attempt_began := clock_timestamp();
        begin
            foreach name in array names loop
                loop
                    -- Whether there is a deadlock is looked at once a wait, and it may come to be in the middle.
                    perform set_config('lock_timeout', greatest(1, ceil(extract(epoch from least(
                        least(attempt_began + attempt_lasts, now() + given_up_after) - clock_timestamp(),
                        case when name <> names[1] then interval '0.5 s' end)) * 1000))::text, true);
                    begin
                        execute format('lock table %s in access exclusive mode', name);
                        exit;
                    exception when lock_not_available then
                        if clock_timestamp() >= least(attempt_began + attempt_lasts, now() + given_up_after) then
                            raise;
                        end if;
                    end;
                end loop;
            end loop;
            exit;
        exception when lock_not_available or deadlock_detected then
            if clock_timestamp() >= now() + given_up_after then
                raise exception using
                    errcode = 'lock_not_available',
                    message = format('the tables of supabase_pat have been in use for %s seconds without a pause',
                        extract(epoch from given_up_after)::integer),
                    hint = 'End the transactions that are open for long, which pg_stat_activity shows, or set lock_timeout '
                        'to how long this is to go on, and update again. Nothing was changed.';
            end if;
            perform pg_sleep(least(extract(epoch from attempt_lasts) / 4, 1));
            if clock_timestamp() > now() + given_up_after / 2 then
                attempt_lasts := given_up_after;
            elsif clock_timestamp() > now() + '10 s' then
                attempt_lasts := attempt_lasts * 1.5;
            end if;
        end;
    end loop;
    perform set_config('lock_timeout', former, true), set_config('deadlock_timeout', former_patience, true);
end
$$;

-- Codes that are sent by e-mail: what wrong tries were worth, and who asked.
alter table pat.code_attempts add column chance bigint;
alter table pat.code_attempts add column address_digest bytea;
alter table pat.code_attempts add column account_digest bytea;
create index code_attempts_short_codes_idx on pat.code_attempts (expires_at) where chance operator(pg_catalog.>) 0;
alter table pat.outbox add column asker_digest bytea;
alter table pat.outbox add column is_known_asker boolean;

create function pat.reset_code_digits() returns integer
    language c volatile strict
    as 'MODULE_PATHNAME', 'reset_code_digits_wrapper';

-- What is wrong with the configured secret, for the doctor.
create function pat.secret_problem() returns text
    language c strict stable
    as 'MODULE_PATHNAME', 'secret_problem_wrapper';

-- What stands for Supabase's functions in plans.
create function pat.auth_uid() returns uuid
    language c stable parallel safe cost 1
    as 'MODULE_PATHNAME', 'supabase_pat_auth_uid';
create function pat.auth_role() returns text
    language c stable parallel safe cost 1
    as 'MODULE_PATHNAME', 'supabase_pat_auth_role';
create function pat.auth_email() returns text
    language c stable parallel safe cost 1
    as 'MODULE_PATHNAME', 'supabase_pat_auth_email';
create function pat.auth_jwt() returns jsonb
    language c stable parallel safe cost 1
    as 'MODULE_PATHNAME', 'supabase_pat_auth_jwt';
create function pat.auth_function_problem(name text) returns text
    language c strict stable
    as 'MODULE_PATHNAME', 'auth_function_problem_wrapper';

create function pat.explain_access(token uuid, statement text default null)
    returns table (object text, access text, scope text, granted boolean, detail text)
    language c stable
    as 'MODULE_PATHNAME', 'explain_access_wrapper';

create function pat.import_token(user_id uuid, name text, digest text, scopes text[] default null,
    expires_at timestamptz default null, created_at timestamptz default null, allowed_ips cidr[] default null,
    rate_limit integer default null, rate_window interval default '1 minute') returns uuid
    language c
    as 'MODULE_PATHNAME', 'import_token_wrapper';

create function public.report_leaked_tokens(tokens text[], found_at text default null) returns void
    language c
    as 'MODULE_PATHNAME', 'report_leaked_tokens_wrapper';

-- What is there already keeps its name: the update fails, as the installation does.
create type public.exchanged_token as (access_token text, token_type text, expires_in integer, scope text);
comment on type public.exchanged_token is 'A short-lived JWT that exchange_token has made from a token, shown once.';
create function public.introspect_token(token text, scope text default null) returns jsonb
    language c stable parallel restricted
    as 'MODULE_PATHNAME', 'introspect_token_wrapper';
create function public.exchange_token(lifetime interval default '5 minutes', scopes text[] default null)
    returns public.exchanged_token
    language c stable parallel restricted
    as 'MODULE_PATHNAME', 'exchange_token_wrapper';

-- Denied tokens: more digests of their claims. What was denied before has none; to deny it again adds them.
alter table pat.denied_tokens add column other_claims_digests bytea;

-- Who made which token.
create table pat.api_key_origins (
    key_id uuid primary key,
    user_id uuid not null,
    made_by uuid,
    claims jsonb,
    made_at timestamptz not null default now()
);
create index api_key_origins_made_by_idx on pat.api_key_origins (made_by) where made_by is not null;
alter table pat.api_key_origins enable row level security;
select pg_catalog.pg_extension_config_dump('pat.api_key_origins', '');

-- As far as the events still tell.
insert into pat.api_key_origins (key_id, user_id, made_by, made_at)
select e.key_id, e.user_id, e.by_key, e.happened_at
from pat.events e
where e.event in ('token_minted', 'token_rotated') and e.key_id is not null and e.user_id is not null
    and e.by_key is not null
on conflict do nothing;

create function public.revoke_pat(id uuid, cascade bool) returns bool
    language c
    as 'MODULE_PATHNAME', 'revoke_pat_and_its_own_wrapper';

-- From where users sign in, and whom sign_up has made.
create table pat.known_networks (
    user_id uuid,
    network cidr,
    last_at timestamptz not null,
    primary key (user_id, network)
);
create index known_networks_last_at_idx on pat.known_networks (last_at);
create table pat.pending_sign_ups (
    user_id uuid primary key,
    password_digest bytea
);
alter table pat.known_networks enable row level security;
alter table pat.pending_sign_ups enable row level security;
select pg_catalog.pg_extension_config_dump('pat.known_networks', '');
select pg_catalog.pg_extension_config_dump('pat.pending_sign_ups', '');

-- Whom sign_up of 0.1.0 has made is known from the events alone. Whether they have logged in since is looked at when it
-- counts.
insert into pat.pending_sign_ups (user_id)
select e.user_id from pat.events e
where e.event = 'signed_up' and e.user_id is not null
    and not exists (select from pat.events l where l.user_id = e.user_id
        and l.event in ('signed_in', 'session_minted', 'password_reset'))
on conflict do nothing;

-- What a token is limited to besides, what people call it, and whether it is disabled.
alter table pat.api_keys
    add column description text,
    add column attributes jsonb check (jsonb_typeof(attributes) = 'object'),
    add column disabled_at timestamptz,
    add column quota integer check (quota > 0),
    add column quota_window interval check (quota_window > '0'),
    add check (num_nulls(quota, quota_window) <> 1);
-- How many requests tokens have been granted in the windows of their limits of a day or longer.
create table pat.api_key_counters (
    key_id uuid,
    limit_name text check (limit_name in ('rate', 'quota')),
    window_ends_at timestamptz not null,
    granted integer not null,
    primary key (key_id, limit_name)
) with (fillfactor = 45);
alter table pat.api_key_counters enable row level security;
select pg_catalog.pg_extension_config_dump('pat.api_key_counters', '');
-- Which attributes tokens may have. src/tokens/attributes.rs counts on the order of the columns.
create table pat.key_attributes (
    name text primary key,
    schema jsonb,
    required boolean not null default false,
    created_at timestamptz not null default now()
);
alter table pat.key_attributes enable row level security;
select pg_catalog.pg_extension_config_dump('pat.key_attributes', '');

create policy trusted_roles_see_the_attributes on pat.key_attributes for select using (pat.is_trusted());

-- Tells every backend to read the attributes anew, whoever changes them and however.
create function pat.key_attributes_changed() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_key_attributes_changed';

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

create or replace view public.api_keys with (security_invoker, security_barrier) as
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
-- Service accounts.
create table pat.service_accounts (
    user_id uuid primary key,
    name text not null,
    description text,
    created_by uuid,
    created_at timestamptz not null default now()
);
create index service_accounts_created_by_idx on pat.service_accounts (created_by) where created_by is not null;
alter table pat.service_accounts enable row level security;
select pg_catalog.pg_extension_config_dump('pat.service_accounts', '');
create function public.is_service_account() returns boolean
    language c strict stable parallel safe cost 4
    as 'MODULE_PATHNAME', 'is_service_account_wrapper';
create function pat.manages_service_account(account uuid) returns boolean
    language c stable parallel restricted cost 1000
    as 'MODULE_PATHNAME', 'manages_service_account_wrapper';
create function pat.created_service_account(account uuid) returns boolean
    language c stable parallel safe
    as 'MODULE_PATHNAME', 'created_service_account_wrapper';
create function pat.service_account_problem() returns text
    language c strict stable
    as 'MODULE_PATHNAME', 'service_account_problem_wrapper';
create function public.create_service_account(name text, description text default null) returns uuid
    language c
    as 'MODULE_PATHNAME', 'create_service_account_wrapper';
create function public.delete_service_account(id uuid) returns bool
    language c
    as 'MODULE_PATHNAME', 'delete_service_account_wrapper';
create function public.service_account_tokens(account uuid)
    returns table (id uuid, name text, kind text, scopes text[], allowed_ips text[], rate_limit int, rate_window interval,
        hint text, created_at timestamptz, expires_at timestamptz, last_used_at timestamptz, last_used_ip text,
        revoked_at timestamptz, is_active bool, description text, attributes jsonb, disabled_at timestamptz, quota int, quota_window interval)
    language c stable
    as 'MODULE_PATHNAME', 'service_account_tokens_wrapper';
create policy managers_see_their_accounts on pat.service_accounts for select
    using (pat.is_trusted() or public.has_scope('service_accounts:read') and public.is_active_session()
        and pat.manages_service_account(user_id));
create view public.service_accounts with (security_invoker, security_barrier) as
select
    user_id as id,
    name,
    description,
    created_by,
    created_at
from pat.service_accounts;

-- How many requests a token made on which day. A token that was only ever refused has no last use.
alter table pat.api_key_usage
    alter column last_used_at drop not null,
    add column day date,
    add column requests bigint not null default 0,
    add column refused bigint not null default 0;
create index api_key_usage_user_id_idx on pat.api_key_usage (user_id);
create table pat.api_key_days (
    day date,
    key_id uuid,
    user_id uuid not null,
    requests bigint not null,
    refused bigint not null,
    primary key (day, key_id)
);
create index api_key_days_user_id_idx on pat.api_key_days (user_id, day);
alter table pat.api_key_days enable row level security;
select pg_catalog.pg_extension_config_dump('pat.api_key_days', '');
create policy owners_see_their_days on pat.api_key_days for select
    using (user_id = pat.uid() and public.has_scope('tokens:read') and public.is_active_session());
create policy trusted_roles_see_the_days on pat.api_key_days for select using (pat.is_trusted());
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

create function pat.metrics() returns table (name text, kind text, help text, labels jsonb, value double precision)
    language c strict stable
    as 'MODULE_PATHNAME', 'metrics_wrapper';
create function pat.usage_totals(days integer default 30, last_day date default null)
    returns table (day date, requests bigint, refused bigint, tokens bigint)
    language c stable
    as 'MODULE_PATHNAME', 'usage_totals_wrapper';
create function pat.usage_by_token(days integer default 30, last_day date default null, order_by text default 'requests',
        max_rows integer default 10)
    returns table (key_id uuid, user_id uuid, name text, requests bigint, refused bigint)
    language c stable
    as 'MODULE_PATHNAME', 'usage_by_token_wrapper';
create function pat.usage_by_user(days integer default 30, last_day date default null, order_by text default 'requests',
        max_rows integer default 10)
    returns table (user_id uuid, service_account text, tokens bigint, requests bigint, refused bigint)
    language c stable
    as 'MODULE_PATHNAME', 'usage_by_user_wrapper';
-- Of how many days they are decides between reading an index and the whole table: three million rows take three times as
-- long with a plan that was made for any number of days.
alter function pat.usage_totals(integer, date) set plan_cache_mode = force_custom_plan;
alter function pat.usage_by_token(integer, date, text, integer) set plan_cache_mode = force_custom_plan;
alter function pat.usage_by_user(integer, date, text, integer) set plan_cache_mode = force_custom_plan;

create function pat.define_key_attribute(name text, schema jsonb default null, required bool default false) returns void
    language c
    as 'MODULE_PATHNAME', 'define_key_attribute_wrapper';
create function pat.drop_key_attribute(name text) returns bool
    language c
    as 'MODULE_PATHNAME', 'drop_key_attribute_wrapper';
create function public.api_key_allows(name text, value text) returns boolean
    language c stable parallel safe cost 6
    as 'MODULE_PATHNAME', 'supabase_pat_api_key_allows';
create function public.api_key_allows(name text, id uuid) returns boolean
    language c stable parallel safe cost 6
    as 'MODULE_PATHNAME', 'supabase_pat_api_key_allows_id';
create function public.api_key_attribute(name text) returns jsonb
    language c strict stable parallel safe
    as 'MODULE_PATHNAME', 'api_key_attribute_wrapper';
create function public.setting_definitions() returns jsonb
    language c strict stable parallel safe
    as 'MODULE_PATHNAME', 'setting_definitions_wrapper';
create function public.current_api_key() returns jsonb
    language c strict stable
    as 'MODULE_PATHNAME', 'current_api_key_wrapper';
-- Without an id a token revokes itself.
create or replace function public.revoke_pat(id uuid default null) returns bool
    language c
    as 'MODULE_PATHNAME', 'revoke_pat_wrapper';
create function public.edit_pat(id uuid, name text default null, description text default null, scopes text[] default null,
    attributes jsonb default null, expires_in interval default null, allowed_ips cidr[] default null,
    rate_limit int default null, rate_window interval default null, disabled bool default null, quota int default null,
    quota_window interval default null) returns void
    language c
    as 'MODULE_PATHNAME', 'edit_pat_wrapper';

-- What users are told by mail of their tokens, and has not been sent yet, or was lately. There is neither an address
-- nor a secret in it. A row without a token stands for all others of its kind, user and day. Rows are added and
-- removed, and only mail workers change them: so no two transactions that write notices wait for each other.
create table pat.notices (
    id bigint primary key generated always as identity,
    kind text not null check (kind in ('minted', 'expiring', 'revoked', 'leaked')),
    user_id uuid not null,
    happened_at timestamptz not null,
    -- From when on it may be sent.
    due_at timestamptz not null,
    key_id uuid,
    name text,
    hint text,
    is_rotation boolean not null default false,
    -- Who did it: user, token, operator or leak report.
    actor text,
    by_key uuid,
    found_at text,
    expires_at timestamptz,
    -- How many days before.
    days smallint,
    claimed_until timestamptz,
    attempts integer not null default 0,
    last_error text,
    ended_at timestamptz,
    -- sent, or why it was not.
    outcome text
);
comment on table pat.notices is
    'The notices that users get by mail about their tokens. No address and no secret is in it.';

create index notices_user_id_idx on pat.notices (user_id, happened_at);
create index notices_waiting_idx on pat.notices (due_at) where ended_at is null;

alter table pat.notices enable row level security;

select pg_catalog.pg_extension_config_dump('pat.notices', '');
select pg_catalog.pg_extension_config_dump('pat.notices_id_seq', '');

-- Up to which expiry tokens have been looked at, for each number of days before it. A mark only moves on.
create table pat.notice_marks (
    days smallint primary key,
    reached timestamptz not null
);
comment on table pat.notice_marks is
    'For each number of days before an expiry, up to which expiry notices have been written.';

alter table pat.notice_marks enable row level security;

select pg_catalog.pg_extension_config_dump('pat.notice_marks', '');

-- By it the tokens that expire soon are found.
create index api_keys_expires_at_idx on pat.api_keys (expires_at);

-- Tells of a token that is revoked, whoever does it and however. A rotation revokes too, and is told of by the new token.
create function pat.key_revoked() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_key_revoked';
comment on function pat.key_revoked() is
    'Trigger: writes a notice for the user of a token that is revoked, if supabase_pat.notices asks for one.';

create trigger tell_of_the_revocation
    after update of revoked_at on pat.api_keys
    for each row
    when (old.revoked_at is null and new.revoked_at is not null and new.replaced_by is not distinct from old.replaced_by)
    execute function pat.key_revoked();

create function pat.claim_notices(max integer default 10)
    returns table (id bigint, kind text, email text, language text, token_name text, token_hint text, is_rotation boolean,
        others integer, actor text, actor_token text, found_at text, happened_at timestamptz, expires_at timestamptz,
        attempt integer)
    language c
    as 'MODULE_PATHNAME', 'claim_notices_wrapper';
create function pat.notice_sent(id bigint) returns boolean
    language c
    as 'MODULE_PATHNAME', 'notice_sent_wrapper';
create function pat.notice_failed(id bigint, error text default null) returns boolean
    language c
    as 'MODULE_PATHNAME', 'notice_failed_wrapper';

-- mint_pat has more arguments, and no command of Postgres adds some to an existing function. With a new function in its
-- place, calls that are running would fail, and each view and function that names it would stop the update. So the row of the
-- old function takes over what is different, and keeps its number, privileges and comment. A function in SQL that was
-- planned before the update, and mints after it, gets an error all the same.
create function pat.mint_pat_anew(user_id uuid default null, name text default null, expires_in interval default null,
    scopes text[] default null, kind text default 'jwt', allowed_ips cidr[] default null, rate_limit int default null,
    rate_window interval default '1 minute', attributes jsonb default null, description text default null,
    quota int default null, quota_window interval default '1 day')
    returns public.minted_pat
    language c
    as 'MODULE_PATHNAME', 'mint_wrapper';
set local allow_system_table_mods = on;
update pg_catalog.pg_proc p
set pronargs = n.pronargs, pronargdefaults = n.pronargdefaults, proargtypes = n.proargtypes, proargnames = n.proargnames,
    proargdefaults = n.proargdefaults, prosrc = n.prosrc
from pg_catalog.pg_proc n
where p.oid = 'public.mint_pat(uuid, text, interval, text[], text, cidr[], integer, interval)'::regprocedure
    and n.oid = 'pat.mint_pat_anew'::regproc;
-- Plans do not depend on the functions that they call. They do on schemas, and are all made anew.
update pg_catalog.pg_namespace set nspname = nspname where nspname = 'pat';
set local allow_system_table_mods = off;
drop function pat.mint_pat_anew;

-- Whatever superuser runs this, what is new belongs to the owner of the extension, with whose rights its functions use its
-- own tables, and who need not be a superuser any more.
do $$
declare
    owner oid;
    object record;
begin
    select extowner into owner from pg_extension where extname = 'supabase_pat';
    for object in
        select format('function %s', p.oid::regprocedure) as name
        from pg_proc p join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid
        where d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass and p.proowner = current_user::regrole
            and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
        union all
        select format('table %s', c.oid::regclass)
        from pg_class c join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid
        where d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass and c.relowner = current_user::regrole
            and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat') and c.relkind in ('r', 'v')
        union all
        select 'type public.exchanged_token'
    loop
        exit when owner = current_user::regrole;
        execute format('alter %s owner to %s', object.name, owner::regrole);
    end loop;
end
$$;

-- What is new is nobody's, whatever default privileges say, and then granted by name.
do $$
declare
    object text;
    grantee text;
    role text;
    untouched record;
begin
    foreach object in array array['table pat.api_key_origins', 'table pat.known_networks', 'table pat.pending_sign_ups',
        'function public.revoke_pat(uuid, boolean)', 'function pat.reset_code_digits()', 'function pat.secret_problem()',
        'function pat.auth_uid()', 'function pat.auth_role()', 'function pat.auth_email()', 'function pat.auth_jwt()',
        'function pat.auth_function_problem(text)', 'function pat.explain_access(uuid, text)', 'table pat.key_attributes',
        'function pat.define_key_attribute(text, jsonb, boolean)', 'function pat.drop_key_attribute(text)',
        'function public.api_key_allows(text, text)', 'function public.api_key_allows(text, uuid)', 'function public.api_key_attribute(text)',
        'function public.current_api_key()', 'function public.setting_definitions()', 'function pat.key_attributes_changed()',
        'function public.edit_pat(uuid, text, text, text[], jsonb, interval, cidr[], integer, interval, boolean, integer, interval)',
        'function pat.import_token(uuid, text, text, text[], timestamptz, timestamptz, cidr[], integer, interval)',
        'function public.report_leaked_tokens(text[], text)',
        'function public.introspect_token(text, text)', 'function public.exchange_token(interval, text[])',
        'table pat.notices', 'sequence pat.notices_id_seq', 'table pat.notice_marks', 'function pat.key_revoked()',
        'function pat.claim_notices(integer)',
        'function pat.notice_sent(bigint)', 'function pat.notice_failed(bigint, text)',
        'type public.exchanged_token', 'table pat.service_accounts', 'table public.service_accounts',
        'function public.create_service_account(text, text)', 'function public.delete_service_account(uuid)',
        'function public.service_account_tokens(uuid)', 'function public.is_service_account()',
        'function pat.manages_service_account(uuid)', 'function pat.created_service_account(uuid)',
        'function pat.service_account_problem()', 'table pat.api_key_days', 'table public.api_key_daily_usage',
        'table pat.usage_by_day', 'function pat.metrics()', 'table pat.api_key_counters',
        'function pat.usage_totals(integer, date)', 'function pat.usage_by_token(integer, date, text, integer)',
        'function pat.usage_by_user(integer, date, text, integer)']
    loop
        execute pg_catalog.format('revoke all on %s from public', object);
        for grantee in
            select distinct a.grantee::pg_catalog.regrole::text
            from pg_catalog.pg_default_acl acl, pg_catalog.aclexplode(acl.defaclacl) a
            where a.grantee <> 0 and a.grantee <> acl.defaclrole
        loop
            execute pg_catalog.format('revoke all on %s from %s', object, grantee);
        end loop;
    end loop;
    grant execute on function pat.reset_code_digits() to public;
    grant execute on function pat.metrics() to pg_monitor;
    grant usage on type public.exchanged_token to public;
    grant execute on function pat.auth_uid(), pat.auth_role(), pat.auth_email(), pat.auth_jwt() to public;
    grant execute on function public.api_key_allows(text, text), public.api_key_allows(text, uuid), public.api_key_attribute(text), public.current_api_key(),
        public.is_service_account(), pat.manages_service_account(uuid), pat.created_service_account(uuid) to public;

    perform pat.is_trusted();  -- loads the library, and with it the settings
    foreach role in array array[pg_catalog.current_setting('supabase_pat.anon_role'),
        pg_catalog.current_setting('supabase_pat.authenticated_role'),
        pg_catalog.current_setting('supabase_pat.service_role')]
    loop
        if pg_catalog.to_regrole(pg_catalog.quote_ident(role)) is not null then
            execute pg_catalog.format('grant execute on function public.revoke_pat(uuid, boolean), public.report_leaked_tokens(text[], text),
                public.exchange_token(interval, text[]), public.create_service_account(text, text),
                public.delete_service_account(uuid), public.service_account_tokens(uuid),
                public.edit_pat(uuid, text, text, text[], jsonb, interval, cidr[], integer, interval, boolean, integer, interval) to %I', role);
        end if;
    end loop;
    role := pg_catalog.current_setting('supabase_pat.service_role');
    if pg_catalog.to_regrole(pg_catalog.quote_ident(role)) is not null then
        execute pg_catalog.format('grant execute on function pat.secret_problem(), pat.service_account_problem(),
            pat.auth_function_problem(text),
            pat.explain_access(uuid, text), pat.define_key_attribute(text, jsonb, boolean), pat.drop_key_attribute(text),
            pat.import_token(uuid, text, text, text[], timestamptz, timestamptz, cidr[], integer, interval),
            public.introspect_token(text, text), pat.claim_notices(integer), pat.notice_sent(bigint),
            pat.notice_failed(bigint, text), pat.metrics(), pat.usage_totals(integer, date),
            pat.usage_by_token(integer, date, text, integer), pat.usage_by_user(integer, date, text, integer) to %I', role);
        execute pg_catalog.format('grant select on pat.key_attributes, pat.service_accounts, public.service_accounts,
            pat.api_key_days, public.api_key_daily_usage, pat.usage_by_day to %I', role);
        execute pg_catalog.format('grant execute on function public.setting_definitions() to %I', role);
    end if;
    role := pg_catalog.current_setting('supabase_pat.authenticated_role');
    if pg_catalog.to_regrole(pg_catalog.quote_ident(role)) is not null then
        execute pg_catalog.format('grant select on pat.service_accounts, public.service_accounts to %I', role);
        execute pg_catalog.format('grant select (description, attributes, disabled_at, quota, quota_window) on pat.api_keys to %I', role);
        execute pg_catalog.format('grant select on pat.api_key_days, public.api_key_daily_usage to %I', role);
        execute pg_catalog.format('grant execute on function public.setting_definitions() to %I', role);
    end if;

    -- Where no operator has changed who may call them, the anonymous role may: they tell it to log in.
    role := pg_catalog.current_setting('supabase_pat.anon_role');
    if pg_catalog.to_regrole(pg_catalog.quote_ident(role)) is not null then
        for untouched in
            select p.oid::pg_catalog.regprocedure as function
            from pg_catalog.pg_proc p
                left join pg_catalog.pg_init_privs i on i.objoid = p.oid
                    and i.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass and i.objsubid = 0
            where p.oid = any (array['public.mint_pat(uuid,text,interval,text[],text,cidr[],integer,interval,jsonb,text,integer,interval)',
                    'public.rotate_pat(uuid,interval)', 'public.revoke_pat(uuid)', 'public.revoke_all_pats(uuid)',
                    'public.sign_out(text)', 'public.set_settings(jsonb)']::pg_catalog.regprocedure[])
                and p.proacl is not distinct from i.initprivs
        loop
            execute pg_catalog.format('grant execute on function %s to %I', untouched.function, role);
        end loop;
    end if;
end
$$;

-- What an operator has made of the right to revoke holds for both ways to do so. A grant would make it initial, and the
-- next dump would leave it out.
set local allow_system_table_mods = on;
update pg_catalog.pg_proc p
set proacl = old.proacl
from pg_catalog.pg_proc old left join pg_catalog.pg_init_privs i on i.objoid = old.oid
    and i.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass and i.objsubid = 0
where p.oid = 'public.revoke_pat(uuid, boolean)'::pg_catalog.regprocedure and old.oid = 'public.revoke_pat(uuid)'::pg_catalog.regprocedure
    and old.proacl is distinct from i.initprivs;
delete from pg_catalog.pg_shdepend
where dbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()) and deptype = 'a'
    and classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and objid = 'public.revoke_pat(uuid, boolean)'::pg_catalog.regprocedure;
insert into pg_catalog.pg_shdepend (dbid, classid, objid, objsubid, refclassid, refobjid, deptype)
select dbid, classid, 'public.revoke_pat(uuid, boolean)'::pg_catalog.regprocedure, 0, refclassid, refobjid, deptype
from pg_catalog.pg_shdepend
where dbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()) and deptype = 'a'
    and classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and objid = 'public.revoke_pat(uuid)'::pg_catalog.regprocedure;
set local allow_system_table_mods = off;

-- What is the extension's own shows nothing to a login whose session has ended, and lets it delete nothing.
alter policy owners_see_their_keys on pat.api_keys
    using (user_id = pat.uid() and public.has_scope('tokens:read') and public.is_active_session());
alter policy owners_delete_their_keys on pat.api_keys
    using (user_id = pat.uid() and public.has_scope('tokens:delete') and public.is_active_session());
alter policy owners_see_their_usage on pat.api_key_usage
    using (user_id = pat.uid() and public.has_scope('tokens:read') and public.is_active_session());
alter policy owners_see_the_events_of_their_keys on pat.events
    using (user_id = pat.uid() and key_id is not null and public.has_scope('tokens:read') and public.is_active_session());
alter policy owners_see_their_settings on pat.user_settings
    using (user_id = pat.uid() and public.has_scope('settings:read') and public.is_active_session());

-- Policies for trusted roles are for these alone, and for nobody for whom there is another one: else no index finds a
-- user's rows. What an operator has made of them stays.
do $$
declare
    service_role text;
    policy record;
begin
    perform pat.is_trusted();  -- loads the library, and with it the settings
    service_role := pg_catalog.current_setting('supabase_pat.service_role');
    for policy in
        select p.polrelid::pg_catalog.regclass as on_table, p.polname as name,
            (select pg_catalog.string_agg(pg_catalog.quote_ident(rolname), ', ' order by rolname) from pg_catalog.pg_roles
             where oid = (select relowner from pg_catalog.pg_class where oid = 'pat.api_keys'::pg_catalog.regclass)
                or rolname = service_role) as roles
        from pg_catalog.pg_policy p
        where p.polroles = '{0}'::pg_catalog.oid[] and (p.polrelid, p.polname) in (
            ('pat.user_settings'::pg_catalog.regclass, 'trusted_roles_see_the_settings'),
            ('pat.user_settings'::pg_catalog.regclass, 'trusted_roles_delete_settings'),
            ('pat.api_keys'::pg_catalog.regclass, 'trusted_roles_do_everything'),
            ('pat.api_key_usage'::pg_catalog.regclass, 'trusted_roles_see_the_usage'),
            ('pat.api_key_days'::pg_catalog.regclass, 'trusted_roles_see_the_days'),
            ('pat.events'::pg_catalog.regclass, 'trusted_roles_see_the_events'))
    loop
        execute pg_catalog.format('alter policy %I on %s to %s', policy.name, policy.on_table, policy.roles);
    end loop;
end
$$;

-- Functions in SQL, as they are in an installation of 0.2.0.
create or replace function pat.install_auth_schema() returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $install$
declare
    anon text;
    authenticated text;
    service_role text;
    role text;
    object record;
begin
    if to_regclass('auth.users') is not null then
        raise exception using
            errcode = 'duplicate_table',
            message = 'auth.users already exists',
            hint = 'The extension uses it as it is. Nothing was changed.';
    end if;

    -- Whoever owns the schema can drop the table of users and put another in its place.
    if exists (
        select from pg_namespace n
        where n.nspname = 'auth' and n.nspowner <> current_user::regrole
            and not (select rolsuper from pg_roles where oid = n.nspowner)
    ) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('schema auth belongs to %s',
                (select nspowner::regrole from pg_namespace where nspname = 'auth')),
            hint = 'Drop it, or give it to a superuser.';
    end if;

    perform pat.is_trusted();  -- loads the library, and with it the settings
    anon := current_setting('supabase_pat.anon_role');
    authenticated := current_setting('supabase_pat.authenticated_role');
    service_role := current_setting('supabase_pat.service_role');

    foreach role in array array[anon, authenticated, service_role] loop
        if to_regrole(quote_ident(role)) is null then
            execute format('create role %I nologin noinherit %s', role,
                case when role = service_role then 'bypassrls' end);
        end if;
    end loop;
    if to_regrole('authenticator') is null then
        -- The role that the REST server logs in as; it has no password until you give it one.
        create role authenticator login noinherit;
    end if;
    execute format('grant %I, %I, %I to authenticator', anon, authenticated, service_role);
    execute format('grant usage on schema public to %I, %I, %I', anon, authenticated, service_role);

    create schema if not exists auth;

    create type auth.aal_level as enum ('aal1', 'aal2', 'aal3');

    create table auth.users (
        instance_id uuid default '00000000-0000-0000-0000-000000000000',
        id uuid primary key default gen_random_uuid(),
        aud varchar(255) default 'authenticated',
        role varchar(255) default 'authenticated',
        email varchar(255),
        encrypted_password varchar(255),
        email_confirmed_at timestamptz,
        confirmation_token varchar(255) default '',
        recovery_token varchar(255) default '',
        recovery_sent_at timestamptz,
        email_change_token_new varchar(255) default '',
        email_change varchar(255) default '',
        last_sign_in_at timestamptz,
        raw_app_meta_data jsonb,
        raw_user_meta_data jsonb,
        created_at timestamptz default now(),
        updated_at timestamptz default now(),
        phone text unique,
        phone_confirmed_at timestamptz,
        confirmed_at timestamptz generated always as (least(email_confirmed_at, phone_confirmed_at)) stored,
        banned_until timestamptz,
        is_sso_user boolean not null default false,
        deleted_at timestamptz,
        is_anonymous boolean not null default false
    );
    create unique index users_email_partial_key on auth.users (email) where not is_sso_user;
    create index users_instance_id_email_idx on auth.users (instance_id, lower(email::text));

    create table auth.identities (
        provider_id text not null,
        user_id uuid not null references auth.users on delete cascade,
        identity_data jsonb not null,
        provider text not null,
        last_sign_in_at timestamptz,
        created_at timestamptz default now(),
        updated_at timestamptz default now(),
        email text generated always as (lower(identity_data ->> 'email')) stored,
        id uuid primary key default gen_random_uuid(),
        unique (provider_id, provider)
    );
    create index identities_user_id_idx on auth.identities (user_id);

    create table auth.sessions (
        id uuid primary key,
        user_id uuid not null references auth.users on delete cascade,
        created_at timestamptz,
        updated_at timestamptz,
        factor_id uuid,
        aal auth.aal_level,
        not_after timestamptz,
        refreshed_at timestamp,
        user_agent text,
        ip inet,
        tag text,
        oauth_client_id uuid,
        refresh_token_hmac_key text,
        refresh_token_counter bigint,
        scopes text
    );
    create index sessions_user_id_idx on auth.sessions (user_id);

    create table auth.refresh_tokens (
        instance_id uuid,
        id bigserial primary key,
        token varchar(255) unique,
        user_id varchar(255),
        revoked boolean,
        created_at timestamptz,
        updated_at timestamptz,
        parent varchar(255),
        session_id uuid references auth.sessions on delete cascade
    );
    create index refresh_tokens_session_id_idx on auth.refresh_tokens (session_id, revoked);

    create function auth.uid() returns uuid language sql stable parallel safe as $$
        select coalesce(
            nullif(current_setting('request.jwt.claim.sub', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
        )::uuid
    $$;
    create function auth.role() returns text language sql stable parallel safe as $$
        select coalesce(
            nullif(current_setting('request.jwt.claim.role', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
        )
    $$;
    create function auth.email() returns text language sql stable parallel safe as $$
        select coalesce(
            nullif(current_setting('request.jwt.claim.email', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
        )
    $$;
    create function auth.jwt() returns jsonb language sql stable parallel safe as $$
        select coalesce(
            nullif(current_setting('request.jwt.claim', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')
        )::jsonb
    $$;

    -- Default privileges give on what is new, hashes of passwords too, whatever somebody once said of all tables.
    -- Take away what they gave, then grant by name what Supabase has: the functions, for policies run them as
    -- whoever asks, and the use of the schema.
    for object in
        select format('schema %I', nspname) as name, nspowner as owner, coalesce(nspacl, acldefault('n', nspowner)) as acl
        from pg_namespace where nspname = 'auth'
        union all
        select format('%s %s', case relkind when 'S' then 'sequence' else 'table' end, oid::regclass), relowner,
            coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
        from pg_class
        where oid = any (array['auth.users', 'auth.identities', 'auth.sessions', 'auth.refresh_tokens',
            'auth.refresh_tokens_id_seq']::regclass[])
        union all
        select format('type %s', oid::regtype), typowner, coalesce(typacl, acldefault('T', typowner))
        from pg_type where oid = 'auth.aal_level'::regtype
        union all
        select format('function %s', oid::regprocedure), proowner, coalesce(proacl, acldefault('f', proowner))
        from pg_proc where oid = any (array['auth.uid()', 'auth.role()', 'auth.email()', 'auth.jwt()']::regprocedure[])
    loop
        for role in
            select distinct coalesce(nullif(grantee, 0)::regrole::text, 'public')
            from aclexplode(object.acl) where grantee <> object.owner
        loop
            execute format('revoke all on %s from %s cascade', object.name, role);
        end loop;
    end loop;
    execute format('grant usage on schema auth to %I, %I, %I', anon, authenticated, service_role);
    grant execute on function auth.uid(), auth.role(), auth.email(), auth.jwt() to public;

    -- Without a policy, nobody but the owner and those whom policies do not bind sees a row, should somebody
    -- grant what must not be granted.
    alter table auth.users enable row level security;
    alter table auth.identities enable row level security;
    alter table auth.sessions enable row level security;
    alter table auth.refresh_tokens enable row level security;

    perform pat.grant_api_roles();
end
$install$;

create or replace function pat.grant_api_roles() returns setof text
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    anon text;
    authenticated text;
    service_role text;
    role text;
    untouched record;
    policy record;
    member record;
begin
    -- Any function of the library loads it. Until then a setting is what anybody made of it.
    perform pat.is_trusted();
    anon := current_setting('supabase_pat.anon_role');
    authenticated := current_setting('supabase_pat.authenticated_role');
    service_role := current_setting('supabase_pat.service_role');

    -- Members of the extension whose privileges are those that it gave them.
    select array_agg(d.classid) as catalogs, array_agg(d.objid) as objects into untouched
    from pg_depend d
        left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
        left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
    where d.refclassid = 'pg_extension'::regclass
        and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
        and d.deptype = 'e' and (p.oid is not null or c.oid is not null)
        and not exists (
            select from (
                select 0 as part, coalesce(p.proacl, c.relacl) as acl
                union all
                select attnum, attacl from pg_attribute where attrelid = c.oid and attacl is not null
            ) present
            full join (
                select objsubid, initprivs from pg_init_privs where classoid = d.classid and objoid = d.objid
            ) initial on objsubid = part
            where acl is distinct from initprivs
        );

    foreach role in array array[anon, authenticated, service_role] loop
        if to_regrole(quote_ident(role)) is null then
            raise notice 'role % does not exist yet', quote_ident(role)
                using hint = 'Call pat.grant_api_roles() when it does.';
            continue;
        end if;
        execute format('grant execute on function
            public.sign_up(text, text, jsonb),
            public.confirm_sign_up(text, text),
            public.sign_in(text, text),
            public.refresh_session(text),
            public.request_password_reset(text),
            public.verify_reset_code(text, text),
            public.reset_password(text, text, text) to %I', role);
        -- The anonymous role too: they tell it to log in, where Postgres would only say that permission is denied.
        execute format('grant execute on function
            public.mint_pat(uuid, text, interval, text[], text, cidr[], integer, interval, jsonb, text, integer, interval),
            public.edit_pat(uuid, text, text, text[], jsonb, interval, cidr[], integer, interval, boolean, integer, interval),
            public.rotate_pat(uuid, interval),
            public.revoke_pat(uuid),
            public.revoke_pat(uuid, boolean),
            public.revoke_all_pats(uuid),
            public.report_leaked_tokens(text[], text),
            public.exchange_token(interval, text[]),
            public.create_service_account(text, text),
            public.delete_service_account(uuid),
            public.service_account_tokens(uuid),
            public.sign_out(text),
            public.set_settings(jsonb) to %I', role);
        return next role;
        continue when role = anon;
        execute format('grant execute on function public.setting_definitions() to %I', role);
        execute format('grant select, delete on public.api_keys to %I', role);
        execute format('grant select on public.api_key_events, public.api_key_daily_usage, public.service_accounts to %I', role);
        if role = authenticated then
            -- The view reads the table as the caller. RLS leaves them their own rows.
            execute format('grant select (id, user_id, name, kind, scopes, allowed_ips, rate_limit,
                rate_window, hint, created_at, expires_at, revoked_at, description, attributes, disabled_at, quota, quota_window), delete
                on pat.api_keys to %I', role);
            execute format('grant select on pat.api_key_usage, pat.api_key_days, pat.service_accounts to %I', role);
            execute format('grant select (happened_at, event, key_id, user_id, role, by_key, address,
                count, detail) on pat.events to %I', role);
            execute format('grant select on pat.user_settings to %I', role);
        end if;
        if role = service_role then
            execute format('grant select, insert, update, delete on pat.api_keys to %I', role);
            execute format('grant select, delete on pat.user_settings to %I', role);
            execute format('grant select on pat.signing_keys, pat.setting_definitions, pat.events,
                pat.api_key_usage, pat.key_attributes, pat.service_accounts, pat.api_key_days,
                pat.usage_by_day to %I', role);
            execute format('grant select, delete on pat.denied_tokens to %I', role);
            execute format('grant execute on function
                pat.sign_jwt(jsonb, interval),
                pat.verify_jwt(text, text, boolean),
                public.introspect_token(text, text),
                pat.add_signing_key(text, text, text),
                pat.import_signing_key(jsonb),
                pat.rotate_signing_key(text),
                pat.revoke_signing_key(text),
                pat.mint_api_key(text, text, interval),
                pat.mint_session(uuid),
                pat.deny_token(text, text),
                pat.status(),
                pat.server_state(),
                pat.secret_problem(),
                pat.service_account_problem(),
                pat.metrics(),
                pat.usage_totals(integer, date),
                pat.usage_by_token(integer, date, text, integer),
                pat.usage_by_user(integer, date, text, integer),
                pat.auth_function_problem(text),
                pat.explain_access(uuid, text),
                pat.import_token(uuid, text, text, text[], timestamptz, timestamptz, cidr[], integer, interval),
                pat.issue_reset_code(text),
                pat.claim_messages(integer),
                pat.message_sent(uuid),
                pat.message_failed(uuid, text),
                pat.claim_notices(integer),
                pat.notice_sent(bigint),
                pat.notice_failed(bigint, text),
                pat.define_key_attribute(text, jsonb, boolean),
                pat.drop_key_attribute(text),
                pat.define_setting(text, jsonb, jsonb, boolean),
                pat.drop_setting(text) to %I', role);

            -- What is named here is seen without BYPASSRLS. The role is added, as privileges are. In the order in which the
            -- functions lock the tables.
            for policy in
                select p.polrelid::regclass as on_table, p.polname as name,
                    (select string_agg(quote_ident(rolname), ', ' order by rolname) from pg_roles where oid = any (p.polroles)) as present
                from unnest(
                    '{user_settings, user_settings, api_keys, api_key_usage, api_key_days, events}'::text[],
                    '{trusted_roles_see_the_settings, trusted_roles_delete_settings, trusted_roles_do_everything,
                        trusted_roles_see_the_usage, trusted_roles_see_the_days, trusted_roles_see_the_events}'::text[]
                ) with ordinality as wanted (on_table, name, place)
                    join pg_policy p on p.polname = wanted.name and p.polrelid = to_regclass('pat.' || wanted.on_table)
                where not p.polroles && array[0::oid, to_regrole(quote_ident(role))::oid]
                order by place
            loop
                execute format('alter policy %I on %s to %s', policy.name, policy.on_table,
                    concat_ws(', ', policy.present, quote_ident(role)));
            end loop;
        end if;
    end loop;

    -- A dump holds what differs from these: it is to hold what is revoked by hand, and CREATE EXTENSION grants
    -- the rest anew.
    for member in select * from unnest(untouched.catalogs, untouched.objects) as m (catalog, object) loop
        perform pat.record_initial_privileges(member.catalog, member.object);
    end loop;
end
$$;

create or replace function pat.status() returns table ("check" text, ok boolean, detail text)
    language sql stable
    set search_path = pg_catalog, pg_temp
as $$
with server as (
    select s.*, pg_is_in_recovery() as is_standby,
        make_interval(secs => extract(epoch from current_setting('supabase_pat.flush_interval')::interval)) as flush_interval
    from pat.server_state() s
),
setting (name, value) as (
    select name, nullif(current_setting('supabase_pat.' || name, true), '')
    from unnest('{anon_role, authenticated_role, service_role, mail_worker_role, next_pre_request, trusted_proxies, revoke_synchronous_commit, enable_sign_in, fast_auth_functions, guarded_logins, default_schema, service_account_manager}'::text[]) name
),
api_role as (
    select name, value as role, to_regrole(quote_ident(value)) as oid from setting where name in ('anon_role', 'authenticated_role', 'service_role')
),
-- What the REST server was told through the database: alter role authenticator set pgrst.db_pre_request = 'pat.gate'.
pre_request as (
    select string_agg(distinct split_part(line, '=', 2), ', ') as configured
    from pg_db_role_setting, unnest(setconfig) line
    where line like 'pgrst.db\_pre\_request=%' and setdatabase in (0, (select oid from pg_database where datname = current_database()))
),
keys as (
    select count(*) filter (where kind = 'opaque') as opaque,
        count(*) filter (where allowed_ips is not null) as with_addresses,
        count(*) filter (where num_nonnulls(rate_limit, quota) > 0) as with_limits,
        count(*) filter (where greatest(rate_window, quota_window) >= '1 day') as with_long_limits,
        count(*) filter (where scopes is not null) as with_scopes
    from pat.api_keys where revoked_at is null and expires_at > now()
),
next as (
    select setting.value as name, next_problem, p.oid, p.pronamespace
    from setting, server left join pg_proc p on p.oid = next_pre_request where name = 'next_pre_request'
),
-- Policies that call Supabase's functions once a row, and which.
slow_policies as (
    select p.oid, call[1] as function
    from pg_policy p,
        lateral concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) condition,
        lateral regexp_replace(condition, 'SELECT \(*auth\.(uid|role|email|jwt)\(\)', 'once', 'g') rest,
        lateral regexp_matches(rest, '\mauth\.(uid|role|email|jwt)\(\)', 'g') call
),
auth_functions as (
    select count(distinct p.oid) as policies,
        string_agg(distinct format('auth.%s()', function), ', ') as functions,
        string_agg(distinct pat.auth_function_problem(function), ', ') as problem
    from slow_policies p
),
-- What is read of auth.users, and what comes of it if it is not there, or of a type that is not read.
users as (
    select to_regclass('auth.users') as oid, string_agg(case
            when a.attnum is null then format('there is no column %s: %s', name, missing)
            else format('%s is not of the type %s: %s', name, types[1]::regtype, unfit)
        end, '; ' order by place) as problem
    from (values
        (1, 'id', '{uuid}'::regtype[], 'no token is valid', 'no token is valid'),
        (2, 'banned_until', '{timestamptz}', 'nobody can be banned', 'whoever has a value there is banned'),
        (3, 'deleted_at', null, 'nobody is deleted while the row is there', null)
        union all
        select 3 + n, name, types, null, 'supabase_pat.live_claims cannot be read, and the gate lets no token through'
        from unnest(array['role', 'email', 'phone', 'raw_app_meta_data', 'raw_user_meta_data', 'is_anonymous']) with ordinality as claims (name, n),
            lateral (select case when n <= 3 then '{text,varchar}' when n <= 5 then '{jsonb}' else '{boolean}' end::regtype[]) as expected (types)
        where current_setting('supabase_pat.live_claims')::boolean
    ) as read (place, name, types, missing, unfit)
    left join pg_attribute a on a.attrelid = to_regclass('auth.users') and a.attname = name and a.attnum > 0 and not a.attisdropped
    left join pg_type t on t.oid = a.atttypid
    left join pg_type base on base.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    where case
        when a.attnum is null then missing is not null
        else base.oid <> all (types) and not (base.typname = 'citext' and 'text'::regtype = any (types))
    end
),
own_functions as (
    select p.oid, p.proname, p.pronamespace
    from pg_depend d join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
    where d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass
        and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
),
guarded as (
    select value as configured, string_agg(quote_ident(login), ', ') filter (where login <> '' and r.oid is null) as missing,
        coalesce(sum((select count(*) from pg_stat_activity a where a.usesysid = r.oid and a.datname = current_database())), 0) as connections
    from setting left join lateral (
            select case when name like '"%' then replace(trim(both '"' from name), '""', '"') else lower(name) end
            from unnest(string_to_array(value, ',')) part, trim(part) name
        ) list (login) on true
        left join pg_roles r on r.rolname = login and r.rolcanlogin
    where setting.name = 'guarded_logins' group by value
),
gate as (
    select pre_request.configured, is_preloaded, requests, last_request_at, opaque + with_addresses + with_limits + with_scopes as dependent,
        is_preloaded and guarded.configured is not null and guarded.missing is null as is_guarded,
        is_standby or pg_postmaster_start_time() > clock_timestamp() - interval '5 minutes' as may_be_idle,
        format('opaque tokens (%s), tokens with allowed_ips (%s), tokens with a limit (%s), tokens with scopes (%s)',
            opaque, with_addresses, with_limits, with_scopes) as refused
    from server, pre_request, keys, guarded
)
select 'library', is_preloaded,
    case when is_preloaded then 'preloaded'
        else 'not preloaded: last_used_at stays null, limits count for each connection by itself, tokens with one of a day or '
            'longer are refused, refusals leave no events, and supabase_pat.jwt_secret does not count. Put supabase_pat into '
            'shared_preload_libraries and restart.' end
from server
union all
select 'version', extversion = version,
    case when extversion = version then version
        else format('the library is %s and the extension %s: run alter extension supabase_pat update', version, extversion) end
from server, pg_extension where extname = 'supabase_pat'
union all
select 'users', oid is not null and problem is null,
    case when oid is null then 'there is no table auth.users: install Supabase Auth, or call pat.install_auth_schema()'
        else coalesce('in auth.users, ' || problem, 'auth.users') end
from users
union all
select 'supabase auth', is_new or not is_there,
    case when not is_there then 'none, as there is no auth.schema_migrations'
        when is_new then 'has auth.one_time_tokens, so 2.151.0 or later: it takes no personal access token for a login'
        else 'has no auth.one_time_tokens, so older than 2.151.0. Before 2.150.0 it takes personal access tokens for logins, and whoever '
            'has one can change the password of its user: update Supabase Auth' end
from (
    select coalesce(bool_or(relname = 'one_time_tokens'), false) as is_new, coalesce(bool_or(relname = 'schema_migrations'), false) as is_there
    from pg_class where relnamespace = to_regnamespace('auth') and relkind in ('r', 'p')
) supabase_auth
union all
select 'roles', bool_and(oid is not null and not is_trusted),
    case when bool_and(oid is not null and not is_trusted) then string_agg(role, ', ' order by name)
        when bool_or(is_trusted and role = service) then format('supabase_pat.service_role is %s, so that each request of a user is '
            'trusted: name another role', max(service))
        when bool_and(oid is not null) then format('%s has the privileges of %s, so that each request is trusted: revoke %2$s from it',
            string_agg(role, ', ' order by name) filter (where is_trusted), max(service))
        else format('there is no role %s: create it and call pat.grant_api_roles(), or set supabase_pat.anon_role, '
            '.authenticated_role and .service_role', string_agg(role, ', ' order by name) filter (where oid is null)) end
from (
    select api_role.*, service.role as service,
        api_role.name <> 'service_role' and coalesce(pg_has_role(api_role.oid, service.oid, 'usage'), false) as is_trusted
    from api_role, api_role service where service.name = 'service_role'
) judged
union all
select 'grants', bool_and(has_function_privilege(oid, mint, 'execute')),
    case when bool_and(has_function_privilege(oid, mint, 'execute')) then 'given'
        else format('%s may not call mint_pat: if that is not meant, grant execute on function mint_pat to %1$s. pat.grant_api_roles() '
            'grants again all that API roles have at first',
            string_agg(quote_ident(role), ', ' order by name) filter (where not has_function_privilege(oid, mint, 'execute'))) end
from api_role, to_regprocedure('public.mint_pat(uuid,text,interval,text[],text,cidr[],integer,interval,jsonb,text,integer,interval)') mint
where name <> 'anon_role' and oid is not null
having count(*) > 0
union all
select 'trusted functions', found is null,
    case when found is null then 'only for trusted roles' else format('API roles may call %s: revoke it', found) end
from (
    select string_agg(distinct function::text, ', ' order by function::text) as found
    from api_role, unnest(array['pat.sign_jwt(jsonb,interval)', 'pat.mint_session(uuid)', 'pat.issue_reset_code(text)',
        'pat.claim_messages(integer)', 'pat.claim_notices(integer)', 'pat.add_signing_key(text,text,text)', 'pat.deny_token(text,text)',
        'pat.import_token(uuid,text,text,text[],timestamptz,timestamptz,cidr[],integer,interval)',
        'public.introspect_token(text,text)'
    ]::regprocedure[]) function
    where name <> 'service_role' and oid is not null and has_function_privilege(oid, function, 'execute')
) granted
union all
select 'names', found is null,
    case when found is null then 'nobody else has a function of the same name in public'
        else format('%s stands beside a function of the extension of the same name, so that calls reach it or are ambiguous: drop it, '
            'and revoke create on schema public from whoever must not add functions', found) end
from (
    select string_agg(p.oid::regprocedure::text, ', ' order by p.oid::regprocedure::text) as found
    from pg_proc p
    where p.pronamespace = 'public'::regnamespace
        and not exists (select from own_functions own where own.oid = p.oid)
        and exists (select from own_functions own where own.proname = p.proname and own.pronamespace = p.pronamespace)
) others
union all
select 'signing key', signing_problem is null, coalesce(signing_problem, signing_key) from server
union all
select 'secret', legacy is null and problem is null,
    case when legacy is not null then
            'app.settings.jwt_secret can be read by every role: move it to the Vault or a file, or add a key with pat.add_signing_key()'
        else coalesce(problem, 'not in a setting that every role can read') end
from nullif(current_setting('app.settings.jwt_secret', true), '') legacy, pat.secret_problem() problem
union all
select 'reset codes', is_preloaded and not has_debug_code and digits <= 10,
    case when has_debug_code then 'supabase_pat.debug_reset_code is set: everybody knows the code'
        when not is_preloaded then format('codes have %s digits, since wrong ones are forgotten with a rollback: put '
            'supabase_pat into shared_preload_libraries and restart', digits)
        when digits > 10 then format('new codes have %s digits, since there have been too many wrong codes. After half a day '
            'without they are short again', digits)
        else format('random, %s digits', digits) end
from server, pat.reset_code_digits() digits
union all
select 'guard', not is_preloaded or configured is null or missing is null,
    case when not is_preloaded then 'off: it needs the library to be preloaded'
        when configured is null then 'off: supabase_pat.guarded_logins names nobody'
        when missing is not null then format('there is no login %s: name the login of the REST server in supabase_pat.guarded_logins', missing)
        else format('judges each request of %s, with %s connections now', configured, connections) end
from server, guarded
union all
select 'gate', coalesce(requests > 0, false) or dependent = 0 or is_guarded and may_be_idle,
    case when requests > 0 then concat_ws('; ', requests || ' requests in this database since the server started',
            'the last at ' || date_trunc('second', last_request_at))
        when requests = 0 and is_guarded then format('no request in this database since the server started at %s. If there is traffic, name the '
            'login it comes from in supabase_pat.guarded_logins. Where requests are not judged, these are refused: %s',
            date_trunc('second', pg_postmaster_start_time()), refused)
        else format('%s. Where requests are not judged, these are refused: %s. Preload the library and name the REST server''s login '
            'in supabase_pat.guarded_logins, or set its db-pre-request = pat.gate: alter role authenticator set pgrst.db_pre_request = ''pat.gate''',
            concat_ws(', ', case when requests = 0 then 'no request has been judged in this database since the server started'
                    when is_preloaded then 'there are too many databases to tell whether requests are judged'
                    else 'whether requests are judged is not counted without preloading' end,
                'though db-pre-request is ' || configured || ', which not every REST server reads'), refused) end
from gate
union all
select 'row security', tables is null and not is_missing,
    case when is_missing then format('there is no schema %s: set supabase_pat.default_schema to the first one of the REST server', schema)
        when tables is null then 'on for each table that API roles may use in ' || schema
        else format('off for %s, which %s may use as they like: alter table ... enable row level security, with policies', tables, roles) end
from (
    select value as schema, string_agg(distinct c.oid::regclass::text, ', ') as tables, string_agg(distinct role, ', ') as roles,
        value is not null and to_regnamespace(quote_ident(value)) is null as is_missing
    from setting left join pg_class c on c.relnamespace = to_regnamespace(quote_ident(value)) and c.relkind in ('r', 'p') and not c.relrowsecurity
            and exists (select from api_role r where r.name <> 'service_role' and r.oid is not null
                and has_any_column_privilege(r.oid, c.oid, 'select, insert, update'))
        left join api_role on api_role.name <> 'service_role' and api_role.oid is not null
            and has_any_column_privilege(api_role.oid, c.oid, 'select, insert, update')
    where setting.name = 'default_schema' group by value
) exposed
union all
select 'next pre-request', problem is null,
    case when name is null then 'none' else coalesce(problem || '. The gate lets nothing through.', name) end
from (
    select name, case
        when next_problem is not null then next_problem
        else (select format('%s may not execute %s', string_agg(role, ', ' order by role), next.name) from api_role r
            where r.oid is not null and not (has_function_privilege(r.oid, next.oid, 'execute')
                and has_schema_privilege(r.oid, next.pronamespace, 'usage')) having count(*) > 0)
        end as problem
    from next
) checked
union all
select 'addresses', value <> '0' or with_addresses = 0,
    case when value <> '0' then format('from X-Forwarded-For, behind %s trusted proxies', value)
        when with_addresses = 0 then 'not known, since supabase_pat.trusted_proxies is 0: all who have no login share the reset '
            'codes that there are for an e-mail address within an hour'
        else format('%s tokens with allowed_ips are refused, since supabase_pat.trusted_proxies is 0: set it to the number of '
            'proxies in front of the REST server that add to X-Forwarded-For', with_addresses) end
from setting, keys where name = 'trusted_proxies'
union all
select 'revocation', value not like 'remote\_%' or standbys <> '',
    case when value = 'off' then 'as sure as synchronous_commit makes it'
        when value not like 'remote\_%' then 'on disk when it is answered'
        when standbys = '' then format('waits for no standby, though supabase_pat.revoke_synchronous_commit is %s: name '
            'those that it is to wait for in synchronous_standby_names', value)
        else format('waits for %s of %s', value, standbys) end
from setting, current_setting('synchronous_standby_names') standbys where name = 'revoke_synchronous_commit'
union all
select 'password hashes', readable is null,
    case when readable is null then 'no API role can read them, nor the tokens beside them'
        else format('%s. Whoever reads it can log in as others: revoke it, and grant columns by name', readable) end
from (
    select string_agg(format('%s may read %s', role, columns), '; ' order by role) as readable
    from (
        select reader.role, string_agg(format('%s.%s', c.oid::regclass, attname), ', ' order by c.relname, attname) as columns
        from (
            select role, oid from api_role where name <> 'service_role'
            union
            select rolname, oid from pg_roles where rolname = 'authenticator'
        ) reader, pg_class c, pg_attribute a
        where c.relnamespace = to_regnamespace('auth') and a.attrelid = c.oid and not a.attisdropped
            and (c.relname, a.attname) in (
                ('users', 'encrypted_password'), ('users', 'confirmation_token'), ('users', 'recovery_token'),
                ('users', 'email_change_token_new'), ('users', 'email_change_token_current'), ('users', 'phone_change_token'),
                ('users', 'reauthentication_token'), ('refresh_tokens', 'token'), ('sessions', 'refresh_token_hmac_key'),
                ('one_time_tokens', 'token_hash'), ('mfa_factors', 'secret'))
            and has_schema_privilege(reader.oid, c.relnamespace, 'usage')
            and has_column_privilege(reader.oid, c.oid, a.attnum, 'select')
            -- Policies show some rows, or all; without any, row level security hides them.
            and (not c.relrowsecurity or (select rolbypassrls from pg_roles where oid = reader.oid)
                or exists (select from pg_policy where polrelid = c.oid and polcmd in ('r', '*')))
        group by reader.role
    ) readers
) checked
where to_regclass('auth.users') is not null
union all
select 'auth functions', policies = 0 or value = 'on' and problem is null,
    case when policies = 0 then 'no policy calls auth.uid() or its like once a row'
        else format('%s policies call %s once a row', policies, functions) || case
            when problem is not null then format(', which stays slow, since %s: write (select auth.uid()) in them', problem)
            when value = 'on' then ', which costs what a literal does'
            else ': set supabase_pat.fast_auth_functions to on, or write (select auth.uid()) in them' end end
from auth_functions, setting where name = 'fast_auth_functions'
union all
select 'service accounts', problem is null, coalesce(problem, case
        when manager.value is null then 'managed only by trusted roles: supabase_pat.service_account_manager names no function'
        else 'managed by those whom ' || manager.value || ' allows' end)
from pat.service_account_problem() problem, setting manager where manager.name = 'service_account_manager'
union all
select 'mail worker', value is null or to_regrole(quote_ident(value)) is not null,
    case when value is null then 'none: supabase_pat.mail_worker_role names nobody, so only trusted roles claim messages'
        when to_regrole(quote_ident(value)) is null then format('there is no role %s: create it, or set supabase_pat.mail_worker_role', value)
        else format('%s claims messages', value) end
from setting where name = 'mail_worker_role'
union all
select 'worker', is_standby or worker is not null and not is_crowded
        and coalesce(flushed_at, pg_postmaster_start_time()) > clock_timestamp() - 3 * flush_interval - interval '10 seconds',
    case when is_standby then 'starts when this standby is promoted'
        when worker is null then 'does not run: see the server''s log, and whether max_worker_processes is used up'
        when flushed_at is null then 'has just started'
        when is_crowded then format('parallel queries can take all %s processes of max_worker_processes, and then requests with tokens '
            'whose limit is a day or longer (%s) get 503: set max_parallel_workers to %s, or raise max_worker_processes and restart',
            processes, with_long_limits, greatest(processes - 3, 0))
        else format('wrote the counts last at %s', date_trunc('second', flushed_at)) end
from server, (
    select with_long_limits, processes, with_long_limits > 0 and processes - current_setting('max_parallel_workers')::int < 3 as is_crowded
    from keys, cast(current_setting('max_worker_processes') as int) processes
) slots where is_preloaded
union all
select 'room', lost = 0,
    case when lost = 0 then 'shared memory has had room for every token'
        else format('%s uses were not noted: raise supabase_pat.tracked_keys and restart', lost) end
from server where is_preloaded
union all
select 'sign-in', sign_in.value = 'off' or proxies.value <> '0',
    case when sign_in.value = 'off' then 'off: supabase_pat.enable_sign_in'
        when proxies.value <> '0' then 'strangers who guess do not make users wait where they have signed in before'
        else 'strangers who guess make everybody wait who signs in to that account, for up to 5 seconds each time, since '
            'supabase_pat.trusted_proxies is 0: set it to the number of proxies in front of the REST server that add to X-Forwarded-For' end
from setting sign_in, setting proxies where sign_in.name = 'enable_sign_in' and proxies.name = 'trusted_proxies'
$$;

comment on function pat.auth_uid() is
    'Returns what auth.uid() returns, or raises the same error, computed once per statement. With '
    'supabase_pat.fast_auth_functions it replaces auth.uid() in plans.';
comment on function pat.auth_role() is
    'Returns what auth.role() returns, or raises the same error, computed once per statement. With '
    'supabase_pat.fast_auth_functions it replaces auth.role() in plans.';
comment on function pat.auth_email() is
    'Returns what auth.email() returns, or raises the same error, computed once per statement. With '
    'supabase_pat.fast_auth_functions it replaces auth.email() in plans.';
comment on function pat.auth_jwt() is
    'Returns what auth.jwt() returns, or raises the same error, computed once per statement. With '
    'supabase_pat.fast_auth_functions it replaces auth.jwt() in plans.';
comment on function pat.gate() is
    'For db-pre-request of PostgREST, where the library is not preloaded: refuses requests that should not run, before any query: 401 for tokens that are not valid, sessions that have ended and tokens that were denied; 403 for addresses and scopes; 429 for limits, 503 where they cannot be counted. Takes opaque tokens from the headers of supabase_pat.token_headers, and calls supabase_pat.next_pre_request for what it lets through. In connections of supabase_pat.guarded_logins the request has been judged already, and is neither judged nor counted again.';
comment on function public.is_valid_api_token() is
    'For policies: true unless the request was made with a personal access token that is unknown, another user''s, revoked, disabled or expired, or whose user is deleted or banned, or that needs the guard or the gate and has not been let through by it. True for logins, anon and sessions without claims. Never raises an error.';
comment on function public.api_key_allows(text, text) is
    'For policies: whether the value is among those of an attribute of the request''s token. True for a login, and for a token that does not have the attribute; false for a token that is not valid.';
comment on function public.api_key_allows(text, uuid) is
    'As api_key_allows(name, value), for an id: it is compared as text, but not converted to text for each row.';
comment on function public.api_key_attribute(text) is
    'The value of an attribute of the request''s token, as it is now. Null for a login, for a token that does not have it, and for one that is not valid: to limit what is seen, use api_key_allows().';
comment on table pat.api_key_counters is
    'How many requests tokens have been granted in the windows of their limits of a day or longer. Only the worker '
    'writes it.';
comment on table pat.key_attributes is
    'The attributes that tokens may have. Change them with pat.define_key_attribute() and pat.drop_key_attribute().';
comment on column pat.key_attributes.required is 'Whether a token must have it to be minted.';
comment on column pat.api_keys.attributes is 'What the token is limited to besides its scopes.';
comment on column pat.api_keys.disabled_at is 'When the token was disabled. It can be enabled again.';
comment on column public.api_keys.is_active is 'Neither revoked nor expired nor disabled.';
comment on column public.api_keys.attributes is 'What the token is limited to besides its scopes.';
comment on function pat.claim_notices(integer) is
    'Hands out up to max notices to be sent, and keeps them from other workers for supabase_pat.outbox_lease. A '
    'notice says what happened to which token, who did it, and the present address and language of the user. Notices '
    'that no longer apply are left out. A notice that is neither confirmed nor returned is handed out again. For '
    'trusted roles.';
comment on function pat.notice_sent(bigint) is
    'Confirms that a claimed notice was sent, and deletes its content. False if there is no such notice. For trusted '
    'roles.';
comment on function pat.notice_failed(bigint, text) is
    'Returns a claimed notice that could not be sent, for another try after a pause that grows to an hour. error: the '
    'reason, for last_error. False if there is no such notice. For trusted roles.';
comment on function pat.key_attributes_changed() is
    'Trigger: tells every backend to read the attributes of tokens again.';
comment on table pat.api_key_days is
    'How many requests each token made on each day, but for its latest one, which is in pat.api_key_usage.';
comment on column pat.api_key_days.day is 'In UTC.';
comment on column pat.api_key_days.requests is 'Those that were let through.';
comment on table pat.api_key_usage is 'When each token was last used, and how often on its latest day.';
comment on column pat.api_key_usage.day is 'The latest day, in UTC, on which it was used or refused, with its counts.';
comment on column pat.api_key_usage.requests is 'Those of that day that were let through.';
comment on view public.api_key_daily_usage is
    'How many requests each of your personal access tokens made on each day, and how many were refused.';
comment on column public.api_key_daily_usage.name is 'Null if the token has been deleted.';
comment on column public.api_key_daily_usage.day is 'In UTC.';
comment on column public.api_key_daily_usage.requests is 'Those that were let through.';
comment on view pat.usage_by_day is
    'How many requests each token of each user made on each day, and how many were refused. For trusted roles.';
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
comment on function pat.metrics() is
    'Numbers for a monitoring system, by the conventions of Prometheus: name, kind (counter or gauge), what it means, '
    'labels and value. It costs the same however many tokens there are. For trusted roles and members of pg_monitor.';
comment on function pat.auth_function_problem(text) is
    'Why auth.uid(), auth.role(), auth.email() or auth.jwt() is not replaced in plans, or null. For pat.status(); for '
    'trusted roles.';
comment on function pat.explain_access(uuid, text) is
    'What a personal access token may touch: a row for the token itself, and one for each table, view and function of '
    'the statement, which is neither planned nor run, with the scope that it needs and whether scopes and privileges '
    'allow it. Without a statement: all tables and views of supabase_pat.default_schema. What policies read needs no '
    'scope and is not shown; which rows they let through is not checked. For trusted roles.';
comment on table pat.denied_tokens is 'JWTs that are refused though their signature is right, as digests: see pat.deny_token.';
comment on type pat.server_state is 'What pat.server_state() returns.';
comment on function pat.jwt_status(text) is
    'valid, expired, not_yet_valid, bad_signature, unknown_key, unsupported_algorithm, malformed or revoked: what '
    'pat.verify_jwt would find of a JWT, and for an opaque token what its row says. Never raises an error.';
comment on function public.introspect_token(text, text) is
    'For another service that is handed a token: the answer of RFC 7662. For a token that is not valid it is '
    '{"active": false}, without a reason and never an error. For a valid token it also has sub, role, scope, exp, '
    'iat, iss, aud, jti, username, name and kind: jwt or opaque for a personal access token, session for a login, '
    'api_key for a Supabase API key. If scope is given (several are separated by spaces), the token is active only if '
    'it grants them all. A token with allowed_ips, a rate limit or a quota is not active, since only where its request is '
    'judged can it be held to them. The use of the token is recorded. For trusted roles.';
comment on function public.exchange_token(interval, text[]) is
    'For a request that is made with a personal access token: returns a short-lived JWT in its place, for servers '
    'that take only JWTs, or for somebody who should be allowed less. The JWT has the id of the token, so whatever '
    'ends the token ends it too. It lives no longer than the token, and an hour at most. It has the token''s scopes, '
    'or those of them that are named, without tokens:write and tokens:delete. Tokens with allowed_ips or a limit '
    'cannot be exchanged. Stores nothing, and needs no scope.';
comment on function pat.import_token(uuid, text, text, text[], timestamptz, timestamptz, cidr[], integer, interval) is
    'Registers a token of another system, given by its SHA-256, as an opaque token of the user, and returns its id. '
    'name: as its user has chosen it; control characters are replaced, and what is too long is cut off. digest: in '
    'hexadecimal, base64 or base64url. expires_at: null for supabase_pat.default_lifetime from now on. The other '
    'arguments are as for mint_pat. Importing a token twice makes one token; for another user it is an error. For '
    'trusted roles.';
comment on function public.report_leaked_tokens(text[], text) is
    'For anybody who finds leaked tokens: revokes each live personal access token among them and the tokens that were '
    'made with it, and denies keys of the service role. Whoever has the whole token may report it. found_at: where it '
    'was found, for the events, up to 200 characters. The answer is the same whatever the tokens are. Off unless '
    'supabase_pat.enable_leak_reports is on.';
comment on table pat.service_accounts is
    'Which users are service accounts. Change it with create_service_account() and delete_service_account().';
comment on column pat.service_accounts.created_by is 'The user who created it; null for a trusted role.';
comment on view public.service_accounts is
    'The service accounts that the caller manages, as the function in supabase_pat.service_account_manager decides.';
comment on column public.service_accounts.id is 'The user id of the account, as in auth.users.';
comment on function public.create_service_account(text, text) is
    'Creates a user for a machine, who has tokens and no login, and returns the id. Trusted roles may call it; for '
    'other callers the function in supabase_pat.service_account_manager decides, which is asked with null. name: up '
    'to 100 characters. description: for people. Whoever manages the account passes the id as user_id to mint_pat and '
    'similar functions. A request made with a token needs the scope service_accounts:write.';
comment on function public.delete_service_account(uuid) is
    'Deletes a service account that the caller manages: revokes its tokens, and deletes its user from auth.users, '
    'with what refers to that user there. False if there is no such account, or the caller does not manage it. A '
    'request made with a token needs the scope service_accounts:delete.';
comment on function public.service_account_tokens(uuid) is
    'The tokens of a service account that the caller manages, as api_keys shows one''s own. A request made with a token needs the scope service_accounts:read.';
comment on function public.is_service_account() is
    'For policies: whether the user of the request is a service account. It does not say whether the token is valid.';
comment on function pat.manages_service_account(uuid) is
    'For policies: whether the caller manages that service account, as the function in '
    'supabase_pat.service_account_manager decides; for a trusted role, whether it is a service account.';
comment on function pat.created_service_account(uuid) is
    'For supabase_pat.service_account_manager: whether the caller has created that service account; for null, whether '
    'the request has a user. With it, each user manages the accounts that they have created.';
comment on function pat.service_account_problem() is
    'What is wrong with service accounts, or null. For pat.status(); for trusted roles.';
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
comment on function pat.define_key_attribute(text, jsonb, boolean) is
    'Declares an attribute that tokens may have, such as the projects that they are for, or changes its declaration. '
    'schema: a JSON Schema that values must meet when a token is minted or edited, null for any. required: whether a '
    'token must have it. For trusted roles.';
comment on function pat.drop_key_attribute(text) is
    'Removes an attribute, which new tokens then cannot have. Tokens that have it keep it. False if there is no such '
    'attribute. For trusted roles.';
comment on function public.setting_definitions() is
    'The settings that are declared, for a program that shows a form for them: an object with the default, schema (a '
    'JSON Schema, or null) and overridable of each. It holds no user''s values.';
comment on function public.current_api_key() is
    'What the token of this request is: id, name, description, kind, scopes, attributes, created_at, expires_at, and of its rate_limit and quota the limit, the window in seconds, what remains of it, and the Unix time at which the next window begins. Null for a login, and for a token that is not valid. It needs no scope.';
comment on function public.rotate_pat(uuid, interval) is
    'Replaces a live token of the caller (of anyone, for a trusted role) by a new one of the same kind, name, scopes, '
    'limits and lifetime. The old one is valid until the end of grace, which by default is at once. A request made '
    'with a token needs the scope tokens:write and, for other tokens, tokens:delete.';
comment on function public.revoke_pat(uuid) is
    'Revokes a token of the caller (of anyone, for a trusted role), from the next statement on; without an id, the '
    'token that the request was made with. True if it was live; false if it was not, or is not yours.';
comment on function public.revoke_pat(uuid, boolean) is
    'As revoke_pat(id); with cascade it also revokes the tokens that were made with the token, those that were made '
    'with these, and so on, even if the token itself is no longer live or has been deleted. True if any of them was '
    'live.';
comment on function public.revoke_all_pats(uuid) is
    'Revokes all live tokens of a user, null for the caller, and returns how many there were. A request made with a token needs the scope tokens:delete.';
comment on function public.has_scope(text) is
    'For policies: whether the request may do resource:action. True for a login; for a valid token, whether its scopes cover it. A token without scopes has every scope but those that must be named, such as tokens:write.';
comment on function public.signed_in_user() is
    'The user of the request, as Supabase Auth shows a user to themselves; null without one. A token with a list of scopes needs user:read.';
comment on function public.sign_up(text, text, jsonb) is
    'Creates a user with an address and a password; data becomes their user_metadata. With '
    'supabase_pat.confirm_sign_up it returns a confirmation_token, which confirm_sign_up takes with the code that '
    'comes by e-mail; otherwise it returns a session. Signing up again replaces the password of a user whom sign_up '
    'has created and to whom nothing has happened since, such as a confirmation or a login. Off unless '
    'supabase_pat.enable_sign_up is on.';
comment on function public.refresh_session(text) is
    'New tokens of a session in exchange for its refresh token, which they replace. Null, with status 401 over REST, '
    'for a refresh token that is refused. A token that was replaced longer ago than '
    'supabase_pat.refresh_reuse_interval ends the session.';
comment on function public.verify_reset_code(text, text) is
    'Whether the code belongs to the token, and both are still valid. A wrong code is counted: after '
    'supabase_pat.reset_max_attempts of them the token is no longer valid, and after too many for an address, from '
    'one client or from everybody together, short codes are refused. The code stays valid for reset_password.';
comment on function pat.reset_code_digits() is
    'How many digits a code has that is issued now: supabase_pat.reset_code_length, or 16 after too many wrong codes, '
    'and where wrong codes cannot be counted because the library is not preloaded. The claim digits of a token says '
    'how many its own code has.';
comment on function pat.secret_problem() is
    'What is wrong with the configured JWT secret, or null. For pat.status(); for trusted roles.';
comment on function pat.deny_token(text, text) is
    'Makes the gate refuse a JWT from the next request on, a leaked service_role key for instance, without a change '
    'of the secret that others are signed with. A personal access token is also revoked. The JWT is recognised by the '
    'part that is signed and by its claims, whichever role a server derives from them. reason: for pat.events and '
    'pat.denied_tokens, and for the owner of a personal access token, who sees it in api_key_events. Deleting the row '
    'in pat.denied_tokens accepts the token again. For trusted roles.';
comment on column public.api_keys.scopes is
    'What the token may do: null for everything except what needs a scope by name, such as tokens:write.';
comment on table pat.code_attempts is
    'How many wrong codes were tried with each token and, for a day, how likely the tries at short codes were to '
    'succeed.';
comment on table pat.api_key_origins is
    'Which tokens were made with other tokens, or by restricted logins. A row outlives its token.';
comment on column pat.api_key_origins.made_by is 'The token that the request came with.';
comment on column pat.api_key_origins.claims is 'Those claims of the login that the token carries.';
comment on table pat.known_networks is
    'Networks from which users have signed in recently. Wrong passwords that others try from elsewhere do not slow '
    'down signing in from them.';
comment on table pat.pending_sign_ups is
    'Users whom sign_up has created, until they confirm their address. Only theirs is replaced when somebody signs up '
    'again with the address.';
comment on function pat.status() is
    'Checks the installation: one row per check, whose detail says what is wrong and how to fix it. For trusted roles.';
comment on function pat.server_state() is
    'For pat.status(): what only the server knows about itself. For trusted roles.';
comment on table pat.events is
    'The audit trail: what happened, to which user and token, and by whom. No secret is in it.';
comment on function pat.bearer_token(text) is
    'The token in the value of an Authorization header, null if its scheme is not Bearer.';
comment on function pat.inspect_api_key(text) is
    'What a Supabase API key or token is, what is wrong with it and how to fix it, in plain words. Never raises an '
    'error and never repeats the key.';
comment on function pat.verify(text, text, text) is
    'As in pgjwt: the header and payload of a token, and whether it is signed with the secret by the algorithm and '
    'the present time is within its nbf and exp.';
comment on function pat.denied_tokens_changed() is 'Trigger: tells every backend to read the denied tokens again.';
comment on function public.request_password_reset(text) is
    'Puts a message with a code for a new password into the outbox if the address belongs to a user, and returns the '
    'token that goes with the code. The answer is the same whether or not there is such a user.';
comment on function public.reset_password(text, text, text) is
    'Sets a new password for whoever has the token and its code, and ends the sessions of that user. False for a '
    'wrong code or token; an error for a password that is not acceptable.';
comment on function pat.claim_messages(integer) is
    'Hands out up to max messages of the outbox to be sent, with address and code in the clear, and keeps them from '
    'other workers for supabase_pat.outbox_lease. A message that is neither confirmed nor returned is handed out '
    'again. For trusted roles; NOTIFY supabase_pat_outbox says that there is one.';
comment on function pat.message_sent(uuid) is
    'Confirms that a claimed message was sent, and deletes its content. False if there is no such message. For '
    'trusted roles.';
comment on function pat.message_failed(uuid, text) is
    'Returns a claimed message that could not be sent, for another try after a pause that grows to a minute. error: '
    'the reason, for last_error. False if there is no such message. For trusted roles.';
comment on function public.confirm_sign_up(text, text) is
    'Confirms the address of a new user with the token of sign_up and the code that came by e-mail, and begins a '
    'session. Null, with status 401 over REST, for a wrong token or code.';
comment on function public.sign_in(text, text) is
    'Begins a session for an address and its password. Null if the password is wrong: over REST with status 401, or '
    '429 after too many wrong ones. Off unless supabase_pat.enable_sign_in is on.';
comment on function pat.uid() is
    'The user of this request, as auth.uid() returns it, but computed once per statement instead of once per row. '
    'Null where auth.uid() would raise an error.';
comment on function public.is_active_session() is
    'For policies: whether the session of the request still exists, and its user may log in. For a personal access '
    'token, whether the token is valid. True for requests without a session, such as those of anon.';
comment on table pat.sessions is
    'How often the refresh tokens of each session have been rotated, and when last. No token is stored.';
comment on function public.session_info() is
    'What the claims of the request say about its session. should_refresh: less than a minute is left.';
comment on table pat.signing_keys is
    'The keys that tokens are signed with. Change them with pat.add_signing_key() and similar functions.';
comment on function pat.signing_keys_changed() is 'Trigger: tells every backend to read the signing keys again.';
comment on function pat.forget_private_keys() is 'Trigger: deletes the private part of a signing key that is deleted.';
comment on function pat.keep_a_current_signing_key() is
    'Trigger: refuses a change after which there are signing keys, but no current one.';
comment on function pat.rotate_signing_key(text) is
    'Makes a key that is on standby, or was current before, the current one, which signs from now on. The key that '
    'was current still verifies. For trusted roles.';
comment on function pat.revoke_signing_key(text) is
    'Revokes a signing key: from the next statement on it verifies nothing, and the personal access tokens minted '
    'with it are revoked. Refused for the current key. Publish the keys to the REST server again. For trusted roles.';
comment on table pat.api_keys is 'One row per personal access token. The tokens themselves are not stored.';
comment on function pat.key_deleted() is 'Trigger: records an event for a token that is deleted.';
comment on function pat.setting_definitions_changed() is
    'Trigger: tells every backend to read the definitions of settings again.';
comment on function pat.define_setting(text, jsonb, jsonb, boolean) is
    'Declares a setting that every user has, or changes its declaration. default_value: the value until a user sets '
    'one. schema: a JSON Schema that its values must meet, null for any. overridable: whether a request may override '
    'it in get_settings. Refused if the default, or a value that a user has stored, does not meet the schema. For '
    'trusted roles.';
comment on function pat.drop_setting(text) is
    'Removes a setting and the users'' values of it. False if there is no such setting. For trusted roles.';
comment on function public.get_settings(jsonb) is
    'The settings that count for this request: for each declared setting its default, patched with the user''s own '
    'value, patched with the value in overrides (RFC 7396). A null override counts as none. Without a login: the '
    'defaults and the overrides.';

set local search_path = pat, pg_temp;
