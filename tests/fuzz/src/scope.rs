use supabase_pat_core::route::{Needed, Route};
use supabase_pat_core::scope::{Scope, Scopes, TOKENS_WRITE};

use crate::input::{fields, text};

/// The scopes that no wildcard covers.
const NAMED: [&str; 4] = [
    TOKENS_WRITE,
    "tokens:delete",
    "service_accounts:write",
    "service_accounts:delete",
];

/// What a token may do, and what a request asks for.
///
/// Fields: the method; the path; the scopes of a token, as its claim; another list of scopes.
pub fn scope(data: &[u8]) {
    let input = text(data);
    let [method, path, mine, other] = fields(&input);
    let (mine_text, mine, other) = (mine, Scopes::from_claim(mine), Scopes::from_claim(other));
    for word in input.split([' ', '\n']) {
        one_scope(word);
    }
    let claim = mine.to_claim().expect("there is a list");
    assert_eq!(Scopes::from_claim(&claim).to_claim().as_ref(), Some(&claim));
    match Scopes::requested(mine_text.split(' ')) {
        Ok(requested) => {
            let texts = requested.to_texts().expect("there is a list");
            assert!((1..=64).contains(&texts.len()));
            assert!(requested.include(&mine) && mine.include(&requested));
            assert_eq!(
                Scopes::requested(texts.iter().map(String::as_str))
                    .ok()
                    .and_then(|again| again.to_texts()),
                Some(texts)
            );
        }
        Err(error) => assert!(error.to_string().chars().count() < 200),
    }

    let route = Route {
        method,
        path,
        schema: None,
    };
    let elsewhere = Needed::of(Route {
        schema: Some("private"),
        ..route
    });
    assert!(
        !elsewhere.is_granted_by(&mine) || claim.contains('*') || claim.contains("private."),
        "{method} {path} of another schema with {claim}"
    );
    let needed = Needed::of(route);
    let all = [&mine, &other, &Scopes::Unlimited];
    for one in all {
        assert!(one.include(one));
        for two in all {
            // Whoever may hand out a list may do all that is on it, and hand out whatever it may.
            if one.include(two) {
                assert!(
                    !needed.is_granted_by(two)
                        || needed.is_granted_by(one)
                        || matches!(one, Scopes::Only(_)) && matches!(two, Scopes::Unlimited)
                );
                for three in all {
                    assert!(!two.include(three) || one.include(three));
                }
            }
        }
    }
    assert!(needed.is_granted_by(&Scopes::Unlimited));
    let wanted = Wanted::of(method, path);
    assert_eq!(
        needed.is_granted_by(&mine),
        wanted.is_granted_by(&claim),
        "{method} {path} with {claim}"
    );
    // What a token's claims and its row have in common is no more than either, nor is what it is exchanged for.
    let met = mine.meet(&other);
    for scopes in [&mine, &other] {
        assert!(scopes.include(&met));
        assert!(!needed.is_granted_by(&met) || needed.is_granted_by(scopes));
    }
    assert_eq!(met.to_claim(), mine.meet(&other).meet(&other).to_claim());
    let lesser = Scopes::from_claim(&claim).without_those_over_tokens();
    assert!(mine.include(&lesser));
    for named in NAMED {
        assert!(!lesser.grants(&named.parse().expect("it is a scope")));
    }
    if mine.are_read_only() && needed.is_granted_by(&mine) {
        assert!(["GET", "HEAD", "OPTIONS"].contains(&method) || matches!(wanted, Wanted::Nothing));
    }
}

fn one_scope(text: &str) {
    let Ok(scope) = text.parse::<Scope>() else {
        assert!(!is_scope(text));
        return;
    };
    assert!(is_scope(text) && text.len() <= 128);
    let printed = scope.to_string();
    assert!(printed == text || text == "*:*" && printed == "*");
    assert!(printed.parse::<Scope>().is_ok_and(|again| again == scope));
    assert!(scope.covers(&scope));
    let minting: Scope = TOKENS_WRITE.parse().expect("it is a scope");
    assert_eq!(scope.covers(&minting), text == TOKENS_WRITE);
    assert_eq!(Scopes::Unlimited.grants(&scope), !NAMED.contains(&text));
}

