//! The extension's settings. Only superusers can set them, since they decide access, secrets and limits.
//!
//! Each function returns the present value of the setting that has its name. Times are in seconds.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::rc::Rc;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_guard, pg_sys};
use supabase_pat_core::notices::Kinds;
use supabase_pat_core::opaque_token::Prefix;
use supabase_pat_core::presented::TokenHeader;

use crate::pg::Local;
use crate::pg::durability::Level;

const DAY: i32 = 24 * 60 * 60;

static ANON_ROLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"anon"));
static AUTHENTICATED_ROLE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"authenticated"));
static SERVICE_ROLE: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"service_role"));
static ISSUER: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"supabase_pat"));
static JWT_SECRET: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static JWT_SECRET_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static MAIL_WORKER_ROLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static ALLOW_WEAK_KEYS: GucSetting<bool> = GucSetting::<bool>::new(false);
static DEFAULT_LIFETIME: GucSetting<i32> = GucSetting::<i32>::new(365 * DAY);
static MAX_LIFETIME: GucSetting<i32> = GucSetting::<i32>::new(365 * DAY);
static MAX_KEYS_PER_USER: GucSetting<i32> = GucSetting::<i32>::new(50);
static SERVICE_ACCOUNT_MANAGER: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(None);
static MAX_SERVICE_ACCOUNTS_PER_USER: GucSetting<i32> = GucSetting::<i32>::new(10);
static MINT_FOR_RESTRICTED_LOGINS: GucSetting<bool> = GucSetting::<bool>::new(false);
static MINT_REQUIRES_AAL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
static TOKEN_PREFIX: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"sbpat_"));
static CLOCK_SKEW: GucSetting<i32> = GucSetting::<i32>::new(30);
static MAX_NAME_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(100);
static REVOKE_SYNCHRONOUS_COMMIT: GucSetting<Level> = GucSetting::<Level>::new(Level::Local);

static RESET_CODE_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(6);
static RESET_LIFETIME: GucSetting<i32> = GucSetting::<i32>::new(15 * 60);
static RESET_MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(5);
static RESET_REQUESTS_PER_HOUR: GucSetting<i32> = GucSetting::<i32>::new(5);
static RESET_REVOKES_PATS: GucSetting<bool> = GucSetting::<bool>::new(true);
static DEBUG_RESET_CODE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static MIN_PASSWORD_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(6);
static NOTICES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static OUTBOX_LEASE: GucSetting<i32> = GucSetting::<i32>::new(60);

static ACCESS_TOKEN_LIFETIME: GucSetting<i32> = GucSetting::<i32>::new(3600);
static REFRESH_REUSE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
static SESSION_INACTIVITY: GucSetting<i32> = GucSetting::<i32>::new(7 * DAY);
static SESSION_TIMEBOX: GucSetting<i32> = GucSetting::<i32>::new(0);
static ENABLE_SIGN_IN: GucSetting<bool> = GucSetting::<bool>::new(false);
static ENABLE_SIGN_UP: GucSetting<bool> = GucSetting::<bool>::new(false);
static CONFIRM_SIGN_UP: GucSetting<bool> = GucSetting::<bool>::new(true);
static ENABLE_LEAK_REPORTS: GucSetting<bool> = GucSetting::<bool>::new(false);
static SINGLE_SESSION: GucSetting<bool> = GucSetting::<bool>::new(false);

static DEFAULT_SCHEMA: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"public"));
static TOKEN_HEADERS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"x-api-key"));
static TRUSTED_PROXIES: GucSetting<i32> = GucSetting::<i32>::new(0);
static GUARDED_LOGINS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"authenticator"));
static FAST_AUTH_FUNCTIONS: GucSetting<bool> = GucSetting::<bool>::new(false);
static LIVE_CLAIMS: GucSetting<bool> = GucSetting::<bool>::new(false);
static RATE_LIMIT_HEADERS: GucSetting<bool> = GucSetting::<bool>::new(true);
static NEXT_PRE_REQUEST: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static TRACKED_KEYS: GucSetting<i32> = GucSetting::<i32>::new(524_288);
static FLUSH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(5);
static EVENT_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(90 * DAY);
static USAGE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(400 * DAY);

