use supabase_pat_core::account::{Address, Holder};
use supabase_pat_core::codes::{
    Code, CodeToken, Database, NewCodeToken, Opener, Purpose, digest, digest_of,
};
use supabase_pat_core::error::Error;
use supabase_pat_core::jwt::Unverified;
use supabase_pat_core::key_ring::{KeyRing, VerificationKeys};
use supabase_pat_core::password::{Password, is_behind, is_verifiable};
use supabase_pat_core::sealed;
use uuid::Uuid;

use crate::input::{backwards, changed, fields, optional, pick, places, text};
use crate::keys;

/// What a person types to get back in: an address, a code, a password; and the token, the sealed message
/// and the stored hash that go with them.
///
/// Fields: the address; the code as it is typed; the password; a hash; a text that is read as a token
/// and as a sealed message.
pub fn reset_code(data: &[u8]) {
    let input = text(data);
    let [address, typed, password, hash, raw] = fields(&input);
    let code = code(typed, data);
    if let Some(address) = address_of(address) {
        tokens(&address, &code, hash, data);
        addresses_do_not_run_together(&address, typed);
    }
    messages(typed, raw, data);
    forged_tokens(raw);
    passwords(password, hash);
}

fn address_of(typed: &str) -> Option<Address> {
    if let Ok(address) = Address::new(typed) {
        let text = address.as_str();
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!text.contains(['<', '>', '"', '(', ')', ',', ':', ';', '\\']));
        assert_eq!(Address::new(text).ok().as_ref(), Some(&address));
        assert_eq!(Address::stored(typed).ok().as_ref(), Some(&address));
    }
    match Address::stored(typed) {
        Ok(address) => {
            let text = address.as_str();
            assert!(text.len() <= 254);
            assert!(!text.contains(|c: char| c.is_whitespace() || c.is_control()));
            let (name, host) = text.rsplit_once('@').expect("there are two parts");
            assert!(!name.is_empty() && !host.is_empty());
            for again in [text, &format!(" {typed}\n"), &text.to_lowercase()] {
                assert_eq!(Address::stored(again).ok().as_ref(), Some(&address));
            }
            Some(address)
        }
        Err(error) => {
            assert!(matches!(error, Error::MalformedAddress));
            None
        }
    }
}

/// The code that was typed, or else one that is drawn.
fn code(typed: &str, data: &[u8]) -> Code {
    let length = 1 + pick(data, 10) as u32;
    let mut draws = 0_u64;
    let drawn = Code::draw(length, || {
        draws += 1;
        Ok((pick(data, usize::MAX) as u64)
            .wrapping_mul(draws)
            .to_le_bytes())
    });
    let drawn = drawn.expect("there is randomness");
    assert_eq!(drawn.expose().len(), length as usize);
    let spaced: String = drawn.expose().chars().flat_map(|c| [c, ' ', '-']).collect();
    let again = Code::typed(&spaced).expect("a code can be typed");
    assert_eq!(again.expose(), drawn.expose());

    let Some(code) = Code::typed(typed) else {
        return drawn;
    };
    assert!(code.expose().bytes().all(|byte| byte.is_ascii_digit()));
    assert!(!code.expose().is_empty());
    let again = Code::typed(code.expose()).expect("digits are a code");
    assert_eq!(again.expose(), code.expose());
    code
}

fn tokens(address: &Address, code: &Code, hash: &str, data: &[u8]) {
    let holder = |user, hash: Option<&str>| Holder {
        user: Uuid::from_u128(user),
        password_hash: hash.map(str::to_owned),
        is_confirmed: true,
    };
    let name = ["h1", "d1", "e1", "r1"][pick(data, 4)];
    let key = keys::key(name);
    let owner = holder(1, optional(hash));
    let id = Uuid::from_u128(3);
    let times = (1_700_000_000, 1_700_000_900);
    let here = Database {
        cluster: 1,
        oid: 2,
        has_debug_code: false,
    };
    let new = |opener| NewCodeToken {
        purpose: Purpose::Recovery,
        id,
        address,
        database: here,
        opener,
        digits: code.digits(),
        holder: &owner,
        issued_at: times.0,
        expires_at: times.1,
    };
    let sign = |opener| new(opener).sign(&key).expect("a token is issued");
    let token = sign(Opener::Code(code));
    let closed = sign(Opener::Nothing([b'0'; 32]));
    assert_eq!(closed.len(), token.len());
    let closed = Unverified::parse(&closed).expect("what is issued is a token");
    let closed = CodeToken::read(&closed, &key, Purpose::Recovery).expect("and is read");
    assert!(!closed.belongs_to(code, &owner, here, &key));

    let unverified = Unverified::parse(&token).expect("what is issued is a token");
    let read = CodeToken::read(&unverified, &key, Purpose::Recovery).expect("and is read");
    assert_eq!(
        (read.id, &read.address, read.expires_at),
        (id, address, times.1)
    );
    assert!(read.belongs_to(code, &owner, here, &key));
    for other in [
        Database { cluster: 2, ..here },
        Database { oid: 3, ..here },
        Database {
            has_debug_code: true,
            ..here
        },
    ] {
        assert!(!read.belongs_to(code, &owner, other, &key));
    }
    let longer = Code::typed(&format!("{}0", code.expose()));
    let longer = longer.filter(|longer| longer.expose() != code.expose());
    assert!(!longer.is_some_and(|longer| read.belongs_to(&longer, &owner, here, &key)));
    for other in [
        holder(2, optional(hash)),
        holder(1, Some(&format!("{hash}x"))),
        Holder::nobody(),
    ] {
        assert!(!read.belongs_to(code, &other, here, &key));
    }
    assert!(CodeToken::read(&unverified, &key, Purpose::SignUp).is_err());
    assert!(CodeToken::read(&unverified, &keys::key("h2"), Purpose::Recovery).is_err());
    // It is no login, whichever key it was made with.
    let ring = KeyRing::default();
    let known = VerificationKeys {
        ring: &ring,
        configured: Some(&key),
    };
    assert!(known.verify(&unverified).is_err());
    if code.expose().len() > 5 {
        assert!(
            !unverified
                .claims()
                .expect("it has claims")
                .contains(&format!("\"{}\"", code.expose()))
        );
    }
    let within = places(data, token.len());
    let within = within.map(|place| [changed(&token, place), token[..place].to_owned()]);
    for forged in within.iter().flatten().chain([&format!("{token}A")]) {
        let read = Unverified::parse(forged)
            .and_then(|forged| CodeToken::read(&forged, &key, Purpose::Recovery).map(drop));
        assert!(read.is_err(), "{forged}");
    }
    assert_ne!(
        digest(&key, address).expect("a digest is made"),
        digest(&keys::key("h2"), address).expect("a digest is made")
    );
}

