use std::rc::Rc;

use supabase_pat_core::algorithm::Algorithm;
use supabase_pat_core::denied;
use supabase_pat_core::jwt::Unverified;
use supabase_pat_core::key_ring::{KeyRing, RingKey, Status, VerificationKeys};
use supabase_pat_core::rejection::Rejection;
use supabase_pat_core::signing_key::SigningKey;
use supabase_pat_core::verification::{Checks, Verified};

use crate::input::{changed, fields, places, text};
use crate::json;
use crate::keys::{self, SECRET};

/// A token with any header and any payload, signed with a key that may or may not be known, current,
/// revoked or configured. Whether it verifies is what a second reading says, which knows who signed.
///
/// Fields: words such as `current:h1 revoked:d1 configured:h2 signer:h1 now:1700000000 skew:30
/// audience:authenticated expiry`; the header; the payload.
pub fn jwt(data: &[u8]) {
    let input = text(data);
    let [words, header, payload] = fields(&input);
    let setup = Setup::read(words);
    let token = keys::sign(header, payload, setup.signer);
    let ring = setup.ring();
    let configured = setup.configured.map(keys::key);
    let keys = VerificationKeys {
        ring: &ring,
        configured: configured.as_deref(),
    };
    let checks = Checks {
        audience: setup.audience,
        requires_expiry: setup.requires_expiry,
        now: setup.now,
        issuer: "us",
        clock_skew: setup.skew,
    };

    let header = Header::read(header);
    let verdict = verdict(&token, &keys, &checks);
    assert_eq!(
        verdict.signature.is_ok(),
        header.as_ref().is_some_and(|header| setup.trusts(header)),
        "{:?}",
        verdict.signature
    );
    if let Some(accepts) = setup.accepts(payload) {
        let is_valid = verdict.signature.is_ok() && accepts;
        assert_eq!(verdict.payload.is_some(), is_valid, "{payload}");
    }
    if let Some(reading) = &verdict.payload {
        assert_eq!(reading, payload);
        assert!(verdict.signature.is_ok());
    }
    for secret in [SECRET, keys::OTHER_SECRET] {
        assert!(!verdict.words.contains(secret));
    }
    let known = [
        "malformed",
        "unsupported_algorithm",
        "unknown_key",
        "revoked",
        "bad_signature",
        "expired",
        "not_yet_valid",
        "valid",
    ];
    assert!(known.contains(&verdict.status));

    if verdict.payload.is_some() {
        let around = ["A", "=", ".", " "].map(|after| format!("{token}{after}"));
        let within = places(data, token.len());
        let within = within.map(|place| [changed(&token, place), token[..place].to_owned()]);
        for forged in within.iter().flatten().chain(&around) {
            let forged = self::verdict(forged, &keys, &checks);
            assert!(forged.payload.is_none());
        }
    }
    published_keys_hold_no_secret(&ring, &keys, &setup);
}

struct Verdict {
    signature: Result<(), Rejection>,
    payload: Option<String>,
    status: &'static str,
    words: String,
}

fn verdict(token: &str, keys: &VerificationKeys, checks: &Checks) -> Verdict {
    let rejected = |rejection: Rejection, signature| Verdict {
        signature,
        payload: None,
        status: rejection.status(),
        words: rejection.to_string(),
    };
    let unverified = match Unverified::parse(token) {
        Ok(unverified) => unverified,
        Err(rejection) => return rejected(rejection, Err(rejection)),
    };
    assert_eq!(
        denied::digest_of_message(token),
        Some(unverified.digest()),
        "a token is denied by the digest that it is looked up by"
    );
    let signature = keys.verify(&unverified);
    if let Ok(key) = keys.named_by(&unverified) {
        let id = key.id().unwrap_or_default();
        assert!(keys.configured.is_some() || keys.ring.find(id).is_some());
    }
    match Verified::check(&unverified, keys, checks) {
        Ok(verified) => {
            assert_eq!(unverified.claims().as_deref(), Ok(verified.payload()));
            let expires_at = unverified
                .expires_at()
                .expect("the payload has been checked");
            assert!(expires_at.is_some() || !checks.requires_expiry);
            assert!(expires_at.is_none_or(|end| checks.now < end + checks.clock_skew.max(0)));
            Verdict {
                signature,
                payload: Some(verified.into_payload()),
                status: "valid",
                words: String::new(),
            }
        }
        Err(rejection) => rejected(rejection, signature),
    }
}

/// What there is at the installation, and who signed the token.
struct Setup<'a> {
    ring: Vec<(Status, &'static str)>,
    configured: Option<&'static str>,
    signer: &'static str,
    audience: Option<&'a str>,
    requires_expiry: bool,
    now: i64,
    skew: i64,
}

impl<'a> Setup<'a> {
    fn read(words: &'a str) -> Self {
        let mut setup = Self {
            ring: Vec::new(),
            configured: None,
            signer: "h1",
            audience: None,
            requires_expiry: false,
            now: 1_700_000_000,
            skew: 0,
        };
        for word in words.split_whitespace() {
            let (name, value) = word.split_once(':').unwrap_or((word, ""));
            let key = keys::NAMES.into_iter().find(|known| *known == value);
            match (name, key) {
                ("configured", Some(key)) if key.starts_with('h') => setup.configured = Some(key),
                ("signer", Some(key)) => setup.signer = key,
                ("audience", _) => setup.audience = Some(value),
                ("expiry", _) => setup.requires_expiry = true,
                // Years 1970 to 9999, and clocks that are hours apart.
                ("now", _) => {
                    setup.now = value.parse().unwrap_or(setup.now).clamp(0, 253_402_300_799);
                }
                ("skew", _) => setup.skew = value.parse().unwrap_or(0).clamp(0, 86_400),
                (status, Some(key)) => {
                    // A key id is there once, as in the table.
                    if let Ok(status) = status.parse()
                        && !setup.ring.iter().any(|(_, other)| *other == key)
                    {
                        setup.ring.push((status, key));
                    }
                }
                _ => (),
            }
        }
        setup
    }

