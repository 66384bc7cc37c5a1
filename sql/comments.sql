comment on function public.mint_pat(uuid, text, interval, text[]) is
    'Mints a personal access token and returns it with its id, name and expiry. The token is shown this once. user_id: null for the caller; only a trusted role may name another user. name: what will use it. expires_in: null for supabase_pat.default_lifetime. scopes: null for everything but tokens:write. A request made with a token needs the scope tokens:write, and grants no more than it has.';
comment on function public.rotate_pat(uuid, interval) is
    'Replaces a live token of the caller (of anyone, for a trusted role) by a new one with the same name, scopes and lifetime. The old one dies at the end of grace, at once by default. A request made with a token needs the scope tokens:write.';
comment on function public.revoke_pat(uuid) is
    'Revokes a token of the caller (of anyone, for a trusted role), from the next statement on. True if it was live; false if it was dead already or is not yours.';
comment on function public.revoke_all_pats(uuid) is
    'Revokes all live tokens of a user, null for the caller, and returns how many there were.';
comment on function public.is_valid_api_token() is
    'For policies: true unless the request was made with a personal access token that is unknown, another user''s, revoked or expired, or whose user is deleted or banned. True for logins, anon and sessions without claims. Never raises an error.';
comment on function public.has_scope(text) is
    'For policies: whether the request may do resource:action. True for a login; for a valid token, whether its scopes cover it. A token without scopes has every scope but tokens:write.';
comment on function public.current_api_key_id() is
    'Which token made this request: its id in api_keys. Null for a login. It does not say whether the token is valid.';
comment on function pat.uid() is
    'The user of this request, as auth.uid() returns it, found once a statement instead of once a row. Null where auth.uid() would raise an error.';
comment on function pat.is_trusted() is
    'Whether the current role is a superuser or has the privileges of supabase_pat.service_role or of the extension''s owner.';
comment on function pat.sign_jwt(jsonb, interval) is
    'Signs claims with the JWT secret (HS256). Adds iat if it is missing, and exp if expires_in is given. For trusted roles.';
comment on function pat.verify_jwt(text, text) is
    'The claims of a token that is signed with the JWT secret, has not expired and, if audience is given, is meant for it. Raises an error that says which check failed. For trusted roles.';
comment on function pat.install_auth_schema() is
    'For plain Postgres: creates the API roles and a minimal auth schema with the columns and functions of Supabase''s. Refuses if auth.users exists. What it creates does not belong to the extension.';

comment on type public.minted_pat is 'A token that has just been minted, shown once.';

comment on view public.api_keys is
    'Your personal access tokens. Deleting a row revokes its token.';
comment on column public.api_keys.id is 'The jti claim of the token.';
comment on column public.api_keys.hint is 'The last six characters of the token.';
comment on column public.api_keys.scopes is 'What the token may do: null for everything but tokens:write.';
comment on column public.api_keys.is_active is 'Neither revoked nor expired.';

comment on table pat.api_keys is
    'One row a personal access token. The tokens themselves are not stored.';
comment on column pat.api_keys.replaced_by is 'The token that rotate_pat made in its place.';
comment on column pat.api_keys.hint is 'The last six characters of the token; null for imported ones.';
