//! What a request presents in a header for tokens: an opaque token of ours, one that was imported, or something that is
//! somebody else's.
//!
//! A token that was imported can be any text, so each text that might be one has to be looked up. `x-api-key` and
//! `apikey` are Supabase's headers too: what its clients send there with each request is no token, costs no look-up,
//! and is never refused, and neither is what some other system may read there. Headers that an operator has named
//! besides are for tokens alone, and whatever stands there must be one.

use aws_lc_rs::digest::{SHA512, digest};

use crate::jwt::bearer_token;
use crate::opaque_token::{self, Digest, OpaqueToken, Prefix};

/// Bytes. No more than this is hashed of a text that anybody may send. The longest of the imports that the
/// documentation describes has 160 characters.
pub const MAX_BYTES: usize = 1024;

/// How many headers can be named, and how long their names can be.
const MAX_HEADERS: usize = 8;
const MAX_NAME: usize = 64;

/// A header whose value may be an opaque token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenHeader {
    /// In lower case.
    name: Box<str>,
}

impl TokenHeader {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether Supabase's own keys stand there too.
    fn is_shared(&self) -> bool {
        ["x-api-key", "apikey"].contains(&&*self.name)
    }

    /// Reads a list of names with commas between them. `None` if one is no name of a header (RFC 9110 section 5.1), or
    /// if it is `authorization`: a REST server reads JWTs there, and has refused everything else before this is asked.
    /// The empty list has no names.
    pub fn parse_list(text: &str) -> Option<Vec<Self>> {
        let mut headers: Vec<Self> = Vec::new();
        let names = text.split(',').map(|name| name.trim().to_ascii_lowercase());
        for name in names.filter(|_| !text.trim().is_empty()) {
            let is_name_character =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            let is_name =
                (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_name_character);
            if !is_name || name == "authorization" {
                return None;
            }
            let header = Self { name: name.into() };
            if !headers.contains(&header) {
                headers.push(header);
            }
        }
        (headers.len() <= MAX_HEADERS).then_some(headers)
    }

    /// Judges the value of the header. `prefix` is what new tokens begin with.
    pub fn judge(&self, value: &str, prefix: Prefix) -> Presented {
        let text = bearer_token(value).unwrap_or(value.trim());
        if text.is_empty() {
            return Presented::Nothing;
        }
        if let Some(token) = OpaqueToken::parse(text) {
            return Presented::Token(token.digest());
        }
        if text.starts_with(opaque_token::DEFAULT_PREFIX) {
            return Presented::Incomplete;
        }
        if self.is_shared() && is_of_supabase(text) {
            return Presented::Nothing;
        }
        let otherwise = match holds_token(text, prefix) {
            true => Otherwise::Incomplete,
            false if self.is_shared() => Otherwise::Nothing,
            false => Otherwise::Unknown,
        };
        // An imported token may begin with what is the prefix now: whoever brings tokens along keeps their prefix too.
        match digest_of_imported(text) {
            Some(digest) => Presented::Perhaps(digest, otherwise),
            None => otherwise.into(),
        }
    }
}

/// What the value of a header is, as far as it can be told without a look-up.
#[derive(Clone, Copy)]
pub enum Presented {
    /// There is nothing, or what is no business of ours.
    Nothing,
    /// A well-formed token of ours.
    Token(Digest),
    /// A token of ours that is cut or changed.
    Incomplete,
    /// It is no token, and stands where only tokens may.
    Unknown,
    /// It may be an imported token. What it is if there is none of that digest.
    Perhaps(Digest, Otherwise),
}

/// What a text is that turned out to be no imported token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Otherwise {
    Nothing,
    Incomplete,
    Unknown,
}

impl From<Otherwise> for Presented {
    fn from(otherwise: Otherwise) -> Self {
        match otherwise {
            Otherwise::Nothing => Self::Nothing,
            Otherwise::Incomplete => Self::Incomplete,
            Otherwise::Unknown => Self::Unknown,
        }
    }
}

/// Whether a text is one key of Supabase's, or one JWT. Two, which a proxy has joined by a comma, are neither.
fn is_of_supabase(text: &str) -> bool {
    let is_jwt =
        || ["ey", "ew"].iter().any(|start| text.starts_with(start)) && text.split('.').count() == 3;
    let is_one = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte));
    is_one && (text.starts_with("sb_publishable_") || text.starts_with("sb_secret_") || is_jwt())
}

/// Whether a token of ours, whole or cut, stands anywhere in a text: in quotation marks, after another word, or beside
/// other values of the same header. Else what was meant as a token would be taken for none, and the request for that of
/// whatever else it carries.
fn holds_token(text: &str, prefix: Prefix) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|word| opaque_token::is_meant(word, prefix))
}

/// What is stored of an imported token: the SHA-256 of its text, or what stands for it with KeyHippo. `None` for what
/// is too long, or has a character that no header can have.
pub fn digest_of_imported(text: &str) -> Option<Digest> {
    if text.is_empty() || text.len() > MAX_BYTES || text.chars().any(char::is_control) {
        return None;
    }
    Some(digest_of_keyhippo(text).unwrap_or_else(|| Digest::of(text.as_bytes())))
}

