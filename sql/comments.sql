comment on function public.mint_pat(uuid, text, interval, text[], text, cidr[], integer, interval) is
    'Mints a personal access token and returns it with its id, name and expiry. The token is shown this once. user_id: null for the caller; only a trusted role may name another user. name: what will use it. expires_in: null for supabase_pat.default_lifetime. scopes: null for everything but tokens:write and tokens:delete. kind: jwt, or opaque for a short one that goes into the header x-api-key. allowed_ips: from where it may be used; null for everywhere. rate_limit: how many requests it may make in each rate_window; null for no limit. Opaque tokens, allowed_ips and rate_limit need pat.gate(). A request made with a token needs the scope tokens:write, and grants no more than it has. A restricted login (of an application, of an anonymous user) mints none unless supabase_pat.mint_for_restricted_logins is on.';
comment on function public.rotate_pat(uuid, interval) is
    'Replaces a live token of the caller (of anyone, for a trusted role) by a new one of the same kind, name, scopes, limits and lifetime. The old one dies at the end of grace, at once by default. A request made with a token needs the scope tokens:write.';
comment on function public.revoke_pat(uuid) is
    'Revokes a token of the caller (of anyone, for a trusted role), from the next statement on. True if it was live; false if it was dead already or is not yours.';
comment on function public.revoke_pat(uuid, boolean) is
    'As revoke_pat(id); with cascade also all that was made with the token, with what that made, and so on, also if the token itself is dead or deleted. True if any of them was live.';
comment on function public.revoke_all_pats(uuid) is
    'Revokes all live tokens of a user, null for the caller, and returns how many there were. A request made with a token needs the scope tokens:delete.';
comment on function public.is_valid_api_token() is
    'For policies: true unless the request was made with a personal access token that is unknown, another user''s, revoked or expired, or whose user is deleted or banned. True for logins, anon and sessions without claims. Never raises an error.';
comment on function public.has_scope(text) is
    'For policies: whether the request may do resource:action. True for a login; for a valid token, whether its scopes cover it. A token without scopes has every scope but tokens:write and tokens:delete.';
comment on function public.current_api_key_id() is
    'Which token made this request: its id in api_keys. Null for a login. It does not say whether the token is valid.';
comment on function pat.uid() is
    'The user of this request, as auth.uid() returns it, found once a statement instead of once a row. Null where auth.uid() would raise an error.';
comment on function pat.is_trusted() is
    'Whether the current role is a superuser or has the privileges of supabase_pat.service_role or of the extension''s owner.';
comment on function pat.sign_jwt(jsonb, interval) is
    'Signs claims with the current signing key, or else the configured JWT secret. Adds iat if it is missing, and exp if expires_in is given. For trusted roles.';
comment on function pat.verify_jwt(text, text, boolean) is
    'The claims of a token that is signed with a key of this database, has not expired and, if audience is given, is meant for it. A personal access token must also be live. require_exp: whether a token without an expiry is refused. Raises an error that says which check failed. For trusted roles.';
comment on function pat.jwt_status(text) is
    'valid, expired, not_yet_valid, bad_signature, unknown_key, unsupported_algorithm, malformed or revoked: what pat.verify_jwt would find. Never raises an error.';
comment on function pat.decode_jwt(text) is
    'Header and payload of a token, unverified: anybody can have written them. Do not decide anything by them.';
comment on function pat.jwt_expires_in(text) is
    'How long it is to the expiry that the token gives itself, unverified; negative if it has passed, null if it gives none.';
comment on function pat.bearer_token(text) is
    'The token in the value of an Authorization header, null if it is not of the scheme Bearer.';

comment on function pat.add_signing_key(text, text, text) is
    'Adds a signing key on standby and returns its kid. alg: HS256, HS384, HS512, ES256, RS256 or EdDSA. secret: for the HMAC algorithms, null to have one generated. kid: null for a random UUID. For trusted roles.';
