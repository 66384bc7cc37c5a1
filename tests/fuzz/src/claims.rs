use serde_json::Value;
use supabase_pat_core::claims::{ClaimSettings, Credential, Identity, SessionClaim, TOKEN_TYPE};
use supabase_pat_core::denied::digest_of_claims;
use supabase_pat_core::live_claims::LiveUser;
use supabase_pat_core::payload::{Lifetime, with_times};
use supabase_pat_core::session::{AccessPayload, AccessToken, Info, Method, SignIn, User};
use uuid::Uuid;

use crate::input::{fields, optional, text};
use crate::json;

/// The claims of a request, in both forms in which servers hand them over, and everything that is
/// made of claims.
///
/// Fields: `request.jwt.claims`; the settings sub, type, jti, scope and session_id of the old form; a
/// row of `auth.users` as JSON.
pub fn claims(data: &[u8]) {
    let input = text(data);
    let [claims, sub, kind, jti, scope, session, row] = fields(&input);
    let settings = ClaimSettings {
        claims: optional(claims),
        sub: optional(sub),
        r#type: optional(kind),
        jti: optional(jti),
        scope: optional(scope),
        session_id: optional(session),
    };
    let identity = Identity::from_settings(&settings);
    let value: Option<Value> = serde_json::from_str(claims).ok();
    is_no_login_that_a_setting_calls_a_token(&settings, &identity);
    if [sub, kind, jti, scope, session]
        .iter()
        .all(|setting| setting.is_empty())
        && !claims.is_empty()
    {
        agrees_with_what_a_session_is_told(claims, &identity, value.as_ref());
    }
    times_are_added(claims);
    digests_go_by_the_meaning(claims, value.as_ref());
    live_claims_win(claims, row);
    no_secret_of_a_user_is_shown(row);
}

fn is_token_type(value: Option<&str>) -> bool {
    value == Some(TOKEN_TYPE)
}