/// KeyHippo's keys are 32 characters of base64, by which the row is found, and the 128 of a SHA-512 in hexadecimal. It
/// stores the first part as it is, and of the second, as a text, the SHA-512. So what can be known of a key from its
/// tables is the SHA-256 of these two with a zero byte between them. No other text has that digest, since none holds a
/// zero byte: whoever reads KeyHippo's tables cannot present what is there.
fn digest_of_keyhippo(text: &str) -> Option<Digest> {
    const FIRST: usize = 32;
    const SECOND: usize = 128;
    if text.len() != FIRST + SECOND {
        return None;
    }
    let (first, second) = text.split_at_checked(FIRST)?;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !first.bytes().all(is_base64) || !second.bytes().all(is_hex) {
        return None;
    }
    let mut message = Vec::with_capacity(FIRST + 1 + 64);
    message.extend_from_slice(first.as_bytes());
    message.push(0);
    message.extend_from_slice(digest(&SHA512, second.as_bytes()).as_ref());
    Some(Digest::of(&message))
}

/// The digest of a token that is to be imported: 32 bytes in hexadecimal (with or without `\x`), in base64 or base64url
/// (with or without padding).
pub fn read_digest(text: &str) -> Option<Digest> {
    let text = text.trim();
    let digits = text.strip_prefix("\\x").unwrap_or(text);
    let bytes = match digits.len() {
        64 => from_hex(digits)?,
        43 | 44 => {
            let bare = text.strip_suffix('=').unwrap_or(text);
            // 43 characters hold 258 bits: those that are left over must be zero, or one digest had many spellings.
            let standard: String = bare
                .chars()
                .map(|c| match c {
                    '-' => '+',
                    '_' => '/',
                    c => c,
                })
                .collect();
            base64::Engine::decode(&base64::prelude::BASE64_STANDARD_NO_PAD, standard).ok()?
        }
        _ => return None,
    };
    Some(Digest(bytes.try_into().ok()?))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Some((digit(high)? * 16 + digit(low)?) as u8),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::SHA256;
    use proptest::prelude::*;

    fn header(name: &str) -> TokenHeader {
        TokenHeader::parse_list(name).unwrap().remove(0)
    }

    fn prefix() -> Prefix<'static> {
        Prefix::parse("acme_").unwrap()
    }

    fn judge(name: &str, value: &str) -> String {
        match header(name).judge(value, prefix()) {
            Presented::Nothing => "nothing".into(),
            Presented::Token(_) => "token".into(),
            Presented::Incomplete => "incomplete".into(),
            Presented::Unknown => "unknown".into(),
            Presented::Perhaps(_, otherwise) => {
                format!("perhaps, else {otherwise:?}").to_lowercase()
            }
        }
    }

    fn token(prefix: &str) -> String {
        let random = std::array::from_fn(|i| i as u8);
        let token = OpaqueToken::new(Prefix::parse(prefix).unwrap(), &random).unwrap();
        token.expose().to_owned()
    }

    #[test]
    fn what_supabase_sends_in_its_headers_costs_no_look_up_and_is_not_refused() {
        for name in ["x-api-key", "apikey"] {
            for value in [
                "",
                "  ",
                "sb_publishable_AAECAwQFBgcICQoLDA0ODw_kF53ynCj",
                "sb_secret_x",
                "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl",
                "Bearer eyJh.eyJi.c2ln",
                "ewogIH0.e30.c2ln",
            ] {
                assert_eq!(judge(name, value), "nothing", "{value}");
            }
            assert_eq!(judge(name, &"x".repeat(MAX_BYTES + 1)), "nothing");
            assert_eq!(judge(name, "a\u{0}b"), "nothing");
            assert_eq!(judge(name, "sk_live_123"), "perhaps, else nothing");
        }
    }

    #[test]
    fn whatever_stands_in_a_header_of_the_operators_must_be_a_token() {
        for value in [
            "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl",
            "sb_secret_x",
            "sk_live_123",
        ] {
            assert_eq!(judge("x-old", value), "perhaps, else unknown", "{value}");
        }
        assert_eq!(judge("x-old", ""), "nothing");
        assert_eq!(judge("x-old", &"x".repeat(MAX_BYTES + 1)), "unknown");
        assert_eq!(judge("x-old", "a\u{7}b"), "unknown");
    }

    #[test]
    fn tokens_of_ours_are_told_in_every_header_and_behind_the_word_bearer() {
        for name in ["x-api-key", "x-old"] {
            for prefix in ["sbpat_", "acme_", "former_"] {
                let whole = token(prefix);
                for value in [
                    whole.clone(),
                    format!("Bearer {whole}"),
                    format!(" bearer  {whole}\t"),
                ] {
                    assert_eq!(judge(name, &value), "token", "{value}");
                }
            }
            assert_eq!(
                judge(name, &token("sbpat_")[1..40]),
                judge(name, "sk_live_123")
            );
            assert_eq!(judge(name, &token("sbpat_")[..40]), "incomplete");
            assert_eq!(
                judge(name, &token("acme_")[..40]),
                "perhaps, else incomplete"
            );
            assert_eq!(
                judge(name, &format!("Bearer {}", &token("sbpat_")[..40])),
                "incomplete"
            );
        }
    }

    #[test]
    fn a_token_with_something_around_it_is_not_taken_for_none() {
        let (acme, former) = (token("acme_"), token("former_"));
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl";
        for name in ["x-api-key", "x-old"] {
            for token in [&acme, &former, &token("sbpat_")] {
                for value in [
                    format!("\"{token}\""),
                    format!("{token},"),
                    format!("{token}, {token}"),
                    format!("Token {token}"),
                    format!("Bearer Bearer {token}"),
                    format!("key={token}"),
                    format!("\u{e9}{token}"),
                    format!("[\"{token}\"]"),
                    format!("sb_publishable_x, {token}"),
                    format!("{jwt},{token}"),
                ] {
                    let judged = judge(name, &value);
                    assert!(judged.ends_with("incomplete"), "{name}: {value}: {judged}");
                }
                for value in [
                    format!("{token} {}", "x".repeat(MAX_BYTES)),
                    format!("{token}\u{7}"),
                ] {
                    assert_eq!(judge(name, &value), "incomplete", "{name}: {value}");
                }
            }
        }
        // What is cut is told by its beginning, and so only with a prefix that is known.
        assert_eq!(judge("x-api-key", "'acme_0'"), "perhaps, else incomplete");
        assert_eq!(judge("x-api-key", "'sbpat_0'"), "perhaps, else incomplete");
        for value in [
            "'former_0'".to_owned(),
            "my_acme_0".to_owned(),
            format!("{jwt}, {jwt}"),
        ] {
            assert_eq!(judge("x-api-key", &value), "perhaps, else nothing");
        }
    }

    #[test]
    fn names_of_headers_are_a_list() {
        let names = |text| {
            TokenHeader::parse_list(text)
                .map(|list| list.iter().map(|h| h.name().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            names("X-Api-Key, x-key,x-key").unwrap(),
            ["x-api-key", "x-key"]
        );
        assert_eq!(names(" ").unwrap(), [""; 0]);
        let nine = (0..9)
            .map(|n| format!("x-{n}"))
            .collect::<Vec<_>>()
            .join(",");
        for bad in [
            "authorization",
            "x-key, Authorization",
            "x key",
            "x-key,",
            ",",
            "x:key",
            "x-k\u{e9}y",
            &nine,
            &"x".repeat(65),
        ] {
            assert_eq!(names(bad), None, "{bad}");
        }
    }

    #[test]
    fn keyhippo_stores_the_parts_of_a_key_and_neither_of_them_opens_anything() {
        let (first, second) = ("QUJDREVGR0hJSktMTU5PUFFSU1RVVldY", "0f".repeat(64));
        let stored = digest(&SHA512, second.as_bytes());
        let hex: String = stored
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let by_sql = [first.as_bytes(), &[0], stored.as_ref()].concat();
        let of = |text: &str| digest_of_imported(text).unwrap().0;
        assert_eq!(of(&format!("{first}{second}")), Digest::of(&by_sql).0);
        // What is in its tables, presented as it stands.
        assert_ne!(of(&format!("{first}{hex}")), Digest::of(&by_sql).0);
        // Another length, or other characters: a text like any other.
        for text in [
            format!("{first}x{second}"),
            format!("{first}{}", second.to_uppercase()),
            format!("{}{second}", first.replace('Q', "-")),
        ] {
            assert_eq!(of(&text), Digest::of(text.as_bytes()).0, "{text}");
        }
    }

    #[test]
    fn a_digest_is_read_in_every_spelling_and_in_no_other() {
        let hash: [u8; 32] = digest(&SHA256, b"key").as_ref().try_into().unwrap();
        // By `printf key | sha256sum`, and the same by base64.
        let hex = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
        let base64 = "LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoM=";
        let url = base64.replace('/', "_");
        for text in [
            hex,
            &hex.to_uppercase(),
            &format!("\\x{hex}"),
            base64,
            base64.trim_end_matches('='),
            &url,
            url.trim_end_matches('='),
            &format!(" {hex}\n"),
        ] {
            assert_eq!(read_digest(text).unwrap().0, hash, "{text}");
        }
        for text in [
            "",
            &hex[1..],
            &format!("{hex}0"),
            &hex.replace('2', "g"),
            &base64[1..],
            "LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoN",
            &format!("{base64}="),
            &"\u{e9}".repeat(32),
            &format!("\\x\\x{}", &hex[2..]),
        ] {
            assert!(read_digest(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_value_is_refused_in_a_shared_header_without_a_look_up(value in any::<String>()) {
            let judged = header("x-api-key").judge(&value, prefix());
            prop_assert!(!matches!(judged, Presented::Unknown | Presented::Perhaps(_, Otherwise::Unknown)));
            read_digest(&value);
        }
    }
}
