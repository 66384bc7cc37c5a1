//! What a session hands out, and what is read of it again: access tokens, with the claims that Supabase Auth puts into
//! its own, and the user as JSON, as Supabase's clients take it; then what a request can know of its session from its
//! claims.

use serde::Serialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::claims::{TOKEN_TYPE, parse_uuid};
use crate::payload::Lifetime;

/// How the user of a session has proved who they are, for the claim `amr`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Password,
    /// Confirmed the address with a code.
    Code,
    /// A trusted role has vouched for them.
    Trusted,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Code => "otp",
            Self::Trusted => "trusted",
        }
    }

    /// A name that is not known stands for a trusted role.
    pub fn named(name: &str) -> Self {
        [Self::Password, Self::Code]
            .into_iter()
            .find(|known| known.as_str() == name)
            .unwrap_or(Self::Trusted)
    }
}

/// How and when the user of a session has signed in.
#[derive(Clone, Copy)]
pub struct SignIn {
    pub method: Method,
    /// Seconds since 1970.
    pub at: i64,
}

/// A row of `auth.users` as JSON, with whatever columns it has.
pub struct User(Map<String, Value>);

impl User {
    /// `None` if it is no JSON object.
    pub fn from_row(row: &str) -> Option<Self> {
        serde_json::from_str(row).ok().map(Self)
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn object(&self, name: &str) -> Value {
        match self.0.get(name) {
            Some(Value::Object(members)) => Value::Object(members.clone()),
            _ => json!({}),
        }
    }

    fn is_anonymous(&self) -> bool {
        self.0.get("is_anonymous") == Some(&Value::Bool(true))
    }

    /// The role that the row names. Whether it may be given is another question.
    pub fn named_role(&self) -> Option<&str> {
        Some(self.text("role")).filter(|role| !role.is_empty())
    }

    /// The role that the row names, or else `authenticated`.
    fn role<'a>(&'a self, authenticated: &'a str) -> &'a str {
        match self.text("role") {
            "" => authenticated,
            role => role,
        }
    }

    fn audience(&self) -> &str {
        match self.text("aud") {
            "" => "authenticated",
            audience => audience,
        }
    }

    /// The user as Supabase Auth shows users to themselves. It holds no secret.
    pub fn to_json(&self, authenticated: &str) -> Value {
        const SHOWN: [&str; 9] = [
            "id",
            "email_confirmed_at",
            "phone_confirmed_at",
            "confirmed_at",
            "last_sign_in_at",
            "created_at",
            "updated_at",
            "banned_until",
            "deleted_at",
        ];
        let mut user = json!({
            "aud": self.audience(),
            "role": self.role(authenticated),
            "email": self.text("email"),
            "phone": self.text("phone"),
            "app_metadata": self.object("raw_app_meta_data"),
            "user_metadata": self.object("raw_user_meta_data"),
            "is_anonymous": self.is_anonymous(),
        });
        for name in SHOWN {
            if let Some(value) = self.0.get(name).filter(|value| !value.is_null()) {
                user[name] = value.clone();
            }
        }
        user
    }
}

/// What the access token of a session says.
pub struct AccessToken<'a> {
    pub session: Uuid,
    pub user_id: Uuid,
    pub user: &'a User,
    /// The claim `role`, as which the REST server runs its requests.
    pub role: &'a str,
    /// The claim `iss`.
    pub issuer: &'a str,
    pub sign_in: SignIn,
    pub lifetime: Lifetime,
}

/// The payload of an access token.
#[derive(Serialize)]
pub struct AccessPayload<'a> {
    iss: &'a str,
    sub: Uuid,
    aud: &'a str,
    exp: i64,
    iat: i64,
    email: &'a str,
    phone: &'a str,
    app_metadata: Value,
    user_metadata: Value,
    role: &'a str,
    aal: &'static str,
    amr: [Value; 1],
    session_id: Uuid,
    is_anonymous: bool,
}

impl<'a> AccessPayload<'a> {
    pub fn new(token: &AccessToken<'a>) -> Self {
        let AccessToken { user, sign_in, .. } = *token;
        Self {
            iss: token.issuer,
            sub: token.user_id,
            aud: user.audience(),
            exp: token.lifetime.expires_at,
            iat: token.lifetime.issued_at,
            email: user.text("email"),
            phone: user.text("phone"),
            app_metadata: user.object("raw_app_meta_data"),
            user_metadata: user.object("raw_user_meta_data"),
            role: token.role,
            aal: "aal1",
            amr: [json!({"method": sign_in.method.as_str(), "timestamp": sign_in.at})],
            session_id: token.session,
            is_anonymous: user.is_anonymous(),
        }
    }
}

/// What the claims of a request say of its session.
#[derive(Default, PartialEq, Debug)]
pub struct Info {
    pub user: Option<Uuid>,
    /// `None` for a personal access token, whose claim names no session.
    pub session: Option<Uuid>,
    pub role: Option<String>,
    pub aal: Option<String>,
    pub email: Option<String>,
    /// Unix seconds.
    pub issued_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub is_personal_access_token: bool,
}

