-- The doctor: one row a check, with the mend where it fails.
create function pat.status() returns table ("check" text, ok boolean, detail text)
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
    from unnest('{anon_role, authenticated_role, service_role, next_pre_request, trusted_proxies, revoke_synchronous_commit}'::text[]) name
),
api_role as (
    select name, value as role, to_regrole(quote_ident(value)) as oid from setting where name like '%\_role'
),
-- What the REST server was told through the database: alter role authenticator set pgrst.db_pre_request = ….
pre_request as (
    select string_agg(distinct split_part(line, '=', 2), ', ') as configured
    from pg_db_role_setting, unnest(setconfig) line
    where line like 'pgrst.db\_pre\_request=%' and setdatabase in (0, (select oid from pg_database where datname = current_database()))
),
keys as (
    select count(*) filter (where kind = 'opaque') as opaque,
        count(*) filter (where allowed_ips is not null) as with_addresses,
        count(*) filter (where rate_limit is not null) as with_limits
    from pat.api_keys where revoked_at is null and expires_at > now()
),
next as (
    select setting.value as name, next_problem, p.oid, p.pronamespace
    from setting, server left join pg_proc p on p.oid = next_pre_request where name = 'next_pre_request'
),
gate as (
    select configured, requests, last_request_at,
        coalesce(requests > 0, false) or coalesce(configured like '%pat.gate%', false) as is_there
    from server, pre_request
)
select 'library', is_preloaded,
    case when is_preloaded then 'preloaded'
        else 'not preloaded: last_used_at stays null, rate limits count for each connection by itself, refusals '
            'leave no events, and supabase_pat.jwt_secret does not count. Put supabase_pat into '
            'shared_preload_libraries and restart.' end
from server
union all
select 'version', extversion = version,
    case when extversion = version then version
        else format('the library is %s and the extension %s: run alter extension supabase_pat update', version, extversion) end
from server, pg_extension where extname = 'supabase_pat'
union all
select 'users', to_regclass('auth.users') is not null,
    case when to_regclass('auth.users') is not null then 'auth.users'
        else 'there is no table auth.users: install Supabase Auth, or call pat.install_auth_schema()' end
union all
select 'roles', bool_and(oid is not null),
    case when bool_and(oid is not null) then string_agg(role, ', ' order by name)
        else format('there is no role %s: create it and call pat.grant_api_roles(), or set supabase_pat.anon_role, '
            '.authenticated_role and .service_role', string_agg(role, ', ' order by name) filter (where oid is null)) end
from api_role
union all
select 'grants', bool_and(has_function_privilege(oid, mint, 'execute')),
    case when bool_and(has_function_privilege(oid, mint, 'execute')) then 'given'
        else format('%s may not call mint_pat: call pat.grant_api_roles()',
            string_agg(role, ', ' order by name) filter (where not has_function_privilege(oid, mint, 'execute'))) end
from api_role, to_regprocedure('public.mint_pat(uuid,text,interval,text[],text,cidr[],integer,interval)') mint
where name <> 'anon_role' and oid is not null
having count(*) > 0
union all
select 'trusted functions', found is null,
    case when found is null then 'for trusted roles alone' else format('API roles may call %s: revoke it', found) end
from (
    select string_agg(distinct function::text, ', ' order by function::text) as found
    from api_role, unnest(array['pat.sign_jwt(jsonb,interval)', 'pat.mint_session(uuid)', 'pat.issue_reset_code(text)',
        'pat.claim_messages(integer)', 'pat.add_signing_key(text,text,text)', 'pat.deny_token(text,text)']::regprocedure[]) function
    where name <> 'service_role' and oid is not null and has_function_privilege(oid, function, 'execute')
) granted
union all
select 'signing key', signing_problem is null, coalesce(signing_problem, signing_key) from server
union all
select 'secret', secret is null,
    case when secret is null then 'not in a setting that every role can read'
        else 'app.settings.jwt_secret can be read by every role: move it to the Vault or a file, or add a key with pat.add_signing_key()' end
from nullif(current_setting('app.settings.jwt_secret', true), '') secret
union all
select 'reset codes', not has_debug_code,
    case when has_debug_code then 'supabase_pat.debug_reset_code is set: everybody knows the code' else 'random' end
from server
union all
select 'gate', is_there or opaque + with_addresses + with_limits = 0,
    case when is_there then concat_ws('; ', 'db-pre-request is ' || configured,
            requests || ' requests since the server started', 'the last at ' || date_trunc('second', last_request_at))
        else format('%s. It is needed for opaque tokens (%s), allowed_ips (%s) and rate limits (%s). Set '
            'db-pre-request = pat.gate in PostgREST, or: alter role authenticator set pgrst.db_pre_request = ''pat.gate''',
            coalesce('db-pre-request is ' || configured, 'pat.gate() has not been called'), opaque, with_addresses, with_limits) end
from gate, keys
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
        when with_addresses = 0 then 'not known: supabase_pat.trusted_proxies is 0'
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
select 'worker', is_standby or worker is not null and flushed_at > clock_timestamp() - 3 * flush_interval - interval '10 seconds',
    case when is_standby then 'starts when this standby is promoted'
        when worker is null then 'does not run: see the server''s log, and whether max_worker_processes is used up'
        when flushed_at is null then 'has just started'
        else format('wrote what there was at %s', date_trunc('second', flushed_at)) end
from server where is_preloaded
union all
select 'room', lost = 0,
    case when lost = 0 then 'shared memory has had room for every token'
        else format('%s uses were not noted: raise supabase_pat.tracked_keys and restart', lost) end
from server where is_preloaded
$$;