    fn ring(&self) -> KeyRing {
        let key = |(status, name): &(Status, &str)| RingKey {
            id: (*name).to_owned(),
            status: *status,
            key: keys::named(name),
        };
        KeyRing::new(self.ring.iter().map(key).collect())
    }

    /// Whether the signature counts, by what the comment of `VerificationKeys::verify` promises.
    fn trusts(&self, header: &Header) -> bool {
        let signer: Rc<SigningKey> = keys::key(self.signer);
        if header.algorithm != Some(signer.algorithm()) {
            return false;
        }
        let status = |name: &str| {
            let found = self.ring.iter().find(|(_, other)| *other == name);
            found.map(|(status, _)| *status)
        };
        match header.key_id.as_deref() {
            Some(id) if status(id).is_some() => {
                id == self.signer && status(id) != Some(Status::Revoked)
            }
            id => {
                let is_revoked = status(self.signer) == Some(Status::Revoked);
                let is_configured = self.configured == Some(self.signer);
                let is_in_ring = id.is_none() && status(self.signer).is_some();
                !is_revoked && (is_configured || is_in_ring)
            }
        }
    }

    /// Whether the payload may be taken. `None` where a date has more digits than a double, so that it
    /// depends on who rounds.
    fn accepts(&self, payload: &str) -> Option<bool> {
        let Some(claims) = json::unique_members(payload) else {
            return Some(false);
        };
        if payload.contains("\\u") && json::plain_escapes(payload).is_none() {
            return Some(false);
        }
        let claim = |name: &str| claims.get(name).filter(|value| *value != "null");
        let dates = ["exp", "nbf", "iat"].map(claim);
        if dates.iter().flatten().any(|date| date.len() > 15) {
            return None;
        }
        let seconds = dates.map(|date| date.map(|date| date.parse::<f64>()));
        let is_date = |date: &Option<Result<f64, _>>| match date {
            None => true,
            Some(Ok(date)) => (0.0..=9_007_199_254_740_992.0).contains(date),
            Some(Err(_)) => false,
        };
        let are_texts = ["iss", "type"]
            .iter()
            .all(|name| claim(name).is_none_or(|value| string(value).is_some()));
        if !seconds.iter().all(is_date) || !are_texts {
            return Some(false);
        }
        let [end, start, _] = seconds.map(|date| date.and_then(Result::ok));
        let is_foreign = claim("iss").is_some_and(|issuer| string(issuer).as_deref() != Some("us"));
        let skew = if is_foreign { self.skew as f64 } else { 0.0 };
        let now = self.now as f64;
        // A clock of whole seconds shows neither the last fraction of one nor the first.
        let has_begun = start.is_none_or(|start| now >= start.ceil() - skew);
        let is_over = end.map_or(self.requires_expiry, |end| now >= end.floor() + skew);
        let is_for_us = self.audience.is_none_or(|audience| {
            let aud = claim("aud").map_or("", String::as_str);
            string(aud).as_deref() == Some(audience)
                || serde_json::from_str::<Vec<String>>(aud)
                    .is_ok_and(|all| all.iter().any(|one| one == audience))
        });
        Some(has_begun && !is_over && is_for_us)
    }
}

fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// What a header says, by a second reading. `None` for what is no header.
struct Header {
    algorithm: Option<Algorithm>,
    key_id: Option<String>,
}

impl Header {
    fn read(header: &str) -> Option<Self> {
        let members = json::unique_members(header)?;
        // jsonb holds neither NUL nor half a character, and escapes are read to a certain depth.
        if header.contains("\\u") && json::plain_escapes(header).is_none() {
            return None;
        }
        let text = |name: &str| match members.get(name).map(String::as_str) {
            None | Some("null") => Some(None),
            Some(text) => string(text).map(Some),
        };
        let algorithm = text("alg")??;
        let is_critical = members.get("crit").is_some_and(|crit| crit != "null");
        Some(Self {
            key_id: text("kid")?,
            algorithm: Algorithm::named(&algorithm).filter(|_| !is_critical),
        })
    }
}

fn published_keys_hold_no_secret(ring: &KeyRing, keys: &VerificationKeys, setup: &Setup) {
    let names = |jwks: &serde_json::Value| -> Vec<String> {
        let keys = jwks["keys"].as_array().expect("a set has keys");
        keys.iter()
            .flat_map(|key| key.as_object().expect("a key is an object").keys().cloned())
            .collect()
    };
    let public = names(&ring.public_jwks());
    assert!(
        !["k", "d", "p", "q", "dp", "dq", "qi"]
            .iter()
            .any(|secret| public.iter().any(|name| name == secret))
    );
    let all = keys.verifier_jwks();
    assert!(!names(&all).iter().any(|name| name == "d"));
    for (status, name) in &setup.ring {
        let is_there = all["keys"]
            .as_array()
            .is_some_and(|keys| keys.iter().any(|key| key["kid"] == *name));
        assert!(is_there || *status == Status::Revoked);
    }
}
