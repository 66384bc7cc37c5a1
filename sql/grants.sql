set local search_path = pg_catalog, pg_temp;

-- Supabase's default privileges give the API roles everything on new objects in public. Take all of
-- it away, then grant by name. Whatever is not named here is for the owner alone.
do $$
declare
    object text;
    grantee text;
begin
    for object in
        select case d.classid
                when 'pg_proc'::regclass then 'function ' || d.objid::regprocedure
                when 'pg_type'::regclass then 'type ' || d.objid::regtype
                else 'table ' || d.objid::regclass
            end
        from pg_depend d
        where d.refclassid = 'pg_extension'::regclass
            and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
            and d.deptype = 'e'
            and (d.classid = 'pg_proc'::regclass
                or d.classid = 'pg_class'::regclass
                or d.classid = 'pg_type'::regclass
                    and d.objid = any ('{public.minted_pat, pat.decoded_jwt, pat.api_key_report, pat.issued_reset_code,
                        public.minted_session, public.signed_up, pat.session_report, pat.server_state,
                        public.exchanged_token}'::regtype[]))
    loop
        execute format('revoke all on %s from public', object);
        for grantee in
            select distinct a.grantee::regrole::text
            from pg_default_acl acl, aclexplode(acl.defaclacl) a
            where a.grantee <> 0 and a.grantee <> acl.defaclrole
        loop
            execute format('revoke all on %s from %s', object, grantee);
        end loop;
    end loop;
end
$$;

-- Policies run their functions as the role of the request, whichever it is.
grant usage on schema pat to public;
grant usage on type public.minted_pat, pat.decoded_jwt, pat.api_key_report, pat.issued_reset_code,
    public.minted_session, public.signed_up, pat.session_report, pat.server_state, public.exchanged_token to public;
grant execute on function
    public.is_valid_api_token(),
    public.has_scope(text),
    public.current_api_key_id(),
    public.current_api_key(),
    public.api_key_allows(text, text),
    public.api_key_allows(text, uuid),
    public.api_key_attribute(text),
    public.is_active_session(),
    public.session_info(),
    public.signed_in_user(),
    pat.uid(),
    pat.auth_uid(),
    pat.auth_role(),
    pat.auth_email(),
    pat.auth_jwt(),
    pat.is_trusted(),
    public.is_service_account(),
    pat.manages_service_account(uuid),
    pat.created_service_account(uuid)
to public;

-- The gate runs as the role of the request too. It only refuses, or makes the bearer of a token its user.
grant execute on function pat.gate() to public;

-- What tells only what the caller has brought, or may know.
grant execute on function
    pat.jwks(),
    pat.jwt_status(text),
    pat.decode_jwt(text),
    pat.jwt_expires_in(text),
    pat.bearer_token(text),
    pat.inspect_api_key(text),
    pat.sign(json, text, text),
    pat.verify(text, text, text),
    pat.algorithm_sign(text, text, text),
    pat.url_encode(bytea),
    pat.url_decode(text),
    pat.take_password_hash(),
    pat.reset_code_digits(),
    public.get_settings(jsonb)
to public;

-- Who monitors the server sees numbers, and nothing that a token or a user could be known by.
grant execute on function pat.metrics() to pg_monitor;

create function pat.grant_api_roles() returns setof text
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

revoke all on function pat.grant_api_roles() from public;

comment on function pat.grant_api_roles() is
    'Grants the roles named by supabase_pat.anon_role, .authenticated_role and .service_role what they need, and '
    'returns those that exist. CREATE EXTENSION calls it; call it again if a role is created or the settings change '
    'later.';

select pat.grant_api_roles();
