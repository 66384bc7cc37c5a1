use super::jwt::{CLOCK_SKEW_SECONDS, LAST_SECOND};
use super::signatures::ALGORITHMS;
use super::*;
use crate::claims::TOKEN_TYPE;
use crate::weakness::EXAMPLE_SECRETS;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

const OURS: &str = "a-secret-of-more-than-32-bytes-for-the-tests";
const NOW: i64 = 1_800_000_000;
const ROLES: Roles = Roles {
    anon: "anon",
    authenticated: "authenticated",
    service: "service_role",
};
// The random part is the bytes 0 to 15. The checksums were computed with another program.
const PUBLISHABLE_KEY: &str = "sb_publishable_AAECAwQFBgcICQoLDA0ODw_kF53ynCj";
const SECRET_KEY: &str = "sb_secret_AAECAwQFBgcICQoLDA0ODw_KwxO5rOa";

/// A server with one shared secret.
struct Shared<'a>(&'a [u8]);

impl Installation for Shared<'_> {
    fn check(&self, token: &str) -> Checked {
        let (message, signature) = token.rsplit_once('.').unwrap();
        let key = DecodingKey::from_secret(self.0);
        let message = message.as_bytes();
        match jsonwebtoken::crypto::verify(signature, message, &key, Algorithm::HS256) {
            Ok(true) => Checked::Matches,
            _ => Checked::DoesNotMatch,
        }
    }
    fn shared_secret(&self) -> Option<&[u8]> {
        Some(self.0)
    }
}

/// A server without a shared secret that judges every token the same.
struct Judge(fn() -> Checked);

impl Installation for Judge {
    fn check(&self, _: &str) -> Checked {
        (self.0)()
    }
    fn shared_secret(&self) -> Option<&[u8]> {
        None
    }
}

fn report_with(key: &str, secret: &str) -> Report {
    inspect(key, NOW, &ROLES, &Shared(secret.as_bytes()))
}

fn report(key: &str) -> Report {
    report_with(key, OURS)
}

