//! What another service is told of a token that it was handed (RFC 7662 section 2.2).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::json::Members;
use crate::scope::{Scope, Scopes};

/// The answer for every token that is not good, whatever is wrong with it.
pub const INACTIVE: &str = r#"{"active":false}"#;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A personal access token that is a JWT.
    Jwt,
    /// One that is not.
    Opaque,
    /// The access token of a login.
    Session,
    /// A Supabase API key that is a JWT.
    ApiKey,
}

/// The answer for a token that is good. What is `None` is left out.
#[derive(Serialize)]
pub struct Active<'a> {
    active: bool,
    token_type: &'static str,
    pub kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the token is limited to besides, an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_anonymous: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aal: Option<Cow<'a, str>>,
}

impl<'a> Active<'a> {
    /// One of which nothing is known but its kind.
    pub fn bare(kind: Kind) -> Self {
        Self {
            active: true,
            token_type: "Bearer",
            kind,
            sub: None,
            username: None,
            role: None,
            scope: None,
            exp: None,
            iat: None,
            iss: None,
            aud: None,
            jti: None,
            client_id: None,
            name: None,
            attributes: None,
            is_anonymous: None,
            aal: None,
        }
    }

    /// What the payload of a JWT says, once everything has been checked.
    pub fn of_claims(kind: Kind, claims: &'a Claims<'a>) -> Self {
        Self {
            sub: claims.text("sub"),
            username: claims.text("email"),
            role: claims.text("role"),
            scope: claims.text("scope"),
            exp: claims.date("exp"),
            iat: claims.date("iat"),
            iss: claims.text("iss"),
            aud: claims.audience(),
            jti: claims.text("jti"),
            client_id: claims.text("client_id"),
            is_anonymous: claims.is_anonymous(),
            aal: claims.text("aal"),
            ..Self::bare(kind)
        }
    }

    /// The audience of personal access tokens.
    pub fn audience_of_tokens() -> Option<&'static RawValue> {
        serde_json::from_str(r#""authenticated""#).ok()
    }

    /// Attributes, as jsonb prints them.
    pub fn attributes_of(text: Option<String>) -> Option<Box<RawValue>> {
        RawValue::from_string(text?).ok()
    }

    /// # Errors
    /// [`Error::Internal`].
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

/// The payload of a JWT. A claim that is not as it should be counts as missing, since whoever asks could not use it.
pub struct Claims<'a>(Members<'a>);

impl<'a> Claims<'a> {
    /// `None` for what is no JSON object.
    pub fn parse(payload: &'a str) -> Option<Self> {
        Members::parse(payload).map(Self)
    }

    /// A claim that is a text with something in it.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let text = self.0.text(name).ok().flatten();
        text.filter(|text| !text.is_empty())
    }

    /// In Unix seconds, without a fraction.
    fn date(&self, name: &str) -> Option<i64> {
        let seconds: f64 = self.0.get(name)?.get().parse().ok()?;
        Some(seconds.floor() as i64)
    }

    fn audience(&self) -> Option<&'a RawValue> {
        let aud = self.0.get("aud")?;
        let is_audience = serde_json::from_str::<String>(aud.get()).is_ok()
            || serde_json::from_str::<Vec<String>>(aud.get()).is_ok();
        is_audience.then_some(aud)
    }

    fn is_anonymous(&self) -> Option<bool> {
        self.0.get("is_anonymous")?.get().parse().ok()
    }

    /// Whether the claims are somebody's: those of a login. The others are those of API keys.
    pub fn are_of_a_login(&self, authenticated_role: &str) -> bool {
        self.0.get("sub").is_some()
            || self.0.get("session_id").is_some()
            || self
                .text("role")
                .is_some_and(|role| role == authenticated_role)
    }
}

/// The scopes that a service asks for, with spaces between them (RFC 6749 section 3.3): each must be granted.
pub struct Wanted(Vec<Scope>);