fn addresses_do_not_run_together(address: &Address, other: &str) {
    let key = keys::key("d1");
    let of = |texts: &[&str]| digest_of(&key, texts).expect("a digest is made");
    let text = address.as_str();
    assert_eq!(
        digest(&key, address).expect("a digest is made"),
        of(&[text])
    );
    assert_ne!(of(&[text, other]), of(&[&format!("{text}{other}")]));
    assert!(other.is_empty() || of(&[text, other]) != of(&[&format!("{text}{other}"), ""]));
    assert!(other == text || of(&[text, other]) != of(&[other, text]));
}

fn messages(message: &str, raw: &str, data: &[u8]) {
    let key = keys::key("d1");
    let id = Uuid::from_u128(1);
    let sealed = sealed::seal(&key, Purpose::Recovery, id, message).expect("it is sealed");
    let open = |purpose, id, sealed: &[u8]| {
        sealed::open(&key, purpose, id, sealed).map(|text| text.to_string())
    };
    assert_eq!(
        open(Purpose::Recovery, id, &sealed).as_deref(),
        Some(message)
    );
    assert_eq!(open(Purpose::SignUp, id, &sealed), None);
    assert_eq!(open(Purpose::Recovery, Uuid::from_u128(2), &sealed), None);
    for place in places(data, sealed.len()) {
        let mut forged = sealed.clone();
        forged[place] ^= 1 << (data.len() % 8);
        assert_eq!(open(Purpose::Recovery, id, &forged), None);
        assert_eq!(open(Purpose::Recovery, id, &sealed[..place]), None);
    }
    assert_eq!(open(Purpose::Recovery, id, raw.as_bytes()), None);
}

/// Nobody makes a token without the key. Those among the seeds were made with another.
fn forged_tokens(raw: &str) {
    let Ok(token) = Unverified::parse(raw) else {
        return;
    };
    for name in ["h1", "d1"] {
        for purpose in [Purpose::Recovery, Purpose::SignUp] {
            assert!(CodeToken::read(&token, &keys::key(name), purpose).is_err());
        }
    }
}

fn passwords(text: &str, hash: &str) {
    for min in [0, 6, 100] {
        let length = text.chars().count();
        match Password::new(text, min) {
            Ok(_) => assert!((1..=72).contains(&text.len()) && length >= min),
            Err(error) => {
                assert!(text.is_empty() || length < min || text.len() > 72);
                let other = Password::new(&backwards(text), min).err();
                assert_eq!(
                    other.map(|other| other.to_string()),
                    Some(error.to_string())
                );
            }
        }
    }
    // One that is not verifiable costs as much as bcrypt's 10.
    if is_verifiable(hash) && is_affordable(hash) {
        let is_it = is_behind(text, hash);
        assert_eq!(is_behind(text, hash), is_it);
        let more = format!("{text}x");
        assert!(!is_it || !is_behind(&more, hash));
    }
}

/// What the fuzzer may write into a hash costs minutes and gigabytes; only its superusers can write
/// that into a database.
fn is_affordable(hash: &str) -> bool {
    if let Some(rest) = hash.strip_prefix("$argon2") {
        let numbers: Vec<u64> = rest
            .split(['=', ',', '$'])
            .filter_map(|part| part.parse().ok())
            .collect();
        // Version, memory in KiB, passes, lanes.
        matches!(numbers[..], [_, memory, passes, lanes] if memory <= 64 && passes <= 3 && lanes <= 2)
    } else {
        let cost = hash
            .split('$')
            .nth(2)
            .and_then(|cost| cost.parse::<u32>().ok());
        cost.is_none_or(|cost| cost <= 4)
    }
}
