//! What a request says about its maker: the claims that the REST server verified and handed to
//! Postgres as settings.
//!
//! There are two forms. Every supported server sets `request.jwt.claims`, the whole payload as
//! JSON; old ones set `request.jwt.claim.<name>`, one setting a claim, and Supabase's `auth.uid()`
//! lets that form win. A token must not look revoked in one form and be a login in the other, so
//! both are read, and where they disagree about a personal access token, it is not valid.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::scope::Scopes;

/// The `type` claim that makes a JWT a personal access token.
pub const TOKEN_TYPE: &str = "personal_access_token";

/// How many bytes the claims of a request, or one of them, may have. No REST server takes a tenth of it in a
/// header; the rest is for what `pat.gate()` fills in. 80 MB would take 10 s to read.
pub const MAX_CLAIMS: usize = 1 << 20;

/// Stands for a text that could not be read. No claim that means anything has this value.
pub const UNREADABLE: &str = "\u{fffd}";

/// The settings as they are, `None` where a setting is missing or empty: a setting that was local
/// to a transaction reverts to the empty string.
#[derive(Default, Clone, Copy)]
pub struct ClaimSettings<'a> {
    /// `request.jwt.claims`
    pub claims: Option<&'a str>,
    /// `request.jwt.claim.sub`
    pub sub: Option<&'a str>,
    /// `request.jwt.claim.type`
    pub r#type: Option<&'a str>,
    /// `request.jwt.claim.jti`
    pub jti: Option<&'a str>,
    /// `request.jwt.claim.scope`
    pub scope: Option<&'a str>,
    /// `request.jwt.claim.session_id`
    pub session_id: Option<&'a str>,
}

impl<'a> ClaimSettings<'a> {
    fn texts(&self) -> [Option<&'a str>; 6] {
        [
            self.claims,
            self.sub,
            self.r#type,
            self.jti,
            self.scope,
            self.session_id,
        ]
    }
}

/// Who makes a request, and with what.
pub struct Identity {
    /// What `auth.uid()` returns. `None` also where it would raise an error.
    pub user: Option<Uuid>,
    pub credential: Credential,
    /// That of a login. The claim `session_id` of a personal access token names none.
    pub session: SessionClaim,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionClaim {
    /// `anon`, `service_role`, or a login by other means.
    None,
    Id(Uuid),
    Malformed,
}

pub enum Credential {
    /// A login, `anon`, `service_role`, or no claims at all.
    Login,
    Token(TokenClaims),
    /// Claims that no issuer of ours writes, or that contradict each other.
    Malformed,
}

/// The claims of a personal access token. Whether there is such a token, and whether it is live, is another question.
pub struct TokenClaims {
    pub id: Uuid,
    pub user: Uuid,
    pub scopes: Scopes,
    /// When these claims end, in Unix seconds; the token may live longer. `None` if they do not say.
    pub expires_at: Option<i64>,
}

impl TokenClaims {
    /// Whether the claims have ended at `now`, in Unix seconds. The server that verified them may give some seconds
    /// more, and the row of a token that was exchanged for a shorter one says nothing of it.
    pub fn have_ended(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expiry| expiry <= now)
    }
}

impl Identity {
    /// A setting that is longer than [`MAX_CLAIMS`], or [`UNREADABLE`], is malformed, and is not read.
    pub fn from_settings(settings: &ClaimSettings) -> Self {
        let is_unfit = |text: Option<&str>| {
            text.is_some_and(|text| text.len() > MAX_CLAIMS || text == UNREADABLE)
        };
        if settings.texts().into_iter().any(is_unfit) {
            return Self {
                user: None,
                credential: Credential::Malformed,
                session: SessionClaim::Malformed,
            };
        }
        let payload = match settings.claims.map(serde_json::from_str::<Payload>) {
            None => Payload::default(),
            Some(Ok(payload)) => payload,
            Some(Err(_)) => {
                return Self {
                    user: settings.sub.and_then(parse_uuid),
                    credential: Credential::Malformed,
                    session: SessionClaim::Malformed,
                };
            }
        };
        let user = match settings.sub {
            Some(sub) => parse_uuid(sub),
            None => payload.sub.text().and_then(parse_uuid),
        };
        Self {
            user,
            credential: credential(settings, &payload, user).unwrap_or(Credential::Malformed),
            session: match agreed(settings.session_id, &payload.session_id) {
                Some(None) => SessionClaim::None,
                Some(Some(id)) => parse_uuid(id).map_or(SessionClaim::Malformed, SessionClaim::Id),
                None => SessionClaim::Malformed,
            },
        }
    }
}

