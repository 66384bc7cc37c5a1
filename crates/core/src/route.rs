//! Which scope a REST request needs, by its method and path, and the schema that it is for.
//!
//! | path | GET, HEAD | POST, PATCH, PUT | DELETE |
//! |---|---|---|---|
//! | `/` | `/:read` | | |
//! | `/name` | `name:read` | `name:write` | `name:delete` |
//! | `/rpc/name` | `rpc/name:call` | `rpc/name:call`, POST alone | |
//!
//! A server may expose several schemas, of which a request chooses one. In all but the default one, `name` is
//! `schema.name`. OPTIONS is as GET, should a server ask the database about it, which PostgREST does not.
//!
//! A statement touches tables and views by other ways than the path. What it touches needs the same scopes, by the same
//! names.
//!
//! What is not in the table is refused to a token that has a list of scopes. The extension's own
//! functions and views are also covered by the scopes that they ask for themselves, and a token may
//! always ask to be revoked, or to be exchanged for a lesser one.

use std::borrow::Cow;

use crate::scope::{Scope, Scopes};

/// What a request is for.
#[derive(Clone, Copy)]
pub struct Route<'a> {
    pub method: &'a str,
    /// What comes after the address of the REST server, still percent-encoded.
    pub path: &'a str,
    /// Another one than the default.
    pub schema: Option<&'a str>,
}

/// What a statement does to a table or view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Delete,
}

impl Access {
    pub fn action(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

/// What a token must have to make a request, or to touch a table.
pub enum Needed {
    /// Nothing: the function that is called decides for itself.
    Nothing {
        /// Whether the function writes.
        writes: bool,
    },
    /// This scope, or else the other one.
    Scope(Scope, Option<Scope>),
    /// No list of scopes: it is not known what the request does.
    Everything,
}

impl Needed {
    pub fn of(route: Route) -> Self {
        let Route {
            method,
            path,
            schema,
        } = route;
        let access = match method {
            "GET" | "HEAD" | "OPTIONS" => Access::Read,
            "POST" | "PATCH" | "PUT" => Access::Write,
            "DELETE" => Access::Delete,
            _ => return Self::Everything,
        };
        // Some servers take a path with too many slashes for the same path without them, others refuse it.
        let path = path.trim_matches('/');
        if path.is_empty() {
            return match access {
                Access::Read => {
                    Self::Scope(Scope::wanted(in_schema(schema, "/"), access.action()), None)
                }
                _ => Self::Everything,
            };
        }
        let named = |segment| decoded(segment).filter(|name| !name.is_empty());
        match path.split_once('/') {
            None => match named(path) {
                Some(name) => Self::of_table(schema, &name, access),
                None => Self::Everything,
            },
            Some((start, name)) if decoded(start).is_some_and(|start| start == "rpc") => {
                let is_call = matches!(method, "GET" | "HEAD" | "OPTIONS" | "POST");
                match named(name).filter(|_| is_call && !name.contains('/')) {
                    Some(name)
                        if is_ours(schema)
                            && let Some(writes) = decides_itself(&name) =>
                    {
                        Self::Nothing { writes }
                    }
                    Some(name) => Self::of_call(schema, &name),
                    None => Self::Everything,
                }
            }
            Some(_) => Self::Everything,
        }
    }

    /// For a table or view of that name. `schema` is another one than the default.
    pub fn of_table(schema: Option<&str>, name: &str, access: Access) -> Self {
        let action = access.action();
        Self::either(
            of_view(name)
                .filter(|_| is_ours(schema))
                .map(|resource| Scope::wanted(resource, action)),
            Scope::wanted(in_schema(schema, name), action),
        )
    }

    /// For a function of that name. `schema` is another one than the default.
    pub fn of_call(schema: Option<&str>, name: &str) -> Self {
        Self::either(
            of_function(name)
                .filter(|_| is_ours(schema))
                .map(|(resource, action)| Scope::wanted(resource, action)),
            Scope::wanted(format!("rpc/{}", in_schema(schema, name)), "call"),
        )
    }

    /// The scope that the extension's own functions and views ask for themselves comes first: a refusal names that one.
    fn either(own: Option<Scope>, by_name: Scope) -> Self {
        match own {
            Some(own) => Self::Scope(own, Some(by_name)),
            None => Self::Scope(by_name, None),
        }
    }

    pub fn is_granted_by(&self, scopes: &Scopes) -> bool {
        match (scopes, self) {
            (Scopes::Unlimited, _) | (_, Self::Nothing { .. }) => true,
            (Scopes::Only(_), Self::Everything) => false,
            (scopes, Self::Scope(scope, other)) => {
                scopes.grants(scope) || other.as_ref().is_some_and(|other| scopes.grants(other))
            }
        }
    }
}

fn in_schema(schema: Option<&str>, name: &str) -> String {
    match schema {
        None => name.to_owned(),
        Some(schema) => format!("{schema}.{name}"),
    }
}

/// Ours are in this schema, or are made to look so where another one is the default.
fn is_ours(schema: Option<&str>) -> bool {
    schema.is_none_or(|schema| schema == "public")
}

fn of_view(name: &str) -> Option<&'static str> {
    match name {
        "api_keys" | "api_key_events" | "api_key_daily_usage" => Some("tokens"),
        "service_accounts" => Some("service_accounts"),
        _ => None,
    }
}

/// Whether a function of the extension's writes, if it asks what the token may do by what is asked of it: any token may
/// end or narrow itself, ask what it is, and be exchanged for a lesser one.
fn decides_itself(name: &str) -> Option<bool> {
    match name {
        "revoke_pat" | "edit_pat" => Some(true),
        "current_api_key" | "exchange_token" => Some(false),
        _ => None,
    }
}

fn of_function(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "mint_pat" | "rotate_pat" => ("tokens", "write"),
        "revoke_all_pats" => ("tokens", "delete"),
        "create_service_account" => ("service_accounts", "write"),
        "delete_service_account" => ("service_accounts", "delete"),
        "service_account_tokens" => ("service_accounts", "read"),
        "signed_in_user" => ("user", "read"),
        "get_settings" | "setting_definitions" => ("settings", "read"),
        "set_settings" => ("settings", "write"),
        _ => return None,
    })
}

