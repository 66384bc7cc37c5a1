use std::collections::BTreeMap;

use serde_json::Value;
use supabase_pat_core::restrictions::Restrictions;
use supabase_pat_core::scope::Scopes;

use crate::input::{fields, optional, text};
use crate::json;

/// What the login that mints or exchanges hands on to what it makes.
///
/// Fields: the claims of the login; what the replaced token carried; the scopes that are asked for; a role, and an assurance
/// level that is required, with a space between them; the setting `request.jwt.claim.client_id`.
pub fn restrictions(data: &[u8]) {
    let input = text(data);
    let [claims, carried, scopes, role_and_level, client] = fields(&input);
    let legacy = |name: &str| match name {
        "client_id" => optional(client).map(str::to_owned),
        _ => None,
    };
    let read = Restrictions::of_claims(optional(claims), None, legacy);
    let members = match claims {
        "" => Some(BTreeMap::new()),
        claims => json::unique_members(claims),
    };
    let Ok(read) = read else {
        // No database can hold what some escapes stand for.
        let has_clear_escapes = !claims.contains("\\u") || json::plain(claims).is_some();
        let is_clear = members.as_ref().is_some_and(|members| {
            let is_text = |name: &str| {
                members
                    .get(name)
                    .is_none_or(|text| text == "null" || text.starts_with('"'))
            };
            let is_short = |name: &str| members.get(name).is_none_or(|text| text.len() <= 1024);
            let is_short_setting = Value::from(client).to_string().len() <= 1024;
            has_clear_escapes
                && is_short_setting
                && ["role", "aal", "scope"].into_iter().all(is_text)
                && ["client_id", "act"].into_iter().all(is_short)
        });
        assert!(!is_clear, "claims that are clear are read: {claims}");
        return;
    };
    let members = members.expect("it is an object without doubles");
    let names = |name: &str| is_in(&members, name) || name == "client_id" && !client.is_empty();
    assert_eq!(read.names_client(), names("client_id"));
    let says_anonymous = members
        .get("is_anonymous")
        .is_some_and(|text| text != "false" && text != "null");
    assert_eq!(read.is_anonymous(), says_anonymous.then_some(true));
    // Whatever restricts a login is seen.
    assert_eq!(
        read.kind().is_some(),
        names("client_id") || names("act") || says_anonymous
    );
    let written = read.carried().to_json().expect("it can be written");
    assert_eq!(written.is_some(), names("client_id") || names("act"));
    if let Some(written) = &written {
        let kept = json::unique_members(written).expect("it is an object");
        for (name, value) in &kept {
            assert!(["client_id", "act"].contains(&name.as_str()) && value.len() <= 1024);
            match members.get(name) {
                Some(own) if own != "null" => assert_eq!(own, value),
                _ => assert_eq!(*value, Value::from(client).to_string()),
            }
        }
    }
    let text = |name: &str| {
        members
            .get(name)
            .and_then(|text| serde_json::from_str::<String>(text).ok())
    };
    let (role, level) = role_and_level
        .split_once(' ')
        .unwrap_or((role_and_level, ""));
    assert_eq!(
        read.has_role(role),
        text("role").is_none_or(|own| own == role)
    );
    assert_eq!(
        read.has_aal(level),
        level.is_empty() || text("aal").is_some_and(|own| own.as_str() >= level)
    );
    let asked = Scopes::from_claim(scopes);
    let own = text("scope")
        .filter(|own| !own.trim().is_empty())
        .map(|own| Scopes::from_claim(&own));
    assert!(read.scope_includes(&Scopes::Unlimited));
    assert_eq!(
        read.scope_includes(&asked),
        own.is_none_or(|own| own.include(&asked))
    );
    // What the replaced token carried is added, and takes nothing away.
    if let Ok(both) = read.with_those_of(carried) {
        let theirs = json::unique_members(carried).expect("it is an object");
        let is_there = |name: &str| names(name) || is_in(&theirs, name);
        assert_eq!(both.names_client(), is_there("client_id"));
        assert_eq!(
            both.kind().is_some(),
            is_there("client_id") || is_there("act") || says_anonymous
        );
    }
}

/// A claim that is null is none.
fn is_in(members: &BTreeMap<String, String>, name: &str) -> bool {
    members.get(name).is_some_and(|text| text != "null")
}
