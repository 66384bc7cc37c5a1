//! Scopes of a personal access token: `resource:action`, either part `*`.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The scope that lets a token mint and rotate tokens. No wildcard covers it.
pub const TOKENS_WRITE: &str = "tokens:write";

/// The scope that lets a token end others than itself. No wildcard covers it: one leaked token must not be able to
/// stop everything that its user runs.
pub const TOKENS_DELETE: &str = "tokens:delete";

/// The scope that lets a token create service accounts, and, with the scopes over tokens, change the tokens of those that
/// the function of the operator's lets it manage. No wildcard covers it: a token of a service account must not come to
/// manage others.
pub const SERVICE_ACCOUNTS_WRITE: &str = "service_accounts:write";

/// The scope that lets a token delete service accounts. No wildcard covers it.
pub const SERVICE_ACCOUNTS_DELETE: &str = "service_accounts:delete";

/// The scope that lets a token see service accounts and their tokens.
pub const SERVICE_ACCOUNTS_READ: &str = "service_accounts:read";

const MAX_SCOPES: usize = 64;
const MAX_SCOPE_LENGTH: usize = 128;

/// One scope. `*` alone is `*:*`.
#[derive(Clone, PartialEq, Eq)]
pub struct Scope {
    resource: Box<str>,
    action: Box<str>,
}

impl Scope {
    /// What a request asks for. A resource may have any name; only wildcards grant one that could not stand in a scope.
    pub(crate) fn wanted(resource: impl Into<Box<str>>, action: &str) -> Self {
        Self {
            resource: resource.into(),
            action: action.into(),
        }
    }

    /// Whether a token with this scope may do what `wanted` names. A wildcard in `wanted` asks
    /// for all that it stands for.
    pub fn covers(&self, wanted: &Scope) -> bool {
        if wanted.must_be_named() {
            return self == wanted;
        }
        let part = |mine: &str, theirs: &str| mine == "*" || mine == theirs;
        part(&self.resource, &wanted.resource) && part(&self.action, &wanted.action)
    }

    /// What both scopes cover. `None` if that is nothing.
    fn meet(&self, other: &Self) -> Option<Self> {
        let part = |mine: &str, theirs: &str| match (mine, theirs) {
            ("*", narrower) | (narrower, "*") => Some(Box::from(narrower)),
            (mine, theirs) => (mine == theirs).then(|| Box::from(mine)),
        };
        let met = Self {
            resource: part(&self.resource, &other.resource)?,
            action: part(&self.action, &other.action)?,
        };
        (!met.must_be_named() || self == other).then_some(met)
    }

    /// Whether it is one of those over tokens and service accounts that make or end something.
    fn must_be_named(&self) -> bool {
        matches!(&*self.resource, "tokens" | "service_accounts")
            && matches!(&*self.action, "write" | "delete")
    }
}

impl FromStr for Scope {
    type Err = Error;

    /// Both parts are made of the characters of an OAuth scope (RFC 6749 section 3.3) without `:`
    /// and `*`, so that a list of scopes can be written with spaces between them.
    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::MalformedScope(text.chars().take(MAX_SCOPE_LENGTH).collect());
        let (resource, action) = match text {
            "*" => ("*", "*"),
            _ => text.split_once(':').ok_or_else(malformed)?,
        };
        let is_part = |part: &str| {
            part == "*"
                || !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_graphic() && !b"\"\\:*".contains(&b))
        };
        if text.len() > MAX_SCOPE_LENGTH || !is_part(resource) || !is_part(action) {
            return Err(malformed());
        }
        Ok(Self {
            resource: resource.into(),
            action: action.into(),
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.resource, &*self.action) {
            ("*", "*") => f.write_str("*"),
            (resource, action) => write!(f, "{resource}:{action}"),
        }
    }
}

/// What a token may do: everything but `tokens:write`, `tokens:delete`, `service_accounts:write` and
/// `service_accounts:delete`, or what its list says.
#[derive(Clone)]
pub enum Scopes {
    Unlimited,
    Only(Vec<Scope>),
}

