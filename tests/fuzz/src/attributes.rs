use std::collections::BTreeMap;

use serde_json::Value;
use supabase_pat_core::attributes::{Attribute, Attributes, Declared};
use uuid::Uuid;

use crate::input::{fields, text};
use crate::json;

/// What a token is limited to, as policies ask for it.
///
/// Fields: the attributes of a token; those of another one; the name of an attribute; a value; a JSON Schema.
pub fn attributes(data: &[u8]) {
    let input = text(data);
    let [mine, other, name, value, schema] = fields(&input);
    declared(mine, name, schema);
    // What is stored was a jsonb.
    let (Some(plain), Some(other_plain)) = (json::plain(mine), json::plain(other)) else {
        return;
    };
    // As jsonb prints it: no name twice, no white space that tells anything.
    let (mine, other) = (plain.to_string(), other_plain.to_string());
    let (held, others) = (Attributes::parse(&mine), Attributes::parse(&other));
    let values = members(&plain);
    for asked in values.keys().map(String::as_str).chain([name]) {
        assert_eq!(held.value(asked).is_some(), values.contains_key(asked));
        let texts = values.get(asked).map(texts_of);
        let is_allowed = |text: &str| {
            texts
                .as_ref()
                .is_none_or(|texts| texts.iter().any(|one| one == text))
        };
        for text in texts
            .iter()
            .flatten()
            .map(String::as_str)
            .chain([value, ""])
        {
            assert_eq!(
                held.allow(asked, Some(text)),
                is_allowed(text),
                "{asked}: {text}"
            );
        }
        assert_eq!(held.allow(asked, None), texts.is_none());
        assert_eq!(held.allow_id(asked, None), texts.is_none());
        for id in texts
            .iter()
            .flatten()
            .map(String::as_str)
            .chain([value])
            .filter_map(|text| Uuid::try_parse(text).ok())
        {
            assert_eq!(
                held.allow_id(asked, Some(id)),
                is_allowed(&id.to_string()),
                "{asked}: {id}"
            );
        }
    }
    assert!(held.include(&held) && Attributes::parse("{}").include(&held));
    if held.include(&others) {
        // Whoever is narrowed is allowed nothing new.
        let other_values = members(&other_plain);
        for asked in values.keys() {
            let theirs = other_values.get(asked).expect("it is still limited");
            for text in texts_of(theirs) {
                assert!(held.allow(asked, Some(&text)), "{asked}: {text}");
            }
        }
        assert!(Attributes::parse("{}").include(&others));
    }
}

fn members(value: &Value) -> BTreeMap<String, Value> {
    let members = value.as_object().cloned().unwrap_or_default();
    members.into_iter().collect()
}

/// A second reading of what an attribute allows.
fn texts_of(value: &Value) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) => values.iter().filter_map(one).collect(),
        value => one(value).into_iter().collect(),
    }
}

fn declared(attributes: &str, name: &str, schema: &str) {
    let schema = (!schema.is_empty()).then(|| schema.to_owned());
    let attribute = match Attribute::declare(name, schema, true, || ()) {
        Ok(attribute) => attribute,
        Err(error) => {
            assert!(error.to_string().chars().count() < 4096);
            return;
        }
    };
    assert!((1..=63).contains(&name.len()) && name == name.to_ascii_lowercase());
    let declared = Declared(vec![attribute]);
    assert!(declared.check(None).is_err(), "it is required");
    let accepted = declared.check(Some(attributes)).is_ok();
    let found = serde_json::from_str::<Value>(attributes);
    if accepted {
        let members = json::members(attributes).expect("it is an object");
        assert!(!members.is_empty() && members.iter().all(|(member, _)| member == name));
        assert!(
            Declared::default().check(Some(attributes)).is_err(),
            "nobody has declared it"
        );
    } else if let Ok(Value::Object(members)) = found
        && members.is_empty()
    {
        assert!(Declared::default().check(Some(attributes)).is_ok());
    }
}
