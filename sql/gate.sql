set local search_path = pg_catalog, pg_temp;

-- It may refuse, so it is a function without pgrx's wrapper, which knows only Postgres's own SQLSTATEs.
create function pat.gate() returns void
    language c volatile
    as 'MODULE_PATHNAME', 'supabase_pat_gate';
comment on function pat.gate() is
    'For db-pre-request of PostgREST, where the library is not preloaded: refuses requests that should not run, before any '
    'query: 401 for tokens that are not valid, sessions that have ended and tokens that were denied; 403 for addresses and '
    'scopes; 429 for limits, 503 where they cannot be counted. Takes opaque tokens from the headers of supabase_pat.token_headers, and calls '
    'supabase_pat.next_pre_request for what it lets through. In connections of supabase_pat.guarded_logins the request has '
    'been judged already, and is neither judged nor counted again.';

comment on function pat.deny_token(text, text) is
    'Makes the gate refuse a JWT from the next request on, a leaked service_role key for instance, without a change '
    'of the secret that others are signed with. A personal access token is also revoked. The JWT is recognised by the '
    'part that is signed and by its claims, whichever role a server derives from them. reason: for pat.events and '
    'pat.denied_tokens, and for the owner of a personal access token, who sees it in api_key_events. Deleting the row '
    'in pat.denied_tokens accepts the token again. For trusted roles.';

comment on function public.current_api_key() is
    'What the token of this request is: id, name, description, kind, scopes, attributes, created_at, expires_at, and of its '
    'rate_limit and quota the limit, the window in seconds, what remains of it, and the Unix time at which the next window begins. '
    'Null for a login, and for a token that is not valid. It needs no scope.';
comment on function pat.explain_access(uuid, text) is
    'What a personal access token may touch: a row for the token itself, and one for each table, view and function of '
    'the statement, which is neither planned nor run, with the scope that it needs and whether scopes and privileges '
    'allow it. Without a statement: all tables and views of supabase_pat.default_schema. What policies read needs no '
    'scope and is not shown; which rows they let through is not checked. For trusted roles.';
comment on function public.report_leaked_tokens(text[], text) is
    'For anybody who finds leaked tokens: revokes each live personal access token among them and the tokens that were '
    'made with it, and denies keys of the service role. Whoever has the whole token may report it. found_at: where it '
    'was found, for the events, up to 200 characters. The answer is the same whatever the tokens are. Off unless '
    'supabase_pat.enable_leak_reports is on.';

set local search_path = pat, pg_temp;