impl Scopes {
    /// The scopes that a caller asks for when minting. Doubles are dropped.
    ///
    /// # Errors
    /// [`Error::NoScopes`], [`Error::TooManyScopes`] (64), [`Error::MalformedScope`].
    pub fn requested<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut scopes = Vec::new();
        for text in texts {
            let scope: Scope = text.parse()?;
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
            if scopes.len() > MAX_SCOPES {
                return Err(Error::TooManyScopes { max: MAX_SCOPES });
            }
        }
        match scopes.is_empty() {
            true => Err(Error::NoScopes),
            false => Ok(Self::Only(scopes)),
        }
    }

    /// The scopes among some texts. A text that is not a scope grants nothing: tokens that were minted
    /// elsewhere may carry words of their own.
    pub fn known<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Only(
            texts
                .into_iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
        )
    }

    /// The `scope` claim of a signed token.
    pub fn from_claim(claim: &str) -> Self {
        Self::known(claim.split(' '))
    }

    /// The claim `scope`, which a token without a list does not have (RFC 8693 section 4.2).
    pub fn to_claim(&self) -> Option<String> {
        Some(self.to_texts()?.join(" "))
    }

    pub fn to_texts(&self) -> Option<Vec<String>> {
        match self {
            Self::Unlimited => None,
            Self::Only(scopes) => Some(scopes.iter().map(Scope::to_string).collect()),
        }
    }

    pub fn grants(&self, wanted: &Scope) -> bool {
        match self {
            Self::Unlimited => !wanted.must_be_named(),
            Self::Only(scopes) => scopes.iter().any(|scope| scope.covers(wanted)),
        }
    }

    /// What both lists grant: those of a token's claims, and those that its row has come to.
    pub fn meet(&self, other: &Self) -> Self {
        let filtered = |list: &[Scope], by: &Self| {
            let kept = list.iter().filter(|scope| by.grants(scope));
            Self::Only(kept.cloned().collect())
        };
        match (self, other) {
            (Self::Unlimited, Self::Unlimited) => Self::Unlimited,
            (unlimited @ Self::Unlimited, Self::Only(list))
            | (Self::Only(list), unlimited @ Self::Unlimited) => filtered(list, unlimited),
            (Self::Only(mine), Self::Only(theirs)) => {
                let mut met: Vec<Scope> = Vec::new();
                for scope in mine {
                    for scope in theirs.iter().filter_map(|other| scope.meet(other)) {
                        if !met.contains(&scope) {
                            met.push(scope);
                        }
                    }
                }
                Self::Only(met)
            }
        }
    }

    /// What of these a token has that is made in exchange: all but those that must be named.
    pub fn without_those_over_tokens(self) -> Self {
        match self {
            Self::Unlimited => Self::Unlimited,
            Self::Only(mut scopes) => {
                scopes.retain(|scope| !scope.must_be_named());
                Self::Only(scopes)
            }
        }
    }

    /// Whether there is a list, and all that it names is reading.
    pub fn are_read_only(&self) -> bool {
        match self {
            Self::Unlimited => false,
            Self::Only(scopes) => scopes.iter().all(|scope| &*scope.action == "read"),
        }
    }

    /// Whether a token with these scopes may hand out `other`: never more than it has.
    pub fn include(&self, other: &Scopes) -> bool {
        match (self, other) {
            (Self::Unlimited, Self::Unlimited) => true,
            (_, Self::Only(wanted)) => wanted.iter().all(|scope| self.grants(scope)),
            (Self::Only(mine), Self::Unlimited) => mine
                .iter()
                .any(|scope| scope.resource.as_ref() == "*" && scope.action.as_ref() == "*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grants(scopes: &[&str], wanted: &str) -> bool {
        let wanted: Scope = wanted.parse().unwrap();
        Scopes::requested(scopes.iter().copied())
            .unwrap()
            .grants(&wanted)
    }

    #[test]
    fn a_scope_grants_itself_and_what_its_wildcards_stand_for() {
        assert!(grants(&["todos:read"], "todos:read"));
        assert!(grants(&["todos:*"], "todos:read"));
        assert!(grants(&["*:read"], "todos:read"));
        assert!(grants(&["*"], "todos:read"));
        assert!(grants(&["notes:read", "todos:read"], "todos:read"));
        assert!(!grants(&["todos:read"], "todos:write"));
        assert!(!grants(&["todos:read"], "notes:read"));
        assert!(!grants(&["*:read"], "todos:write"));
        assert!(!grants(&["todo:read"], "todos:read"));
    }

    #[test]
    fn a_wildcard_that_is_asked_for_needs_as_wide_a_scope() {
        assert!(grants(&["todos:*"], "todos:*"));
        assert!(grants(&["*"], "*"));
        assert!(!grants(&["todos:read", "todos:write"], "todos:*"));
        assert!(!grants(&["todos:*"], "*"));
    }

    #[test]
    fn minting_tokens_must_be_named() {
        let wanted: Scope = TOKENS_WRITE.parse().unwrap();
        assert!(grants(&[TOKENS_WRITE], TOKENS_WRITE));
        for wide in ["*", "tokens:*", "*:write"] {
            assert!(!grants(&[wide], TOKENS_WRITE), "{wide}");
        }
        assert!(!Scopes::Unlimited.grants(&wanted));
        assert!(Scopes::Unlimited.grants(&"tokens:read".parse().unwrap()));
    }

    #[test]
    fn ending_other_tokens_must_be_named() {
        let wanted: Scope = TOKENS_DELETE.parse().unwrap();
        assert!(grants(&[TOKENS_DELETE], TOKENS_DELETE));
        for wide in ["*", "tokens:*", "*:delete", TOKENS_WRITE] {
            assert!(!grants(&[wide], TOKENS_DELETE), "{wide}");
        }
        assert!(!Scopes::Unlimited.grants(&wanted));
    }

    #[test]
    fn managing_service_accounts_must_be_named() {
        for wanted in [SERVICE_ACCOUNTS_WRITE, SERVICE_ACCOUNTS_DELETE] {
            assert!(grants(&[wanted], wanted));
            for wide in [
                "*",
                "service_accounts:*",
                "*:write",
                "*:delete",
                TOKENS_WRITE,
                TOKENS_DELETE,
            ] {
                assert!(!grants(&[wide], wanted), "{wide}");
            }
            assert!(!Scopes::Unlimited.grants(&wanted.parse().unwrap()));
        }
        assert!(grants(&["*"], SERVICE_ACCOUNTS_READ));
        assert!(Scopes::Unlimited.grants(&SERVICE_ACCOUNTS_READ.parse().unwrap()));
    }

    #[test]
    fn a_token_hands_out_no_more_than_it_has() {
        let only = |texts: &[&str]| Scopes::requested(texts.iter().copied()).unwrap();
        let minter = only(&[TOKENS_WRITE, "todos:*"]);
        assert!(minter.include(&only(&["todos:read"])));
        assert!(minter.include(&minter));
        assert!(!minter.include(&only(&["notes:read"])));
        assert!(!minter.include(&Scopes::Unlimited));
        assert!(!only(&["todos:*"]).include(&only(&[TOKENS_WRITE])));
        assert!(only(&[TOKENS_WRITE, "*"]).include(&Scopes::Unlimited));
        assert!(Scopes::Unlimited.include(&only(&["*"])));
        assert!(!Scopes::Unlimited.include(&only(&[TOKENS_WRITE])));
    }

    #[test]
    fn what_is_exchanged_makes_and_ends_no_tokens() {
        let exchanged = |texts: &[&str]| {
            let scopes = Scopes::requested(texts.iter().copied()).unwrap();
            scopes.without_those_over_tokens().to_claim()
        };
        assert_eq!(
            exchanged(&[
                "*",
                TOKENS_WRITE,
                "tokens:read",
                TOKENS_DELETE,
                "tokens:*",
                SERVICE_ACCOUNTS_WRITE,
                SERVICE_ACCOUNTS_DELETE
            ])
            .as_deref(),
            Some("* tokens:read tokens:*")
        );
        assert_eq!(exchanged(&[TOKENS_WRITE]).as_deref(), Some(""));
        let unlimited = Scopes::Unlimited.without_those_over_tokens();
        assert!(unlimited.to_claim().is_none());
    }

    #[test]
    fn a_token_is_read_only_if_all_its_scopes_are() {
        let are_read_only = |texts: &[&str]| Scopes::known(texts.iter().copied()).are_read_only();
        assert!(are_read_only(&["todos:read", "*:read"]));
        assert!(are_read_only(&[]));
        for scope in [
            "todos:write",
            "todos:*",
            "*",
            "rpc/search:call",
            "todos:delete",
        ] {
            assert!(!are_read_only(&["notes:read", scope]), "{scope}");
        }
        assert!(!Scopes::Unlimited.are_read_only());
    }

    #[test]
    fn malformed_scopes_are_refused() {
        let long = format!("{}:read", "x".repeat(MAX_SCOPE_LENGTH));
        for text in [
            "",
            "todos",
            ":",
            "todos:",
            ":read",
            "a:b:c",
            "to dos:read",
            "todos:re ad",
            "**",
            "*:",
            "t*:read",
            "todos:read ",
            "caf\u{e9}:read",
            "a\"b:read",
            "a\\b:read",
            "a:b\n",
            &long,
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
        for text in ["todos:read", "rpc/add_todo:call", "a.b-c_d:*", "*:*", "*"] {
            assert!(text.parse::<Scope>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn an_empty_or_overlong_list_is_refused_and_doubles_are_dropped() {
        assert!(matches!(Scopes::requested([]), Err(Error::NoScopes)));
        let many: Vec<String> = (0..=MAX_SCOPES).map(|i| format!("t{i}:read")).collect();
        assert!(matches!(
            Scopes::requested(many.iter().map(String::as_str)),
            Err(Error::TooManyScopes { .. })
        ));
        let doubled = Scopes::requested(["a:b", "a:b", "*:*", "*"]).unwrap();
        assert_eq!(doubled.to_claim().unwrap(), "a:b *");
    }

    #[test]
    fn words_of_a_foreign_claim_that_are_no_scopes_grant_nothing() {
        let scopes = Scopes::from_claim("read  openid todos:read");
        assert_eq!(scopes.to_claim().unwrap(), "todos:read");
        assert!(!Scopes::from_claim("").grants(&"todos:read".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_printing_reads_back(
            text in any::<String>(),
            almost in "[!-~]{0,70}:?[!-~]{0,70}",
        ) {
            for text in [text, almost] {
                if let Ok(scope) = text.parse::<Scope>() {
                    let printed = scope.to_string();
                    prop_assert!(printed.parse::<Scope>().is_ok_and(|again| again == scope));
                    prop_assert!(scope.covers(&scope));
                }
            }
        }

        #[test]
        fn any_claim_is_read_without_panic_and_grants_what_it_lists(
            text in any::<String>(),
            almost in "([a-z:* ]{0,6}){0,20}",
        ) {
            for claim in [text, almost] {
                let scopes = Scopes::from_claim(&claim);
                let listed = scopes.to_claim().unwrap();
                prop_assert_eq!(Scopes::from_claim(&listed).to_claim().unwrap(), listed);
                prop_assert!(scopes.include(&scopes));
            }
        }

        #[test]
        fn what_two_lists_have_in_common_is_what_both_grant(
            lists in prop::collection::vec(
                prop::option::of(prop::collection::vec("(a|tokens|\\*):(read|write|\\*)", 1..4)),
                2,
            ),
        ) {
            let [mine, theirs] = [&lists[0], &lists[1]].map(|list| match list {
                Some(list) => Scopes::requested(list.iter().map(String::as_str)).unwrap(),
                None => Scopes::Unlimited,
            });
            let met = mine.meet(&theirs);
            for resource in ["a", "b", "tokens", "*"] {
                for action in ["read", "write", "*"] {
                    let wanted: Scope = format!("{resource}:{action}").parse().unwrap();
                    prop_assert_eq!(met.grants(&wanted), mine.grants(&wanted) && theirs.grants(&wanted), "{}", wanted);
                }
            }
        }

        #[test]
        fn a_claim_reads_back_as_the_scopes_that_made_it(
            texts in prop::collection::vec("[a-z]{1,3}:[a-z]{1,3}|[a-z]{1,3}:\\*|\\*", 1..9)
        ) {
            let scopes = Scopes::requested(texts.iter().map(String::as_str)).unwrap();
            let claim = scopes.to_claim().unwrap();
            prop_assert_eq!(Scopes::from_claim(&claim).to_claim().unwrap(), claim);
        }
    }
}
