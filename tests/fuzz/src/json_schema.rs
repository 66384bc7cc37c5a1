use serde_json::{Value, json};
use supabase_pat_core::json_schema::{Flaw, Schema};

use crate::input::{fields, text};
use crate::json;

/// Fields: a schema; a value.
pub fn json_schema(data: &[u8]) {
    let input = text(data);
    let [schema, value] = fields(&input);
    let parsed = Schema::parse(schema, || ());
    if let Err(Flaw::Malformed(at)) = &parsed {
        assert!(at.is_empty() || at.starts_with('/'));
    }
    let rules: Option<Value> = serde_json::from_str(schema).ok();
    let (Ok(parsed), Some(rules)) = (parsed, rules) else {
        return;
    };
    let verdict = parsed.check(value);
    assert_eq!(parsed.check(value), verdict);
    if let Err(rule) = &verdict {
        assert!(
            rule.is_empty() || rule == "a number is out of range" || rules.pointer(rule).is_some(),
            "{rule} is not in the schema"
        );
    }
    let Ok(content) = serde_json::from_str::<Value>(value) else {
        assert!(verdict.is_err());
        return;
    };
    if !stands_for_itself(schema, &rules) || !json::has_integers_alone(&content) {
        return;
    }
    let accepts = |rules: Value| {
        let schema = Schema::parse(&rules.to_string(), || ()).expect("a schema of schemas is one");
        schema.check(value).is_ok()
    };
    let is_accepted = verdict.is_ok();
    assert_eq!(accepts(rules.clone()), is_accepted);
    assert_eq!(accepts(json!({"not": rules})), !is_accepted);
    assert_eq!(accepts(json!({"allOf": [rules, true]})), is_accepted);
    assert_eq!(accepts(json!({"anyOf": [rules, false]})), is_accepted);
    assert!(!accepts(json!({"oneOf": [rules, rules]})));
    assert_eq!(accepts(json!({"if": rules, "else": false})), is_accepted);
    assert!(accepts(json!({"const": content})));
    assert!(accepts(json!({"enum": [0, content]})));
    assert!(!accepts(json!({"not": {"const": content}})));
    if let Some(expected) = by_simple_rules(&rules, &content) {
        assert_eq!(is_accepted, expected);
    }
}

/// Whether a schema means the same wherever it stands, and its numbers are printed as they were read.
/// Patterns do too, but compiling a large one takes 10 ms and more, each time.
fn stands_for_itself(text: &str, rules: &Value) -> bool {
    let elsewhere = [
        "ref\"",
        "Ref\"",
        "\"$",
        "\"id\"",
        "unevaluated",
        "\\u",
        "nchor\"",
        "attern",
    ];
    !elsewhere.iter().any(|part| text.contains(part)) && json::has_integers_alone(rules)
}

/// A second reading of the rules that most settings have. `None` if there are others.
fn by_simple_rules(rules: &Value, value: &Value) -> Option<bool> {
    let rules = match rules {
        Value::Bool(all) => return Some(*all),
        rules => rules.as_object()?,
    };
    let mut is_met = true;
    for (name, rule) in rules {
        is_met &= match name.as_str() {
            "type" => {
                let types: Vec<&str> = match rule {
                    Value::String(one) => vec![one],
                    many => many.as_array()?.iter().filter_map(Value::as_str).collect(),
                };
                types.iter().any(|kind| match *kind {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "number" | "integer" => value.is_number(),
                    "string" => value.is_string(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    _ => false,
                })
            }
            "enum" => rule.as_array()?.contains(value),
            "const" => rule == value,
            "minimum" => value
                .as_i64()
                .is_none_or(|number| rule.as_i64().is_none_or(|least| number >= least)),
            "maxLength" => value.as_str().is_none_or(|text| {
                rule.as_u64()
                    .is_some_and(|most| text.chars().count() as u64 <= most)
            }),
            "required" => value.as_object().is_none_or(|members| {
                rule.as_array().is_some_and(|names| {
                    names
                        .iter()
                        .all(|name| name.as_str().is_some_and(|name| members.contains_key(name)))
                })
            }),
            "properties" => match value.as_object() {
                None => true,
                Some(members) => {
                    let mut is_met = true;
                    for (name, rules) in rule.as_object()? {
                        if let Some(value) = members.get(name) {
                            is_met &= by_simple_rules(rules, value)?;
                        }
                    }
                    is_met
                }
            },
            "items" => match value.as_array() {
                None => true,
                Some(values) => {
                    let mut is_met = true;
                    for value in values {
                        is_met &= by_simple_rules(rule, value)?;
                    }
                    is_met
                }
            },
            "title" | "description" | "default" => true,
            _ => return None,
        };
        if name == "minimum"
            && (value.is_u64() && value.as_i64().is_none() || rule.as_i64().is_none())
        {
            return None;
        }
    }
    Some(is_met)
}
