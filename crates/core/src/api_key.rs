//! The doctor of Supabase API keys: what a key is, and what is wrong with it.
//!
//! Most broken keys were broken by pasting. So whatever does not belong to a key is taken off first,
//! and each kind of it is a problem of its own; then the rest is read. A report says where a wrong
//! character stands, never which one it is: reports end up in logs and chats, where keys must not.

mod cleaning;
mod jwt;
mod signatures;
#[cfg(test)]
mod tests;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};

use crate::opaque_token::{self, OpaqueToken, Prefix};
use crate::pgjwt;
use cleaning::clean;
use jwt::is_jwt;

/// What a key is and what is wrong with it.
pub struct Report {
    pub format: Format,
    /// The role that PostgREST takes from the key, or that a new key stands for.
    pub role: Option<String>,
    pub r#ref: Option<String>,
    pub iss: Option<String>,
    /// Unix seconds, and only such as a Postgres `timestamptz` can hold.
    pub issued_at: Option<i64>,
    /// As [`Report::issued_at`].
    pub expires_at: Option<i64>,
    /// In characters, of the key as it was given.
    pub length: usize,
    pub signature: Signature,
    /// Each in plain words, with how to fix it. None of them repeats a piece of the key. Characters
    /// are counted from 1, and what does not belong to the key is not counted.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    LegacyJwt,
    Publishable,
    Secret,
    UserJwt,
    PersonalAccessToken,
    Unknown,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LegacyJwt => "legacy_jwt",
            Self::Publishable => "publishable",
            Self::Secret => "secret",
            Self::UserJwt => "user_jwt",
            Self::PersonalAccessToken => "personal_access_token",
            Self::Unknown => "unknown",
        }
    }
}

/// How the signature of a JWT stands, or the checksum of a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    Verified,
    /// Nothing could be checked.
    NotVerified,
    /// It was checked, and no key that counts made it.
    Bad,
}

impl Signature {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::NotVerified => "not_verified",
            Self::Bad => "bad",
        }
    }
}

/// How a JWT's signature stands, as whoever holds the keys sees it.
pub enum Checked {
    Matches,
    /// The signature matches, but this is a personal access token that is not live.
    NotLive,
    /// The signature is that of a key that was revoked.
    Revoked,
    DoesNotMatch,
    /// No key that could have signed it is known here.
    NoKey,
}

/// What the inspection needs to know of this installation.
pub trait Installation {
    /// `token` has three parts that can be read, and an algorithm that PostgREST knows.
    fn check(&self, token: &str) -> Checked;
    /// What opaque tokens begin with here.
    fn token_prefix(&self) -> Prefix<'_> {
        Prefix::of_setting(opaque_token::DEFAULT_PREFIX)
    }
    /// Whether the text is that of an imported token, dead or alive.
    fn knows_token(&self, _text: &str) -> bool {
        false
    }
    /// The shared secret of HS256, if there is one.
    fn shared_secret(&self) -> Option<&[u8]>;
}

/// The roles as they are named here.
pub struct Roles<'a> {
    pub anon: &'a str,
    pub authenticated: &'a str,
    pub service: &'a str,
}

