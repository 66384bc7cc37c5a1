//! What restricts a login, so that a token which it makes is restricted in the same way.
//!
//! A token lives for a year and says less of itself than a login does. Whatever a policy may hold against the
//! login must be held against its token too. The claims of Supabase Auth, one by one:
//!
//! | claim | what becomes of it |
//! |---|---|
//! | `client_id` (a login of an OAuth application), `act` (somebody acts for the user, RFC 8693 section 4.1) | restrict: no token, or one that says the same |
//! | `is_anonymous` | restricts, where it is true, in the claims or in `auth.users`; tokens say what `auth.users` says |
//! | `role` | a login of another role than the authenticated one makes no token, since tokens have that one |
//! | `scope` | a token's list of scopes must lie within it; a token without a list is allowed |
//! | `aal`, `amr`, `session_id`, `email`, `phone`, `app_metadata`, `user_metadata`, and claims of a hook | tokens have none (`session_id` names none), so that a policy that asks for one refuses them |
//! | `sub`, `aud`, `iss`, `exp`, `iat` | the token's own |

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::json::Members;
use crate::scope::Scopes;

/// How many bytes of a claim of its login a token carries at most.
const MAX_CARRIED: usize = 1024;

/// Claims that a token has because the login that made it had them.
#[derive(Default, Serialize, Clone)]
pub struct Carried {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<RawValue>>,
}

#[derive(Default)]
pub struct Restrictions {
    carried: Carried,
    is_anonymous: Option<bool>,
    role: Option<String>,
    aal: Option<String>,
    scope: Option<Scopes>,
}

impl Restrictions {
    /// Those of a user for whom a trusted role calls. `is_anonymous` is what `auth.users` says.
    pub fn of_user(is_anonymous: Option<bool>) -> Self {
        Self {
            is_anonymous,
            ..Self::default()
        }
    }

    /// Those of the login whose claims these are. `legacy` reads the setting `request.jwt.claim.<name>`: a claim
    /// counts in whichever form it is there.
    ///
    /// # Errors
    /// [`Error::UnclearClaims`] for claims that are not a JSON object, name something twice, or have a `role`, `aal` or
    /// `scope` that is not a string; [`Error::ClaimsTooLarge`].
    pub fn of_claims(
        claims: Option<&str>,
        is_anonymous: Option<bool>,
        legacy: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let members = match claims {
            Some(claims) => Members::parse(claims).ok_or(Error::UnclearClaims)?,
            None => Members::parse("{}").ok_or(Error::UnclearClaims)?,
        };
        let raw = |name| -> Result<Option<Box<RawValue>>, Error> {
            let value = match (members.get(name), legacy(name)) {
                (Some(value), _) => Some(value.to_owned()),
                (None, Some(text)) => Some(
                    serde_json::value::to_raw_value(&text)
                        .map_err(|error| Error::Internal(error.to_string()))?,
                ),
                (None, None) => None,
            };
            match value
                .as_ref()
                .is_some_and(|value| value.get().len() > MAX_CARRIED)
            {
                true => Err(Error::ClaimsTooLarge { max: MAX_CARRIED }),
                false => Ok(value),
            }
        };
        let text = |name| match members.text(name) {
            Ok(Some(text)) => Ok(Some(text.into_owned())),
            Ok(None) => Ok(legacy(name)),
            Err(_) => Err(Error::UnclearClaims),
        };
        // Every value but a missing one and false says so.
        let says_anonymous = match members.get("is_anonymous") {
            Some(value) => value.get() != "false",
            None => legacy("is_anonymous").is_some_and(|text| text != "false"),
        };
        Ok(Self {
            carried: Carried {
                client_id: raw("client_id")?,
                act: raw("act")?,
            },
            is_anonymous: match says_anonymous {
                true => Some(true),
                false => is_anonymous,
            },
            role: text("role")?,
            aal: text("aal")?,
            scope: text("scope")?
                .filter(|scope| !scope.trim().is_empty())
                .map(|scope| Scopes::from_claim(&scope)),
        })
    }

    /// Takes over what the replaced token carried, unless the caller's own claims say something else.
    ///
    /// # Errors
    /// [`Error::Internal`] if that is no JSON object.
    pub fn with_those_of(mut self, carried: &str) -> Result<Self, Error> {
        let members = Members::parse(carried)
            .ok_or_else(|| Error::Internal("the claims of a token are no JSON object".into()))?;
        let take = |mine: &mut Option<Box<RawValue>>, name| {
            if mine.is_none() {
                *mine = members.get(name).map(ToOwned::to_owned);
            }
        };
        take(&mut self.carried.client_id, "client_id");
        take(&mut self.carried.act, "act");
        Ok(self)
    }

    /// What kind of login it is, if it is restricted.
    pub fn kind(&self) -> Option<&'static str> {
        if self.carried.client_id.is_some() {
            return Some("of an application");
        }
        if self.carried.act.is_some() {
            return Some("of somebody who acts for the user");
        }
        (self.is_anonymous == Some(true)).then_some("of an anonymous user")
    }

    pub fn names_client(&self) -> bool {
        self.carried.client_id.is_some()
    }

    /// Whether the claims name that role, or none.
    pub fn has_role(&self, role: &str) -> bool {
        self.role.as_deref().is_none_or(|own| own == role)
    }

    /// Whether the login is of that assurance level or a higher one; true if none is asked for.
    pub fn has_aal(&self, required: &str) -> bool {
        required.is_empty() || self.aal.as_deref().is_some_and(|own| own >= required)
    }

    /// Whether the login may make a token with those scopes. A token without a list has no claim `scope`, and
    /// passes no policy that asks for one.
    pub fn scope_includes(&self, scopes: &Scopes) -> bool {
        match (&self.scope, scopes) {
            (Some(own), Scopes::Only(_)) => own.include(scopes),
            _ => true,
        }
    }

    pub fn is_anonymous(&self) -> Option<bool> {
        self.is_anonymous
    }

    pub fn carried(&self) -> &Carried {
        &self.carried
    }
}

