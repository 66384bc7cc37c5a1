//! Reading a JWT: its parts, its header, its claims.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::cleaning::is_quote;
use super::signatures::{ALGORITHMS, KnownAlgorithm, wrong_length};
use super::{Format, Installation, Report, Roles, decode_base64, is_base64url};
use crate::claims::TOKEN_TYPE;
use crate::json::{Members, WrongType};

/// What PostgREST allows clocks to differ by.
pub(super) const CLOCK_SKEW_SECONDS: i64 = 30;

/// The end of the year 9999, the last that dates are written with four digits for.
pub(super) const LAST_SECOND: i64 = 253_402_300_799;

/// The parts of a JWT in compact form (RFC 7515 section 3.1).
const PARTS: [&str; 3] = ["header", "payload", "signature"];

impl Report {
    pub(super) fn read_jwt(
        &mut self,
        token: &str,
        now: i64,
        roles: &Roles,
        installation: &dyn Installation,
    ) {
        let parts: Vec<&str> = token.split('.').collect();
        self.problems.extend(miscounted(parts.len()));
        // Where the end is missing, how the last part ends is not its fault. What follows a payload
        // is a signature only if nothing follows that.
        let blamed = match parts.len() {
            3 => 3,
            count => (count - 1).min(2),
        };
        let mut start = 1;
        let mut decoded = [None, None, None];
        for (index, part) in parts.iter().take(3).enumerate() {
            let (bytes, problem) = decode(PARTS[index], part, start);
            self.problems.extend(problem.filter(|_| index < blamed));
            decoded[index] = bytes;
            start += part.chars().count() + 1;
        }
        let [header, payload, _] = &decoded;
        let header = self.object("header", header.as_deref(), blamed > 0);
        let payload = self.object("payload", payload.as_deref(), blamed > 1);

        let algorithm = header.and_then(|header| self.algorithm(&header));
        if let Some(payload) = &payload {
            self.read_claims(payload, now, roles);
        }
        let (Some(algorithm), [_, _, signature]) = (algorithm, &parts[..]) else {
            return;
        };
        let length = signature.trim_end_matches('=').chars().count();
        if let Some(problem) = wrong_length(algorithm, length) {
            self.problem(problem);
        } else if payload.is_some() && parts.iter().all(|part| part.chars().all(is_base64url)) {
            self.check_signature(token, algorithm.name, installation);
        }
    }

