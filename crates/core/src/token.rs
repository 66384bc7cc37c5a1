//! The rules for a personal access token, a row of the table `api_keys`: its kind, its id, its name.

use std::str::FromStr;

use uuid::{Builder, Uuid};

use crate::error::Error;

/// How a token is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A JWT for the header `Authorization`, which any REST server verifies by itself.
    Jwt,
    /// A short text for the header `x-api-key`, which `pat.gate()` looks up.
    Opaque,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Opaque => "opaque",
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "jwt" => Ok(Self::Jwt),
            "opaque" => Ok(Self::Opaque),
            _ => Err(Error::UnknownKind(text.chars().take(20).collect())),
        }
    }
}

/// A UUIDv7 (RFC 9562 section 5.7): ids that are made later sort later, which keeps the index of a
/// large table of tokens dense.
pub fn new_id(unix_millis: u64, random: &[u8; 10]) -> Uuid {
    Builder::from_unix_timestamp_millis(unix_millis, random).into_uuid()
}

/// # Errors
/// [`Error::EmptyName`] for nothing but white space, [`Error::NameTooLong`] in characters, not
/// bytes, [`Error::NameWithControlCharacters`].
pub fn check_name(name: &str, max_length: usize) -> Result<(), Error> {
    if name.trim().is_empty() {
        return Err(Error::EmptyName);
    }
    let len = name.chars().count();
    if len > max_length {
        return Err(Error::NameTooLong {
            len,
            max: max_length,
        });
    }
    match name.chars().any(char::is_control) {
        true => Err(Error::NameWithControlCharacters),
        false => Ok(()),
    }
}

/// The name of a token of another system, made into one that [`check_name`] takes: without control characters, cut, and
/// `imported` if nothing is left. Users have chosen these names, and one must not stop the import of all.
pub fn fit_name(name: &str, max_length: usize) -> String {
    let plain = name.replace(char::is_control, " ");
    let cut: String = plain.trim().chars().take(max_length).collect();
    match cut.trim() {
        "" => "imported".chars().take(max_length).collect(),
        fit => fit.to_owned(),
    }
}

const MAX_DESCRIPTION: usize = 1000;

/// # Errors
/// [`Error::UnfitDescription`].
pub fn check_description(description: &str) -> Result<(), Error> {
    let is_unfit = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    match description.chars().count() > MAX_DESCRIPTION || description.chars().any(is_unfit) {
        true => Err(Error::UnfitDescription {
            max: MAX_DESCRIPTION,
        }),
        false => Ok(()),
    }
}

/// What a person can recognise a token by in a list: its last six characters. They are part of
/// the signature and tell nothing of the secret behind it.
pub fn hint(token: &str) -> &str {
    &token[token.len().saturating_sub(6)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_version_7_that_sorts_by_time() {
        let early = new_id(1_700_000_000_000, &[0xff; 10]);
        let late = new_id(1_700_000_000_001, &[0; 10]);
        assert_eq!(early.get_version_num(), 7);
        assert_eq!(early.to_string(), "018bcfe5-6800-7fff-bfff-ffffffffffff");
        assert!(early < late);
    }

    #[test]
    fn a_description_has_lines_and_an_end() {
        assert!(check_description("").is_ok() && check_description("a\n\tb").is_ok());
        assert!(check_description(&"\u{1F511}".repeat(1000)).is_ok());
        assert!(check_description(&"x".repeat(1001)).is_err());
        assert!(check_description("a\u{1b}[0m").is_err());
    }

    #[test]
    fn names_are_counted_in_characters() {
        assert!(check_name(&"\u{1F511}".repeat(100), 100).is_ok());
        assert!(matches!(
            check_name(&"x".repeat(101), 100),
            Err(Error::NameTooLong { len: 101, max: 100 })
        ));
    }

    #[test]
    fn blank_names_and_control_characters_are_refused() {
        for name in ["", " ", "\t\n", "\u{a0}\u{2003}"] {
            assert!(
                matches!(check_name(name, 100), Err(Error::EmptyName)),
                "{name:?}"
            );
        }
        for name in ["a\nb", "a\u{7f}", "\u{1b}[31mred"] {
            assert!(
                matches!(check_name(name, 100), Err(Error::NameWithControlCharacters)),
                "{name:?}"
            );
        }
        for name in [
            "O'Brien \"x\" \\ $$; --",
            "\u{1F469}\u{200D}\u{1F4BB} \u{0645}",
        ] {
            assert!(check_name(name, 100).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn every_name_of_another_system_is_made_fit() {
        for (name, fit) in [
            ("", "imported"),
            ("\t\u{a0}\u{2003}\0", "imported"),
            (" a\nb ", "a b"),
            ("\u{1b}[31mred", "[31mred"),
            (
                "O'Brien \u{1F469}\u{200D}\u{1F4BB}",
                "O'Brien \u{1F469}\u{200D}\u{1F4BB}",
            ),
            ("0123456789 123456789 x", "0123456789 123456789"),
        ] {
            assert_eq!(fit_name(name, 21), fit);
            assert!(check_name(&fit_name(name, 21), 21).is_ok());
            assert!(check_name(&fit_name(name, 1), 1).is_ok());
        }
    }

    #[test]
    fn the_hint_is_the_end_of_the_token() {
        assert_eq!(hint("eyJ.eyJ.abcdefghij"), "efghij");
        assert_eq!(hint("abc"), "abc");
    }
}
