set local search_path = pg_catalog, pg_temp;

-- Two functions without pgrx's wrapper: see src/request/policy.rs. Their costs make the planner compare
-- user ids first and ask about the token only for the rows that are left.
create function pat.uid() returns uuid
    language c stable parallel safe cost 1
    as 'MODULE_PATHNAME', 'supabase_pat_uid';
comment on function pat.uid() is
    'The user of this request, as auth.uid() returns it, but computed once per statement instead of once per row. '
    'Null where auth.uid() would raise an error.';

create function public.is_valid_api_token() returns boolean
    language c stable parallel safe cost 3
    as 'MODULE_PATHNAME', 'supabase_pat_is_valid_api_token';
comment on function public.is_valid_api_token() is
    'For policies: true unless the request was made with a personal access token that is unknown, another user''s, '
    'revoked, disabled or expired, or whose user is deleted or banned, or that needs the guard or the gate and has not been '
    'let through by it. True for logins, anon and sessions without claims. Never raises an error.';

-- What stands for Supabase's functions in plans: see src/request/auth_functions.
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
comment on function pat.auth_function_problem(text) is
    'Why auth.uid(), auth.role(), auth.email() or auth.jwt() is not replaced in plans, or null. For pat.status(); for '
    'trusted roles.';

comment on function public.has_scope(text) is
    'For policies: whether the request may do resource:action. True for a login; for a valid token, whether its '
    'scopes cover it. A token without scopes has every scope but those that must be named, such as '
    'tokens:write.';
-- Not strict: a login may see rows whose value is null. Dearer than the checks above, so that they come first.
create function public.api_key_allows(name text, value text) returns boolean
    language c stable parallel safe cost 6
    as 'MODULE_PATHNAME', 'supabase_pat_api_key_allows';
comment on function public.api_key_allows(text, text) is
    'For policies: whether the value is among those of an attribute of the request''s token. True for a login, and for a '
    'token that does not have the attribute; false for a token that is not valid.';
create function public.api_key_allows(name text, id uuid) returns boolean
    language c stable parallel safe cost 6
    as 'MODULE_PATHNAME', 'supabase_pat_api_key_allows_id';
comment on function public.api_key_allows(text, uuid) is
    'As api_key_allows(name, value), for an id: it is compared as text, but not converted to text for each row.';
comment on function public.api_key_attribute(text) is
    'The value of an attribute of the request''s token, as it is now. Null for a login, for a token that does not have '
    'it, and for one that is not valid: to limit what is seen, use api_key_allows().';
comment on function public.current_api_key_id() is
    'Which token made this request: its id in api_keys. Null for a login. It does not say whether the token is valid.';
comment on function public.is_active_session() is
    'For policies: whether the session of the request still exists, and its user may log in. For a personal access '
    'token, whether the token is valid. True for requests without a session, such as those of anon.';

set local search_path = pat, pg_temp;