/// A segment of a path without its percent-encoding (RFC 3986 section 2.1). `None` if that leaves no
/// UTF-8. A percent sign that encodes nothing stands for itself, as it does for the servers.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |place: usize| after.get(place).and_then(|&b| char::from(b).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn needed(method: &str, path: &str) -> String {
        needed_in(None, method, path)
    }

    fn needed_in(schema: Option<&str>, method: &str, path: &str) -> String {
        name_of(&Needed::of(Route {
            method,
            path,
            schema,
        }))
    }

    fn by_default<'a>(method: &'a str, path: &'a str) -> Route<'a> {
        Route {
            method,
            path,
            schema: None,
        }
    }

    fn name_of(needed: &Needed) -> String {
        match needed {
            Needed::Nothing { writes: true } => "nothing".into(),
            Needed::Nothing { writes: false } => "nothing, to read".into(),
            Needed::Everything => "everything".into(),
            Needed::Scope(scope, None) => scope.to_string(),
            Needed::Scope(scope, Some(other)) => format!("{scope} or {other}"),
        }
    }

    #[test]
    fn tables_are_read_written_and_deleted_from() {
        for (method, scope) in [
            ("GET", "todos:read"),
            ("HEAD", "todos:read"),
            ("OPTIONS", "todos:read"),
            ("POST", "todos:write"),
            ("PATCH", "todos:write"),
            ("PUT", "todos:write"),
            ("DELETE", "todos:delete"),
        ] {
            assert_eq!(needed(method, "/todos"), scope);
        }
        assert_eq!(needed("GET", "/"), "/:read");
        assert_eq!(needed("GET", ""), "/:read");
    }

    #[test]
    fn functions_are_called() {
        for method in ["GET", "HEAD", "OPTIONS", "POST"] {
            assert_eq!(needed(method, "/rpc/add_todo"), "rpc/add_todo:call");
        }
        for method in ["PATCH", "PUT", "DELETE"] {
            assert_eq!(needed(method, "/rpc/add_todo"), "everything");
        }
        // A table may have that name.
        assert_eq!(needed("GET", "/rpc"), "rpc:read");
    }

    #[test]
    fn what_is_not_known_needs_everything() {
        for (method, path) in [
            ("TRACE", "/todos"),
            ("get", "/todos"),
            ("", "/todos"),
            ("POST", "/"),
            ("DELETE", ""),
            ("GET", "/a/b"),
            ("POST", "/rpc/a/b"),
            ("GET", "/%ff"),
            ("POST", "/rpc/%ff"),
            ("POST", "/rpcs/x"),
        ] {
            assert_eq!(needed(method, path), "everything", "{method} {path}");
        }
    }

    #[test]
    fn a_path_is_understood_as_the_servers_do() {
        assert_eq!(needed("GET", "/t%6Fdos"), "todos:read");
        assert_eq!(needed("GET", "//todos/"), "todos:read");
        assert_eq!(needed("POST", "/r%70c/%61dd"), "rpc/add:call");
        assert_eq!(needed("GET", "/a%2Fb"), "a/b:read");
        assert_eq!(needed("GET", "/caf%C3%A9"), "caf\u{e9}:read");
        assert_eq!(needed("GET", "/100%"), "100%:read");
        assert_eq!(needed("GET", "/%zz"), "%zz:read");
    }

    #[test]
    fn another_schema_is_part_of_the_name() {
        let private = |method, path| needed_in(Some("private"), method, path);
        assert_eq!(private("GET", "/todos"), "private.todos:read");
        assert_eq!(private("DELETE", "/todos"), "private.todos:delete");
        assert_eq!(private("POST", "/rpc/f"), "rpc/private.f:call");
        assert_eq!(private("GET", "/"), "private./:read");
        // What is named like ours there is not ours.
        assert_eq!(private("GET", "/api_keys"), "private.api_keys:read");
        assert_eq!(
            private("POST", "/rpc/mint_pat"),
            "rpc/private.mint_pat:call"
        );
        assert_eq!(
            private("POST", "/rpc/revoke_pat"),
            "rpc/private.revoke_pat:call"
        );
        // Where another schema is the default, ours are asked for so.
        assert_eq!(
            needed_in(Some("public"), "POST", "/rpc/revoke_pat"),
            "nothing"
        );
        assert_eq!(
            needed_in(Some("public"), "GET", "/api_keys"),
            "tokens:read or public.api_keys:read"
        );
    }

    #[test]
    fn a_table_needs_the_scope_that_its_path_does() {
        for (access, method) in [
            (Access::Read, "GET"),
            (Access::Write, "PATCH"),
            (Access::Delete, "DELETE"),
        ] {
            for (schema, name) in [
                (None, "todos"),
                (Some("private"), "todos"),
                (None, "api_keys"),
                (Some("private"), "api_keys"),
            ] {
                assert_eq!(
                    name_of(&Needed::of_table(schema, name, access)),
                    needed_in(schema, method, &format!("/{name}"))
                );
            }
        }
        // Whatever the name, it is no path.
        assert_eq!(
            name_of(&Needed::of_table(None, "a/%62", Access::Read)),
            "a/%62:read"
        );
    }

    #[test]
    fn our_own_functions_know_what_they_ask_for() {
        assert_eq!(needed("POST", "/rpc/revoke_pat"), "nothing");
        assert_eq!(needed("GET", "/rpc/exchange_token"), "nothing, to read");
        assert_eq!(
            needed_in(Some("private"), "POST", "/rpc/exchange_token"),
            "rpc/private.exchange_token:call"
        );
        assert_eq!(
            needed("POST", "/rpc/mint_pat"),
            "tokens:write or rpc/mint_pat:call"
        );
        assert_eq!(needed("GET", "/api_keys"), "tokens:read or api_keys:read");
        assert_eq!(
            needed("DELETE", "/api_keys"),
            "tokens:delete or api_keys:delete"
        );
        assert_eq!(
            needed("GET", "/rpc/get_settings"),
            "settings:read or rpc/get_settings:call"
        );
        assert_eq!(
            needed("GET", "/rpc/setting_definitions"),
            "settings:read or rpc/setting_definitions:call"
        );
    }

    #[test]
    fn scopes_grant_what_they_cover() {
        let granted = |scope: &str, method, path| {
            Needed::of(by_default(method, path)).is_granted_by(&Scopes::requested([scope]).unwrap())
        };
        assert!(granted("todos:read", "GET", "/todos"));
        assert!(!granted("todos:read", "POST", "/todos"));
        assert!(!granted("todos:read", "GET", "/notes"));
        assert!(granted("*:read", "GET", "/caf%C3%A9"));
        assert!(granted("rpc/f:call", "POST", "/rpc/f"));
        assert!(!granted("*:read", "POST", "/rpc/f"));
        assert!(!granted("*", "GET", "/a/b"));
        assert!(granted("tokens:read", "GET", "/api_keys"));
        assert!(!granted("tokens:read", "GET", "/tokens_of_others"));
        assert!(granted("todos:read", "POST", "/rpc/revoke_pat"));
        // Minting must be named, whatever the path.
        assert!(!granted("*", "POST", "/tokens"));
        assert!(Needed::of(by_default("TRACE", "/a/b")).is_granted_by(&Scopes::Unlimited));
    }

    proptest! {
        #[test]
        fn a_token_for_the_default_schema_gets_nothing_of_another(method in "GET|POST|DELETE", path in any::<String>()) {
            let narrow = Scopes::requested(["todos:read", "todos:write", "todos:delete", "/:read"]).unwrap();
            let elsewhere = Route { schema: Some("private"), ..by_default(&method, &path) };
            prop_assert!(!Needed::of(elsewhere).is_granted_by(&narrow));
        }

        #[test]
        fn nothing_panics_and_a_narrow_token_gets_nothing_else(method in "[A-Z]{0,7}", path in any::<String>()) {
            let narrow = Scopes::requested(["todos:read"]).unwrap();
            let decoded = decoded(path.trim_matches('/'));
            let is_todos = decoded.is_some_and(|name| name == "todos");
            let is_about_itself = ["revoke_pat", "edit_pat", "current_api_key", "exchange_token"].iter().any(|name| path.contains(name));
            prop_assert!(is_todos || is_about_itself || !Needed::of(by_default(&method, &path)).is_granted_by(&narrow));
        }
    }
}