comment on function pat.import_signing_key(jsonb) is
    'Adds a private JSON Web Key (oct, EC P-256, RSA of 2048 bits or more, OKP Ed25519) as a signing key on standby and returns its kid. For trusted roles.';
comment on function pat.rotate_signing_key(text) is
    'Makes a key that is on standby, or was current before, the current one, which signs from now on. The one that was current goes on verifying. For trusted roles.';
comment on function pat.revoke_signing_key(text) is
    'Revokes a signing key: from the next statement on it verifies nothing, and the personal access tokens minted with it are revoked. Refused for the current key. Publish the keys anew to the REST server. For trusted roles.';
comment on function pat.jwks() is
    'The public signing keys that verify, as a JSON Web Key Set (RFC 7517). Shared secrets are not in it.';
comment on function pat.jwks_for_verifier() is
    'All keys that verify, shared secrets and the configured one included, as a JSON Web Key Set: for the jwt-secret of PostgREST. Granted to nobody; whoever has it can forge tokens.';
comment on function pat.take_private_jwk() is
    'For the statement that stores a signing key. Null at any other time.';
comment on function pat.record_initial_privileges(oid, oid) is
    'For pat.grant_api_roles(): makes the present privileges of one of the extension''s objects its initial ones, which no dump holds.';
comment on function pat.take_password_hash() is
    'For the statement that stores a password hash. Null at any other time.';
comment on function pat.signing_keys_changed() is
    'Trigger: tells every backend to read the signing keys anew.';
comment on function pat.forget_private_keys() is
    'Trigger: deletes the private parts of signing keys that are deleted.';
comment on function pat.keep_a_current_signing_key() is
    'Trigger: a signing key that was current is followed by another.';

comment on function pat.sign(json, text, text) is
    'As in pgjwt: signs the payload, as the text that it is, with a secret of your own. algorithm: HS256, HS384 or HS512.';
comment on function pat.verify(text, text, text) is
    'As in pgjwt: takes a token apart, and tells whether it is signed with the secret by the algorithm and the time is within its nbf and exp.';
comment on function pat.algorithm_sign(text, text, text) is
    'As in pgjwt: the signature of a text, in base64url.';
comment on function pat.url_encode(bytea) is
    'As in pgjwt: base64url without padding.';
comment on function pat.url_decode(text) is
    'As in pgjwt: the bytes of base64url or base64.';

comment on function pat.mint_api_key(text, text, interval) is
    'A Supabase API key for the anonymous or the service role, signed as pat.sign_jwt does. ref: the project''s, if it has one. For trusted roles.';
comment on function pat.inspect_api_key(text) is
    'What a Supabase API key or token is, and what is wrong with it, in plain words with the mend. Never raises an error and never repeats the key.';
comment on function pat.install_auth_schema() is
    'For plain Postgres: creates the API roles and a minimal auth schema with the columns and functions of Supabase''s. Refuses if auth.users exists. What it creates does not belong to the extension.';

comment on function public.request_password_reset(text) is
    'Puts a message with a code for a new password into the outbox, if the address is that of a user, and returns the token that goes with the code. Whether it is cannot be seen from outside.';
comment on function pat.issue_reset_code(text) is
    'A token and its code, for a backend that sends the mail itself. For trusted roles.';
comment on function pat.reset_code_digits() is
    'How many digits a code has that is asked for now: supabase_pat.reset_code_length, or 16 while there are too many wrong codes, and where wrong codes cannot be counted, without preloading. A token says in its claim digits how many its own has.';
comment on function public.verify_reset_code(text, text) is
    'Whether the code is the one that belongs to the token, and both are still good. A wrong code is counted; after supabase_pat.reset_max_attempts of them the token is dead, and after too many for an address, for whoever tries or for all together short codes are not looked at. The code stays good for reset_password.';
comment on function public.reset_password(text, text, text) is
    'Sets a new password for whoever has the token and its code, and ends their sessions. False for a wrong code or token; an error for a password that is not fit.';
