//! JSON Web Tokens (RFC 7519), signed and verified with HS256 by the jsonwebtoken crate.

use std::collections::BTreeMap;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::claims::TOKEN_TYPE;
use crate::error::Error;
use crate::scope::Scopes;
use crate::secret::Secret;

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
    /// The key's id, which names no session, on purpose: Supabase Auth answers such a token with
    /// `session_not_found`, so that it cannot change its owner's password or e-mail address.
    session_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

impl<'a> TokenPayload<'a> {
    /// `issued_at` and `expires_at` are Unix time in seconds.
    pub fn new(
        user: Uuid,
        key_id: Uuid,
        scopes: &Scopes,
        (role, issuer): (&'a str, &'a str),
        (issued_at, expires_at): (i64, i64),
    ) -> Self {
        Self {
            aud: "authenticated",
            role,
            iss: issuer,
            sub: user,
            iat: issued_at,
            exp: expires_at,
            jti: key_id,
            r#type: TOKEN_TYPE,
            session_id: key_id,
            scope: scopes.to_claim(),
        }
    }
}

/// Signs a payload with HS256.
pub fn sign(payload: &impl Serialize, secret: &Secret) -> Result<String, Error> {
    let key = EncodingKey::from_secret(secret.expose());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), payload, &key)
        .map_err(|error| Error::Internal(format!("signing failed: {error}")))
}

/// A payload by claim. The values stay the text that they are: most are only handed on.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Claims<'a>(BTreeMap<String, Claim<'a>>);

#[derive(Deserialize)]
#[serde(from = "&'a RawValue", bound(deserialize = "'de: 'a"))]
enum Claim<'a> {
    Given(&'a RawValue),
    /// Unix seconds.
    Time(i64),
}

impl<'a> From<&'a RawValue> for Claim<'a> {
    fn from(text: &'a RawValue) -> Self {
        Self::Given(text)
    }
}

impl Serialize for Claim<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Given(text) => text.serialize(serializer),
            Self::Time(seconds) => seconds.serialize(serializer),
        }
    }
}

impl<'a> Claims<'a> {
    /// The claims in `json`, with `iat` if they do not have it already, and with `exp` if it is
    /// given. Times are Unix seconds.
    ///
    /// # Errors
    /// [`Error::ClaimsNotAnObject`].
    pub fn with_times(
        json: &'a str,
        issued_at: i64,
        expires_at: Option<i64>,
    ) -> Result<Self, Error> {
        let mut claims: BTreeMap<String, Claim> =
            serde_json::from_str(json).map_err(|_| Error::ClaimsNotAnObject)?;
        claims
            .entry("iat".to_owned())
            .or_insert(Claim::Time(issued_at));
        if let Some(expires_at) = expires_at {
            claims.insert("exp".to_owned(), Claim::Time(expires_at));
        }
        Ok(Self(claims))
    }
}

/// The claims, as JSON, of a token that was signed with `secret`, has not expired, and, if an
/// audience is given, is meant for it. The algorithm is HS256 whatever the token's header says, and `exp` is
/// required. The clock is the system's: jsonwebtoken reads it.
///
/// # Errors
/// [`Error::InvalidToken`] says which check failed.
pub fn verify(token: &str, audience: Option<&str>, secret: &Secret) -> Result<Box<str>, Error> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    validation.validate_nbf = true;
    match audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            validation.set_required_spec_claims(&["exp", "aud"]);
        }
        None => validation.validate_aud = false,
    }
    let key = DecodingKey::from_secret(secret.expose());
    jsonwebtoken::decode::<Box<RawValue>>(token, &key, &validation)
        .map(|data| data.claims.into())
        .map_err(|error| Error::InvalidToken(reason(error.kind())))
}

fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature does not match",
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidAudience => "it is meant for another audience",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "its algorithm is not that of the signing key"
        }
        ErrorKind::MissingRequiredClaim(claim) if claim == "exp" => "it has no expiry",
        ErrorKind::MissingRequiredClaim(_) => "a claim that is needed is missing",
        _ => "it is malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn secret(text: &str) -> Secret {
        Secret::hs256(text.as_bytes(), "the test").unwrap()
    }

    const OURS: &str = "a-secret-of-more-than-32-bytes-for-the-tests";
    const FUTURE: i64 = 4_102_444_800;

    fn signed(claims: Value) -> String {
        sign(&claims, &secret(OURS)).unwrap()
    }

    fn failure(token: &str) -> String {
        verify(token, None, &secret(OURS)).unwrap_err().to_string()
    }

    #[test]
    fn a_token_reads_back_as_it_was_signed() {
        let claims = json!({"sub": "x", "exp": FUTURE, "n": {"a": [1, null, "\u{1F511}"]}});
        let token = signed(claims.clone());
        let read = verify(&token, None, &secret(OURS)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), claims);
    }

    #[test]
    fn the_payload_of_a_personal_access_token_is_as_documented() {
        let id = Uuid::from_u128(1);
        let scopes = Scopes::requested(["todos:read", "notes:*"]).unwrap();
        let payload = |scopes| {
            serde_json::to_string(&TokenPayload::new(
                id,
                id,
                scopes,
                ("web_user", "me"),
                (5, 9),
            ))
            .unwrap()
        };
        assert_eq!(
            payload(&scopes),
            r#"{"aud":"authenticated","role":"web_user","iss":"me","sub":"00000000-0000-0000-0000-000000000001","iat":5,"exp":9,"jti":"00000000-0000-0000-0000-000000000001","type":"personal_access_token","session_id":"00000000-0000-0000-0000-000000000001","scope":"todos:read notes:*"}"#
        );
        assert!(!payload(&Scopes::Unlimited).contains("scope"));
    }

    #[test]
    fn each_failed_check_is_named() {
        assert!(failure(&signed(json!({"exp": 1}))).ends_with("it has expired"));
        assert!(failure(&signed(json!({}))).ends_with("it has no expiry"));
        assert!(
            failure(&signed(json!({"exp": FUTURE, "nbf": FUTURE})))
                .ends_with("it is not valid yet")
        );
        let other = sign(
            &json!({"exp": FUTURE}),
            &secret("another-secret-of-more-than-32-bytes"),
        )
        .unwrap();
        assert!(failure(&other).ends_with("its signature does not match"));
        for garbage in [
            "",
            "a",
            "a.b",
            "a.b.c",
            "....",
            "\u{1F511}.\u{1F511}.\u{1F511}",
        ] {
            assert!(failure(garbage).ends_with("it is malformed"), "{garbage}");
        }
    }

    #[test]
    fn a_changed_or_cut_token_is_refused() {
        let token = signed(json!({"exp": FUTURE}));
        let (rest, _) = token.rsplit_once('.').unwrap();
        failure(rest);
        failure(&format!("{rest}."));
        failure(&token[..token.len() - 1]);
        failure(&format!("{token}{token}"));
        failure(&format!("{token}.x"));
        failure(&token.replacen("eyJ", "eyK", 2));
    }

    #[test]
    fn the_header_does_not_choose_the_algorithm() {
        use jsonwebtoken::{EncodingKey, encode};
        let key = EncodingKey::from_secret(OURS.as_bytes());
        let hs512 = encode(
            &Header::new(Algorithm::HS512),
            &json!({"exp": FUTURE}),
            &key,
        )
        .unwrap();
        assert!(failure(&hs512).ends_with("its algorithm is not that of the signing key"));
        // {"alg":"none","typ":"JWT"}
        let none = format!(
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.",
            signed(json!({"exp": FUTURE})).split('.').nth(1).unwrap()
        );
        failure(&none);
    }

    #[test]
    fn an_audience_is_checked_only_if_asked_for() {
        let token = signed(json!({"exp": FUTURE, "aud": "authenticated"}));
        assert!(verify(&token, Some("authenticated"), &secret(OURS)).is_ok());
        assert!(verify(&token, None, &secret(OURS)).is_ok());
        assert!(verify(&token, Some("other"), &secret(OURS)).is_err());
        let without = signed(json!({"exp": FUTURE}));
        assert!(verify(&without, Some("authenticated"), &secret(OURS)).is_err());
    }

    #[test]
    fn times_are_added_where_there_are_none() {
        let with = |json, expires_at| {
            let claims = Claims::with_times(json, 5, expires_at)?;
            Ok::<_, Error>(serde_json::to_string(&claims).unwrap())
        };
        assert_eq!(
            with(r#"{"a": 1.50, "b": {"c": []}}"#, Some(9)).unwrap(),
            r#"{"a":1.50,"b":{"c": []},"exp":9,"iat":5}"#
        );
        assert_eq!(
            with(r#"{"iat": 1, "exp": 2}"#, None).unwrap(),
            r#"{"exp":2,"iat":1}"#
        );
        assert_eq!(
            with(r#"{"exp": 2}"#, Some(9)).unwrap(),
            r#"{"exp":9,"iat":5}"#
        );
        for json in ["[1]", "null", "1", "\"a\"", "", "{"] {
            assert!(
                matches!(with(json, None), Err(Error::ClaimsNotAnObject)),
                "{json}"
            );
        }
    }
}