fn is_no_login_that_a_setting_calls_a_token(settings: &ClaimSettings, identity: &Identity) {
    let members = settings.claims.and_then(json::members);
    let text = |name: &str| -> Option<String> {
        let mut members = members.iter().flatten();
        let (_, value) = members.rfind(|(other, _)| other == name)?;
        serde_json::from_str(value).ok()
    };
    let says_token = is_token_type(settings.r#type) || is_token_type(text("type").as_deref());
    // What is no text, or stands twice, is for every reader something else.
    let is_clear = |name: &str| {
        let mut all = members.iter().flatten().filter(|(other, _)| other == name);
        let value = all.next().map_or("null", |(_, value)| value.as_str());
        all.next().is_none() && (value == "null" || value.starts_with('"'))
    };
    match &identity.credential {
        Credential::Login => assert!(!says_token && is_clear("type")),
        Credential::Malformed => (),
        Credential::Token(token) => {
            assert!(says_token && (settings.claims.is_none() || members.is_some()));
            assert!(["type", "sub", "jti", "scope"].into_iter().all(is_clear));
            assert_eq!(identity.user, Some(token.user));
            // Where both forms name something, they name the same.
            for (setting, claim, id) in [
                (settings.sub, text("sub"), token.user),
                (settings.jti, text("jti"), token.id),
            ] {
                assert!(setting.is_some() || claim.is_some());
                for text in [setting, claim.as_deref()].into_iter().flatten() {
                    assert_eq!(Uuid::try_parse(text), Ok(id));
                }
            }
            let granted = token.scopes.to_texts();
            match settings.scope.map(str::to_owned).or(text("scope")) {
                Some(claim) => {
                    let words: Vec<&str> = claim.split(' ').collect();
                    let is_listed = |scope: &String| {
                        words.contains(&scope.as_str()) || scope == "*" && words.contains(&"*:*")
                    };
                    assert!(granted.expect("there is a list").iter().all(is_listed));
                }
                None => assert!(granted.is_none()),
            }
        }
    }
    // auth.uid() lets the old form win.
    if let Some(sub) = settings.sub {
        assert!(
            identity
                .user
                .is_none_or(|user| Uuid::try_parse(sub) == Ok(user))
        );
    }
}

/// Two readings of the same claims.
fn agrees_with_what_a_session_is_told(claims: &str, identity: &Identity, value: Option<&Value>) {
    if !value.is_some_and(Value::is_object) {
        assert_eq!(Info::from_claims(claims), Info::default());
        return;
    }
    let info = Info::from_claims(claims);
    for time in [info.issued_at, info.expires_at].into_iter().flatten() {
        assert!((0..=253_402_300_799).contains(&time));
    }
    match &identity.credential {
        Credential::Malformed => (),
        Credential::Token(token) => {
            assert!(info.is_personal_access_token);
            assert_eq!((info.user, info.session), (Some(token.user), None));
            assert!(!info.should_refresh(i64::MAX / 2));
        }
        Credential::Login => {
            assert!(!info.is_personal_access_token);
            assert_eq!(info.user, identity.user);
            let session = match identity.session {
                SessionClaim::Id(id) => Some(id),
                SessionClaim::None | SessionClaim::Malformed => None,
            };
            assert_eq!(info.session, session);
        }
    }
}

fn times_are_added(claims: &str) {
    const NOW: i64 = 1_700_000_000;
    for expires_at in [None, Some(NOW + 60)] {
        let Ok(timed) = with_times(claims, NOW, expires_at) else {
            continue;
        };
        let before = json::unique_members(claims).expect("an object that names nothing twice");
        let mut after = json::unique_members(&timed).expect("an object that names nothing twice");
        assert_eq!(
            with_times(&timed, NOW + 1, expires_at)
                .ok()
                .as_ref()
                .map(|again| json::unique_members(again)),
            Some(json::unique_members(&timed))
        );
        if let Some(end) = expires_at {
            assert_eq!(
                after.insert("exp".into(), "x".into()),
                Some(end.to_string())
            );
        }
        if !before.contains_key("iat") {
            assert_eq!(after.remove("iat"), Some(NOW.to_string()));
        }
        let mut expected = before;
        if expires_at.is_some() {
            expected.insert("exp".into(), "x".into());
        }
        assert_eq!(after, expected);
    }
}

fn digests_go_by_the_meaning(claims: &str, value: Option<&Value>) {
    let digest = digest_of_claims(claims, "anon");
    let Some(Value::Object(members)) = value else {
        assert!(digest.is_none());
        return;
    };
    assert!(digest.is_some());
    let value = Value::Object(members.clone());
    let of = |value: &Value| digest_of_claims(&value.to_string(), "anon");
    if json::has_integers_alone(&value) {
        assert_eq!(of(&value), digest);
        let pretty = serde_json::to_string_pretty(&value).expect("it is JSON");
        assert_eq!(digest_of_claims(&pretty, "anon"), digest);
    }
    let mut other = value.clone();
    let name = (0..)
        .map(|i| format!("x{i}"))
        .find(|name| other[name].is_null() && !members.contains_key(name));
    other[name.expect("some name is free")] = Value::Null;
    assert_ne!(of(&other), digest);
    if !members.contains_key("role") {
        other = value;
        other["role"] = "anon".into();
        if json::has_integers_alone(&other) {
            assert_eq!(of(&other), digest);
        }
        other["role"] = "service_role".into();
        assert_ne!(of(&other), digest);
    }
}

fn live_claims_win(claims: &str, row: &str) {
    let row: Value = serde_json::from_str(row).unwrap_or_default();
    // No text in Postgres has a NUL in it.
    let text = |name: &str| {
        let text = row[name].as_str().filter(|text| !text.contains('\0'));
        text.map(str::to_owned)
    };
    let object = |name: &str| row[name].as_object().map(|_| row[name].to_string());
    let user = LiveUser {
        role: text("role"),
        email: text("email"),
        phone: text("phone"),
        app_metadata: object("raw_app_meta_data"),
        user_metadata: object("raw_user_meta_data"),
        is_anonymous: row["is_anonymous"].as_bool(),
    };
    let Some(live) = user.into_claims(claims, "editor") else {
        return;
    };
    let before = json::unique_members(claims).expect("an object that names nothing twice");
    let mut after = json::unique_members(&live).expect("an object that names nothing twice");
    assert_eq!(
        user.into_claims(&live, "editor")
            .map(|again| json::unique_members(&again)),
        Some(Some(after.clone()))
    );
    let string = |text: &Option<String>| Value::from(text.clone().unwrap_or_default());
    for (name, expected) in [
        ("role", Value::from("editor")),
        ("email", string(&user.email)),
        ("phone", string(&user.phone)),
    ] {
        let found = after.remove(name).expect("the claim is there");
        assert_eq!(serde_json::from_str::<Value>(&found).ok(), Some(expected));
    }
    for (name, expected) in [
        ("app_metadata", &user.app_metadata),
        ("user_metadata", &user.user_metadata),
    ] {
        let found = after.remove(name).expect("the claim is there");
        assert_eq!(&found, expected.as_deref().unwrap_or("{}"));
    }
    if let Some(is_anonymous) = user.is_anonymous {
        let found = after.remove("is_anonymous").expect("the claim is there");
        assert_eq!(found, is_anonymous.to_string());
    }
    for (name, value) in &after {
        assert_eq!(before.get(name), Some(value), "{name}");
    }
}

fn no_secret_of_a_user_is_shown(row: &str) {
    let Some(user) = User::from_row(row) else {
        return;
    };
    let shown = user.to_json("authenticated");
    let shown = shown.as_object().expect("a user is an object");
    const MAY_BE_SHOWN: [&str; 16] = [
        "id",
        "aud",
        "role",
        "email",
        "phone",
        "app_metadata",
        "user_metadata",
        "is_anonymous",
        "email_confirmed_at",
        "phone_confirmed_at",
        "confirmed_at",
        "last_sign_in_at",
        "created_at",
        "updated_at",
        "banned_until",
        "deleted_at",
    ];
    assert!(
        shown
            .keys()
            .all(|name| MAY_BE_SHOWN.contains(&name.as_str()))
    );
    let payload = AccessPayload::new(&AccessToken {
        session: Uuid::from_u128(2),
        user_id: Uuid::from_u128(1),
        user: &user,
        role: "authenticated",
        issuer: "us",
        sign_in: SignIn {
            method: Method::Password,
            at: 1,
        },
        lifetime: Lifetime {
            issued_at: 2,
            expires_at: 3,
        },
    });
    let payload = serde_json::to_string(&payload).expect("a payload is JSON");
    let info = Info::from_claims(&payload);
    assert_eq!(
        (info.user, info.session),
        (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)))
    );
    assert_eq!((info.issued_at, info.expires_at), (Some(2), Some(3)));
    assert!(!info.is_personal_access_token);
    let identity = Identity::from_settings(&ClaimSettings {
        claims: Some(&payload),
        ..Default::default()
    });
    assert!(matches!(identity.credential, Credential::Login));
    assert_eq!(identity.session, SessionClaim::Id(Uuid::from_u128(2)));
}
