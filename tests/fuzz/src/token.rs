use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use supabase_pat_core::denied;
use supabase_pat_core::jwt::{Unverified, bearer_token};
use supabase_pat_core::opaque_token::{DEFAULT_PREFIX, OpaqueToken, Prefix};
use supabase_pat_core::refresh_token;

use crate::input::{changed, places, text};
use crate::json;
use crate::keys;

/// A text that somebody brings in a header or an argument, read as every kind of token there is.
pub fn token(data: &[u8]) {
    let text = text(data);
    compact(&text);
    bearer(&text);
    opaque(&text, data);
    refresh(&text, data);
}

fn compact(text: &str) {
    let Ok(token) = Unverified::parse(text) else {
        return;
    };
    let parts: Vec<&str> = text.split('.').collect();
    assert_eq!(parts.len(), 3);
    assert!(text.len() <= 128 * 1024);
    assert!(json::unique_members(token.header()).is_some());
    // A token has one spelling: what was decoded encodes to what was brought.
    assert_eq!(BASE64URL.encode(token.header()), parts[0]);
    if let Ok(claims) = token.claims() {
        assert_eq!(BASE64URL.encode(&claims), parts[1]);
        assert!(json::unique_members(&claims).is_some());
    } else {
        assert!(token.expires_at().is_err());
    }
    let digest = Some(token.digest());
    assert_eq!(denied::digest_of_message(text), digest);
    assert_eq!(denied::digest_of_message(&format!("{text}AA")), digest);
    assert_ne!(denied::digest_of_message(&format!("A{text}")), digest);
}

fn bearer(text: &str) {
    let Some(token) = bearer_token(text) else {
        return;
    };
    assert!(!token.is_empty() && !token.contains(char::is_whitespace));
    let trimmed = text.trim();
    assert!(trimmed.ends_with(token));
    assert!(trimmed[..6].eq_ignore_ascii_case("bearer"));
    assert_eq!(bearer_token(&format!("BEARER  {token}\n")), Some(token));
    assert_eq!(bearer_token(&format!("Bearer {token} {token}")), None);
    assert_eq!(bearer_token(token), None);
}

fn opaque(text: &str, data: &[u8]) {
    let random = std::array::from_fn(|i| data.get(i).map_or(i as u8, |byte| byte ^ i as u8));
    let prefix = Prefix::parse(DEFAULT_PREFIX).expect("it is fit");
    let made = OpaqueToken::new(prefix, &random);
    assert_eq!(
        made.is_some(),
        random.iter().filter(|byte| **byte < 248).count() >= 36
    );
    for token in [made, OpaqueToken::parse(text)].into_iter().flatten() {
        let text = token.expose();
        let again = OpaqueToken::parse(text).expect("what is made is read");
        assert!(again.digest().is(&token.digest().0));
        let around = [format!("{text}0"), format!(" {text}")];
        let within = places(data, text.len());
        let within = within.map(|place| [changed(text, place), text[..place].to_owned()]);
        for forged in within.iter().flatten().chain(&around) {
            assert!(OpaqueToken::parse(forged).is_none(), "{forged}");
        }
    }
    // A text of the right length, with the right checksum over whatever it is.
    let body: String = text.chars().cycle().take(36.min(text.len() * 36)).collect();
    let whole = format!("sbpat_{body}");
    for text in [format!("{whole}{}", checksum(&whole)), text.to_owned()] {
        let read = OpaqueToken::parse(&text);
        assert_eq!(read.is_some(), is_opaque(&text), "{text}");
        assert!(read.is_none_or(|token| token.expose() == text));
    }
}

/// A second reading of what an opaque token is.
fn is_opaque(text: &str) -> bool {
    let Some((prefix, digits)) = text.rsplit_once('_') else {
        return false;
    };
    let is_prefix = (2..32).contains(&prefix.len())
        && prefix
            .chars()
            .all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'))
        && !prefix.starts_with('_')
        && prefix != "sb"
        && prefix != "sbp"
        && !["sb_", "sbp_", "ey", "ew"]
            .iter()
            .any(|start| prefix.starts_with(start));
    is_prefix
        && digits.len() == 42
        && digits.chars().all(|c| c.is_ascii_alphanumeric())
        && text.ends_with(&checksum(&text[..text.len() - 6]))
}

/// CRC-32 bit by bit, in six digits of base62.
fn checksum(text: &str) -> String {
    let crc = !text.bytes().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    let digits: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
    let digit = |place: u32| digits[(crc / 62_u32.pow(place) % 62) as usize];
    (0..6).rev().map(digit).collect()
}

fn refresh(text: &str, data: &[u8]) {
    let key = keys::key("d1");
    let session =
        uuid::Uuid::from_bytes(std::array::from_fn(|i| data.get(i).copied().unwrap_or(7)));
    let number = std::array::from_fn(|i| data.get(16 + i).copied().unwrap_or(0));
    let number = i64::from_be_bytes(number) & i64::MAX;
    let issued = refresh_token::issue(&key, session, number).expect("a key can be derived");
    let read = refresh_token::RefreshToken::parse(&issued).expect("what is issued is read");
    assert!(read.is_signed_by(&key));
    assert!(!read.is_signed_by(&keys::key("h1")));
    assert_eq!((read.session, read.number), (session, number));
    for place in places(data, issued.len()) {
        let forged = refresh_token::RefreshToken::parse(&changed(&issued, place));
        assert!(!forged.is_some_and(|token| token.is_signed_by(&key)));
        assert!(refresh_token::RefreshToken::parse(&issued[..place]).is_none());
    }

    if let Some(token) = refresh_token::RefreshToken::parse(text) {
        assert!(token.number >= 0);
        if token.is_signed_by(&key) {
            let own = refresh_token::issue(&key, token.session, token.number);
            assert_eq!(own.expect("a key can be derived"), text.trim());
        }
    }
}