/// The words of the only problem that a key has.
fn problem(key: &str) -> String {
    let problems = report(key).problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

fn assert_problem(key: &str, words: &str) {
    let problem = problem(key);
    assert!(problem.contains(words), "{problem}");
}

/// The anonymous key with other claims in it; `null` takes one away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "role": "anon", "iss": "supabase", "iat": NOW - 1000, "exp": NOW + 1000
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims
                .as_object_mut()
                .unwrap()
                .insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn signed_by(secret: &[u8], changes: Value) -> String {
    let key = EncodingKey::from_secret(secret);
    encode(&Header::new(Algorithm::HS256), &claims(changes), &key).unwrap()
}

fn signed(changes: Value) -> String {
    signed_by(OURS.as_bytes(), changes)
}

fn anon_key() -> String {
    signed(json!({}))
}

/// A token of any text, signed with the secret of the tests.
fn signed_text(header: &str, payload: &str) -> String {
    let [header, payload] = [header, payload].map(|part| BASE64URL.encode(part));
    let message = format!("{header}.{payload}");
    let key = EncodingKey::from_secret(OURS.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn with_payload(payload: &str) -> String {
    signed_text(HS256, payload)
}

fn with_header(header: &str) -> String {
    signed_text(header, &claims(json!({})).to_string())
}

#[test]
fn a_good_legacy_key_is_read_and_has_no_problems() {
    let key = signed(json!({"ref": "abcdefghijklmnopqrst"}));
    let report = report(&key);
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.format, Format::LegacyJwt);
    assert_eq!(report.signature, Signature::Verified);
    assert_eq!(report.role.as_deref(), Some("anon"));
    assert_eq!(report.iss.as_deref(), Some("supabase"));
    assert_eq!(report.r#ref.as_deref(), Some("abcdefghijklmnopqrst"));
    assert_eq!(report.issued_at, Some(NOW - 1000));
    assert_eq!(report.expires_at, Some(NOW + 1000));
    assert_eq!(report.length, key.len());
}

#[test]
fn good_new_keys_are_known_by_their_checksum() {
    for (key, format, role) in [
        (PUBLISHABLE_KEY, Format::Publishable, "anon"),
        (SECRET_KEY, Format::Secret, "service_role"),
    ] {
        let report = report(key);
        assert_eq!(report.problems, [""; 0]);
        assert_eq!(report.format, format);
        assert_eq!(report.signature, Signature::Verified);
        assert_eq!(report.role.as_deref(), Some(role));
        assert_eq!(report.r#ref.as_deref(), Some("supabase-self-hosted"));
    }
}

#[test]
fn underscores_anywhere_in_a_new_key_do_not_mislead() {
    let mut checksums_with_underscores = 0;
    for number in 0..200 {
        let body = format!("sb_secret_{number:_>22}");
        let checksum = new_key_checksum(SELF_HOSTED_REF, &body);
        checksums_with_underscores += usize::from(checksum.contains('_'));
        let report = report(&format!("{body}_{checksum}"));
        assert_eq!(report.problems, [""; 0]);
        assert_eq!(report.signature, Signature::Verified);
    }
    assert!(checksums_with_underscores > 0);
}

#[test]
fn the_roles_are_those_of_the_installation() {
    let roles = Roles {
        anon: "web_anon",
        authenticated: "web_user",
        service: "web_admin",
    };
    let inspect = |key: &str| inspect(key, NOW, &roles, &Shared(OURS.as_bytes()));
    assert_eq!(inspect(PUBLISHABLE_KEY).role.as_deref(), Some("web_anon"));
    assert_eq!(inspect(SECRET_KEY).role.as_deref(), Some("web_admin"));
    assert!(inspect(&anon_key()).problems[0].contains("web_anon and web_admin"));
    assert_eq!(
        inspect(&signed(json!({"role": "web_admin"}))).problems,
        [""; 0]
    );
    assert_eq!(
        inspect(&signed(json!({"role": "web_user"}))).format,
        Format::UserJwt
    );
}

#[test]
fn an_empty_key_has_one_problem() {
    for key in [
        "",
        " \n",
        "\"\"",
        "SUPABASE_ANON_KEY=",
        "\u{feff}",
        "apikey: ''",
    ] {
        assert_problem(key, "is empty");
    }
}

#[test]
fn what_is_around_and_in_a_key_is_named_and_the_key_is_read_without_it() {
    let key = anon_key();
    let (start, end) = key.split_at(70);
    for (pasted, words) in [
        (format!(" {key}"), "before or after"),
        (format!("{key}\r\n"), "before or after"),
        (format!("{start}\n{end}"), "line breaks"),
        (format!("{start}\r\n{end}"), "line breaks"),
        (format!("{start} {end}"), "white space inside"),
        (format!("{start}\u{a0}{end}"), "white space inside"),
        (format!("\u{feff}{key}"), "invisible"),
        (format!("{start}\u{200b}{end}"), "invisible"),
        (format!("\"{key}\""), "quotation marks"),
        (format!("'{key}'"), "quotation marks"),
        (format!("`{key}`"), "quotation marks"),
        (format!("\u{201c}{key}\u{201d}"), "quotation marks"),
        (format!("{key},"), "comma or semicolon"),
        (format!("{key};"), "comma or semicolon"),
        (format!("Bearer {key}"), "word Bearer"),
        (format!("bEARER  {key}"), "word Bearer"),
        (format!("apikey: {key}"), "header's name"),
        (format!("x-api-key:{key}"), "header's name"),
        (format!("SUPABASE_ANON_KEY={key}"), "variable's name"),
        (format!("export X={key}"), "variable's name"),
        (format!("SUPABASE_ANON_KEY = {key}"), "variable's name"),
        (format!("{key}{key}"), "pasted twice"),
    ] {
        assert_problem(&pasted, words);
        let report = report(&pasted);
        assert_eq!(report.signature, Signature::Verified, "{words}");
        assert_eq!(report.length, pasted.chars().count());
    }
}

#[test]
fn several_layers_around_a_key_are_each_named_once() {
    let key = anon_key();
    for (pasted, count) in [
        (format!("  \"Authorization\": \"Bearer {key}\",\n"), 5),
        (format!("const supabaseKey: string = '{key}';"), 4),
        (format!("export SUPABASE_KEY=\"'{key}'\";"), 3),
        (format!("SUPABASE_KEY=\"{SECRET_KEY}\""), 2),
    ] {
        let report = report(&pasted);
        assert_eq!(report.problems.len(), count, "{:?}", report.problems);
        assert_eq!(report.signature, Signature::Verified);
    }
}

#[test]
fn padding_at_the_end_of_base64_is_no_equals_sign_after_a_name() {
    for text in ["c2VjcmV0LXRleHQ=", "c2VjcmV0LXRleHQ=="] {
        assert_problem(text, "not an API key");
    }
}

#[test]
fn a_cut_token_is_said_to_be_cut() {
    let key = anon_key();
    let dots: Vec<usize> = key.match_indices('.').map(|(at, _)| at).collect();
    assert_problem(&key[..dots[0] - 5], "only the first of three parts");
    assert_problem(&key[..dots[0]], "only the first of three parts");
    assert_problem(&key[..dots[1] - 5], "signature is missing");
    assert_problem(&key[..dots[1]], "signature is missing");
    assert_problem(&key[..=dots[1]], "signature is missing");
    assert_problem(&key[..key.len() - 1], "cut short by 1 character.");
    assert_problem(&key[..key.len() - 9], "cut short by 9 characters.");
    assert_problem(&format!("{key}ab"), "too long by 2 characters");
}

#[test]
fn a_token_without_its_signature_still_tells_its_claims() {
    let key = anon_key();
    let report = report(key.rsplit_once('.').unwrap().0);
    assert_eq!(report.format, Format::LegacyJwt);
    assert_eq!(report.expires_at, Some(NOW + 1000));
    assert_eq!(report.signature, Signature::NotVerified);
}

#[test]
fn a_token_that_lost_its_beginning_is_still_seen_as_one() {
    assert_problem(&anon_key()[1..], "header of the key is not JSON");
    assert_problem(
        &anon_key()[3..],
        "header of the key has a character too few",
    );
}

#[test]
fn two_keys_in_one_have_too_many_parts() {
    let other = signed(json!({"role": "service_role"}));
    assert_problem(&format!("{}{other}", anon_key()), "has 5 parts");
    assert_problem(&format!("{}.x", anon_key()), "has 4 parts");
}

#[test]
fn a_key_that_is_only_shown_in_part_is_not_read() {
    for key in [
        "eyJhbGci...x7Qk",
        "sb_secret_N7U\u{2022}\u{2022}\u{2022}",
        "eyJh\u{2026}",
    ] {
        assert_problem(key, "stand for a part of the key");
    }
    assert_eq!(report("sb_secret_N7U****").format, Format::Secret);
}

#[test]
fn signatures_have_the_length_of_their_algorithm() {
    for known in ALGORITHMS {
        let (algorithm, length) = (known.name, known.signature_length);
        let header = json!({"alg": algorithm}).to_string();
        let token = with_header(&header);
        let message = token.rsplit_once('.').unwrap().0;
        let with = |length| {
            let token = format!("{message}.{}", "A".repeat(length));
            inspect(&token, NOW, &ROLES, &Judge(|| Checked::Matches))
        };
        assert_eq!(with(length).problems, [""; 0], "{algorithm}");
        assert!(with(length - 3).problems[0].contains("cut short by 3 characters"));
        let long = with(length + 341);
        if length == 342 {
            assert_eq!(long.problems, [""; 0], "{algorithm}");
        } else {
            assert!(long.problems[0].contains("too long by 341 characters"));
        }
    }
}

#[test]
fn ordinary_base64_is_told_from_base64url() {
    let key = anon_key();
    let [header, payload, signature] = key.split('.').collect::<Vec<_>>()[..] else {
        unreachable!()
    };
    for (pasted, part) in [
        (format!("{header}=.{payload}.{signature}"), "header"),
        (format!("{header}.{payload}==.{signature}"), "payload"),
        (format!("{key}="), "signature"),
        (
            format!("{header}.{payload}.+/{}", &signature[2..]),
            "signature",
        ),
    ] {
        assert_problem(
            &pasted,
            &format!("The {part} of the key is in ordinary base64"),
        );
        let report = report(&pasted);
        assert_eq!(report.role.as_deref(), Some("anon"));
        assert_eq!(report.signature, Signature::NotVerified);
    }
}

#[test]
fn a_wrong_character_is_told_by_its_place() {
    let key = anon_key();
    let dots: Vec<usize> = key.match_indices('.').map(|(at, _)| at).collect();
    for (at, part) in [
        (5, "header"),
        (dots[0] + 1, "payload"),
        (key.len() - 1, "signature"),
    ] {
        for wrong in ["%", "\u{1F511}", "\0"] {
            let pasted = format!("{}{wrong}{}", &key[..at], &key[at + 1..]);
            assert_problem(
                &pasted,
                &format!("Character {} of the key, in its {part}, is none", at + 1),
            );
        }
        let quoted = format!("{}'{}", &key[..at], &key[at + 1..]);
        if at < key.len() - 1 {
            assert_problem(&quoted, "is a quotation mark");
        }
    }
}

#[test]
fn header_and_payload_must_be_json_objects() {
    let payload = claims(json!({})).to_string();
    assert_problem(
        &signed_text("{'alg':1}", &payload),
        "header of the key is not JSON",
    );
    assert_problem(
        &signed_text("[1]", &payload),
        "header of the key is not a JSON object",
    );
    for text in ["x", "{\"role\":", "{}{}", "{\"a\":\"\\ud800\\u0\"}"] {
        assert_problem(&with_payload(text), "payload of the key is not JSON");
    }
    for text in ["[1]", "1", "null", "\"a\""] {
        assert_problem(
            &with_payload(text),
            "payload of the key is not a JSON object",
        );
        assert_eq!(report(&with_payload(text)).format, Format::Unknown);
    }
}

#[test]
fn a_name_that_stands_twice_is_a_problem() {
    let payload = claims(json!({})).to_string();
    let doubled = payload.replacen('{', r#"{"r\u006fle":"service_role","#, 1);
    assert_problem(&with_payload(&doubled), "twice in the payload");
    assert_eq!(
        report(&with_payload(&doubled)).role.as_deref(),
        Some("anon")
    );
    let header = r#"{"alg":"none","alg":"HS256"}"#;
    assert_problem(&with_header(header), "twice in the header");
}

#[test]
fn the_algorithm_must_be_one_that_postgrest_knows() {
    for none in ["none", "None", "NONE"] {
        let token = with_header(&json!({"alg": none}).to_string());
        assert_problem(&token, "not signed");
        assert_problem(&token[..=token.rfind('.').unwrap()], "not signed");
    }
    assert_problem(&with_header("{}"), "names no algorithm");
    assert_problem(&with_header(r#"{"alg":256}"#), "names no algorithm");
    assert_problem(&with_header(r#"{"alg":"HS1"}"#), "does not know");
}

#[test]
fn an_expired_key_is_told_with_its_day() {
    assert_problem(&signed(json!({"exp": NOW})), "expired on 2027-01-15. Make");
    assert_problem(&signed(json!({"exp": 0})), "expired on 1970-01-01");
    assert_eq!(report(&signed(json!({"exp": NOW + 1}))).problems, [""; 0]);
}

#[test]
fn days_are_those_of_the_calendar() {
    for (seconds, day) in [
        (86_399, "1970-01-01"),
        (951_782_400, "2000-02-29"),
        (4_107_542_399, "2100-02-28"),
        (LAST_SECOND, "9999-12-31"),
    ] {
        let key = signed(json!({"exp": seconds}));
        let problems = inspect(&key, i64::MAX, &ROLES, &Shared(OURS.as_bytes())).problems;
        assert_eq!(
            problems,
            [format!("The key expired on {day}. Make a new one.")]
        );
    }
}

#[test]
fn a_key_without_an_expiry_works_for_ever() {
    assert_problem(&signed(json!({"exp": null})), "has no expiry");
    let null = claims(json!({"exp": null})).to_string();
    let null = null.replacen('{', r#"{"exp":null,"#, 1);
    assert_problem(&with_payload(&null), "has no expiry");
}

#[test]
fn a_key_that_is_not_valid_yet_is_told_with_its_day() {
    assert_problem(
        &signed(json!({"nbf": NOW + 86_400})),
        "not valid before 2027-01-16",
    );
    assert_eq!(report(&signed(json!({"nbf": NOW + 30}))).problems, [""; 0]);
}

#[test]
fn a_key_from_the_future_is_a_problem_beyond_the_clock_skew() {
    assert_problem(&signed(json!({"iat": NOW + 31})), "issued in the future");
    assert_eq!(report(&signed(json!({"iat": NOW + 30}))).problems, [""; 0]);
}

#[test]
fn times_are_whole_seconds_that_postgres_can_hold() {
    for name in ["exp", "iat", "nbf"] {
        for value in [
            json!("1800000001"),
            json!(1_800_000_001.5),
            json!(true),
            json!(-1),
            json!(LAST_SECOND + 1),
            json!(u64::MAX),
            json!([]),
        ] {
            let key = signed(json!({name: value}));
            assert_problem(&key, &format!("`{name}` is not a time in whole seconds"));
        }
    }
    assert_eq!(report(&signed(json!({"exp": i64::MAX}))).expires_at, None);
    assert_eq!(report(&signed(json!({"iat": -1}))).issued_at, None);
    let last = report(&signed(json!({"exp": LAST_SECOND})));
    assert_eq!(last.expires_at, Some(LAST_SECOND));
}

#[test]
fn the_clock_may_stand_anywhere() {
    for now in [i64::MIN, 0, i64::MAX] {
        inspect(&anon_key(), now, &ROLES, &Shared(OURS.as_bytes()));
    }
}

#[test]
fn a_key_has_one_of_the_roles() {
    assert_problem(&signed(json!({"role": null})), "names no role");
    assert_problem(&signed(json!({"role": 1})), "`role` is not text");
    assert_problem(
        &signed(json!({"role": "postgres"})),
        "anon and service_role",
    );
    assert_eq!(
        report(&signed(json!({"role": "service_role"}))).problems,
        [""; 0]
    );
}

#[test]
fn text_that_postgres_cannot_hold_is_left_out() {
    let report = report(&signed(
        json!({"iss": "a\0b", "ref": "a\0b", "role": "a\0b"}),
    ));
    assert_eq!((report.iss, report.r#ref, report.role), (None, None, None));
}

#[test]
fn the_demonstration_key_must_be_replaced() {
    assert_problem(
        &signed(json!({"iss": "supabase-demo"})),
        "demonstration key",
    );
    assert_eq!(report(&signed(json!({"iss": "me"}))).problems, [""; 0]);
}

#[test]
fn the_access_token_of_a_session_is_not_an_api_key() {
    for changes in [
        json!({"sub": "11111111-1111-1111-1111-111111111111"}),
        json!({"session_id": "11111111-1111-1111-1111-111111111111"}),
        json!({"role": "authenticated"}),
        json!({"role": "editor", "sub": "x"}),
    ] {
        assert_problem(&signed(changes.clone()), "Authorization header");
        assert_eq!(report(&signed(changes)).format, Format::UserJwt);
    }
}

#[test]
fn a_personal_access_token_has_no_problem_of_its_own() {
    let token = |expiry| {
        signed(json!({
            "type": TOKEN_TYPE, "role": "authenticated", "sub": "x", "exp": expiry
        }))
    };
    let good = report(&token(NOW + 1));
    assert_eq!(good.format, Format::PersonalAccessToken);
    assert_eq!(good.problems, [""; 0]);
    assert_problem(&token(NOW - 1), "expired");
}

#[test]
fn a_signature_stands_as_the_keys_say() {
    for (keys, signature, words) in [
        (Judge(|| Checked::Matches), Signature::Verified, None),
        (Judge(|| Checked::Revoked), Signature::Bad, Some("revoked")),
        (
            Judge(|| Checked::DoesNotMatch),
            Signature::Bad,
            Some("does not match"),
        ),
        (
            Judge(|| Checked::NoKey),
            Signature::NotVerified,
            Some("has no key to check"),
        ),
    ] {
        let report = inspect(&anon_key(), NOW, &ROLES, &keys);
        assert_eq!(report.signature, signature);
        assert_eq!(report.problems.len(), usize::from(words.is_some()));
        assert!(words.is_none_or(|words| report.problems[0].contains(words)));
    }
}

#[test]
fn only_a_sound_token_is_checked() {
    struct Never;
    impl Installation for Never {
        fn check(&self, _: &str) -> Checked {
            unreachable!()
        }
        fn shared_secret(&self) -> Option<&[u8]> {
            None
        }
    }
    let key = anon_key();
    for pasted in [
        key[..key.len() - 1].to_owned(),
        format!("{key}="),
        format!("{key}.{key}"),
        key[1..].to_owned(),
        key.replacen('.', ".%", 1),
        with_payload("[]"),
        with_header(r#"{"alg":"none"}"#),
    ] {
        inspect(&pasted, NOW, &ROLES, &Never);
    }
}

#[test]
fn a_secret_read_in_another_way_is_recognised_by_the_signature() {
    let bytes = b"\xfb\xff\xfe 35 bytes that are no plain text";
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let base64url = BASE64URL.encode(bytes);
    let base64 = base64url.replace('-', "+").replace('_', "/");
    let line = |end: &str| format!("{OURS}{end}").into_bytes();
    for (secret, signed_with, words) in [
        (hex.to_uppercase(), bytes.to_vec(), "hexadecimal"),
        (hex, bytes.to_vec(), "hexadecimal"),
        (format!("{base64}="), bytes.to_vec(), "as base64"),
        (base64, bytes.to_vec(), "as base64"),
        (format!("{base64url}="), bytes.to_vec(), "as base64"),
        (base64url, bytes.to_vec(), "as base64"),
        (OURS.to_owned(), line("\n"), "line break after it"),
        (OURS.to_owned(), line("\r\n"), "line break of Windows"),
        (format!(" {OURS}\n"), line(""), "without the white space"),
        (
            OURS.to_owned(),
            EXAMPLE_SECRETS[0].0.to_vec(),
            "example secret of the Supabase CLI",
        ),
        (
            OURS.to_owned(),
            EXAMPLE_SECRETS[1].0.to_vec(),
            "example secret in the guide",
        ),
    ] {
        let report = report_with(&signed_by(&signed_with, json!({})), &secret);
        assert_eq!(report.signature, Signature::Bad);
        assert_eq!(report.problems.len(), 1);
        assert!(report.problems[0].contains(words), "{:?}", report.problems);
    }
}

#[test]
fn a_signature_by_a_stranger_does_not_match() {
    let token = signed_by(b"another-secret-of-more-than-32-bytes", json!({}));
    assert_problem(&token, "does not match");
    assert_eq!(report(&token).signature, Signature::Bad);
}

#[test]
fn a_project_with_an_example_secret_is_warned() {
    for (secret, whose) in EXAMPLE_SECRETS {
        let secret = std::str::from_utf8(secret).unwrap();
        let report = report_with(&signed_by(secret.as_bytes(), json!({})), secret);
        assert_eq!(report.signature, Signature::Verified);
        assert_eq!(report.problems.len(), 1);
        assert!(report.problems[0].contains(&format!("example secret {whose}")));
    }
}

#[test]
fn the_secret_itself_is_recognised_and_nothing_else_is_said() {
    for pasted in [
        OURS.to_owned(),
        format!("{OURS}\n"),
        format!("JWT_SECRET=\"{OURS}\""),
    ] {
        assert_problem(&pasted, "the JWT secret itself");
        assert_eq!(report(&pasted).format, Format::Unknown);
    }
    let odd = "'KEY= a secret with, all, kinds of marks...;";
    assert!(report_with(odd, odd).problems[0].contains("the JWT secret itself"));
    assert!(report_with(OURS, &format!("{OURS}\n")).problems[0].contains("itself"));
}

#[test]
fn a_pem_key_is_not_an_api_key() {
    assert_problem(
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----\n",
        "PEM",
    );
}

#[test]
fn a_new_key_of_the_wrong_length_is_cut_or_too_long() {
    for key in [PUBLISHABLE_KEY, SECRET_KEY] {
        assert_problem(&key[..key.len() - 1], "cut short by 1 character.");
        assert_problem(&key[..key.len() - 31], "cut short by 31 characters.");
        assert_problem(&format!("{key}abc"), "too long by 3 characters.");
    }
}

#[test]
fn a_new_key_of_another_project_is_not_called_invalid() {
    let changed = SECRET_KEY.replacen("AAEC", "BAEC", 1);
    assert_problem(&changed, "that of another project");
    assert!(!problem(&changed).contains("invalid"));
    let report = report(&changed);
    assert_eq!(report.signature, Signature::NotVerified);
    assert_eq!(report.role.as_deref(), Some("service_role"));
    assert_eq!(report.r#ref, None);
}

#[test]
fn a_wrong_character_in_a_new_key_is_told_by_its_place() {
    assert_problem(&SECRET_KEY.replacen("AAEC", "A%EC", 1), "Character 12 of");
    assert_problem(&SECRET_KEY.replacen("_Kwx", "xKwx", 1), "Character 33 of");
}

#[test]
fn an_opaque_token_is_read_and_never_looked_up() {
    let made = |prefix| OpaqueToken::new(Prefix::parse(prefix).unwrap(), &[1; 64]).unwrap();
    let token = made("sbpat_");
    let whole = token.expose();
    for (text, words) in [
        (&whole[..40], "The token is cut short by 8 characters"),
        (&format!("{whole}x"), "The token is too long by 1 character"),
        (&format!("\"{whole}\""), "There are quotation marks"),
        (&format!("Bearer {whole}"), "The word Bearer"),
        (
            &format!("{}\n{}", &whole[..20], &whole[20..]),
            "broken by line breaks",
        ),
        (&whole.repeat(2), "The key was pasted twice"),
        ("sbpat_0123...", "Dots or stars"),
    ] {
        assert_problem(text, words);
    }
    for (text, signature) in [
        (whole, Signature::Verified),
        (made("acme_").expose(), Signature::Verified),
        (&whole[..40], Signature::NotVerified),
        (&whole.replacen('1', "2", 1), Signature::Bad),
        (
            &made("acme_").expose().replacen('1', "2", 1),
            Signature::Bad,
        ),
    ] {
        let report = report(text);
        assert_eq!(report.format, Format::PersonalAccessToken);
        assert_eq!(report.role.as_deref(), Some("authenticated"));
        assert_eq!(report.signature, signature);
        let words = report.problems.concat();
        assert_eq!(
            words.contains("checksum does not fit"),
            signature == Signature::Bad
        );
        assert_eq!(report.problems.is_empty(), signature == Signature::Verified);
        assert!(!words.contains(&whole[6..12]));
    }
}

#[test]
fn what_is_no_key_is_told_what_keys_look_like() {
    for (text, words) in [
        (
            "sbp_0123456789abcdef0123456789abcdef01234567",
            "management API",
        ),
        ("https://example.supabase.co", "an address"),
        (
            "postgresql://postgres:pw@db.example.com:5432/x",
            "an address",
        ),
        ("undefined", "not set"),
        (
            "Bearer",
            "begin with eyJ, sb_publishable_, sb_secret_ or sbpat_",
        ),
        ("hunter2", "begin with eyJ"),
        ("example.com", "begin with eyJ"),
    ] {
        assert_problem(text, words);
        assert_eq!(report(text).format, Format::Unknown);
    }
}

#[test]
fn a_key_over_16_kib_is_read_and_called_too_long_for_a_header() {
    let report = report(&signed(json!({"x": "x".repeat(20_000)})));
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].contains("longer than 16 KiB"));
    assert_eq!(report.signature, Signature::Verified);
}

#[test]
fn a_key_over_1_mib_is_not_read() {
    let key = signed(json!({"x": "x".repeat(1 << 20)}));
    assert_problem(&key, "longer than 1 MiB");
    assert_eq!(report(&key).length, key.len());
    assert_eq!(report(&key).format, Format::Unknown);
}

#[test]
fn deep_nesting_in_other_claims_does_not_matter() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let payload = claims(json!({})).to_string();
    let payload = payload.replacen('{', &format!(r#"{{"deep":{deep},"#), 1);
    assert_eq!(report(&with_payload(&payload)).problems, [""; 0]);
}

#[test]
fn a_megabyte_of_anything_is_read_without_a_panic() {
    for piece in [
        ".",
        "\"",
        "'\"",
        " ",
        "\u{feff}",
        "a=",
        "a:",
        "Bearer ",
        "export ",
        ",",
        "eyJ",
        "\n;",
        "\u{1F511}",
        "a",
        "sb_secret_",
        "=",
        "eyJ.",
        "export a=\" ",
    ] {
        report(&piece.repeat((1 << 20) / piece.len()));
    }
    let names: String = (0..80_000).map(|n| format!("\"{n}\":0,")).collect();
    report(&with_payload(&format!("{{{names}\"role\":\"anon\"}}")));
}

/// No 12 characters of the key itself stand in a problem.
fn tells_nothing_of(key: &str, problems: &[String]) -> bool {
    let key = key
        .trim_start_matches(PUBLISHABLE)
        .trim_start_matches(SECRET);
    let pieces = key.as_bytes().windows(12);
    pieces
        .map(|piece| std::str::from_utf8(piece).unwrap())
        .all(|piece| !problems.iter().any(|problem| problem.contains(piece)))
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic_and_has_a_problem(key in any::<String>()) {
        prop_assert!(!report(&key).problems.is_empty());
    }

    #[test]
    fn text_like_a_key_is_read_without_a_panic(
        key in "(KEY[=:] ?)?[\"' ]?(Bearer )?(eyJ|sb_secret_|sb_publishable_|sbp_)[A-Za-z0-9_=+/\\-]{0,40}(\\.[\\PC]{0,40}){0,4}[\"', ;]?"
    ) {
        prop_assert!(!report(&key).problems.is_empty());
    }

    #[test]
    fn any_header_and_payload_are_read_without_a_panic(
        header in "\\PC{0,40}",
        payload in "\\{(\"(role|exp|iat|sub|x)\":(1e9|-?[0-9]{1,20}|\"\\PC{0,8}\"|null|\\[\\]),?){0,5}\\}",
    ) {
        report(&signed_text(&header, &payload));
        report(&with_payload(&payload));
    }

    #[test]
    fn a_good_key_has_no_problems(
        is_anon in any::<bool>(),
        issued in 0..=NOW + CLOCK_SKEW_SECONDS,
        expiry in NOW + 1..=LAST_SECOND,
        project_ref in "[a-z]{20}",
    ) {
        let role = if is_anon { "anon" } else { "service_role" };
        let key = signed(json!({
            "role": role, "iat": issued, "exp": expiry, "ref": project_ref
        }));
        let report = report(&key);
        prop_assert_eq!(report.problems, [""; 0]);
        prop_assert_eq!(report.signature, Signature::Verified);
        prop_assert_eq!(report.role.as_deref(), Some(role));
    }

    #[test]
    fn a_damaged_key_has_problems_that_do_not_repeat_it(
        which in 0usize..3,
        at in any::<prop::sample::Index>(),
        removed in 0usize..60,
        inserted in "[A-Za-z0-9.\"' \n=%]{0,3}",
        before in "(export )?(KEY=)?[\"']?(Bearer )?",
    ) {
        let good = [anon_key(), PUBLISHABLE_KEY.to_owned(), SECRET_KEY.to_owned()];
        let good = &good[which];
        let at = at.index(good.len());
        let end = good.len().min(at + removed);
        let damaged = format!("{before}{}{inserted}{}", &good[..at], &good[end..]);
        prop_assume!(damaged != *good);
        let problems = report(&damaged).problems;
        prop_assert!(!problems.is_empty());
        prop_assert!(tells_nothing_of(good, &problems), "{problems:?}");
    }
}