/// `None` for malformed claims.
fn credential(
    settings: &ClaimSettings,
    payload: &Payload,
    user: Option<Uuid>,
) -> Option<Credential> {
    let is_token = match agreed(settings.r#type, &payload.r#type)? {
        Some(kind) => kind == TOKEN_TYPE,
        None => false,
    };
    if payload.has_doubles {
        return None;
    }
    if !is_token {
        return Some(Credential::Login);
    }
    let id = agreed(settings.jti, &payload.jti)?.and_then(parse_uuid)?;
    let subject = agreed(settings.sub, &payload.sub)?.and_then(parse_uuid)?;
    let scopes = match agreed(settings.scope, &payload.scope)? {
        Some(claim) => Scopes::from_claim(claim),
        None => Scopes::Unlimited,
    };
    let expires_at = match payload.exp {
        Date::Absent => None,
        Date::At(seconds) => Some(seconds),
        Date::None => return None,
    };
    (user == Some(subject)).then_some(Credential::Token(TokenClaims {
        id,
        user: subject,
        scopes,
        expires_at,
    }))
}

/// The one value that both forms give, `Some(None)` if neither has any, `None` if they differ or
/// the JSON value is no string.
fn agreed<'a>(setting: Option<&'a str>, claim: &'a Claim) -> Option<Option<&'a str>> {
    match (setting, claim) {
        (_, Claim::NotText) => None,
        (setting, Claim::Absent) => Some(setting),
        (None, Claim::Text(text)) => Some(Some(text)),
        (Some(setting), Claim::Text(text)) => (setting == text).then_some(Some(setting)),
    }
}

pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    // The uuid crate also reads URNs, which Postgres does not.
    (!text.starts_with("urn:"))
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

/// The claims that are looked at, out of a payload that may be large.
#[derive(Default)]
struct Payload<'a> {
    sub: Claim<'a>,
    r#type: Claim<'a>,
    jti: Claim<'a>,
    scope: Claim<'a>,
    session_id: Claim<'a>,
    exp: Date,
    /// Whether one of them stands there twice.
    has_doubles: bool,
}

/// A NumericDate (RFC 7519 section 2).
#[derive(Default)]
enum Date {
    /// Missing or null.
    #[default]
    Absent,
    /// Unix seconds, without a fraction.
    At(i64),
    /// The value is no number.
    None,
}

impl Date {
    fn of(value: &RawValue) -> Self {
        match value.get() {
            "null" => Self::Absent,
            number => number
                .parse()
                .map_or(Self::None, |seconds: f64| Self::At(seconds.floor() as i64)),
        }
    }
}

#[derive(Default)]
enum Claim<'a> {
    /// Missing or null.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    NotText,
}

impl Claim<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Claim::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Payload<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Payload<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut payload = Payload::default();
                let mut seen = [false; 6];
                while let Some(name) = map.next_key::<Name>()? {
                    let (index, claim) = match &*name.0 {
                        "sub" => (0, &mut payload.sub),
                        "type" => (1, &mut payload.r#type),
                        "jti" => (2, &mut payload.jti),
                        "scope" => (3, &mut payload.scope),
                        "session_id" => (4, &mut payload.session_id),
                        "exp" => {
                            payload.exp = Date::of(map.next_value()?);
                            payload.has_doubles |= std::mem::replace(&mut seen[5], true);
                            continue;
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    // The last one counts, as in jsonb.
                    *claim = map.next_value()?;
                    payload.has_doubles |= std::mem::replace(&mut seen[index], true);
                }
                Ok(payload)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A member's name, borrowed unless it is written with escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Claim::deserialize(deserializer)? {
            Claim::Text(text) => Ok(Name(text)),
            _ => Err(serde::de::Error::custom("a name is a string")),
        }
    }
}

