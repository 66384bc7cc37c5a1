set local search_path = pg_catalog, pg_temp;

comment on function public.introspect_token(text, text) is
    'For another service that is handed a token: the answer of RFC 7662. For a token that is not valid it is '
    '{"active": false}, without a reason and never an error. For a valid token it also has sub, role, scope, exp, '
    'iat, iss, aud, jti, username, name and kind: jwt or opaque for a personal access token, session for a login, '
    'api_key for a Supabase API key. If scope is given (several are separated by spaces), the token is active only if '
    'it grants them all. A token with allowed_ips, a rate limit or a quota is not active, since only where its request is '
    'judged can it be held to them. The use of the token is recorded. For trusted roles.';

set local search_path = pat, pg_temp;