    /// The JSON object in a part's bytes.
    fn object<'a>(
        &mut self,
        name: &str,
        json: Option<&'a [u8]>,
        is_blamed: bool,
    ) -> Option<Members<'a>> {
        let (object, problem) = match read_object(name, json?) {
            Ok(object) if object.has_doubles() => (Some(object), Some(doubles(name))),
            Ok(object) => (Some(object), None),
            Err(problem) => (None, Some(problem)),
        };
        self.problems.extend(problem.filter(|_| is_blamed));
        object
    }

    /// The algorithm that the header names.
    fn algorithm(&mut self, header: &Members) -> Option<KnownAlgorithm> {
        let Ok(Some(name)) = text(header, "alg") else {
            self.problem(
                "The header names no algorithm (`alg`), so no server accepts the key. Sign it \
                 again, with HS256 for a shared secret.",
            );
            return None;
        };
        let known = ALGORITHMS.into_iter().find(|known| known.name == name);
        if name.eq_ignore_ascii_case("none") {
            self.problem(
                "The key is not signed: its algorithm is \"none\", which every server refuses. \
                 Sign it with the project's secret.",
            );
        } else if known.is_none() {
            self.problem(
                "PostgREST does not know the key's algorithm (`alg`). Sign it again, with HS256 \
                 for a shared secret.",
            );
        }
        known
    }

    fn read_claims(&mut self, claims: &Members, now: i64, roles: &Roles) {
        self.format = classify(claims, roles);
        self.role = text(claims, "role").ok().flatten();
        self.r#ref = text(claims, "ref").ok().flatten();
        self.iss = text(claims, "iss").ok().flatten();
        if self.format == Format::UserJwt {
            self.problem(
                "This is the access token of a user's session, not an API key, and ends within \
                 the hour or so. It belongs in the Authorization header alone: use the anon or \
                 publishable key as API key.",
            );
        }
        self.check_role(claims, roles);
        if self.iss.as_deref() == Some("supabase-demo") {
            self.problem(
                "This is a demonstration key of Supabase, which everybody knows. Set a JWT \
                 secret of your own and make new keys with it.",
            );
        }
        self.check_times(claims, now);
    }

    fn check_role(&mut self, claims: &Members, roles: &Roles) {
        let Roles { anon, service, .. } = roles;
        match text(claims, "role") {
            Ok(None) => self.problem(format!(
                "The key names no role, so that PostgREST treats it as the anonymous role. Make \
                 one whose `role` is {anon} or {service}.",
            )),
            Err(WrongType) => self.problem(format!(
                "The key's `role` is not text. Make one whose `role` is {anon} or {service}.",
            )),
            // Users and tokens may have roles of the project's own.
            Ok(Some(role))
                if self.format == Format::LegacyJwt && role != *anon && role != *service =>
            {
                self.problem(format!(
                    "The key's role is not one that API keys have here, which are {anon} and \
                     {service}. Copy one of those keys, or grant the role to the authenticator \
                     if it is your own.",
                ));
            }
            Ok(Some(_)) => {}
        }
    }

    fn check_times(&mut self, claims: &Members, now: i64) {
        let latest = now.saturating_add(CLOCK_SKEW_SECONDS);
        let issued_at = self.time(claims, "iat");
        let expires_at = self.time(claims, "exp");
        let not_before = self.time(claims, "nbf");
        self.issued_at = issued_at.map(OffsetDateTime::unix_timestamp);
        self.expires_at = expires_at.map(OffsetDateTime::unix_timestamp);
        if let Some(expiry) = expires_at.filter(|expiry| expiry.unix_timestamp() <= now) {
            self.problem(format!(
                "The key expired on {}. Make a new one.",
                expiry.date()
            ));
        }
        if claims.get("exp").is_none_or(is_null) {
            self.problem(
                "The key has no expiry (`exp`): it works for as long as the secret that signed \
                 it. A Supabase key has one, so make a new key.",
            );
        }
        if let Some(start) = not_before.filter(|start| start.unix_timestamp() > latest) {
            self.problem(format!(
                "The key is not valid before {} (`nbf`). Wait, or make a new one.",
                start.date()
            ));
        }
        if self.issued_at.is_some_and(|issued| issued > latest) {
            self.problem(
                "The key says that it was issued in the future (`iat`), and PostgREST refuses \
                 that. Set the clock of the machine that made it, and make a new one.",
            );
        }
    }

    fn time(&mut self, claims: &Members, name: &str) -> Option<OffsetDateTime> {
        let seconds: Option<i64> = match claim(claims, name) {
            Ok(None) => return None,
            Ok(seconds) => seconds,
            Err(WrongType) => None,
        };
        let time = seconds
            .filter(|seconds| (0..=LAST_SECOND).contains(seconds))
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        if time.is_none() {
            self.problem(format!(
                "The key's `{name}` is not a time in whole seconds since 1970. Write it as a \
                 number without a fraction or quotation marks, and not in milliseconds.",
            ));
        }
        time
    }
}

/// Whether a text is meant as a JWT. Other things have dots too, such as addresses. A token that lost its beginning
/// still has three parts, or a payload that begins as JSON does.
pub(super) fn is_jwt(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    text.starts_with("eyJ")
        || match parts[..] {
            [_, second] => second.starts_with("eyJ"),
            [_, _, _] => !text.contains("://"),
            _ => false,
        }
}

