//! The payloads of the tokens that are made here, but for those of sessions ([`crate::session`]).

use serde::Serialize;
use uuid::Uuid;

use crate::claims::TOKEN_TYPE;
use crate::error::Error;
use crate::json::{Members, push_name};
use crate::restrictions::{Carried, Restrictions};
use crate::scope::Scopes;

/// From when until when what is signed is good: the claims `iat` and `exp`, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    pub issued_at: i64,
    pub expires_at: i64,
}

/// What a personal access token says of itself.
pub struct PersonalAccessToken<'a> {
    /// The id of its row.
    pub id: Uuid,
    pub user: Uuid,
    /// The claim `role`, as which the REST server runs its requests.
    pub role: &'a str,
    /// The claim `iss`.
    pub issuer: &'a str,
    pub scopes: &'a Scopes,
    pub lifetime: Lifetime,
}

/// The payload of a personal access token.
#[derive(Serialize)]
pub struct TokenPayload<'a> {
    aud: &'static str,
    role: &'a str,
    iss: &'a str,
    sub: Uuid,
    iat: i64,
    exp: i64,
    jti: Uuid,
    r#type: &'static str,
    /// The token's id, which names no session, on purpose: Supabase Auth answers such a token with
    /// `session_not_found` since 2.150.0, so that it cannot change its owner's password or e-mail address.
    session_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_anonymous: Option<bool>,
    #[serde(flatten)]
    carried: Carried,
}

impl<'a> TokenPayload<'a> {
    pub fn new(token: &PersonalAccessToken<'a>) -> Self {
        Self {
            aud: "authenticated",
            role: token.role,
            iss: token.issuer,
            sub: token.user,
            iat: token.lifetime.issued_at,
            exp: token.lifetime.expires_at,
            jti: token.id,
            r#type: TOKEN_TYPE,
            session_id: token.id,
            scope: token.scopes.to_claim(),
            is_anonymous: None,
            carried: Carried::default(),
        }
    }

    /// Says of the token what restricts the login that makes it.
    pub fn restricted_as(mut self, restrictions: &Restrictions) -> Self {
        self.is_anonymous = restrictions.is_anonymous();
        self.carried = restrictions.carried().clone();
        self
    }

    /// The claims of a request that is made with an opaque token.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

/// The payload of a Supabase API key, as Supabase writes it.
#[derive(Serialize)]
pub struct ApiKeyPayload<'a> {
    iss: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#ref: Option<&'a str>,
    role: &'a str,
    iat: i64,
    exp: i64,
}

impl<'a> ApiKeyPayload<'a> {
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }

    /// # Errors
    /// [`Error::MalformedRef`]: a project ref is a part of host names.
    pub fn new(
        role: &'a str,
        project_ref: Option<&'a str>,
        lifetime: Lifetime,
    ) -> Result<Self, Error> {
        let is_label = |text: &str| {
            (1..=63).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match project_ref.is_none_or(is_label) {
            true => Ok(Self {
                iss: "supabase",
                r#ref: project_ref,
                role,
                iat: lifetime.issued_at,
                exp: lifetime.expires_at,
            }),
            false => Err(Error::MalformedRef),
        }
    }
}

/// The claims in `json`, with `iat` if they do not have it already, and with `exp` if it is given.
/// Times are Unix seconds. Values stay as they are written.
///
/// # Errors
/// [`Error::ClaimsNotAnObject`].
pub fn with_times(json: &str, issued_at: i64, expires_at: Option<i64>) -> Result<String, Error> {
    let members = Members::parse(json).ok_or(Error::ClaimsNotAnObject)?;
    let mut claims = String::with_capacity(json.len() + 48);
    let mut add = |name: &str, value: &str| {
        claims.push(if claims.is_empty() { '{' } else { ',' });
        push_name(&mut claims, name);
        claims.push_str(value);
    };
    for (name, value) in members.iter() {
        if name != "exp" || expires_at.is_none() {
            add(name, value.get());
        }
    }
    if members.iter().all(|(name, _)| name != "iat") {
        add("iat", &issued_at.to_string());
    }
    if let Some(expires_at) = expires_at {
        add("exp", &expires_at.to_string());
    }
    claims.push('}');
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Lifetime = Lifetime {
        issued_at: 1,
        expires_at: 2,
    };

    #[test]
    fn an_api_key_has_the_claims_of_supabase() {
        let json = |project_ref| {
            let payload = ApiKeyPayload::new("anon", project_ref, LIFETIME)?;
            Ok::<_, Error>(serde_json::to_string(&payload).unwrap())
        };
        assert_eq!(
            json(None).unwrap(),
            r#"{"iss":"supabase","role":"anon","iat":1,"exp":2}"#
        );
        assert_eq!(
            json(Some("abcdefghijklmnopqrst")).unwrap(),
            r#"{"iss":"supabase","ref":"abcdefghijklmnopqrst","role":"anon","iat":1,"exp":2}"#
        );
        for project_ref in ["", "a b", "a.b", "\u{e9}", &"a".repeat(64)] {
            assert!(matches!(json(Some(project_ref)), Err(Error::MalformedRef)));
        }
    }

    #[test]
    fn times_are_added_where_there_are_none() {
        assert_eq!(
            with_times(r#"{"a": 1.50, "b\n\"": {"c": []}}"#, 5, Some(9)).unwrap(),
            r#"{"a":1.50,"b\n\"":{"c": []},"iat":5,"exp":9}"#
        );
        assert_eq!(
            with_times(r#"{"iat": 1, "exp": 2}"#, 5, None).unwrap(),
            r#"{"iat":1,"exp":2}"#
        );
        assert_eq!(
            with_times(r#"{"exp": 2}"#, 5, Some(9)).unwrap(),
            r#"{"iat":5,"exp":9}"#
        );
        assert_eq!(with_times("{}", 5, None).unwrap(), r#"{"iat":5}"#);
        for json in ["[1]", "null", "1", "\"a\"", "", "{"] {
            assert!(
                matches!(with_times(json, 5, None), Err(Error::ClaimsNotAnObject)),
                "{json}"
            );
        }
    }
}