impl<'de> Deserialize<'de> for Claim<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Claim<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Claim::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Claim::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Claim::Absent)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Claim::NotText)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Claim::NotText)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Claim::NotText)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Claim::NotText)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Claim::NotText)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Claim::NotText)
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALICE: &str = "11111111-1111-1111-1111-111111111111";
    const BOB: &str = "22222222-2222-2222-2222-222222222222";
    const TOKEN: &str = "019a0000-0000-7000-8000-000000000001";

    fn identity(claims: &str) -> Identity {
        Identity::from_settings(&ClaimSettings {
            claims: Some(claims),
            ..Default::default()
        })
    }

    fn pat(extra: &str) -> String {
        format!(r#"{{"sub":"{ALICE}","type":"{TOKEN_TYPE}","jti":"{TOKEN}"{extra}}}"#)
    }

    #[test]
    fn claims_end_when_they_say_so() {
        let expiry = |extra: &str| match identity(&pat(extra)).credential {
            Credential::Token(token) => Some(token.expires_at),
            _ => None,
        };
        assert_eq!(expiry(""), Some(None));
        assert_eq!(expiry(r#","exp":null"#), Some(None));
        assert_eq!(expiry(r#","exp":100.9"#), Some(Some(100)));
        assert_eq!(expiry(r#","exp":-1e300"#), Some(Some(i64::MIN)));
        for no_date in [
            r#","exp":"100""#,
            r#","exp":[1]"#,
            r#","exp":true"#,
            r#","exp":1,"exp":2"#,
        ] {
            assert_eq!(expiry(no_date), None, "{no_date}");
        }
        let ends = |expires_at| {
            let token = TokenClaims {
                id: Uuid::nil(),
                user: Uuid::nil(),
                scopes: Scopes::Unlimited,
                expires_at,
            };
            [99, 100].map(|now| token.have_ended(now))
        };
        assert_eq!(ends(Some(100)), [false, true]);
        assert_eq!(ends(None), [false, false]);
        // A login's expiry is for the server to look at.
        assert!(is_login(&identity(r#"{"exp":"x"}"#)));
    }

    fn is_login(identity: &Identity) -> bool {
        matches!(identity.credential, Credential::Login)
    }
    fn is_malformed(identity: &Identity) -> bool {
        matches!(identity.credential, Credential::Malformed)
    }
    fn is_token(identity: &Identity) -> bool {
        matches!(&identity.credential, Credential::Token(t)
            if t.id.to_string() == TOKEN && t.user.to_string() == ALICE)
    }
    fn is_alice(identity: &Identity) -> bool {
        identity.user.is_some_and(|user| user.to_string() == ALICE)
    }

    #[test]
    fn no_claims_an_empty_object_and_a_login_are_logins() {
        let nothing = Identity::from_settings(&ClaimSettings::default());
        assert!(is_login(&nothing) && nothing.user.is_none());
        assert!(is_login(&identity("{}")));
        let login = identity(&format!(
            r#"{{"aud":"authenticated","sub":"{ALICE}","session_id":"{TOKEN}","amr":[{{"method":"password"}}]}}"#
        ));
        assert!(is_login(&login) && is_alice(&login));
        assert!(is_login(&identity(
            r#"{"role":"service_role","type":null}"#
        )));
        assert!(is_login(&identity(r#"{"type":"access"}"#)));
    }

    #[test]
    fn a_login_names_its_session() {
        let session = |claims: &str| identity(claims).session;
        let id = Uuid::parse_str(TOKEN).unwrap();
        assert_eq!(
            session(&format!(r#"{{"session_id":"{TOKEN}"}}"#)),
            SessionClaim::Id(id)
        );
        for claims in ["{}", r#"{"session_id":null}"#] {
            assert_eq!(session(claims), SessionClaim::None);
        }
        for claims in [
            r#"{"session_id":"x"}"#,
            r#"{"session_id":1}"#,
            r#"{"session_id":""}"#,
            "{",
        ] {
            assert_eq!(session(claims), SessionClaim::Malformed, "{claims}");
        }
        let both = |setting| {
            let claims = format!(r#"{{"session_id":"{TOKEN}"}}"#);
            let settings = ClaimSettings {
                claims: Some(&claims),
                session_id: Some(setting),
                ..Default::default()
            };
            Identity::from_settings(&settings).session
        };
        assert_eq!(both(TOKEN), SessionClaim::Id(id));
        assert_eq!(both(ALICE), SessionClaim::Malformed);
    }

    #[test]
    fn a_personal_access_token_is_recognised() {
        let token = identity(&pat(""));
        assert!(is_token(&token) && is_alice(&token));
        let escaped = pat("")
            .replace("type", r"t\u0079pe")
            .replace("token", r"t\u006fken");
        assert!(is_token(&identity(&escaped)));
    }

    #[test]
    fn a_token_with_claims_of_the_wrong_type_is_malformed() {
        for value in [
            "1",
            "1.5",
            "-1",
            "true",
            "[]",
            "{}",
            r#"["personal_access_token"]"#,
        ] {
            for (name, good) in [("type", TOKEN_TYPE), ("jti", TOKEN), ("sub", ALICE)] {
                let claims = pat("").replace(
                    &format!(r#""{name}":"{good}""#),
                    &format!(r#""{name}":{value}"#),
                );
                assert!(is_malformed(&identity(&claims)), "{claims}");
            }
            assert!(is_malformed(&identity(&pat(&format!(
                r#","scope":{value}"#
            )))));
        }
    }

    #[test]
    fn a_token_without_id_or_user_is_malformed() {
        for name in ["jti", "sub"] {
            let good = if name == "jti" { TOKEN } else { ALICE };
            for value in [
                "null",
                r#""""#,
                r#""x""#,
                r#"" 11111111-1111-1111-1111-111111111111""#,
            ] {
                let claims = pat("").replace(
                    &format!(r#""{name}":"{good}""#),
                    &format!(r#""{name}":{value}"#),
                );
                assert!(is_malformed(&identity(&claims)), "{claims}");
            }
        }
        assert!(is_malformed(&identity(&format!(
            r#"{{"type":"{TOKEN_TYPE}"}}"#
        ))));
    }

    #[test]
    fn what_is_too_long_is_malformed() {
        let long = |len: usize| {
            pat(&format!(
                r#","x":"{}""#,
                "x".repeat(len - pat("").len() - 7)
            ))
        };
        assert_eq!(long(MAX_CLAIMS).len(), MAX_CLAIMS);
        assert!(is_token(&identity(&long(MAX_CLAIMS))));
        let too_long = identity(&long(MAX_CLAIMS + 1));
        assert!(is_malformed(&too_long) && too_long.user.is_none());
        let scope = "a:read ".repeat(MAX_CLAIMS / 7 + 1);
        let claims = pat("");
        let legacy = Identity::from_settings(&ClaimSettings {
            claims: Some(&claims),
            scope: Some(&scope),
            ..Default::default()
        });
        assert!(is_malformed(&legacy));
        let unreadable = Identity::from_settings(&ClaimSettings {
            r#type: Some(UNREADABLE),
            ..Default::default()
        });
        assert!(is_malformed(&unreadable));
    }

    #[test]
    fn a_claim_that_stands_twice_is_malformed() {
        assert!(is_malformed(&identity(&pat(r#","type":"access""#))));
        assert!(is_malformed(&identity(&pat(&format!(
            r#","sub":"{ALICE}""#
        )))));
        assert!(is_malformed(&identity(&pat(r#","type":null"#))));
    }

    #[test]
    fn what_is_no_json_object_is_malformed() {
        for claims in [
            "x",
            "[]",
            "null",
            "1",
            "\"a\"",
            "{",
            "{}{}",
            " ",
            "{\"sub\":}",
            "{'sub':1}",
        ] {
            let identity = identity(claims);
            assert!(
                is_malformed(&identity) && identity.user.is_none(),
                "{claims}"
            );
        }
    }

    #[test]
    fn the_legacy_subject_wins_and_a_token_of_another_user_is_malformed() {
        let with = |claims: &str, sub| {
            let settings = ClaimSettings {
                claims: Some(claims),
                sub: Some(sub),
                ..Default::default()
            };
            Identity::from_settings(&settings)
        };
        let login = with(&format!(r#"{{"sub":"{BOB}"}}"#), ALICE);
        assert!(is_login(&login) && is_alice(&login));
        assert!(is_token(&with(&pat(""), ALICE)));
        assert!(is_malformed(&with(&pat(""), BOB)));
        let not_json = with("x", ALICE);
        assert!(is_malformed(&not_json) && is_alice(&not_json));
    }

    #[test]
    fn a_token_in_legacy_settings_alone_is_recognised() {
        let legacy = ClaimSettings {
            sub: Some(ALICE),
            r#type: Some(TOKEN_TYPE),
            jti: Some(TOKEN),
            scope: Some("todos:read"),
            ..Default::default()
        };
        let identity = Identity::from_settings(&legacy);
        assert!(is_token(&identity));
        let Credential::Token(token) = identity.credential else {
            unreachable!()
        };
        assert!(!token.scopes.grants(&"todos:write".parse().unwrap()));

        let hidden = ClaimSettings {
            r#type: Some("access"),
            claims: Some(&pat("")),
            ..legacy
        };
        assert!(is_malformed(&Identity::from_settings(&hidden)));
    }

    #[test]
    fn deep_nesting_in_other_claims_does_not_matter() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(is_token(&identity(&pat(&format!(
            r#","user_metadata":{deep}"#
        )))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(claims in "\\PC*", sub in "\\PC{0,40}") {
            Identity::from_settings(&ClaimSettings {
                claims: Some(&claims), sub: Some(&sub), ..Default::default()
            });
        }

        #[test]
        fn a_cut_token_never_becomes_a_login(at in 1usize..140) {
            let claims = pat("");
            prop_assume!(at < claims.len());
            prop_assert!(is_malformed(&identity(&claims[..at])));
        }
    }
}
