use supabase_pat_core::api_key::{
    Checked, Format, Installation, Report, Roles, Signature, inspect,
};
use supabase_pat_core::jwt::Unverified;
use supabase_pat_core::key_ring;
use supabase_pat_core::rejection::Rejection;

use crate::input::{fields, pick, text};
use crate::keys::{self, SECRET};

const ROLES: Roles = Roles {
    anon: "anon",
    authenticated: "authenticated",
    service: "service_role",
};
const NOW: i64 = 1_700_000_000;

/// A key as somebody pastes it. Fields: the key, in which `{good}` stands for a JWT that this
/// installation has signed, and `{bad}` for one that another has; its header; its payload.
pub fn api_key(data: &[u8]) {
    let input = text(data);
    let [key, header, payload] = fields(&input);
    let (good, bad) = (
        keys::sign(header, payload, "h1"),
        keys::sign(header, payload, "h2"),
    );
    let has_good = key.contains("{good}");
    // The size of an input is no measure of that of the key, so there are limits to it.
    if key.matches('{').count() > 4 {
        return;
    }
    let key = key.replace("{good}", &good).replace("{bad}", &bad);

    let report = inspect(&key, NOW, &ROLES, &Here);
    is_sound(&report, &key);
    let is_jwt = !matches!(report.format, Format::Publishable | Format::Secret);
    if is_jwt && report.signature == Signature::Verified {
        assert!(has_good, "nobody else can sign");
    }
    if report.signature != Signature::NotVerified {
        assert!(report.format != Format::Unknown);
    }

    for around in [format!(" {key}\r\n"), format!("\t{key}")] {
        let again = inspect(&around, NOW, &ROLES, &Here);
        assert_eq!(
            (again.format, &again.role, again.signature),
            (report.format, &report.role, report.signature)
        );
    }
    if pick(data, 50) == 0 {
        let long = key.repeat((64 << 10) / key.len().max(1));
        is_sound(&inspect(&long, NOW, &ROLES, &Here), &long);
    }
}

fn is_sound(report: &Report, key: &str) {
    assert_eq!(report.length, key.chars().count());
    for time in [report.issued_at, report.expires_at].into_iter().flatten() {
        assert!((0..=253_402_300_799).contains(&time));
    }
    for text in [&report.role, &report.r#ref, &report.iss]
        .into_iter()
        .flatten()
    {
        assert!(!text.contains('\0'), "Postgres has no text for this");
    }
    let has_problem = |word: &str| report.problems.iter().any(|problem| problem.contains(word));
    assert!(report.format != Format::Unknown || !report.problems.is_empty());
    for problem in &report.problems {
        assert!(problem.ends_with('.') && problem.len() < 500 && !problem.contains('\n'));
        assert!(!problem.contains(SECRET) && !problem.contains(keys::OTHER_SECRET));
        let claims = [&report.role, &report.r#ref, &report.iss];
        let texts = claims.into_iter().flatten().map(String::as_str);
        for piece in texts.chain([key]).flat_map(pieces) {
            assert!(!problem.contains(piece), "{problem}");
        }
    }
    if report.expires_at.is_some_and(|end| end <= NOW) {
        assert!(has_problem("expired"));
    }
}

/// Runs of characters that look like a part of a key, and unlike the words of a report.
fn pieces(key: &str) -> impl Iterator<Item = &str> {
    key.split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|run| run.get(..12))
        .filter(|run| {
            let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
            has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
        })
        .take(100)
}

/// An installation with a configured secret and an empty key ring.
struct Here;

impl Installation for Here {
    fn check(&self, token: &str) -> Checked {
        let ring = key_ring::KeyRing::default();
        let key = keys::key("h1");
        let keys = key_ring::VerificationKeys {
            ring: &ring,
            configured: Some(&key),
        };
        let verified = Unverified::parse(token).and_then(|token| keys.verify(&token));
        match verified {
            Ok(()) => Checked::Matches,
            Err(Rejection::BadSignature) => Checked::DoesNotMatch,
            Err(_) => Checked::NoKey,
        }
    }

    fn shared_secret(&self) -> Option<&[u8]> {
        Some(SECRET.as_bytes())
    }
}