fn miscounted(parts: usize) -> Option<String> {
    match parts {
        3 => None,
        1 => Some(
            "The key has only the first of three parts: the rest, from a dot on, is missing. \
             Copy it to its end."
                .to_owned(),
        ),
        2 => Some(
            "The signature is missing: the key has two parts, and needs a third after another \
             dot. Copy it to its end."
                .to_owned(),
        ),
        count => Some(format!(
            "The key has {count} parts with dots between them, and a key has three: two keys \
             seem to have been pasted one after the other, or something follows the key. Paste \
             one key alone.",
        )),
    }
}

/// A part's bytes, which ordinary base64 gives too, and what is wrong with its characters. The
/// part begins at character `start` of the key.
fn decode(name: &str, part: &str, start: usize) -> (Option<Vec<u8>>, Option<String>) {
    // How long a signature must be, and so whether it may be empty, depends on the algorithm.
    if part.is_empty() && name != "signature" {
        let problem = format!("The {name} of the key is empty. Copy the key again.");
        return (None, Some(problem));
    }
    let is_ordinary = |c| matches!(c, '=' | '+' | '/');
    if let Some(index) = part
        .chars()
        .position(|c| !is_base64url(c) && !is_ordinary(c))
    {
        let kind = match part.chars().nth(index) {
            Some(c) if is_quote(c) => "a quotation mark",
            _ => "none that a key can have",
        };
        let problem = format!(
            "Character {} of the key, in its {name}, is {kind}. Copy the key again.",
            start + index
        );
        return (None, Some(problem));
    }
    let bytes = decode_base64(part);
    let problem = if part.contains(is_ordinary) {
        Some(format!(
            "The {name} of the key is in ordinary base64. A key needs base64url: - in place of \
             +, _ in place of /, and no = at the end.",
        ))
    } else if bytes.is_none() && name != "signature" {
        Some(format!(
            "The {name} of the key has a character too few or too many. Copy the key again.",
        ))
    } else {
        None
    };
    (bytes, problem)
}

fn classify(claims: &Members, roles: &Roles) -> Format {
    let is = |name, value| matches!(text(claims, name), Ok(Some(text)) if text == value);
    let has = |name| claims.get(name).is_some_and(|value| !is_null(value));
    if is("type", TOKEN_TYPE) {
        Format::PersonalAccessToken
    } else if has("sub") || has("session_id") || is("role", roles.authenticated) {
        Format::UserJwt
    } else {
        Format::LegacyJwt
    }
}

/// A member's value; `None` if it is missing or null.
fn claim<T: DeserializeOwned>(claims: &Members, name: &str) -> Result<Option<T>, WrongType> {
    match claims.get(name) {
        Some(value) => serde_json::from_str(value.get()).map_err(|_| WrongType),
        None => Ok(None),
    }
}

/// Text that Postgres can hold, which is text without the character 0.
fn text(claims: &Members, name: &str) -> Result<Option<String>, WrongType> {
    match claim::<String>(claims, name)? {
        Some(text) if text.contains('\0') => Err(WrongType),
        text => Ok(text),
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// The members of a part of the key.
///
/// # Errors
/// The problem, if the part is no JSON object.
fn read_object<'a>(name: &str, json: &'a [u8]) -> Result<Members<'a>, String> {
    let garbled = || {
        format!(
            "The {name} of the key is not JSON: characters are missing from it or were changed. \
             Copy the key again.",
        )
    };
    let json = std::str::from_utf8(json).map_err(|_| garbled())?;
    Members::parse_lenient(json).map_err(|error| match error.is_data() {
        true => format!("The {name} of the key is not a JSON object. Make a new key."),
        false => garbled(),
    })
}

fn doubles(name: &str) -> String {
    format!(
        "A name stands twice in the {name} of the key, and programs differ in which one they \
         take. Make a new key.",
    )
}
