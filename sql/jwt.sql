set local search_path = pg_catalog, pg_temp;

comment on function pat.sign_jwt(jsonb, interval) is
    'Signs claims with the current signing key, or else the configured JWT secret. Adds iat if it is missing, and exp '
    'if expires_in is given. For trusted roles.';
comment on function pat.verify_jwt(text, text, boolean) is
    'The claims of a token that is signed with a key of this database, has not expired and, if audience is given, is '
    'meant for it. A personal access token must also be live. require_exp: whether a token without an expiry is '
    'refused. Raises an error that says which check failed. For trusted roles.';
comment on function pat.jwt_status(text) is
    'valid, expired, not_yet_valid, bad_signature, unknown_key, unsupported_algorithm, malformed or revoked: what '
    'pat.verify_jwt would find of a JWT, and for an opaque token what its row says. Never raises an error.';
comment on function pat.decode_jwt(text) is
    'Header and payload of a token, unverified: anybody can have written them. Do not decide anything by them.';
comment on function pat.jwt_expires_in(text) is
    'How long it is to the expiry that the token gives itself, unverified; negative if it has passed, null if it '
    'gives none.';
comment on function pat.bearer_token(text) is
    'The token in the value of an Authorization header, null if its scheme is not Bearer.';

comment on function pat.mint_api_key(text, text, interval) is
    'A Supabase API key for the anonymous or the service role, signed as pat.sign_jwt does. ref: the project''s, if '
    'it has one. For trusted roles.';
comment on function pat.inspect_api_key(text) is
    'What a Supabase API key or token is, what is wrong with it and how to fix it, in plain words. Never raises an '
    'error and never repeats the key.';

comment on function pat.sign(json, text, text) is
    'As in pgjwt: signs the payload, as the text that it is, with a secret of your own. algorithm: HS256, HS384 or '
    'HS512.';
comment on function pat.verify(text, text, text) is
    'As in pgjwt: the header and payload of a token, and whether it is signed with the secret by the algorithm and '
    'the present time is within its nbf and exp.';
comment on function pat.algorithm_sign(text, text, text) is
    'As in pgjwt: the signature of a text, in base64url.';
comment on function pat.url_encode(bytea) is
    'As in pgjwt: base64url without padding.';
comment on function pat.url_decode(text) is
    'As in pgjwt: the bytes of base64url or base64.';

-- JWTs that the gate no longer accepts, by digests: see crates/core/src/denied.rs. Deleting a row accepts the
-- token again.
create table pat.denied_tokens (
    message_digest bytea primary key,
    claims_digest bytea not null,
    role text,
    user_id uuid,
    reason text,
    denied_at timestamptz not null default now(),
    expires_at timestamptz,
    -- Of the claims as servers may hand them over, with another role: 32 bytes each.
    other_claims_digests bytea
);

alter table pat.denied_tokens enable row level security;

select pg_extension_config_dump('pat.denied_tokens', '');

comment on table pat.denied_tokens is 'JWTs that are refused though their signature is right, as digests: see pat.deny_token.';

-- Tells every backend to read the denied tokens anew, whoever changes them and however.
create function pat.denied_tokens_changed() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_denied_tokens_changed';
comment on function pat.denied_tokens_changed() is 'Trigger: tells every backend to read the denied tokens again.';

create trigger tell_every_backend
    after insert or update or delete or truncate on pat.denied_tokens
    for each statement execute function pat.denied_tokens_changed();

-- Also where session_replication_role is replica.
alter table pat.denied_tokens enable always trigger tell_every_backend;

-- What a subscription applies fires no triggers but those for each row.
create trigger tell_every_backend_of_a_row
    after insert or update or delete on pat.denied_tokens
    for each row execute function pat.denied_tokens_changed();

alter table pat.denied_tokens enable replica trigger tell_every_backend_of_a_row;

create policy trusted_roles_see_the_denied_tokens on pat.denied_tokens for select using (pat.is_trusted());
create policy trusted_roles_accept_tokens_again on pat.denied_tokens for delete using (pat.is_trusted());

set local search_path = pat, pg_temp;
