//! Accounts as passwords and codes know them: an e-mail address, and whose it is.

use uuid::Uuid;

use crate::error::Error;

/// An e-mail address as Supabase Auth keeps them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address(String);

const MAX_ADDRESS_BYTES: usize = 254;

impl Address {
    /// An address to which mail may be sent although nobody is known to have it, in lower case, and without the
    /// spaces around it.
    ///
    /// It has one spelling for a mailbox: ASCII, an unquoted name, a host name. Mail programs and servers map
    /// what is beyond that onto each other (full-width letters, soft hyphens, `ß`), so that somebody
    /// could have one mailbox under any number of addresses, each with limits of its own. A host name
    /// of other letters is given as it is looked up, `xn--…`, which browsers do by themselves in a field of
    /// the type `email`. Supabase Auth takes no other addresses either.
    ///
    /// # Errors
    /// [`Error::MalformedAddress`]. Whether mail arrives is for the code to show.
    pub fn new(typed: &str) -> Result<Self, Error> {
        let Self(address) = Self::stored(typed)?;
        match address.rsplit_once('@') {
            Some((name, host)) if is_plain_name(name) && is_host_name(host) => Ok(Self(address)),
            _ => Err(Error::MalformedAddress),
        }
    }

    /// An address to look up a user by. Users may have got theirs before [`Self::new`] was as strict as it is,
    /// or in another way. Mail is sent to such an address only if a user has it.
    ///
    /// # Errors
    /// [`Error::MalformedAddress`] for a text that does not have two parts, or has blanks or control characters
    /// in it.
    pub fn stored(typed: &str) -> Result<Self, Error> {
        let typed = typed.trim();
        // Before it is copied.
        if typed.len() > MAX_ADDRESS_BYTES {
            return Err(Error::MalformedAddress);
        }
        let address = typed.to_lowercase();
        let has_both_parts = address
            .rsplit_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
        let is_clean = !address.contains(|c: char| c.is_control() || c.is_whitespace());
        match has_both_parts && is_clean && address.len() <= MAX_ADDRESS_BYTES {
            true => Ok(Self(address)),
            false => Err(Error::MalformedAddress),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A Dot-string (RFC 5321, section 4.1.2).
fn is_plain_name(name: &str) -> bool {
    const MAX_BYTES: usize = 64;
    let is_atext =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    name.len() <= MAX_BYTES
        && name
            .split('.')
            .all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

/// Letters, digits and hyphens (RFC 1123, section 2.1), and not what programs take for the number of an address
/// (`127.1`, `0x7f000001`), since that has many spellings.
fn is_host_name(host: &str) -> bool {
    const MAX_LABEL: usize = 63;
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x");
    let is_number = digits.map_or(last.bytes().all(|byte| byte.is_ascii_digit()), |digits| {
        digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    host.split('.').all(is_label) && !is_number
}

/// Whom an address belongs to.
pub struct Holder {
    pub user: Uuid,
    pub password_hash: Option<String>,
    /// Whether they have shown that the address is theirs.
    pub is_confirmed: bool,
}

impl Holder {
    /// Stands for nobody, so that the same work is done for an address that no user has.
    pub fn nobody() -> Self {
        Self {
            user: Uuid::nil(),
            password_hash: None,
            is_confirmed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> Address {
        Address::new(text).unwrap()
    }

    #[test]
    fn addresses_are_compared_without_case_and_spaces() {
        assert_eq!(
            address(" Alice@Example.COM\n").as_str(),
            "alice@example.com"
        );
        for text in [
            "",
            " ",
            "alice",
            "@example.com",
            "alice@",
            "a b@c",
            "a@b\0",
            &"a".repeat(300),
        ] {
            assert!(Address::new(text).is_err(), "{text:?}");
            assert!(Address::stored(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mailbox_has_one_address() {
        for text in [
            "alice@example.com",
            "alice+tag@sub.example.com",
            "a.b-c_d@example.co",
            "!#$%&'*+-/=?^_`{|}~@example.com",
            "alice@xn--bcher-kva.example",
            "alice@localhost",
            "alice@3com.com",
            "alice@example.0xyz",
        ] {
            assert_eq!(address(text).as_str(), text);
        }
        for text in [
            // What reaches the same host name.
            "alice@exam\u{ad}ple.com",
            "alice@exa\u{200b}mple.com",
            "alice@\u{ff45}xample.com",
            "alice@example\u{3002}com",
            "alice@example.com.",
            "alice@b\u{fc}cher.example",
            "alice@example.com\u{200d}",
            // What reaches the same name.
            "al\u{200b}ice@example.com",
            "\u{ff41}lice@example.com",
            "\"alice\"@example.com",
            "alice(comment)@example.com",
            "\u{c4}@example.com",
            // Two addresses, and things that are none.
            "alice@example.com,bob@example.com",
            "alice<bob@example.com>",
            "a@b@example.com",
            "alice.@example.com",
            ".alice@example.com",
            "al..ice@example.com",
            "alice@.example.com",
            "alice@example..com",
            "alice@-example.com",
            "alice@example-.com",
            "alice@exam_ple.com",
            "alice@xn--example-.com",
            "alice@[127.0.0.1]",
            "alice@127.0.0.1",
            "alice@127.1",
            "alice@0x7f000001",
            "alice@localhost:25",
            &format!("{}@example.com", "a".repeat(65)),
            &format!("alice@{}.com", "a".repeat(64)),
        ] {
            assert!(Address::new(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn those_who_have_another_address_already_are_found_by_it() {
        let stored = |text| Address::stored(text).unwrap();
        assert_eq!(
            stored(" \u{c4}@B\u{dc}CHER.example").as_str(),
            "\u{e4}@b\u{fc}cher.example"
        );
        assert_eq!(
            stored("\"alice\"@example.com").as_str(),
            "\"alice\"@example.com"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_an_address_without_panic(text in any::<String>()) {
            let _ = Address::new(&text);
            let _ = Address::stored(&text);
        }

        #[test]
        fn a_new_address_is_plain_ascii_and_stays_what_it_is(text in "\\PC{0,20}@\\PC{0,20}|[a-z.\"<,\u{ad}\u{ff41}]{0,6}@[a-z.\u{200b}\u{ff41}-]{0,9}") {
            if let Ok(address) = Address::new(&text) {
                let text = address.as_str();
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(!text.contains(['<', '>', '"', '(', ')', ',', ':', ';', '\\', '[', ']']));
                prop_assert_eq!(text.matches('@').count(), 1);
                prop_assert_eq!(&Address::new(text).unwrap(), &address);
                prop_assert_eq!(&Address::stored(text).unwrap(), &address);
                // The same letters, hidden or written otherwise, are no second address.
                for hidden in ['\u{ad}', '\u{200b}', '\u{200d}', '\u{2060}', '\u{feff}'] {
                    for (place, _) in text.char_indices() {
                        let mut other = text.to_owned();
                        other.insert(place, hidden);
                        prop_assert!(Address::new(&other).is_err());
                    }
                }
            }
        }
    }
}