comment on function pat.claim_messages(integer) is
    'Takes up to max messages out of the outbox for supabase_pat.outbox_lease, with address and code in the clear, to be sent. One that is neither confirmed nor returned comes again. For trusted roles; NOTIFY supabase_pat_outbox tells that there is one.';
comment on function pat.message_sent(uuid) is
    'Confirms that a claimed message was sent, and forgets what was in it. False if there is none. For trusted roles.';
comment on function pat.message_failed(uuid, text) is
    'Returns a claimed message that could not be sent, for another try after a pause that grows to a minute. error: why, for last_error. False if there is none. For trusted roles.';

comment on function public.sign_up(text, text, jsonb) is
    'Makes a user with an address and a password, data being their user_metadata. With supabase_pat.confirm_sign_up it returns a confirmation_token, for which confirm_sign_up takes the code that comes by e-mail; else a session. A user whom sign_up has made and who has shown nothing since gets the password of the latest who signed up. Off unless supabase_pat.enable_sign_up is on.';
comment on function public.confirm_sign_up(text, text) is
    'Confirms the address of a new user with the token of sign_up and the code that came by e-mail, and begins a session. Null, with status 401 over REST, for a wrong one.';
comment on function public.sign_in(text, text) is
    'Begins a session for an address and its password. Null for a wrong one, with status 401 over REST, or 429 for one of too many. Off unless supabase_pat.enable_sign_in is on.';
comment on function pat.mint_session(uuid) is
    'Begins a session of a user, for tests and support, and writes an event. For trusted roles.';
comment on function public.refresh_session(text) is
    'New tokens of a session for its refresh token, which they replace. Null, with status 401 over REST, for one that is refused. A token that was replaced longer ago than supabase_pat.refresh_reuse_interval ends the session.';
comment on function public.sign_out(text) is
    'Ends sessions of the caller: local, the present one; others; or global, all of them. Returns how many.';
comment on function public.is_active_session() is
    'For policies: whether the session of the request still exists, and its user may log in. For a personal access token, whether that is valid. True for what has no session, such as anon.';
comment on function public.session_info() is
    'What the claims of the request say of its session. should_refresh: less than a minute is left.';
comment on function public.signed_in_user() is
    'The user of the request, as Supabase Auth shows a user to themselves; null without one. A token with a list of scopes needs user:read.';

comment on type public.minted_session is 'The tokens of a session, shown once.';
comment on type public.signed_up is 'A session, or a token for confirm_sign_up.';
comment on type pat.session_report is 'What session_info returns.';
comment on type pat.issued_reset_code is 'A token and its code, shown once.';
comment on type pat.decoded_jwt is 'The parts of a token, unverified.';
comment on type pat.api_key_report is 'What pat.inspect_api_key finds.';
comment on type public.minted_pat is 'A token that has just been minted, shown once.';

comment on view public.api_keys is
    'Your personal access tokens. Deleting a row revokes its token.';
comment on column public.api_keys.id is 'The jti claim of the token.';
comment on column public.api_keys.hint is 'The last six characters of the token.';
comment on column public.api_keys.scopes is 'What the token may do: null for everything but tokens:write and tokens:delete.';
comment on column public.api_keys.is_active is 'Neither revoked nor expired.';

comment on table pat.api_keys is
    'One row a personal access token. The tokens themselves are not stored.';
comment on column pat.api_keys.replaced_by is 'The token that rotate_pat made in its place.';
comment on column pat.api_keys.hint is 'The last six characters of the token; null for imported ones.';
comment on column pat.api_keys.signing_key is 'The kid of the signing key that signed the token; null for the configured secret.';

comment on table pat.api_key_origins is
    'Which tokens were made with other tokens, or by restricted logins. It outlives its tokens.';
comment on column pat.api_key_origins.made_by is 'The token that the request came with.';
comment on column pat.api_key_origins.claims is 'What the token carries of the claims of the login.';