static MAX_SETTINGS_SIZE: GucSetting<i32> = GucSetting::<i32>::new(64 * 1024);

/// Without pgrx's copy of it, and its check of the thread: each request asks.
fn text(setting: &GucSetting<Option<CString>>) -> String {
    // SAFETY: Postgres keeps null or a C string there, which is copied at once.
    unsafe {
        let value: *mut c_char = *setting.as_ptr();
        match value.is_null() {
            true => String::new(),
            false => CStr::from_ptr(value).to_string_lossy().into_owned(),
        }
    }
}

pub fn anon_role() -> String {
    text(&ANON_ROLE)
}

pub fn authenticated_role() -> String {
    text(&AUTHENTICATED_ROLE)
}

pub fn service_role() -> CString {
    SERVICE_ROLE.get().unwrap_or_default()
}

/// Counts the values that `supabase_pat.guarded_logins` has had.
static GUARDED_LOGINS_GENERATION: Local<u64> = Local::new(1);

#[inline(always)]
pub fn guarded_logins_generation() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *GUARDED_LOGINS_GENERATION.get() }
}

#[pg_guard]
unsafe extern "C-unwind" fn guarded_logins_assigned(_value: *const c_char, _extra: *mut c_void) {
    // SAFETY: as above.
    unsafe { *GUARDED_LOGINS_GENERATION.get() += 1 };
}

/// The names in `supabase_pat.guarded_logins`.
pub fn guarded_logins() -> Vec<CString> {
    names_in(&GUARDED_LOGINS.get().unwrap_or_default()).unwrap_or_default()
}

/// The names in a list with commas. `None` if it is no list of names.
fn names_in(list: &CStr) -> Option<Vec<CString>> {
    // SAFETY: SplitIdentifierString cuts a copy of the C string into names, and puts them into a list. Both are freed
    // after the names have been copied: a setting is checked in memory that lives as long as the process.
    unsafe {
        let mut names = std::ptr::null_mut();
        let copy = pg_sys::pstrdup(list.as_ptr());
        let is_list = pg_sys::SplitIdentifierString(copy, b',' as c_char, &mut names);
        let found = pgrx::PgList::<c_char>::from_pg(names)
            .iter_ptr()
            .map(|name| CStr::from_ptr(name).to_owned())
            .collect();
        pg_sys::list_free(names);
        pg_sys::pfree(copy.cast());
        is_list.then_some(found)
    }
}

/// For a check hook: whether a setting of type string may have that value, which is `None` for null. If not, `detail` is
/// told.
///
/// # Safety
/// `value` is what Postgres passes to a check hook.
unsafe fn is_fit(
    value: *mut *mut c_char,
    detail: &'static CStr,
    judge: impl FnOnce(Option<&CStr>) -> bool,
) -> bool {
    // SAFETY: a place that holds null or a text that ends in NUL. Postgres only reads the detail, and clears it before
    // the next hook runs.
    unsafe {
        let is_fit = judge((!(*value).is_null()).then(|| CStr::from_ptr(*value)));
        if !is_fit {
            pg_sys::GUC_check_errdetail_string = detail.as_ptr().cast_mut();
        }
        is_fit
    }
}

/// A list that names nobody by mistake would leave all logins unguarded.
#[pg_guard]
unsafe extern "C-unwind" fn check_guarded_logins(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: what Postgres has passed.
    unsafe {
        is_fit(
            value,
            c"It must be a list of names, separated by commas.",
            |text| text.is_none_or(|text| names_in(text).is_some()),
        )
    }
}

pub fn service_role_name() -> String {
    text(&SERVICE_ROLE)
}

/// The role that may send what is in the outbox, besides trusted roles. `None` if there is none.
pub fn mail_worker_role() -> Option<CString> {
    MAIL_WORKER_ROLE.get().filter(|name| !name.is_empty())
}