fn is_scope(text: &str) -> bool {
    let is_part = |part: &str| {
        part == "*"
            || !part.is_empty()
                && part
                    .chars()
                    .all(|c| ('!'..='~').contains(&c) && !"\"\\:*".contains(c))
    };
    let parts: Vec<&str> = text.split(':').collect();
    text.len() <= 128
        && (text == "*"
            || matches!(parts[..], [resource, action] if is_part(resource) && is_part(action)))
}

/// A second reading of the table in the comment of `route`.
enum Wanted {
    Nothing,
    Everything,
    /// Any of these, each a resource and an action.
    Scopes(Vec<(String, &'static str)>),
}

impl Wanted {
    fn of(method: &str, path: &str) -> Self {
        let reads = ["GET", "HEAD", "OPTIONS"].contains(&method);
        let action = match method {
            _ if reads => "read",
            "POST" | "PATCH" | "PUT" => "write",
            "DELETE" => "delete",
            _ => return Self::Everything,
        };
        let path = path.trim_start_matches('/').trim_end_matches('/');
        let segments: Option<Vec<String>> = path.split('/').map(unescaped).collect();
        let segments = segments.unwrap_or_default();
        let names: Vec<&str> = segments.iter().map(String::as_str).collect();
        let scopes = |scopes: &[(&str, &'static str)]| {
            Self::Scopes(
                scopes
                    .iter()
                    .map(|(resource, action)| ((*resource).to_owned(), *action))
                    .collect(),
            )
        };
        match names[..] {
            [""] if path.is_empty() && reads => scopes(&[("/", "read")]),
            [""] => Self::Everything,
            [name @ ("api_keys" | "api_key_events" | "api_key_daily_usage")] => {
                scopes(&[(name, action), ("tokens", action)])
            }
            [name] => scopes(&[(name, action)]),
            ["rpc", name]
                if !name.is_empty() && !raw_has_more(path) && (reads || method == "POST") =>
            {
                let call = format!("rpc/{name}");
                let call = (call.as_str(), "call");
                match name {
                    "revoke_pat" | "edit_pat" | "current_api_key" | "exchange_token" => {
                        Self::Nothing
                    }
                    "create_service_account" => scopes(&[call, ("service_accounts", "write")]),
                    "delete_service_account" => scopes(&[call, ("service_accounts", "delete")]),
                    "service_account_tokens" => scopes(&[call, ("service_accounts", "read")]),
                    "signed_in_user" => scopes(&[call, ("user", "read")]),
                    "mint_pat" | "rotate_pat" => scopes(&[call, ("tokens", "write")]),
                    "revoke_all_pats" => scopes(&[call, ("tokens", "delete")]),
                    "get_settings" | "setting_definitions" => scopes(&[call, ("settings", "read")]),
                    "set_settings" => scopes(&[call, ("settings", "write")]),
                    _ => scopes(&[call]),
                }
            }
            _ => Self::Everything,
        }
    }

    fn is_granted_by(&self, claim: &str) -> bool {
        match self {
            Self::Nothing => true,
            Self::Everything => false,
            Self::Scopes(any) => any.iter().any(|(resource, action)| {
                claim.split(' ').any(|word| {
                    let (mine, my_action) = word.split_once(':').unwrap_or((word, word));
                    let wanted = format!("{resource}:{action}");
                    if NAMED.contains(&wanted.as_str()) {
                        return word == wanted;
                    }
                    (mine == "*" || mine == resource) && (my_action == "*" || my_action == *action)
                })
            }),
        }
    }
}

fn raw_has_more(path: &str) -> bool {
    path.matches('/').count() > 1
}

/// Without percent-encoding; `None` if that leaves no UTF-8.
fn unescaped(segment: &str) -> Option<String> {
    let mut pieces = segment.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let code = piece
            .get(..2)
            .filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8(bytes).ok()
}
