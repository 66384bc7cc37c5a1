use aws_lc_rs::digest::{SHA256, SHA512, digest};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use supabase_pat_core::leak_reports::place;
use supabase_pat_core::opaque_token::{OpaqueToken, Prefix};
use supabase_pat_core::presented::{
    MAX_BYTES, Otherwise, Presented, TokenHeader, digest_of_imported, read_digest,
};

use crate::input::{fields, text};

/// What stands in the headers for tokens, what is imported, and what a stranger says of a leak.
///
/// Fields: the value of a header; the setting with the names of headers; the setting with the prefix; the digest of a
/// token that is to be imported.
pub fn presented(data: &[u8]) {
    let input = text(data);
    let [value, names, prefix, imported] = fields(&input);
    let headers = lists(names);
    prefixes(prefix);
    for header in headers.iter().flatten() {
        judged(header, value, Prefix::of_setting(prefix), data);
    }
    let shared = TokenHeader::parse_list("x-api-key,x-own").expect("they are names");
    for header in &shared {
        judged(header, value, Prefix::of_setting(prefix), data);
    }
    digests(value, imported);
    places(value);
}

fn lists(names: &str) -> Option<Vec<TokenHeader>> {
    let read = TokenHeader::parse_list(names)?;
    assert!(read.len() <= 8);
    let listed: Vec<&str> = read.iter().map(TokenHeader::name).collect();
    for (place, name) in listed.iter().enumerate() {
        assert!((1..=64).contains(&name.len()) && *name != "authorization");
        assert!(!name.contains(|c: char| c.is_ascii_uppercase()
            || c.is_whitespace()
            || ":,()\"".contains(c)));
        assert!(!listed[..place].contains(name), "no name stands twice");
        assert!(names.to_ascii_lowercase().contains(name));
    }
    assert!(TokenHeader::parse_list(&listed.join(" , ")).as_ref() == Some(&read));
    Some(read)
}

fn prefixes(text: &str) {
    let Some(prefix) = Prefix::parse(text) else {
        assert_eq!(Prefix::of_setting(text).as_str(), "sbpat_");
        return;
    };
    assert_eq!(prefix.as_str(), text);
    let token = OpaqueToken::new(prefix, &[7; 64]).expect("there are random bytes");
    assert_eq!(token.expose().len(), prefix.token_length());
    assert!(OpaqueToken::parse(token.expose()).is_some());
}

fn judged(header: &TokenHeader, value: &str, prefix: Prefix, data: &[u8]) {
    let is_shared = ["x-api-key", "apikey"].contains(&header.name());
    match header.judge(value, prefix) {
        Presented::Token(digest) => {
            let word = value.trim().rsplit(char::is_whitespace).next();
            let token = word
                .and_then(OpaqueToken::parse)
                .expect("it is the last word");
            assert!(digest.is(&token.digest().0));
        }
        Presented::Perhaps(digest, otherwise) => {
            assert!(value.len() <= MAX_BYTES + 64 || value.trim().len() <= MAX_BYTES + 64);
            assert!(!digest.is(&[0; 32]));
            assert!(is_shared || otherwise != Otherwise::Nothing);
        }
        Presented::Unknown => assert!(!is_shared),
        Presented::Nothing => assert!(
            is_shared || value.trim().is_empty() || value.trim().eq_ignore_ascii_case("bearer")
        ),
        Presented::Incomplete => (),
    }
    // Whatever is written around a token, the request is not taken for one without a token.
    let random = std::array::from_fn(|i| data.get(i).map_or(i as u8, |byte| byte % 248));
    let token = OpaqueToken::new(prefix, &random).expect("all bytes are small enough");
    let token = token.expose();
    for around in [
        format!("{value} {token}"),
        format!("{value},{token}"),
        format!("\"{token}\" {value}"),
        token.to_owned(),
    ] {
        match header.judge(&around, prefix) {
            Presented::Nothing | Presented::Unknown => panic!("{around} is taken for no token"),
            Presented::Perhaps(_, otherwise) => {
                assert_eq!(otherwise, Otherwise::Incomplete, "{around}")
            }
            Presented::Token(_) | Presented::Incomplete => (),
        }
    }
}

fn digests(value: &str, imported: &str) {
    if let Some(found) = digest_of_imported(value) {
        assert!((1..=MAX_BYTES).contains(&value.len()));
        let (first, second) = value.split_at_checked(32).unwrap_or((value, ""));
        let is_keyhippo = value.len() == 160
            && first
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
            && second
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let expected = match is_keyhippo {
            true => [
                first.as_bytes(),
                &[0],
                digest(&SHA512, second.as_bytes()).as_ref(),
            ]
            .concat(),
            false => value.as_bytes().to_vec(),
        };
        assert!(found.is(digest(&SHA256, &expected).as_ref()));
        // However it is written down, it is the same digest.
        let hex: String = found.0.iter().map(|byte| format!("{byte:02x}")).collect();
        for spelling in [
            hex.clone(),
            hex.to_uppercase(),
            format!("\\x{hex}"),
            format!(" {hex}\n"),
            BASE64_STANDARD.encode(found.0),
            BASE64_URL_SAFE_NO_PAD.encode(found.0),
        ] {
            assert!(
                read_digest(&spelling).is_some_and(|read| read.is(&found.0)),
                "{spelling}"
            );
        }
    }
    if let Some(read) = read_digest(imported) {
        let bare = imported.trim();
        let hex: String = read.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = BASE64_URL_SAFE_NO_PAD.encode(read.0);
        let as_url = bare
            .trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_");
        assert!(
            bare.trim_start_matches("\\x").eq_ignore_ascii_case(&hex) || as_url == base64,
            "{imported}"
        );
    }
}

fn places(found_at: &str) {
    if let Ok(Some(place)) = place(found_at) {
        assert!((1..=200).contains(&place.chars().count()));
        assert!(found_at.contains(&place) && !place.chars().any(char::is_control));
    }
}
