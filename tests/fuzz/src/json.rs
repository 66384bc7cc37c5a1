//! A second reading of JSON, which shares with that of the core only serde_json's syntax.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Every member of an object in its order, or `None` for what is no object.
pub struct Object(pub Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// All members of an object, `None` for what is none.
pub fn members(json: &str) -> Option<Vec<(String, String)>> {
    let Object(members) = serde_json::from_str(json).ok()?;
    let text = |(name, value): (String, Box<RawValue>)| (name, value.get().to_owned());
    Some(members.into_iter().map(text).collect())
}

/// The members of an object in which no name stands twice.
pub fn unique_members(json: &str) -> Option<BTreeMap<String, String>> {
    let members = members(json)?;
    let count = members.len();
    let unique: BTreeMap<_, _> = members.into_iter().collect();
    (unique.len() == count).then_some(unique)
}

/// A text as jsonb would hold it: `None` where jsonb would refuse it, or where a name stands twice,
/// of which it would keep one.
pub fn plain(json: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(json).ok()?;
    is_plain(json, &value).then_some(value)
}

fn is_plain(json: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Array(values) => {
            let texts: Vec<Box<RawValue>> = serde_json::from_str(json).expect("it is an array");
            values
                .iter()
                .zip(texts)
                .all(|(value, text)| is_plain(text.get(), value))
        }
        Value::Object(values) => unique_members(json).is_some_and(|members| {
            members
                .iter()
                .all(|(name, text)| !name.contains('\0') && is_plain(text, &values[name]))
        }),
        _ => true,
    }
}

/// Whether all numbers in a value are integers, which are printed as they were read.
pub fn has_integers_alone(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => values.iter().all(has_integers_alone),
        Value::Object(members) => members.values().all(has_integers_alone),
        _ => true,
    }
}

pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The pseudocode of RFC 7396 section 2.
pub fn merged(target: Option<Value>, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut target = match target {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            _ => {
                let value = merged(target.remove(name), value);
                target.insert(name.clone(), value);
            }
        }
    }
    Value::Object(target)
}

/// Whether escapes stand for nothing that jsonb cannot hold.
pub fn plain_escapes(json: &str) -> Option<()> {
    fn has_nul(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(values) => values.iter().any(has_nul),
            Value::Object(members) => members
                .iter()
                .any(|(name, value)| name.contains('\0') || has_nul(value)),
            _ => false,
        }
    }
    let value: Value = serde_json::from_str(json).ok()?;
    (!has_nul(&value)).then_some(())
}