impl Carried {
    /// As a JSON object; `None` if it would be empty.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub fn to_json(&self) -> Result<Option<String>, Error> {
        match (&self.client_id, &self.act) {
            (None, None) => Ok(None),
            _ => serde_json::to_string(self)
                .map(Some)
                .map_err(|error| Error::Internal(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(claims: &str) -> Restrictions {
        Restrictions::of_claims(Some(claims), None, |_| None).unwrap()
    }

    #[test]
    fn a_plain_login_is_not_restricted() {
        let login = of(
            r#"{"role":"authenticated","aal":"aal1","client_id":null,"act":null,"is_anonymous":false,"scope":""}"#,
        );
        assert_eq!(login.kind(), None);
        assert_eq!(login.carried().to_json().unwrap(), None);
        assert!(login.scope_includes(&Scopes::Unlimited));
        assert!(login.scope_includes(&Scopes::known(["todos:read"])));
    }

    #[test]
    fn an_application_a_deputy_and_an_anonymous_user_are() {
        for (claims, kind) in [
            (r#"{"client_id":"x"}"#, "of an application"),
            (r#"{"client_id":false}"#, "of an application"),
            (
                r#"{"act":{"sub":"x"}}"#,
                "of somebody who acts for the user",
            ),
            (r#"{"is_anonymous":true}"#, "of an anonymous user"),
            (r#"{"is_anonymous":"true"}"#, "of an anonymous user"),
        ] {
            assert_eq!(of(claims).kind(), Some(kind), "{claims}");
        }
        let user = Restrictions::of_claims(Some("{}"), Some(true), |_| None).unwrap();
        assert_eq!(user.kind(), Some("of an anonymous user"));
        let legacy = |name: &str| (name == "client_id").then(|| "x".to_owned());
        let legacy = Restrictions::of_claims(None, None, legacy).unwrap();
        assert_eq!(legacy.kind(), Some("of an application"));
        assert_eq!(
            legacy.carried().to_json().unwrap().as_deref(),
            Some(r#"{"client_id":"x"}"#)
        );
    }

    #[test]
    fn claims_that_can_be_read_in_two_ways_are_refused() {
        for claims in [
            r#"{"client_id":"x","client_id":null}"#,
            r#"{"role":1}"#,
            r#"{"scope":["x"]}"#,
            "[]",
        ] {
            assert!(
                Restrictions::of_claims(Some(claims), None, |_| None).is_err(),
                "{claims}"
            );
        }
        let long = format!(r#"{{"act":"{}"}}"#, "x".repeat(MAX_CARRIED));
        assert!(Restrictions::of_claims(Some(&long), None, |_| None).is_err());
        // Escaped, it takes more.
        let of_setting =
            |name: &str| (name == "client_id").then(|| "\u{1}".repeat(MAX_CARRIED / 4));
        assert!(Restrictions::of_claims(None, None, of_setting).is_err());
    }

    #[test]
    fn a_list_of_scopes_stays_within_that_of_the_login() {
        let login = of(r#"{"scope":"openid todos:*"}"#);
        assert!(login.scope_includes(&Scopes::Unlimited));
        assert!(login.scope_includes(&Scopes::known(["todos:read"])));
        assert!(!login.scope_includes(&Scopes::known(["todos:read", "notes:read"])));
        assert!(!of(r#"{"scope":"openid"}"#).scope_includes(&Scopes::known(["todos:read"])));
    }

    #[test]
    fn the_assurance_level_is_at_least_the_required_one() {
        assert!(of(r#"{"aal":"aal2"}"#).has_aal("aal2"));
        assert!(of(r#"{"aal":"aal3"}"#).has_aal("aal2"));
        assert!(of("{}").has_aal(""));
        assert!(!of(r#"{"aal":"aal1"}"#).has_aal("aal2"));
        assert!(!of("{}").has_aal("aal1"));
    }

    #[test]
    fn a_successor_carries_what_its_predecessor_did() {
        let successor = of("{}").with_those_of(r#"{"client_id":"a"}"#).unwrap();
        assert!(successor.names_client());
        let own = of(r#"{"client_id":"b"}"#)
            .with_those_of(r#"{"client_id":"a"}"#)
            .unwrap();
        assert_eq!(
            own.carried().to_json().unwrap().as_deref(),
            Some(r#"{"client_id":"b"}"#)
        );
    }

    proptest! {
        /// Whatever else the claims are: who has a client is restricted, or refused.
        #[test]
        fn no_claims_hide_a_client(before in "[a-z]{0,8}", value in "\\PC{0,8}") {
            let claims = serde_json::json!({ before: value.clone(), "client_id": value }).to_string();
            let restricted = Restrictions::of_claims(Some(&claims), None, |_| None)
                .map_or(true, |found| found.kind().is_some());
            prop_assert!(restricted);
        }
    }
}
