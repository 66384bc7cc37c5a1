//! JSON Merge Patch (RFC 7396).
//!
//! It works on texts, and not on trees: whatever is not an object is only handed on, and not even read. So it stays
//! what it was to the last digit, which a tree with floating-point numbers would not keep.

use std::collections::BTreeMap;

use crate::json::Members;

/// How deep objects and arrays may lie within one another in what is merged. Callers refuse what goes
/// deeper; this module would replace it instead of merging it.
pub const MAX_DEPTH: usize = 64;

/// The JSON `target` after the JSON `patch`: the members of objects are merged, null removes one, and
/// everything else is replaced. `None` is a target that does not exist.
pub fn apply(target: Option<&str>, patch: &str) -> String {
    let mut merged = String::with_capacity(target.map_or(0, str::len) + patch.len());
    write(target, patch, MAX_DEPTH, &mut merged);
    merged
}

fn write(target: Option<&str>, patch: &str, levels: usize, merged: &mut String) {
    let (Some(patch_members), 1..) = (members(patch), levels) else {
        return merged.push_str(patch);
    };
    let mut patches: BTreeMap<&str, &str> = patch_members
        .iter()
        .map(|(name, patch)| (name, patch.get()))
        .collect();
    let target = target.and_then(members);
    let mut object = ObjectWriter::new(merged);
    for (name, value) in target.iter().flat_map(Members::iter) {
        match patches.remove(name) {
            None => object.name(name).push_str(value.get()),
            Some("null") => (),
            Some(patch) => write(Some(value.get()), patch, levels - 1, object.name(name)),
        }
    }
    for (name, patch) in patches {
        if patch != "null" {
            write(None, patch, levels - 1, object.name(name));
        }
    }
    object.end();
}

/// `None` for what is not an object.
fn members(json: &str) -> Option<Members<'_>> {
    match json.starts_with('{') {
        true => Members::parse_lenient(json).ok(),
        false => None,
    }
}

/// Writes an object with the spaces that Postgres prints in a jsonb, so that lengths agree.
pub struct ObjectWriter<'a> {
    text: &'a mut String,
    is_empty: bool,
}

impl<'a> ObjectWriter<'a> {
    pub fn new(text: &'a mut String) -> Self {
        text.push('{');
        Self {
            text,
            is_empty: true,
        }
    }

    /// Where the value of that name is to be written.
    pub fn name(&mut self, name: &str) -> &mut String {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push_str(", ");
        }
        self.text.push_str(&quoted(name));
        self.text.push_str(": ");
        self.text
    }

    pub fn end(self) {
        self.text.push('}');
    }
}

fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// How deep objects and arrays lie within one another in a JSON text: 0 for a number.
pub fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => while !matches!(next_in_string(&mut bytes), None | Some(b'"')) {},
            _ => (),
        }
    }
    deepest
}

/// The next byte of a string that is no part of an escape.
fn next_in_string(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    match bytes.next()? {
        b'\\' => bytes.next().and(Some(b' ')),
        byte => Some(byte),
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn merged(target: &str, patch: &str) -> Value {
        let merged = apply(Some(target), patch);
        serde_json::from_str(&merged).unwrap_or_else(|_| panic!("{merged}"))
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // Appendix A: original, patch, result.
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, json!({"a": "c"})),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, json!({"a": "b", "b": "c"})),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, json!({})),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, json!({"b": "c"})),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, json!({"a": "c"})),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, json!({"a": ["b"]})),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                json!({"a": {"b": "d"}}),
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, json!({"a": [1]})),
            (r#"["a","b"]"#, r#"["c","d"]"#, json!(["c", "d"])),
            (r#"{"a":"b"}"#, r#"["c"]"#, json!(["c"])),
            (r#"{"a":"foo"}"#, "null", json!(null)),
            (r#"{"a":"foo"}"#, r#""bar""#, json!("bar")),
            (r#"{"e":null}"#, r#"{"a":1}"#, json!({"e": null, "a": 1})),
            (r#"[1,2]"#, r#"{"a":"b","c":null}"#, json!({"a": "b"})),
            (
                "{}",
                r#"{"a":{"bb":{"ccc":null}}}"#,
                json!({"a": {"bb": {}}}),
            ),
        ] {
            assert_eq!(merged(target, patch), result, "{target} {patch}");
        }
    }

    #[test]
    fn what_is_handed_on_stays_the_text_that_it_was() {
        let target = r#"{"a": 12345678901234567890.10, "b": [1.50, {"c": null}]}"#;
        let patch = r#"{"d\"\n": 1e999, "a": {"e": 0.10}}"#;
        assert_eq!(
            apply(Some(target), patch),
            r#"{"a": {"e": 0.10}, "b": [1.50, {"c": null}], "d\"\n": 1e999}"#
        );
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        for (json, expected) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a": [1, {"b": {}}], "c": []}"#, 4),
            (r#"["[[[", "\"[[", "\\", [1]]"#, 2),
            (r#"{"[[[": "{{{"}"#, 1),
        ] {
            assert_eq!(depth(json), expected, "{json}");
        }
    }

    #[test]
    fn nesting_without_end_is_no_danger() {
        let deep = format!("{}1{}", r#"{"a": "#.repeat(100_000), "}".repeat(100_000));
        assert_eq!(depth(&deep), 100_000);
        assert_eq!(merged_len(&deep), deep.len());
    }

    fn merged_len(deep: &str) -> usize {
        apply(Some(deep), deep).len()
    }

    /// Any JSON, with few names, so that they meet.
    pub fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc\"\\\\é]{0,2}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The pseudocode of section 2, on trees.
    fn by_the_book(target: Option<Value>, patch: &Value) -> Value {
        let Value::Object(patch) = patch else {
            return patch.clone();
        };
        let mut target = match target {
            Some(Value::Object(members)) => members,
            _ => Map::new(),
        };
        for (name, value) in patch {
            match value {
                Value::Null => target.remove(name),
                _ => {
                    let value = by_the_book(target.remove(name), value);
                    target.insert(name.clone(), value)
                }
            };
        }
        Value::Object(target)
    }

    proptest! {
        #[test]
        fn a_merge_is_what_the_rfc_says(target in any_json(), patch in any_json()) {
            let merged = merged(&target.to_string(), &patch.to_string());
            prop_assert_eq!(merged, by_the_book(Some(target), &patch));
        }

        #[test]
        fn a_patch_twice_is_a_patch_once(target in any_json(), patch in any_json()) {
            let patch = patch.to_string();
            let once = apply(Some(&target.to_string()), &patch);
            prop_assert_eq!(merged(&once, &patch), serde_json::from_str::<Value>(&once).unwrap());
        }

        #[test]
        fn an_empty_patch_changes_no_object(target in any_json()) {
            prop_assume!(target.is_object());
            prop_assert_eq!(merged(&target.to_string(), "{}"), target);
        }

        #[test]
        fn no_text_is_too_odd(target in any::<String>(), patch in "[\\[\\]{}\":,a\\\\0 ]{0,30}") {
            apply(Some(&target), &patch);
            apply(None, &patch);
            depth(&target);
            depth(&patch);
        }
    }
}
