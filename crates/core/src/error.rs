//! Every error that the extension raises, and what a client sees of it.

use uuid::Uuid;

use crate::algorithm::Algorithm;
use crate::rejection::Rejection;
use crate::weakness::Weakness;

/// Where a secret came from, if the caller passed it.
pub const ARGUMENT: &str = "the argument";
pub const JWK: &str = "the JWK";

/// What went wrong. The message is the `Display` text; [`Error::sqlstate`] and [`Error::hint`]
/// complete the report. No variant holds a secret, so none can reach a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} must not be null")]
    NullArgument(&'static str),

    #[error("the name of a token must not be empty")]
    EmptyName,
    #[error("the name of a token must not be longer than {max} characters, and this one has {len}")]
    NameTooLong { len: usize, max: usize },
    #[error("the name of a token must not contain control characters")]
    NameWithControlCharacters,

    #[error("expires_in must be at least one second")]
    LifetimeTooShort,
    #[error("expires_in must be finite")]
    LifetimeInfinite,
    #[error("expires_in is longer than the {} that supabase_pat.max_lifetime allows", lifetime(*max_seconds))]
    LifetimeTooLong { max_seconds: i64 },
    #[error("grace must not be negative or infinite")]
    GraceOutOfRange,

    #[error("\"{0}\" is not a scope")]
    MalformedScope(String),
    #[error("scopes must not be an empty array")]
    NoScopes,
    #[error("a token must not have more than {max} scopes")]
    TooManyScopes { max: usize },

    #[error("a token is of the kind jwt or opaque, not \"{0}\"")]
    UnknownKind(String),
    #[error("allowed_ips must not be an empty array")]
    NoNetworks,
    #[error("a token must not have more than {max} networks in allowed_ips")]
    TooManyNetworks { max: usize },
    #[error("{0} must be at least 1")]
    LimitTooLow(&'static str),
    #[error("{window} must be from 1 second to {max_days} days")]
    WindowOutOfRange { window: &'static str, max_days: i64 },
    #[error("{argument} must be from 1 to {max}")]
    OutOfRange { argument: &'static str, max: i32 },
    #[error("last_day must be a day from 1970 to 9999")]
    DayOutOfRange,
    #[error("order_by must be requests or refused")]
    UnknownOrder,
    #[error("a limit whose window is a day or longer needs the library to be preloaded")]
    UncountedLimit,

    #[error(
        "the name of an attribute must have 1 to {0} lower-case letters, digits, dots, hyphens and underscores"
    )]
    MalformedAttributeName(usize),
    #[error(
        "the schema of attribute \"{name}\" is not a JSON Schema that can be used{}",
        in_brackets(at)
    )]
    AttributeSchema { name: String, at: String },
    #[error("there is no attribute \"{0}\"")]
    UnknownAttribute(String),
    #[error(
        "the value of attribute \"{name}\" does not meet its schema{}",
        in_brackets(rule)
    )]
    AttributeRefused { name: String, rule: String },
    #[error("a token must have the attribute \"{0}\"")]
    AttributeRequired(String),
    #[error("a token must not have more than 32 attributes, or more than {max} bytes of them")]
    AttributesTooLarge { max: usize },
    #[error("a personal access token may not grant more than its own attributes allow")]
    AttributesWidened,
    #[error(
        "the description of a token must not be longer than {max} characters, nor contain control characters other than line breaks"
    )]
    UnfitDescription { max: usize },
    #[error("edit_pat may only tighten {0}")]
    NotTighter(&'static str),

    #[error(
        "the name of a service account must have 1 to {max} characters, not only blanks and no control characters"
    )]
    UnfitAccountName { max: usize },
    #[error(
        "the description of a service account must not be longer than {max} characters, nor contain control characters \
         other than line breaks"
    )]
    UnfitAccountDescription { max: usize },
    #[error("there is no service account {0}")]
    UnknownServiceAccount(Uuid),
    #[error("a trigger on auth.users has kept the user from being added")]
    UserNotAdded,
    #[error("a trigger on auth.users has kept the user from being deleted")]
    UserNotDeleted,
    #[error("this user may not create more than {max} service accounts")]
    TooManyServiceAccounts { max: usize },
    #[error("this request may not {0}")]
    NotManager(&'static str),
    #[error("user {0} is a service account, which does not log in")]
    ServiceAccount(Uuid),
    #[error("a service account may not {0}")]
    NotForServiceAccounts(&'static str),
    #[error("supabase_pat.service_account_manager is {name}, and {reason}")]
    ServiceAccountManager { name: String, reason: &'static str },

    #[error("user {0} does not exist")]
    UnknownUser(Uuid),
    #[error("user {0} is banned")]
    BannedUser(Uuid),
    #[error("there is no table auth.users with a uuid column id")]
    NoUsersTable,
    #[error("the role {0} is not for users who log in")]
    RoleNotAllowed(String),
    #[error("user {user} already has {max} live tokens")]
    TooManyTokens { user: Uuid, max: usize },
    #[error("a report must not have more than {max} tokens")]
    TooManyReported { max: usize },
    #[error("found_at must not contain control characters")]
    PlaceWithControlCharacters,
    #[error("digest is not a SHA-256 in hexadecimal, base64 or base64url")]
    UnreadableDigest,
    #[error("a token with this digest belongs to another user")]
    DigestTaken,
    #[error("there is no live token {0}")]
    NoLiveToken(Uuid),
    #[error("there is no token {0}")]
    UnknownToken(Uuid),

    #[error("the request names no user")]
    NoUser,
    #[error("only a trusted role may {0} another user's tokens")]
    NotYours(&'static str),
    #[error("only a trusted role may {0}")]
    NotTrusted(&'static str),
    #[error("this request was made with a personal access token that is not valid")]
    DeadToken,
    #[error("a personal access token may not {0}")]
    NotWithToken(&'static str),
    #[error("a personal access token may not {0} without the scope {1}")]
    ScopeMissing(&'static str, &'static str),
    #[error("a personal access token may not grant a scope that it does not have")]
    ScopeWidened,
    #[error("a login whose claims have a scope may not grant one that is not in it")]
    LoginScopeWidened,
    #[error(
        "the claims of this request are not a JSON object, name something twice, or have a role, aal or scope \
         that is not a string"
    )]
    UnclearClaims,
    #[error("the session of this login has ended")]
    SessionEnded,
    #[error("only a login of the role {1} may {0}")]
    RoleOfLogin(&'static str, String),
    #[error("a login {1} may not {0}")]
    RestrictedLogin(&'static str, &'static str),
    #[error("only a login of the assurance level {1} or a higher one may {0}")]
    AalTooLow(&'static str, String),
    #[error("a token of a restricted login or of an anonymous user must be of the kind jwt")]
    RestrictedOpaque,
    #[error("the claims of the login take more than {max} bytes in the token")]
    ClaimsTooLarge { max: usize },
    #[error("the extension in this database is older than the library")]
    OldSchema,
    #[error("a personal access token with allowed_ips or a limit may not {0}")]
    NotWithLimitedToken(&'static str),
    #[error("only a personal access token can be exchanged")]
    NothingToExchange,
    #[error("lifetime must be from 1 second to {} minutes", max_seconds / 60)]
    ExchangeLifetime { max_seconds: i64 },
    #[error("an exchanged token cannot have scopes that create or end tokens or service accounts")]
    ScopeNotExchanged,

    #[error("no JWT secret is configured")]
    NoSecret,
    #[error(
        "the secret from {source_name} has {len} bytes, and {algorithm} needs at least {needed}"
    )]
    SecretTooShort {
        source_name: String,
        len: usize,
        algorithm: Algorithm,
        needed: usize,
    },
    #[error("the secret from {source_name} is {found}, not a shared secret")]
    SecretOfWrongType {
        source_name: String,
        found: &'static str,
    },
    #[error("the JWT secret file named by supabase_pat.jwt_secret_file cannot be read: {0}")]
    SecretFile(String),

    #[error("the configured JWT secret is that of a revoked signing key")]
    RevokedSecret,

    #[error("the encoding of the database is not UTF8")]
    NotUtf8,
    #[error("the signing key {0}")]
    WeakKey(Weakness),
    #[error("the new key {0}")]
    NewKeyWeak(Weakness),

    /// The name is not repeated: it may be a secret that went into the wrong argument.
    #[error("alg is not an algorithm for signing keys")]
    UnknownAlgorithm,
    #[error("an {0} key is generated, not given")]
    SecretForKeyPair(Algorithm),
    #[error("a key id must have 1 to {0} printable ASCII characters and no spaces")]
    MalformedKeyId(usize),
    #[error("the key cannot be imported: {0}")]
    MalformedJwk(&'static str),
    #[error("there is a signing key {0} already")]
    KeyIdTaken(String),
    #[error("there is no signing key {0}")]
    UnknownKeyId(String),
    #[error("signing key {0} is the current one")]
    KeyIsCurrent(String),
    #[error("signing key {0} has been revoked")]
    KeyIsRevoked(String),
    #[error("signing key {0} cannot be read as it is stored")]
    UnreadableKey(String),

    #[error("claims must be a JSON object")]
    ClaimsNotAnObject,
    #[error("the token is not valid: {0}")]
    InvalidToken(#[from] Rejection),
    #[error("an API key is for {anon} or {service}")]
    NoApiKeyRole { anon: String, service: String },
    #[error("a project ref has 1 to 63 letters, digits and hyphens")]
    MalformedRef,
    #[error("the secret must not be empty")]
    EmptySecret,
    #[error("the algorithm must be HS256, HS384 or HS512")]
    NotAnHmac,
    #[error("the text is not base64url")]
    NotBase64,
    #[error("a part of the token is not text")]
    NotText,

    #[error("the e-mail address is malformed")]
    MalformedAddress,
    #[error("no user who can log in by password has that address")]
    UnknownAddress,
    #[error("the password must not be empty")]
    EmptyPassword,
    #[error("the password must have at least {min} characters, and this one has {len}")]
    PasswordTooShort { len: usize, min: usize },
    #[error("the password must have at most {max} bytes, and this one has {len}")]
    PasswordTooLong { len: usize, max: usize },
    #[error("the new password must differ from the old one")]
    PasswordUnchanged,
    #[error("{0} is not possible in a read-only transaction")]
    ReadOnly(&'static str),

    #[error("auth.users has no columns email and encrypted_password")]
    NoPasswords,
    #[error("there is no table auth.sessions with uuid columns id and user_id")]
    NoSessionsTable,
    #[error("{0} is off here")]
    Disabled(&'static str),
    #[error("there is a user with that address already")]
    AddressTaken,
    #[error("data must be a JSON object of at most {max} bytes")]
    UnfitMetadata { max: usize },
    #[error("the scope of a sign-out is local, others or global")]
    SignOutScope,

    #[error(
        "the key of a setting must have 1 to {0} characters, not only blanks and no control characters"
    )]
    MalformedSettingKey(usize),
    #[error(
        "the schema of setting \"{key}\" is not a JSON Schema that can be used{}",
        in_brackets(at)
    )]
    MalformedSchema { key: String, at: String },
    #[error("the schema of setting \"{key}\" is longer than {max} bytes")]
    SchemaTooLarge { key: String, max: usize },
    #[error("the schema of setting \"{0}\" refers to something that is not in it")]
    SchemaReference(String),
    #[error("the schema of setting \"{0}\" cannot be used as it is stored")]
    UnreadableSchema(String),
    #[error(
        "the value of setting \"{key}\" does not meet its schema{}",
        in_brackets(rule)
    )]
    SettingRefused { key: String, rule: String },
    #[error("setting \"{key}\" is nested more than {max} levels deep")]
    SettingTooDeep { key: String, max: usize },
    #[error(
        "\"{key}\" makes the {what} {len} bytes long, more than the {max} that \
         supabase_pat.max_settings_size allows"
    )]
    SettingsTooLarge {
        what: &'static str,
        len: usize,
        max: usize,
        key: String,
    },
    #[error(
        "the new definition of setting \"{key}\" does not fit what users have stored ({users} of them)"
    )]
    SettingInUse { key: String, users: usize },
    #[error("there is no setting \"{0}\"")]
    UnknownSetting(String),
    #[error("setting \"{0}\" cannot be overridden")]
    SettingNotOverridable(String),
    #[error("{0} must be a JSON object")]
    NotAnObject(&'static str),
    #[error("the request names no user, so there are no settings of its own")]
    NoOwnSettings,

    #[error("this is not a live personal access token")]
    NoSuchToken,
    #[error("supabase_pat.next_pre_request is {name}, and {reason}")]
    NextPreRequest { name: String, reason: &'static str },

    #[error("the column {0} is not of the type {1}")]
    UnfitColumn(&'static str, &'static str),
    #[error("the table {0} does not have the columns that the extension gave it")]
    UnfitTable(String),
    #[error("the type {0} does not look as it was installed")]
    UnfitType(String),
    #[error("the definition of a table keeps changing")]
    EverChanging,
    #[error("a trigger function can only be called as a trigger")]
    NotATrigger,

    #[error("{0}")]
    Internal(String),
}

/// In days if it is a whole number of them, else in seconds.
fn lifetime(seconds: i64) -> String {
    match seconds {
        s if s % 86_400 == 0 => format!("{} days", s / 86_400),
        s => format!("{s} seconds"),
    }
}

/// A place in brackets, or nothing if it is not known.
fn in_brackets(place: &str) -> String {
    match place {
        "" => String::new(),
        _ => format!(" ({place})"),
    }
}

impl Error {
    /// The SQLSTATE. PostgREST answers 22xxx, 23514 and 42704 with 400, 23503 and 23505 with 409, 42501 with 403 (401
    /// for anon), 55000 with 500.
    pub fn sqlstate(&self) -> &'static str {
        use Error::*;
        match self {
            NullArgument(_) => "22004",
            SecretTooShort { source_name, .. } | SecretOfWrongType { source_name, .. }
                if [ARGUMENT, JWK].contains(&source_name.as_str()) =>
            {
                "22023"
            }
            EmptyName
            | NameTooLong { .. }
            | NameWithControlCharacters
            | LifetimeTooShort
            | LifetimeInfinite
            | LifetimeTooLong { .. }
            | GraceOutOfRange
            | NothingToExchange
            | ExchangeLifetime { .. }
            | MalformedScope(_)
            | NoScopes
            | TooManyScopes { .. }
            | MalformedAttributeName(_)
            | AttributeSchema { .. }
            | UnknownAttribute(_)
            | AttributeRefused { .. }
            | AttributeRequired(_)
            | AttributesTooLarge { .. }
            | UnfitDescription { .. }
            | UnfitAccountName { .. }
            | UnfitAccountDescription { .. }
            | ClaimsNotAnObject
            | UnknownAlgorithm
            | SecretForKeyPair(_)
            | MalformedKeyId(_)
            | MalformedJwk(_)
            | NewKeyWeak(_)
            | NoApiKeyRole { .. }
            | MalformedRef
            | EmptySecret
            | MalformedAddress
            | EmptyPassword
            | SignOutScope
            | UnfitMetadata { .. }
            | PasswordTooShort { .. }
            | PasswordTooLong { .. }
            | PasswordUnchanged
            | NotAnHmac
            | NotBase64
            | InvalidToken(_) => "22023",
            MalformedSettingKey(_)
            | MalformedSchema { .. }
            | SchemaTooLarge { .. }
            | SchemaReference(_)
            | SettingRefused { .. }
            | SettingTooDeep { .. }
            | SettingsTooLarge { .. }
            | UnknownSetting(_)
            | SettingNotOverridable(_)
            | UnknownKind(_)
            | RestrictedOpaque
            | UnreadableDigest
            | TooManyReported { .. }
            | PlaceWithControlCharacters
            | ClaimsTooLarge { .. }
            | NoNetworks
            | TooManyNetworks { .. }
            | LimitTooLow(_)
            | WindowOutOfRange { .. }
            | OutOfRange { .. }
            | DayOutOfRange
            | UnknownOrder
            | NotAnObject(_) => "22023",
            NoOwnSettings => "42501",
            SettingInUse { .. }
            | UnreadableSchema(_)
            | NextPreRequest { .. }
            | ServiceAccountManager { .. } => "55000",
            UnknownUser(_) | UnknownAddress => "23503",
            ReadOnly(_) => "25006",
            NotText => "22021",
            KeyIdTaken(_) | AddressTaken | DigestTaken => "23505",
            Disabled(_) => "0A000",
            NoLiveToken(_)
            | UnknownToken(_)
            | UnknownKeyId(_)
            | NoSuchToken
            | UnknownServiceAccount(_) => "42704",
            BannedUser(_)
            | RoleNotAllowed(_)
            | NoUser
            | NotYours(_)
            | NotTrusted(_)
            | DeadToken
            | NotWithToken(_)
            | ScopeMissing(..)
            | ScopeWidened
            | AttributesWidened
            | NotTighter(_)
            | NotManager(_)
            | ServiceAccount(_)
            | NotForServiceAccounts(_)
            | LoginScopeWidened
            | SessionEnded
            | UnclearClaims
            | RoleOfLogin(..)
            | RestrictedLogin(..)
            | AalTooLow(..)
            | ScopeNotExchanged
            | NotWithLimitedToken(_) => "42501",
            TooManyTokens { .. } | TooManyServiceAccounts { .. } => "23514",
            NoUsersTable
            | NoPasswords
            | NoSessionsTable
            | NoSecret
            | SecretTooShort { .. }
            | SecretOfWrongType { .. }
            | SecretFile(_)
            | RevokedSecret
            | WeakKey(_)
            | NotUtf8
            | KeyIsCurrent(_)
            | KeyIsRevoked(_)
            | OldSchema
            | UnreadableKey(_)
            | UnfitColumn(..)
            | UnfitTable(_)
            | UnfitType(_)
            | UncountedLimit
            | EverChanging
            | UserNotAdded
            | UserNotDeleted => "55000",
            NotATrigger => "0A000",
            Internal(_) => "XX000",
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        use Error::*;
        Some(match self {
            NullArgument("name") => {
                "Name the token after what will use it: mint_pat(name => 'zapier')."
            }
            MalformedScope(_) => {
                "A scope is resource:action, such as todos:read, todos:*, *:read, or * for everything."
            }
            NullArgument("rate_limit" | "quota") => {
                "A window says how long a limit counts, and is none by itself."
            }
            NoScopes => "Name one, or leave scopes out: then nothing is limited further.",
            LifetimeTooLong { .. } => "Ask for less, or leave expires_in out.",
            NotWithToken(_) | NotWithLimitedToken(_) | SessionEnded => "Log in.",
            NothingToExchange => "The access token of a login is a JWT already: send that one.",
            ScopeNotExchanged => "Use the token itself to mint, rotate and revoke.",
            NotManager(_) => {
                "The function in supabase_pat.service_account_manager decides who may."
            }
            ServiceAccount(_) => {
                "A service account acts only with its tokens: mint one with mint_pat(id, 'name')."
            }
            NotForServiceAccounts(_) => "Log in as a user who may, or call it as a trusted role.",
            TooManyServiceAccounts { .. } => {
                "Delete one first, or raise supabase_pat.max_service_accounts_per_user."
            }
            ServiceAccountManager { .. } => {
                "Until it can be called, only trusted roles manage service accounts: see pat.status()."
            }
            DayOutOfRange => "Leave it out for the present day, in UTC.",
            UnreadableKey(_) => {
                "After a restore without private keys, delete the row from pat.signing_keys and add a key."
            }
            NoNetworks => "Name one, or leave allowed_ips out: then nothing is limited further.",
            NextPreRequest { .. } => {
                "pat.gate() refuses every request until it can call that function: see pat.status()."
            }
            Disabled("signing in") => "A superuser can set supabase_pat.enable_sign_in.",
            Disabled("reporting leaked tokens") => {
                "A superuser can set supabase_pat.enable_leak_reports."
            }
            Disabled(_) => "A superuser can set supabase_pat.enable_sign_up.",
            NoUsersTable | NoPasswords | NoSessionsTable => {
                "Install Supabase Auth, or call pat.install_auth_schema() for a minimal auth schema."
            }
            RoleNotAllowed(_) => {
                "auth.users gives the user a trusted role, or one that could become such a role. Give the user another one."
            }
            UnreadableDigest => {
                "A SHA-256 has 32 bytes: 64 hexadecimal digits, or 43 characters of base64, with or without padding."
            }
            TooManyTokens { .. } => "Revoke one first, or raise supabase_pat.max_keys_per_user.",
            ReadOnly(_) => {
                "Call it on the primary, in a transaction that may write; over REST, with POST."
            }
            NotTrusted(_) => {
                "Superusers and roles with the privileges of the service role or of the extension's \
                 owner are trusted."
            }
            NoUser => "Log in, or, as a trusted role, pass user_id.",
            ScopeMissing(..) | ScopeWidened => "Log in, or use a token with that scope.",
            UnknownAttribute(_) => {
                "A trusted role declares it: pat.define_key_attribute(name, schema)."
            }
            AttributesWidened => "Log in, or ask for less.",
            NotTighter(_) => "Mint another token.",
            LoginScopeWidened => "Ask for fewer scopes, or for none, or log in without a scope.",
            RoleOfLogin(..) => {
                "Tokens have the role of supabase_pat.authenticated_role. A trusted role can mint for the user."
            }
            RestrictedLogin("enable tokens", _) => "Log in as the user.",
            RestrictedLogin(..) => {
                "Log in as the user. If a superuser sets supabase_pat.mint_for_restricted_logins, the token is \
                 restricted in the same way."
            }
            AalTooLow(..) => "Log in with a second factor.",
            OldSchema => "Run: alter extension supabase_pat update.",
            NoSecret => {
                "Add a key with pat.add_signing_key() and pat.rotate_signing_key(), or store the secret as the Vault secret supabase_pat_jwt_secret, name a file in \
                 supabase_pat.jwt_secret_file, set supabase_pat.jwt_secret (which counts only \
                 with supabase_pat in shared_preload_libraries), or keep app.settings.jwt_secret. \
                 It is the secret that PostgREST verifies with."
            }
            SecretTooShort { source_name, .. }
                if [ARGUMENT, JWK].contains(&source_name.as_str()) =>
            {
                "pat.add_signing_key() without a secret generates one."
            }
            SecretOfWrongType { source_name, .. } if source_name == ARGUMENT => {
                "Import a private JSON Web Key with pat.import_signing_key()."
            }
            SecretTooShort { .. } | SecretOfWrongType { .. } | SecretFile(_) => {
                "Use the text that PostgREST has as its jwt-secret."
            }
            WeakKey(_) => {
                "Change the secret here and in the REST server, or add a key with \
                 pat.add_signing_key() and make it current. For development, a superuser can set \
                 supabase_pat.allow_weak_keys."
            }
            NotUtf8 => {
                "Text in another encoding would be signed as something else. Restore into a database whose encoding is UTF8."
            }
            NewKeyWeak(_) => {
                "pat.add_signing_key() without a secret generates one. For development, a superuser \
                 can set supabase_pat.allow_weak_keys."
            }
            RevokedSecret => "Add a key with pat.add_signing_key(), and make it current.",
            UnknownAlgorithm => "Use one of HS256, HS384, HS512, ES256, RS256 and EdDSA.",
            SecretForKeyPair(_) => {
                "Leave the secret out, or import a private JSON Web Key with \
                 pat.import_signing_key()."
            }
            KeyIsCurrent(_) => {
                "Make another one current first: pat.add_signing_key(), then \
                 pat.rotate_signing_key(kid)."
            }
            KeyIsRevoked(_) => "A revoked key stays revoked. Add another one.",
            MalformedSchema { .. } | AttributeSchema { .. } => {
                "Drafts 4 to 2020-12 are understood. Patterns must be small, above all those for names, and \
                 have no look-around and no back-references."
            }
            SchemaReference(_) => "Put it under $defs: nothing is fetched.",
            UnreadableSchema(_) => "Declare the setting again with pat.define_setting().",
            SettingInUse { .. } => {
                "Make the schema wider, or call pat.drop_setting() first, which removes the values."
            }
            NoOwnSettings => "Log in.",
            UnfitColumn(..) => {
                "Change the type of the column, or switch supabase_pat.live_claims off."
            }
            UnfitTable(_) | UnfitType(_) => {
                "Run alter extension supabase_pat update, or undo what changed it."
            }
            UncountedLimit => {
                "Put supabase_pat into shared_preload_libraries and restart, or ask for a shorter window."
            }
            EverChanging => "Try again.",
            _ => return None,
        })
    }
}
