set local search_path = pg_catalog, pg_temp;

-- The doctor: one row a check, which says how to fix what fails.
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
comment on function pat.status() is
    'Checks the installation: one row per check, whose detail says what is wrong and how to fix it. For trusted roles.';

comment on function pat.server_state() is
    'For pat.status(): what only the server knows about itself. For trusted roles.';
comment on function pat.metrics() is
    'Numbers for a monitoring system, by the conventions of Prometheus: name, kind (counter or gauge), what it means, '
    'labels and value. It costs the same however many tokens there are. For trusted roles and members of pg_monitor.';
comment on function pat.secret_problem() is
    'What is wrong with the configured JWT secret, or null. For pat.status(); for trusted roles.';
comment on function pat.is_trusted() is
    'Whether the current role is a superuser or has the privileges of supabase_pat.service_role or of the '
    'extension''s owner.';
comment on function pat.record_initial_privileges(oid, oid) is
    'For pat.grant_api_roles(): makes the present privileges of one of the extension''s objects its initial ones, '
    'which no dump holds.';

set local search_path = pat, pg_temp;