/// Reads a key, whatever it is: there is no text that this refuses. The time it takes grows with
/// the length of the key, and a key over 1 MiB is not read at all. `now` is Unix time in seconds.
pub fn inspect(key: &str, now: i64, roles: &Roles, installation: &dyn Installation) -> Report {
    let mut report = Report {
        format: Format::Unknown,
        role: None,
        r#ref: None,
        iss: None,
        issued_at: None,
        expires_at: None,
        length: key.chars().count(),
        signature: Signature::NotVerified,
        problems: Vec::new(),
    };
    if key.len() > MAX_BYTES {
        report.problem("The key is longer than 1 MiB and was not read. Copy the key alone.");
        return report;
    }
    // An imported token may have any form: what looks like a flaw, or a piece of another key, can be a part of it.
    let is_imported =
        |text: &str| OpaqueToken::parse(text).is_none() && installation.knows_token(text);
    if is_imported(key) {
        report.read_imported_token(roles);
        return report;
    }
    let (text, flaws) = clean(key);
    if let Some(problem) = no_key_at_all(key, &text, installation) {
        report.problem(problem);
        return report;
    }
    for flaw in flaws {
        report.problem(flaw.problem());
    }
    if text.len() > MAX_HEADER_BYTES {
        report.problem(
            "The key is longer than 16 KiB. Servers refuse headers of that size: put less into \
             its payload.",
        );
    }
    let new = new_format(&text, roles);
    if let Some((format, role)) = new {
        report.format = format;
        report.role = Some(role.to_owned());
    }
    if is_elided(&text) {
        report.problem(
            "Dots or stars stand for a part of the key, as where keys are only shown. Copy it \
             with the button beside it, or reveal it first.",
        );
    } else if new.is_some() {
        report.read_new_key(&text);
    } else if is_imported(&text) {
        report.read_imported_token(roles);
    } else if opaque_token::is_like_one(&text, installation.token_prefix()) {
        report.read_opaque_token(&text, roles, installation.token_prefix());
    } else if is_jwt(&text) {
        report.read_jwt(&text, now, roles, installation);
    } else {
        report.problem(unknown(&text, installation.token_prefix()));
    }
    report
}

const DEAD_TOKEN: &str = "This personal access token is dead: it was revoked, has expired, or its user \
    is gone or banned. Mint a new one.";

const MAX_BYTES: usize = 1 << 20;
const MAX_HEADER_BYTES: usize = 16 << 10;

const PUBLISHABLE: &str = "sb_publishable_";
const SECRET: &str = "sb_secret_";

/// What self-hosted projects have in place of a project ref.
const SELF_HOSTED_REF: &str = "supabase-self-hosted";

/// A new key after its prefix: the random part, an underscore, the checksum.
const RANDOM_LENGTH: usize = 22;
const CHECKSUM_LENGTH: usize = 8;
const BODY_LENGTH: usize = RANDOM_LENGTH + 1 + CHECKSUM_LENGTH;

impl Report {
    fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    fn read_imported_token(&mut self, roles: &Roles) {
        self.format = Format::PersonalAccessToken;
        self.role = Some(roles.authenticated.to_owned());
        self.signature = Signature::Verified;
    }

    /// It is only read. Whether it is live is told to whoever presents it to the gate, and to nobody else: this is for
    /// everybody, and reports get around.
    fn read_opaque_token(&mut self, text: &str, roles: &Roles, present: Prefix) {
        self.format = Format::PersonalAccessToken;
        self.role = Some(roles.authenticated.to_owned());
        if OpaqueToken::parse(text).is_some() {
            self.signature = Signature::Verified;
            return;
        }
        let prefix = opaque_token::prefix_of(text, present);
        let cut = prefix.and_then(|prefix| off_by(text.len(), prefix.token_length(), "token"));
        match cut {
            Some(cut) => self.problem(cut),
            None => {
                self.signature = Signature::Bad;
                self.problem(
                    "The token's checksum does not fit: one of its characters is wrong. Copy it again, \
                     or mint a new one.",
                );
            }
        }
    }

    fn read_new_key(&mut self, key: &str) {
        let prefix = match self.format {
            Format::Publishable => PUBLISHABLE.len(),
            _ => SECRET.len(),
        };
        if let Some(index) = key.chars().position(|c| !is_base64url(c)) {
            self.problem(format!(
                "Character {} of the key cannot be in such a key. Copy the key again.",
                index + 1
            ));
            return;
        }
        if let Some(problem) = off_by(key.len(), prefix + BODY_LENGTH, "key") {
            self.problem(problem);
            return;
        }
        let (body, checksum) = key.split_at(prefix + RANDOM_LENGTH);
        let Some(checksum) = checksum.strip_prefix('_') else {
            self.problem(format!(
                "Character {} of the key is not the underscore that must stand there. Copy the \
                 key again.",
                body.len() + 1
            ));
            return;
        };
        if checksum == new_key_checksum(SELF_HOSTED_REF, body) {
            self.signature = Signature::Verified;
            self.r#ref = Some(SELF_HOSTED_REF.to_owned());
        } else {
            self.problem(format!(
                "The checksum is not for the ref of a self-hosted project ({SELF_HOSTED_REF}): \
                 the key is that of another project, or one of its characters is wrong. Copy it \
                 again from where this project's keys are kept.",
            ));
        }
    }
}

