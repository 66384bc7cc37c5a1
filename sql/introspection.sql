set local search_path = pg_catalog, pg_temp;

comment on function public.introspect_token(text, text) is
    'For another service that is handed a token: what RFC 7662 has it know. {"active": false} for whatever is not '
    'good, without a reason and never an error; else also sub, role, scope, exp, iat, iss, aud, jti, username, name '
    'and kind: jwt or opaque for a personal access token, session for a login, api_key for a Supabase API key. With '
    'scope (several with spaces between them) active only if the token grants it. A token with allowed_ips or a rate '
    'limit is not active, since only pat.gate() can hold it to them. Notes the use of a token. For trusted roles.';

set local search_path = pat, pg_temp;
