//! The claims of a request with what `auth.users` says of its user now.

use serde_json::Value;

use crate::json::{Members, push_name};

/// What `auth.users` has of a user, `None` for a column that is missing or null. The metadata are JSON.
#[derive(Default, Debug)]
pub struct LiveUser {
    pub role: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub app_metadata: Option<String>,
    pub user_metadata: Option<String>,
    pub is_anonymous: Option<bool>,
}

impl LiveUser {
    /// `claims`, in which what the table has of the user replaces what they say, as in the access tokens of
    /// Supabase Auth. The claim `role` becomes `role`. `None` if they are not a JSON object.
    pub fn into_claims(&self, claims: &str, role: &str) -> Option<String> {
        let members = Members::parse(claims)?;
        let text = |text: &Option<String>| Value::from(text.as_deref().unwrap_or("")).to_string();
        let json = |json: &Option<String>| json.clone().unwrap_or_else(|| "{}".into());
        let mut live = vec![
            ("role", Value::from(role).to_string()),
            ("email", text(&self.email)),
            ("phone", text(&self.phone)),
            ("app_metadata", json(&self.app_metadata)),
            ("user_metadata", json(&self.user_metadata)),
        ];
        // Where auth.users has no such column, it cannot contradict the claim.
        live.extend(self.is_anonymous.map(|is| ("is_anonymous", is.to_string())));
        let kept = members
            .iter()
            .filter(|(name, _)| live.iter().all(|(other, _)| other != name))
            .map(|(name, value)| (name, value.get()));
        let all = kept.chain(live.iter().map(|(name, value)| (*name, value.as_str())));
        let mut json = String::with_capacity(claims.len() + 256);
        for (name, value) in all {
            json.push(if json.is_empty() { '{' } else { ',' });
            push_name(&mut json, name);
            json += value;
        }
        json.push('}');
        Some(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(user: &LiveUser, claims: &str) -> Value {
        serde_json::from_str(&user.into_claims(claims, "editor").unwrap()).unwrap()
    }

    #[test]
    fn what_the_table_says_takes_the_place_of_what_the_token_says() {
        let user = LiveUser {
            role: Some("editor".into()),
            email: Some("o'\"brien@example.com".into()),
            phone: None,
            app_metadata: Some(r#"{"plan": "pro", "n": 1.50}"#.into()),
            user_metadata: None,
            is_anonymous: Some(true),
        };
        let before = r#"{"sub":"x","is_anonymous":false,"role":"authenticated","email":"old","app_metadata":{"plan":"free"},"exp":12345678901234567890,"a\"b":[1]}"#;
        assert_eq!(
            claims(&user, before),
            json!({
                "sub": "x", "exp": 12_345_678_901_234_567_890_u64, "a\"b": [1],
                "role": "editor", "email": "o'\"brien@example.com", "phone": "",
                "app_metadata": {"plan": "pro", "n": 1.5}, "user_metadata": {},
                "is_anonymous": true,
            })
        );
    }

    #[test]
    fn without_a_column_a_user_is_as_anonymous_as_the_token_says() {
        let said = r#"{"is_anonymous":true}"#;
        assert_eq!(
            claims(&LiveUser::default(), said)["is_anonymous"],
            json!(true)
        );
        assert!(
            claims(&LiveUser::default(), "{}")
                .get("is_anonymous")
                .is_none()
        );
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        for text in ["", "[]", "{\"a\":1,\"a\":2}"] {
            assert!(LiveUser::default().into_claims(text, "x").is_none());
        }
    }
}