/// The checksum of a new key whose part before the last underscore is `body`.
fn new_key_checksum(project_ref: &str, body: &str) -> String {
    let hash = digest(&SHA256, format!("{project_ref}|{body}").as_bytes());
    let mut checksum = BASE64URL.encode(hash);
    checksum.truncate(CHECKSUM_LENGTH);
    checksum
}

fn new_format<'a>(text: &str, roles: &Roles<'a>) -> Option<(Format, &'a str)> {
    if text.starts_with(PUBLISHABLE) {
        Some((Format::Publishable, roles.anon))
    } else if text.starts_with(SECRET) {
        Some((Format::Secret, roles.service))
    } else {
        None
    }
}

fn is_elided(text: &str) -> bool {
    text.contains("...") || text.contains(['\u{2026}', '\u{2022}', '\u{25cf}', '*'])
}

/// What is wrong with a text that is no key at all, in which case nothing else matters.
fn no_key_at_all(key: &str, text: &str, installation: &dyn Installation) -> Option<&'static str> {
    if text.is_empty() {
        return Some("The key is empty. Paste it, or set the variable that it comes from.");
    }
    let is_secret = |secret: &[u8]| {
        [key, key.trim(), text].iter().any(|text| {
            verify_slices_are_equal(text.as_bytes(), secret).is_ok()
                || verify_slices_are_equal(text.as_bytes(), secret.trim_ascii()).is_ok()
        })
    };
    if installation.shared_secret().is_some_and(is_secret) {
        return Some(
            "This is the JWT secret itself, which must never leave the server: whoever has it \
             can make any key. Use a key that was made with it, and change the secret if this \
             was sent or published anywhere.",
        );
    }
    text.starts_with("-----BEGIN").then_some(
        "This is a key in PEM form, with which API keys are signed or verified, not an API key. \
         Use an API key; a private key must never leave the server.",
    )
}

fn unknown(text: &str, prefix: Prefix) -> String {
    let known = if text.starts_with("sbp_") {
        "This is a token for Supabase's management API and command line, which no project's API \
         accepts. Use one of the project's API keys."
    } else if text.contains("://") {
        "This is an address, not a key. It may have changed places with the key."
    } else if ["undefined", "null", "None"].contains(&text) {
        "This is what a program writes for a variable that is not set. Set the variable that \
         the key comes from, and restart the program."
    } else {
        return format!(
            "This is not an API key: those begin with eyJ, sb_publishable_, sb_secret_ or {}. Copy the \
             key from where the project's keys are kept, from its beginning.",
            prefix.as_str()
        );
    };
    known.to_owned()
}

fn is_base64url(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// Says how far the length of `what` is from the one that it must have.
fn off_by(found: usize, length: usize, what: &str) -> Option<String> {
    let characters = |count| match count {
        1 => "1 character".to_owned(),
        count => format!("{count} characters"),
    };
    if found < length {
        Some(format!(
            "The {what} is cut short by {}. Copy the key again, to its end.",
            characters(length - found)
        ))
    } else if found > length {
        Some(format!(
            "The {what} is too long by {}. Copy the key again, and nothing after it.",
            characters(found - length)
        ))
    } else {
        None
    }
}

/// Bytes of base64 of either alphabet, padded as it may be.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    pgjwt::url_decode(text.trim_end_matches('=')).ok()
}