impl Info {
    /// Reads the whole claims, which the REST server has verified. A claim that is missing, or not as it should
    /// be, is `None`.
    pub fn from_claims(claims: &str) -> Self {
        let Ok(claims) = serde_json::from_str::<Map<String, Value>>(claims) else {
            return Self::default();
        };
        let text = |name: &str| {
            let text = claims.get(name)?.as_str()?;
            Some(text.to_owned()).filter(|text| !text.is_empty() && !text.contains('\0'))
        };
        let id = |name| text(name).and_then(|text| parse_uuid(&text));
        // Beyond the year 9999, Postgres and JSON write dates differently.
        let time = |name: &str| {
            let seconds = claims.get(name)?.as_f64()?.floor();
            (0.0..=253_402_300_799.0)
                .contains(&seconds)
                .then_some(seconds as i64)
        };
        let is_token = text("type").as_deref() == Some(TOKEN_TYPE);
        Self {
            user: id("sub"),
            session: id("session_id").filter(|_| !is_token),
            role: text("role"),
            aal: text("aal"),
            email: text("email"),
            issued_at: time("iat"),
            expires_at: time("exp"),
            is_personal_access_token: is_token,
        }
    }

    /// Whether a client should refresh: less than a minute is left. `now` is in Unix seconds.
    pub fn should_refresh(&self, now: i64) -> bool {
        const MARGIN: i64 = 60;
        !self.is_personal_access_token
            && self.expires_at.is_some_and(|expiry| expiry - now < MARGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: Uuid = Uuid::from_u128(1);
    const SESSION: Uuid = Uuid::from_u128(2);

    fn payload(row: &str) -> Value {
        let user = User::from_row(row).unwrap();
        let payload = AccessPayload::new(&AccessToken {
            session: SESSION,
            user_id: ID,
            user: &user,
            role: "authenticated",
            issuer: "us",
            sign_in: SignIn {
                method: Method::Password,
                at: 5,
            },
            lifetime: Lifetime {
                issued_at: 10,
                expires_at: 20,
            },
        });
        serde_json::to_value(payload).unwrap()
    }

    #[test]
    fn an_access_token_has_the_claims_of_supabase_auth() {
        let row = r#"{"id": "x", "email": "alice@example.com", "phone": null, "role": "authenticated", "aud": "authenticated",
            "raw_app_meta_data": {"provider": "email"}, "raw_user_meta_data": {"name": "Alice"}, "is_anonymous": false,
            "encrypted_password": "$2a$10$"}"#;
        assert_eq!(
            payload(row),
            json!({"iss": "us", "sub": ID, "aud": "authenticated", "exp": 20, "iat": 10,
                "email": "alice@example.com", "phone": "", "app_metadata": {"provider": "email"},
                "user_metadata": {"name": "Alice"}, "role": "authenticated", "aal": "aal1",
                "amr": [{"method": "password", "timestamp": 5}], "session_id": SESSION,
                "is_anonymous": false})
        );
    }

    #[test]
    fn columns_that_are_missing_are_left_empty() {
        let claims = payload(r#"{"raw_user_meta_data": [1]}"#);
        assert_eq!(claims["role"], "authenticated");
        assert_eq!(claims["aud"], "authenticated");
        assert_eq!(claims["user_metadata"], json!({}));
    }

    #[test]
    fn a_user_is_shown_without_secrets() {
        let row = r#"{"id": "x", "email": "a@b.c", "encrypted_password": "hash", "recovery_token": "token", "confirmation_token": "",
            "created_at": "2026-01-01T00:00:00+00:00", "banned_until": null}"#;
        let user = User::from_row(row).unwrap().to_json("authenticated");
        assert_eq!(
            user,
            json!({"id": "x", "aud": "authenticated", "role": "authenticated", "email": "a@b.c",
                "phone": "", "app_metadata": {}, "user_metadata": {}, "is_anonymous": false,
                "created_at": "2026-01-01T00:00:00+00:00"})
        );
    }

    #[test]
    fn info_is_what_the_claims_say() {
        let info = Info::from_claims(
            r#"{"sub": "00000000-0000-0000-0000-000000000001", "session_id": "00000000-0000-0000-0000-000000000002",
                "role": "authenticated", "aal": "aal1", "email": "", "iat": 10.7, "exp": 100}"#,
        );
        assert_eq!((info.user, info.session), (Some(ID), Some(SESSION)));
        assert_eq!(info.email, None);
        assert_eq!((info.issued_at, info.expires_at), (Some(10), Some(100)));
        assert!(!info.should_refresh(40));
        assert!(info.should_refresh(41));
        assert!(info.should_refresh(200));
        let token = Info::from_claims(
            r#"{"type": "personal_access_token", "session_id": "00000000-0000-0000-0000-000000000002", "exp": 100}"#,
        );
        assert_eq!(token.session, None);
        assert!(token.is_personal_access_token && !token.should_refresh(99));
        for nothing in [
            "",
            "[]",
            "{}",
            "{",
            r#"{"sub": 1, "exp": "1", "iat": -1, "role": "\u0000"}"#,
            // Which auth.uid() does not take for a user either.
            r#"{"sub": "urn:uuid:00000000-0000-0000-0000-000000000001"}"#,
        ] {
            assert_eq!(Info::from_claims(nothing), Info::default(), "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn any_claims_are_read_without_panic(text in any::<String>()) {
            let _ = Info::from_claims(&text).should_refresh(0);
            let _ = User::from_row(&text).map(|user| user.to_json("authenticated"));
        }
    }
}
