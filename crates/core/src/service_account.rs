//! The rules for a service account: a user without a login, whose tokens machines use.

use uuid::Uuid;

use crate::error::Error;

/// What `raw_app_meta_data` in `auth.users` says of such a user, in the form that Supabase Auth writes. It is for people
/// who look at the list of users: which users are service accounts is known by the table `pat.service_accounts` alone.
pub const APP_METADATA: &str =
    r#"{"provider": "service_account", "providers": ["service_account"]}"#;

const MAX_NAME: usize = 100;
const MAX_DESCRIPTION: usize = 1000;

/// # Errors
/// [`Error::UnfitAccountName`].
pub fn check_name(name: &str) -> Result<(), Error> {
    let is_unfit = name.trim().is_empty()
        || name.chars().count() > MAX_NAME
        || name.chars().any(char::is_control);
    match is_unfit {
        true => Err(Error::UnfitAccountName { max: MAX_NAME }),
        false => Ok(()),
    }
}

/// # Errors
/// [`Error::UnfitAccountDescription`].
pub fn check_description(description: &str) -> Result<(), Error> {
    let is_unfit = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    match description.chars().count() > MAX_DESCRIPTION || description.chars().any(is_unfit) {
        true => Err(Error::UnfitAccountDescription {
            max: MAX_DESCRIPTION,
        }),
        false => Ok(()),
    }
}

/// What the trail of events says of an account beside its id, which tells nothing once its row is gone.
pub fn described(name: &str, by: Option<Uuid>) -> String {
    match by {
        Some(user) => format!("{name}, by user {user}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_name_is_one_line_that_says_something() {
        for name in ["ci", " ci ", &"ä".repeat(MAX_NAME)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            " \u{a0}",
            "a\nb",
            "a\0",
            "\u{85}",
            &"ä".repeat(MAX_NAME + 1),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_description_has_lines_and_an_end() {
        assert!(check_description("").is_ok());
        assert!(check_description("two\nlines\tand a tab").is_ok());
        assert!(check_description(&"x".repeat(MAX_DESCRIPTION)).is_ok());
        assert!(check_description(&"x".repeat(MAX_DESCRIPTION + 1)).is_err());
        assert!(check_description("\u{1b}[31m").is_err());
    }

    #[test]
    fn the_metadata_have_the_form_that_supabase_auth_reads() {
        let read: Value = serde_json::from_str(APP_METADATA).unwrap();
        assert_eq!(read["providers"][0], read["provider"]);
    }
}