comment on table pat.signing_keys is
    'The keys that tokens are signed with. Change them with pat.add_signing_key() and its like.';
comment on table pat.private_keys is
    'The private parts of the signing keys, in the clear: guard the owner''s account, backups and dumps.';
comment on column pat.signing_keys.status is
    'standby: verifies, does not sign yet. current: signs. previous: verifies what it signed. revoked: neither.';

comment on table pat.outbox is
    'Messages that wait to be sent, sealed, and the requests of the last hour.';
comment on table pat.code_attempts is
    'Wrong tries at the codes of tokens, and for a day what those at short codes were worth.';
comment on table pat.events is 'What happened to whom. No secret is in it.';
comment on table pat.sessions is 'How far the refresh tokens of sessions have come. No token is stored.';
comment on table pat.known_networks is 'From where users have signed in lately. From there strangers who try passwords elsewhere make nobody wait.';
comment on table pat.pending_sign_ups is 'Users whom sign_up has made, until they confirm their address. Only they get another password by signing up again.';
comment on table pat.wrong_passwords is 'Wrong passwords of the last hour, which slow down whoever guesses.';

comment on function pat.define_setting(text, jsonb, jsonb, boolean) is
    'Declares a setting that every user has, or declares it anew. default_value: what counts until a user sets it. schema: a JSON Schema that its values must meet, null for any. overridable: whether a request may override it in get_settings. Refused if the default, or a value that a user has stored, does not meet the schema. For trusted roles.';
comment on function pat.drop_setting(text) is
    'Removes a setting and the users'' values of it. False if there is none. For trusted roles.';
comment on function pat.setting_definitions_changed() is
    'Trigger: tells every backend to read the definitions of settings anew.';
comment on function public.get_settings(jsonb) is
    'The settings that count for this request: of each that is declared the default, patched with the user''s own value, patched with the value in overrides (RFC 7396). An override that is null is none. Without a login the defaults and the overrides.';
comment on function public.set_settings(jsonb) is
    'Patches your own settings (RFC 7396), all of them or none, and returns what get_settings() then returns. null removes your value, so that the default counts again. A token with a list of scopes needs settings:write.';

comment on table pat.setting_definitions is
    'The settings that users have. Change them with pat.define_setting() and pat.drop_setting().';
comment on column pat.setting_definitions.overridable is 'Whether a request may override it.';
comment on table pat.user_settings is
    'What users have set, where it differs from the defaults. Change it with set_settings().';

comment on function pat.gate() is
    'For db-pre-request of PostgREST: refuses requests that should not run, before any query: 401 for tokens that are not valid, sessions that have ended and tokens that were denied; 403 for addresses and scopes; 429 for rate limits. Takes opaque tokens from the header x-api-key, and calls supabase_pat.next_pre_request for what it lets through.';
comment on function pat.deny_token(text, text) is
    'Makes the gate refuse a JWT from the next request on, a leaked service_role key for instance, without a change of the secret that others are signed with. A personal access token is revoked besides. It is known by what is signed and by its claims, whichever role a server makes of them. reason: for pat.events and pat.denied_tokens, and for the owner of a personal access token, who sees it in api_key_events; deleting the row there accepts the token again. For trusted roles.';
comment on function pat.secret_problem() is
    'What is wrong with the configured JWT secret, or null. For pat.status(); for trusted roles.';
comment on function pat.status() is
    'Whether the installation is sound: one row a check, and in detail what is wrong and the mend. For trusted roles.';
comment on function pat.server_state() is
    'For pat.status(): what only the server knows of itself. For trusted roles.';
comment on function pat.key_deleted() is
    'Trigger: a token that is deleted leaves an event behind.';
comment on function pat.denied_tokens_changed() is
    'Trigger: tells every backend to read the denied tokens anew.';
comment on view public.api_key_events is
    'What happened to the caller''s personal access tokens: minted, rotated, revoked, deleted, refused.';