/// The value of `supabase_pat.notices`, read once: each token that is minted or revoked asks for it.
static NOTICES_SENT: Local<Kinds> = Local::new(Kinds::NONE);

/// Which notices are sent to users.
pub fn notices() -> Kinds {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *NOTICES_SENT.get() }
}

fn kinds_in(list: Option<&CStr>) -> Option<Kinds> {
    list.map_or(Some(Kinds::NONE), |list| Kinds::parse(list.to_str().ok()?))
}

#[pg_guard]
unsafe extern "C-unwind" fn check_notices(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: what Postgres has passed.
    unsafe {
        is_fit(
            value,
            c"It must be a list of minted, expiring, revoked and leaked, separated by commas.",
            |text| kinds_in(text).is_some(),
        )
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn notices_assigned(value: *const c_char, _extra: *mut c_void) {
    // SAFETY: Postgres passes null or a text that ends in NUL and has been checked; the reference is gone at the end.
    unsafe {
        let list = (!value.is_null()).then(|| CStr::from_ptr(value));
        *NOTICES_SENT.get() = kinds_in(list).unwrap_or(Kinds::NONE);
    }
}

pub fn issuer() -> String {
    text(&ISSUER)
}

/// The secret, if the library was preloaded. Without preloading, the setting is a placeholder until the library is
/// loaded, and every role of the session can read a placeholder.
pub fn jwt_secret() -> Option<CString> {
    JWT_SECRET
        .get()
        .filter(|secret| is_preloaded() && !secret.is_empty())
}

/// Whether the secret is set in the configuration without preloading, so that roles could have read it.
pub fn is_jwt_secret_exposed() -> bool {
    !is_preloaded() && JWT_SECRET.get().is_some_and(|secret| !secret.is_empty())
}

/// For development: whether to sign with a key that others can guess.
pub fn allow_weak_keys() -> bool {
    ALLOW_WEAK_KEYS.get()
}

/// Whether the library is in `shared_preload_libraries`.
pub fn is_preloaded() -> bool {
    // SAFETY: the reference is gone at the end of the line. `define` alone writes it, before the first call of this.
    unsafe { *PRELOADED.get() }
}

pub fn reset_code_length() -> u32 {
    RESET_CODE_LENGTH.get() as u32
}

/// Seconds.
pub fn reset_lifetime() -> i64 {
    RESET_LIFETIME.get().into()
}

pub fn reset_max_attempts() -> u32 {
    RESET_MAX_ATTEMPTS.get() as u32
}

pub fn reset_requests_per_hour() -> usize {
    RESET_REQUESTS_PER_HOUR.get() as usize
}

pub fn reset_revokes_pats() -> bool {
    RESET_REVOKES_PATS.get()
}

pub fn debug_reset_code() -> Option<String> {
    Some(text(&DEBUG_RESET_CODE)).filter(|code| !code.is_empty())
}

/// Characters.
pub fn min_password_length() -> usize {
    MIN_PASSWORD_LENGTH.get() as usize
}

/// Seconds.
pub fn access_token_lifetime() -> i64 {
    ACCESS_TOKEN_LIFETIME.get().into()
}

/// Seconds.
pub fn refresh_reuse_interval() -> i64 {
    REFRESH_REUSE_INTERVAL.get().into()
}

/// Seconds, `None` for no limit.
pub fn session_inactivity() -> Option<i64> {
    Some(SESSION_INACTIVITY.get().into()).filter(|&seconds| seconds > 0)
}

/// Seconds, `None` for no limit.
pub fn session_timebox() -> Option<i64> {
    Some(SESSION_TIMEBOX.get().into()).filter(|&seconds| seconds > 0)
}

pub fn enable_sign_in() -> bool {
    ENABLE_SIGN_IN.get()
}

pub fn enable_sign_up() -> bool {
    ENABLE_SIGN_UP.get()
}

pub fn confirm_sign_up() -> bool {
    CONFIRM_SIGN_UP.get()
}

pub fn enable_leak_reports() -> bool {
    ENABLE_LEAK_REPORTS.get()
}

pub fn single_session() -> bool {
    SINGLE_SESSION.get()
}

/// Seconds.
pub fn outbox_lease() -> i64 {
    OUTBOX_LEASE.get().into()
}

/// The schema that scopes name without a prefix.
pub fn default_schema() -> String {
    text(&DEFAULT_SCHEMA)
}

/// The headers of [`token_headers`], until the setting has another value.
static READ_TOKEN_HEADERS: Local<Option<Rc<[TokenHeader]>>> = Local::new(None);

/// The headers whose value may be an opaque token.
pub fn token_headers() -> Rc<[TokenHeader]> {
    // SAFETY: the reference is gone at the end of the line.
    if let Some(read) = unsafe { READ_TOKEN_HEADERS.get() } {
        return Rc::clone(read);
    }
    let read: Rc<[TokenHeader]> = TokenHeader::parse_list(&text(&TOKEN_HEADERS))
        .unwrap_or_default()
        .into();
    // SAFETY: as above.
    unsafe { *READ_TOKEN_HEADERS.get() = Some(Rc::clone(&read)) };
    read
}

#[pg_guard]
unsafe extern "C-unwind" fn check_token_headers(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: what Postgres has passed.
    unsafe {
        is_fit(
            value,
            c"It is a list of up to 8 names of headers, without authorization: the REST server takes only JWTs there.",
            |text| {
                let text = text.and_then(|text| text.to_str().ok());
                text.is_some_and(|text| TokenHeader::parse_list(text).is_some())
            },
        )
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn token_headers_assigned(_value: *const c_char, _extra: *mut c_void) {
    // SAFETY: as above.
    unsafe { *READ_TOKEN_HEADERS.get() = None };
}

/// How many proxies in front of the REST server add an entry to `X-Forwarded-For`, so that they can be believed.
pub fn trusted_proxies() -> usize {
    TRUSTED_PROXIES.get() as usize
}

/// Whether answers tell of the limits of a token.
pub fn rate_limit_headers() -> bool {
    RATE_LIMIT_HEADERS.get()
}

pub fn live_claims() -> bool {
    LIVE_CLAIMS.get()
}

/// Without pgrx's check of the thread, since each planning asks.
#[inline(always)]
pub fn fast_auth_functions() -> bool {
    // SAFETY: Postgres keeps a boolean there.
    unsafe { *FAST_AUTH_FUNCTIONS.as_ptr() }
}

/// Plans that are kept were made with what the setting was.
#[pg_guard]
unsafe extern "C-unwind" fn fast_auth_functions_assigned(value: bool, _extra: *mut c_void) {
    if value != fast_auth_functions() {
        // SAFETY: it marks the plans that are kept, and looks nothing up.
        unsafe { pg_sys::ResetPlanCache() };
    }
}

pub fn next_pre_request() -> Option<String> {
    Some(text(&NEXT_PRE_REQUEST)).filter(|name| !name.is_empty())
}

pub fn tracked_keys() -> usize {
    TRACKED_KEYS.get() as usize
}

/// Seconds.
pub fn flush_interval() -> u64 {
    FLUSH_INTERVAL.get() as u64
}

/// Seconds, `None` for keeping events for ever.
pub fn event_retention() -> Option<i64> {
    Some(EVENT_RETENTION.get().into()).filter(|&seconds| seconds > 0)
}

/// Seconds, `None` for keeping usage by day for ever.
pub fn usage_retention() -> Option<i64> {
    Some(USAGE_RETENTION.get().into()).filter(|&seconds| seconds > 0)
}

/// The least level of `synchronous_commit` for a revocation.
pub fn revoke_synchronous_commit() -> Level {
    REVOKE_SYNCHRONOUS_COMMIT.get()
}

pub fn jwt_secret_file() -> Option<String> {
    Some(text(&JWT_SECRET_FILE)).filter(|path| !path.is_empty())
}

/// Seconds.
pub fn default_lifetime() -> i64 {
    DEFAULT_LIFETIME.get().into()
}

/// Seconds.
pub fn max_lifetime() -> i64 {
    MAX_LIFETIME.get().into()
}

/// Seconds.
pub fn clock_skew() -> i64 {
    CLOCK_SKEW.get().into()
}

pub fn max_keys_per_user() -> usize {
    MAX_KEYS_PER_USER.get() as usize
}

/// The name of the function that says who manages a service account.
pub fn service_account_manager() -> Option<String> {
    Some(text(&SERVICE_ACCOUNT_MANAGER)).filter(|name| !name.is_empty())
}

pub fn max_service_accounts_per_user() -> usize {
    MAX_SERVICE_ACCOUNTS_PER_USER.get() as usize
}

pub fn mint_for_restricted_logins() -> bool {
    MINT_FOR_RESTRICTED_LOGINS.get()
}

/// `aal1`, `aal2`, `aal3`, or nothing.
pub fn mint_requires_aal() -> String {
    text(&MINT_REQUIRES_AAL)
}

#[pg_guard]
unsafe extern "C-unwind" fn check_assurance_level(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: what Postgres has passed.
    unsafe {
        is_fit(
            value,
            c"An assurance level is aal1, aal2 or aal3. Empty, any login will do.",
            |text| {
                text.is_none_or(|text| matches!(text.to_bytes(), b"" | b"aal1" | b"aal2" | b"aal3"))
            },
        )
    }
}

/// What new opaque tokens begin with: one that [`Prefix::parse`] takes.
pub fn token_prefix() -> String {
    text(&TOKEN_PREFIX)
}

#[pg_guard]
unsafe extern "C-unwind" fn check_token_prefix(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: what Postgres has passed.
    unsafe {
        is_fit(
            value,
            c"A prefix has 3 to 32 lower-case letters, digits and underscores, ends in an underscore, and does not \
            begin with sb_, sbp_, ey or ew.",
            |text| {
                let text = text.and_then(|text| text.to_str().ok());
                text.is_some_and(|text| Prefix::parse(text).is_some())
            },
        )
    }
}

/// Bytes.
pub fn max_settings_size() -> usize {
    MAX_SETTINGS_SIZE.get() as usize
}

pub fn max_name_length() -> usize {
    MAX_NAME_LENGTH.get() as usize
}

static PRELOADED: crate::pg::Local<bool> = crate::pg::Local::new(false);

/// Defines all settings but the one of [`crate::request::admitted`]. To be called once, from `_PG_init`.
pub fn define() {
    // SAFETY: no other code of ours runs yet, and the flag is Postgres's own.
    unsafe { *PRELOADED.get() = pg_sys::process_shared_preload_libraries_in_progress };

    let string = |name: &'static CStr, about: &'static CStr, setting, flags| {
        GucRegistry::define_string_guc(name, about, c"", setting, GucContext::Suset, flags);
    };
    string(
        c"supabase_pat.anon_role",
        c"The role of requests without a login.",
        &ANON_ROLE,
        GucFlags::default(),
    );
    string(
        c"supabase_pat.authenticated_role",
        c"The role of logged-in users, and the role claim of their personal access tokens.",
        &AUTHENTICATED_ROLE,
        GucFlags::default(),
    );
    string(
        c"supabase_pat.service_role",
        c"The role whose privileges make a caller trusted.",
        &SERVICE_ROLE,
        GucFlags::default(),
    );
    string(
        c"supabase_pat.mail_worker_role",
        c"The role that may send the messages in the outbox, and is trusted with nothing else.",
        &MAIL_WORKER_ROLE,
        GucFlags::default(),
    );
    string(
        c"supabase_pat.issuer",
        c"The iss claim of personal access tokens.",
        &ISSUER,
        GucFlags::default(),
    );
    string(
        c"supabase_pat.jwt_secret_file",
        c"The file that holds the JWT secret, a Docker secret for instance.",
        &JWT_SECRET_FILE,
        GucFlags::SUPERUSER_ONLY,
    );
    string(
        c"supabase_pat.default_schema",
        c"The first of the REST server's schemas. Scopes name its tables and functions without a schema.",
        &DEFAULT_SCHEMA,
        GucFlags::default(),
    );
    string(
        c"supabase_pat.next_pre_request",
        c"The function, with its schema, that pat.gate calls for each request that it lets through.",
        &NEXT_PRE_REQUEST,
        GucFlags::default(),
    );
    string(
        c"supabase_pat.service_account_manager",
        c"The function, with its schema, that says whether the caller manages a service account, or may create one.",
        &SERVICE_ACCOUNT_MANAGER,
        GucFlags::default(),
    );
    string(
        c"supabase_pat.debug_reset_code",
        c"For development: every code is this one, and each use writes a warning to the log.",
        &DEBUG_RESET_CODE,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_enum_guc(
        c"supabase_pat.revoke_synchronous_commit",
        c"The lowest level of synchronous_commit for a transaction that revokes something.",
        c"",
        &REVOKE_SYNCHRONOUS_COMMIT,
        GucContext::Suset,
        GucFlags::default(),
    );
    let bool = |name: &'static CStr, about: &'static CStr, setting| {
        let flags = GucFlags::default();
        GucRegistry::define_bool_guc(name, about, c"", setting, GucContext::Suset, flags);
    };
    bool(
        c"supabase_pat.allow_weak_keys",
        c"For development: whether to sign with published example secrets and with secrets that repeat a few bytes.",
        &ALLOW_WEAK_KEYS,
    );
    bool(
        c"supabase_pat.reset_revokes_pats",
        c"Whether resetting a password revokes the personal access tokens of the user.",
        &RESET_REVOKES_PATS,
    );
    bool(
        c"supabase_pat.mint_for_restricted_logins",
        c"Whether logins of OAuth applications, impersonators and anonymous users may mint tokens, whose claims then say so.",
        &MINT_FOR_RESTRICTED_LOGINS,
    );
    bool(
        c"supabase_pat.live_claims",
        c"Whether pat.gate takes the claims of a token from the present row of auth.users.",
        &LIVE_CLAIMS,
    );
    bool(
        c"supabase_pat.rate_limit_headers",
        c"Whether answers to requests with limited tokens have the headers RateLimit and RateLimit-Policy.",
        &RATE_LIMIT_HEADERS,
    );
    bool(
        c"supabase_pat.enable_sign_in",
        c"Whether users may sign in with their passwords.",
        &ENABLE_SIGN_IN,
    );
    bool(
        c"supabase_pat.enable_sign_up",
        c"Whether anybody may become a user with sign_up.",
        &ENABLE_SIGN_UP,
    );
    bool(
        c"supabase_pat.confirm_sign_up",
        c"Whether new users must confirm their address before they can sign in.",
        &CONFIRM_SIGN_UP,
    );
    bool(
        c"supabase_pat.enable_leak_reports",
        c"Whether anybody may revoke tokens by reporting them as leaked.",
        &ENABLE_LEAK_REPORTS,
    );
    bool(
        c"supabase_pat.single_session",
        c"Whether a new session of a user ends the others.",
        &SINGLE_SESSION,
    );
    // SAFETY: the hook raises no error and cannot panic: it compares, and writes three pointers.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"supabase_pat.jwt_secret",
            c"The JWT secret. It is used only if supabase_pat is in shared_preload_libraries.",
            c"",
            &JWT_SECRET,
            // A reload would print the new value into the server's log.
            match is_preloaded() {
                true => GucContext::Postmaster,
                false => GucContext::Suset,
            },
            GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL,
            Some(refuse_catalogs),
            None,
            None,
        );
    }

    let int = |name: &'static CStr, about: &'static CStr, setting, (min, max), flags| {
        GucRegistry::define_int_guc(
            name,
            about,
            c"",
            setting,
            min,
            max,
            GucContext::Suset,
            flags,
        );
    };
    int(
        c"supabase_pat.default_lifetime",
        c"How long a token lives if mint_pat is not given a lifetime.",
        &DEFAULT_LIFETIME,
        (1, i32::MAX),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.max_lifetime",
        c"How long a token may live at most.",
        &MAX_LIFETIME,
        (1, i32::MAX),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.clock_skew",
        c"How far the clocks of other issuers may differ from this one when their tokens are checked.",
        &CLOCK_SKEW,
        (0, 3600),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.max_keys_per_user",
        c"How many live tokens a user may have.",
        &MAX_KEYS_PER_USER,
        (1, 1_000_000),
        GucFlags::default(),
    );
    int(
        c"supabase_pat.max_service_accounts_per_user",
        c"How many service accounts a user may have created.",
        &MAX_SERVICE_ACCOUNTS_PER_USER,
        (0, 1_000_000),
        GucFlags::default(),
    );
    // SAFETY: the hook raises no error and cannot panic.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"supabase_pat.mint_requires_aal",
            c"The assurance level that a login needs to mint tokens: aal1, aal2 or aal3; empty for any.",
            c"",
            &MINT_REQUIRES_AAL,
            GucContext::Suset,
            GucFlags::default(),
            Some(check_assurance_level),
            None,
            None,
        );
        GucRegistry::define_string_guc_with_hooks(
            c"supabase_pat.token_prefix",
            c"What new opaque tokens begin with. Tokens with another prefix stay valid.",
            c"",
            &TOKEN_PREFIX,
            GucContext::Suset,
            GucFlags::default(),
            Some(check_token_prefix),
            None,
            None,
        );
    }
    int(
        c"supabase_pat.max_name_length",
        c"How many characters the name of a token may have.",
        &MAX_NAME_LENGTH,
        (1, 10_000),
        GucFlags::default(),
    );
    int(
        c"supabase_pat.reset_code_length",
        c"How many digits a code sent by e-mail has.",
        &RESET_CODE_LENGTH,
        (5, 10),
        GucFlags::default(),
    );
    int(
        c"supabase_pat.reset_lifetime",
        c"How long a code is valid.",
        &RESET_LIFETIME,
        (1, DAY),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.reset_max_attempts",
        c"How many wrong codes may be tried with one token.",
        &RESET_MAX_ATTEMPTS,
        (1, 100),
        GucFlags::default(),
    );
    int(
        c"supabase_pat.reset_requests_per_hour",
        c"How many codes may be sent to one address within an hour.",
        &RESET_REQUESTS_PER_HOUR,
        (1, 1000),
        GucFlags::default(),
    );
    int(
        c"supabase_pat.min_password_length",
        c"How many characters a password must have at least.",
        &MIN_PASSWORD_LENGTH,
        (1, 72),
        GucFlags::default(),
    );
    int(
        c"supabase_pat.access_token_lifetime",
        c"How long the access token of a session lives.",
        &ACCESS_TOKEN_LIFETIME,
        (1, 7 * DAY),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.refresh_reuse_interval",
        c"How long a refresh token that was replaced may still be used, by a request that was under way.",
        &REFRESH_REUSE_INTERVAL,
        (0, 3600),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.session_inactivity",
        c"After how long without a refresh a session ends; 0 for never.",
        &SESSION_INACTIVITY,
        (0, i32::MAX),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.session_timebox",
        c"After how long a session ends, even if it is refreshed; 0 for never.",
        &SESSION_TIMEBOX,
        (0, i32::MAX),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.outbox_lease",
        c"How long a message that a worker has claimed is kept from other workers.",
        &OUTBOX_LEASE,
        (1, 3600),
        GucFlags::UNIT_S,
    );
    // SAFETY: the hooks have guards of their own.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"supabase_pat.notices",
            c"Which events of their tokens users get mails about: a list of minted, expiring, revoked and leaked.",
            c"",
            &NOTICES,
            GucContext::Suset,
            GucFlags::default(),
            Some(check_notices),
            Some(notices_assigned),
            None,
        );
    }
    // SAFETY: the hooks have guards of their own.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"supabase_pat.guarded_logins",
            c"The login roles of REST servers whose requests the guard judges, where the library is preloaded.",
            c"",
            &GUARDED_LOGINS,
            GucContext::Suset,
            GucFlags::default(),
            Some(check_guarded_logins),
            Some(guarded_logins_assigned),
            None,
        );
    }
    // SAFETY: the hook raises no error and cannot panic.
    unsafe {
        GucRegistry::define_bool_guc_with_hooks(
            c"supabase_pat.fast_auth_functions",
            c"Whether faster functions with the same results replace auth.uid() and the like when a query is planned.",
            c"",
            &FAST_AUTH_FUNCTIONS,
            GucContext::Suset,
            GucFlags::default(),
            None,
            Some(fast_auth_functions_assigned),
            None,
        );
    }
    // SAFETY: the hooks raise no error and cannot panic.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"supabase_pat.token_headers",
            c"The headers of a request whose value may be an opaque token.",
            c"",
            &TOKEN_HEADERS,
            GucContext::Suset,
            GucFlags::default(),
            Some(check_token_headers),
            Some(token_headers_assigned),
            None,
        );
    }
    int(
        c"supabase_pat.trusted_proxies",
        c"How many proxies in front of the REST server add an entry to X-Forwarded-For.",
        &TRUSTED_PROXIES,
        (0, 16),
        GucFlags::default(),
    );
    int(
        c"supabase_pat.event_retention",
        c"How long events are kept; 0 for keeping them for ever.",
        &EVENT_RETENTION,
        (0, i32::MAX),
        GucFlags::UNIT_S,
    );
    int(
        c"supabase_pat.usage_retention",
        c"How long the daily request counts of tokens are kept; 0 for keeping them for ever.",
        &USAGE_RETENTION,
        (0, i32::MAX),
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"supabase_pat.flush_interval",
        c"How often the last use of tokens is written to the table.",
        c"",
        &FLUSH_INTERVAL,
        1,
        3600,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    // Once Postgres has started, it refuses to define a setting of the context `postmaster`.
    if is_preloaded() {
        GucRegistry::define_int_guc(
        c"supabase_pat.tracked_keys",
        c"How many tokens shared memory has room for at most, to count requests and to note the last use.",
        c"",
        &TRACKED_KEYS,
        64,
        10_000_000,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    }
    int(
        c"supabase_pat.max_settings_size",
        c"How many bytes of text the settings of a user, or the overrides of a request, may have.",
        &MAX_SETTINGS_SIZE,
        (2, 16 * 1024 * 1024),
        GucFlags::UNIT_BYTE,
    );
    // From now on Postgres warns of misspelt settings.
    // SAFETY: a text that ends in NUL, which Postgres copies.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"supabase_pat".as_ptr()) };
}

/// Refuses the secret where it would be stored in a catalog that every role can read: by `ALTER DATABASE`, `ALTER ROLE`
/// and `CREATE FUNCTION … SET`. Postgres's own message would show the refused value, so the hook sets another one.
#[pg_guard]
unsafe extern "C-unwind" fn refuse_catalogs(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    use pg_sys::GucSource::*;
    // SAFETY: Postgres passes a pointer to the new value, which is null or a text that ends in NUL.
    let is_empty = unsafe { (*value).is_null() || **value == 0 };
    let is_stored_in_a_catalog = matches!(
        source,
        PGC_S_DATABASE | PGC_S_USER | PGC_S_DATABASE_USER | PGC_S_GLOBAL | PGC_S_TEST
    );
    if is_empty || !is_stored_in_a_catalog {
        return true;
    }
    // SAFETY: these are constant texts. Postgres only reads the messages, and clears the pointers before the next hook
    // runs.
    unsafe {
        pg_sys::GUC_check_errmsg_string =
            c"supabase_pat.jwt_secret cannot be set for a database, role or function"
                .as_ptr()
                .cast_mut();
        pg_sys::GUC_check_errdetail_string = c"Every role can read such settings in the catalogs."
            .as_ptr()
            .cast_mut();
        pg_sys::GUC_check_errhint_string =
            c"Put it into postgresql.conf, or into a file named by supabase_pat.jwt_secret_file."
                .as_ptr()
                .cast_mut();
    }
    false
}