impl Wanted {
    /// # Errors
    /// [`Error::MalformedScope`].
    pub fn parse(scopes: &str) -> Result<Self, Error> {
        scopes
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn are_granted_by(&self, scopes: &Scopes) -> bool {
        self.0.iter().all(|wanted| scopes.grants(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(
            Active::bare(Kind::ApiKey).to_json().unwrap(),
            r#"{"active":true,"token_type":"Bearer","kind":"api_key"}"#
        );
    }

    #[test]
    fn claims_are_told_as_they_are_and_by_their_types() {
        let json = |payload| {
            let claims = Claims::parse(payload).unwrap();
            Active::of_claims(Kind::Session, &claims).to_json().unwrap()
        };
        let begin = r#"{"active":true,"token_type":"Bearer","kind":"session""#;
        assert_eq!(
            json(
                r#"{"sub":"x","email":"a@b.c","role":"editor","scope":"openid a:b","exp":20.5,"iat":1e1,
                    "iss":"us","aud":["a","b"],"client_id":"app","is_anonymous":false,"aal":"aal2","app_metadata":{"a":1}}"#
            ),
            format!(
                r#"{begin},"sub":"x","username":"a@b.c","role":"editor","scope":"openid a:b","exp":20,"iat":10,"iss":"us","aud":["a","b"],"client_id":"app","is_anonymous":false,"aal":"aal2"}}"#
            )
        );
        assert_eq!(
            json(
                r#"{"sub":1,"email":"","role":null,"scope":[],"exp":"1","aud":[1],"is_anonymous":"true","aal":{}}"#
            ),
            format!("{begin}}}")
        );
    }

    #[test]
    fn a_login_is_told_from_an_api_key() {
        let is_login = |payload| {
            Claims::parse(payload)
                .unwrap()
                .are_of_a_login("authenticated")
        };
        for login in [
            r#"{"sub":"x"}"#,
            r#"{"sub":1,"role":"service_role"}"#,
            r#"{"session_id":"x"}"#,
            r#"{"role":"authenticated"}"#,
        ] {
            assert!(is_login(login), "{login}");
        }
        for key in [
            r#"{"role":"anon"}"#,
            r#"{"role":"service_role","sub":null}"#,
            "{}",
        ] {
            assert!(!is_login(key), "{key}");
        }
    }

    #[test]
    fn each_scope_that_is_asked_for_must_be_granted() {
        let granted = |wanted: &str, scopes: &[&str]| {
            let scopes = Scopes::requested(scopes.iter().copied()).unwrap();
            Wanted::parse(wanted)
                .ok()
                .map(|wanted| wanted.are_granted_by(&scopes))
        };
        assert_eq!(granted("a:read", &["a:*"]), Some(true));
        assert_eq!(granted("a:read b:read", &["*:read"]), Some(true));
        assert_eq!(granted("a:read b:read", &["a:read"]), Some(false));
        for malformed in ["", " ", "a", "a:read ", "a:read  b:read", "a:read\tb:read"] {
            assert_eq!(granted(malformed, &["*"]), None, "{malformed:?}");
        }
        let wanted = Wanted::parse("tokens:write").ok().unwrap();
        assert!(!wanted.are_granted_by(&Scopes::Unlimited));
    }

    proptest! {
        #[test]
        fn any_payload_and_any_scope_is_read_without_panic(payload in any::<String>(), scope in any::<String>(), value in "\\PC{0,8}") {
            let _ = Wanted::parse(&scope).map(|wanted| wanted.are_granted_by(&Scopes::Unlimited));
            let object = serde_json::json!({ "sub": value, "exp": payload.len(), "aud": [value] }).to_string();
            for payload in [&payload, &object] {
                if let Some(claims) = Claims::parse(payload) {
                    let json = Active::of_claims(Kind::Jwt, &claims).to_json().unwrap();
                    let begin = r#"{"active":true,"#;
                    prop_assert!(json.starts_with(begin));
                }
            }
        }
    }
}
