//! JSON Schemas that values are checked against.
//!
//! They are trusted no further than they need to be: nothing outside of a schema is fetched, be it
//! from a file or from the network; patterns run in an engine whose time grows with the length of
//! the text alone; and `format` is what JSON Schema 2020-12 makes of it, a remark.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// How many bytes a pattern may take once it is compiled, about.
const MAX_PATTERN: usize = 1 << 20;

/// Why a text is no schema.
#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Where the mistake is, as a JSON pointer.
    Malformed(String),
    /// It needs something outside of itself.
    External,
}

#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    /// Whether a part of it may stand for another, and so for itself: `$ref`, `$dynamicRef`,
    /// `$recursiveRef`.
    has_references: bool,
}

impl Schema {
    /// # Errors
    /// [`Flaw`].
    pub fn parse(json: &str) -> Result<Self, Flaw> {
        let schema: Value =
            serde_json::from_str(json).map_err(|_| Flaw::Malformed(String::new()))?;
        let built = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN))
            .should_validate_formats(false)
            .build(&schema);
        let validator = built.map_err(|error| match error.kind() {
            ValidationErrorKind::Referencing(_) => Flaw::External,
            _ => Flaw::Malformed(error.instance_path().to_string()),
        })?;
        // As it is read: a name may be written with escapes.
        let names = schema.to_string();
        Ok(Self {
            validator,
            has_references: ["ref\"", "Ref\""].iter().any(|end| names.contains(end)),
        })
    }

    /// Whether the schema holds for a JSON value. The error says which rule of the schema does not, as
    /// a JSON pointer into it, and tells nothing of the value. It is empty for a schema with
    /// references: finding the rule goes through whatever they lead to again and again, which takes
    /// twice the time with each level of a value that somebody has nested to that end.
    ///
    /// # Errors
    /// Also if the value holds a number that is out of range of a floating-point number.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let value: Value =
            serde_json::from_str(value).map_err(|_| "a number is out of range".to_owned())?;
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        Err(match self.has_references {
            true => String::new(),
            false => self
                .validator
                .validate(&value)
                .map_or_else(|error| error.schema_path().to_string(), |()| String::new()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::merge_patch::tests::any_json;

    fn schema(json: &str) -> Schema {
        Schema::parse(json).unwrap_or_else(|flaw| panic!("{json}: {flaw:?}"))
    }

    #[test]
    fn an_error_names_the_rule_and_not_the_value() {
        let temperature = schema(r#"{"type": "number", "minimum": 0, "maximum": 2}"#);
        assert_eq!(temperature.check("0.7"), Ok(()));
        assert_eq!(temperature.check("3.14159"), Err("/maximum".into()));
        assert_eq!(temperature.check(r#""hot""#), Err("/type".into()));
        assert_eq!(
            temperature.check("1e999"),
            Err("a number is out of range".into())
        );
        let editor = schema(r#"{"properties": {"theme": {"enum": ["dark"]}}}"#);
        assert_eq!(
            editor.check(r#"{"theme": "pink"}"#),
            Err("/properties/theme/enum".into())
        );
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let malformed = |at: &str| Some(Flaw::Malformed(at.into()));
        for (json, at) in [
            (r#"{"type": "strin"}"#, "/type"),
            (
                r#"{"properties": {"a": {"minimum": "1"}}}"#,
                "/properties/a/minimum",
            ),
            ("1", ""),
            ("null", ""),
            ("[]", ""),
            ("", ""),
        ] {
            assert_eq!(Schema::parse(json).err(), malformed(at), "{json}");
        }
        assert!(Schema::parse("true").is_ok());
        assert!(Schema::parse("{}").is_ok());
    }

    #[test]
    fn nothing_outside_of_a_schema_is_fetched() {
        for reference in [
            "https://json-schema.example/a",
            "http://127.0.0.1:1/a",
            "file:///etc/passwd",
            "other.json",
            "/etc/passwd",
        ] {
            let json = format!(r#"{{"$ref": "{reference}"}}"#);
            assert_eq!(Schema::parse(&json).err(), Some(Flaw::External), "{json}");
            let json = format!(r#"{{"properties": {{"a": {{"$ref": "{reference}#/x"}}}}}}"#);
            assert_eq!(Schema::parse(&json).err(), Some(Flaw::External), "{json}");
            let json = format!(r#"{{"$schema": "{reference}"}}"#);
            assert!(Schema::parse(&json).is_err(), "{json}");
        }
        assert_eq!(
            Schema::parse(r##"{"$ref": "#/$defs/missing"}"##).err(),
            Some(Flaw::External)
        );
        let inside = schema(r##"{"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}"##);
        assert!(inside.check("null").is_ok());
        assert!(inside.check("1").is_err());
    }

    #[test]
    fn schemas_that_go_round_in_circles_come_to_an_end() {
        for json in [
            r##"{"$ref": "#"}"##,
            r##"{"allOf": [{"$ref": "#"}]}"##,
            r##"{"not": {"$ref": "#"}}"##,
            r##"{"$dynamicRef": "#"}"##,
            r##"{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}, false]}}}"##,
            r##"{"if": {"$ref": "#"}, "then": {"$ref": "#"}, "else": {"$ref": "#"}}"##,
            r##"{"dependentSchemas": {"a": {"$ref": "#"}}}"##,
            r##"{"unevaluatedProperties": false, "allOf": [{"$ref": "#"}]}"##,
        ] {
            if let Ok(schema) = Schema::parse(json) {
                for value in ["1", r#"{"a": {"a": {}}}"#, "[[[]]]"] {
                    drop(schema.check(value));
                }
            }
        }
        let list = schema(r##"{"properties": {"next": {"$ref": "#"}}, "required": ["id"]}"##);
        assert!(list.check(r#"{"id": 1, "next": {"id": 2}}"#).is_ok());
        assert!(list.check(r#"{"id": 1, "next": {}}"#).is_err());
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let start = Instant::now();
        for pattern in [
            "^(a+)+$",
            "(x+x+)+y",
            "^(([a-z])+.)+[A-Z]([a-z])+$",
            "(a|aa)+$",
        ] {
            let schema = schema(&format!(r#"{{"pattern": "{pattern}"}}"#));
            let text = format!(r#""{}!""#, "a".repeat(60_000));
            drop(schema.check(&text));
            let text = format!(r#""{}""#, "x".repeat(60_000));
            drop(schema.check(&text));
        }
        assert!(start.elapsed() < Duration::from_secs(5));
        // What the engine cannot do in linear time, or compiles to too much.
        for pattern in [r"(?=a)b", r"(a)\\1", "((a{1,100}){1,100}){1,100}", "("] {
            let json = format!(r#"{{"pattern": "{pattern}"}}"#);
            assert!(
                matches!(Schema::parse(&json), Err(Flaw::Malformed(at)) if at == "/pattern"),
                "{pattern}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        for (open, close) in [
            (r#"{"not": "#, "}"),
            (r#"{"items": "#, "}"),
            (r#"{"allOf": ["#, "]}"),
        ] {
            let deep = |levels| format!("{}true{}", open.repeat(levels), close.repeat(levels));
            assert!(Schema::parse(&deep(100_000)).is_err());
            if let Ok(schema) = Schema::parse(&deep(60)) {
                drop(schema.check(&format!("{}1{}", "[".repeat(64), "]".repeat(64))));
            }
        }
    }

    #[test]
    fn a_schema_that_meets_itself_twice_takes_no_more_time_for_it() {
        let start = Instant::now();
        let deep = |inner| format!("{}{inner}{}", "[".repeat(64), "]".repeat(64));
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for (rule, reference) in [
                (r##""type": ["array", "number"]"##, "$ref"),
                (r##""unevaluatedItems": false"##, "$ref"),
                (r##""unevaluatedItems": false"##, "$dynamicRef"),
                (r##""if": {"items": {"$ref": "#"}}, "then": true"##, "$ref"),
                (r##""type": ["array", "number"]"##, r"$r\u0065f"),
            ] {
                let schema = schema(&format!(
                    r##"{{{rule}, "items": {{"{keyword}": [{{"{reference}": "#"}}, {{"{reference}": "#"}}]}}}}"##
                ));
                drop(schema.check(&deep("1")));
                drop(schema.check(&deep("null")));
            }
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn formats_are_remarks() {
        for draft in ["draft-04/schema#", "draft-07/schema#"] {
            let json =
                format!(r#"{{"$schema": "http://json-schema.org/{draft}", "format": "email"}}"#);
            assert!(schema(&json).check(r#""nobody""#).is_ok());
        }
    }

    /// Texts with the keywords in them, right and wrong.
    fn almost_a_schema() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any_json(),
            prop::sample::select(vec!["string", "object", "#", "#/allOf/0", "a+$", "#/x"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            let keyword = prop::sample::select(vec![
                "type",
                "properties",
                "items",
                "allOf",
                "anyOf",
                "not",
                "$ref",
                "$dynamicRef",
                "$id",
                "$anchor",
                "pattern",
                "patternProperties",
                "enum",
                "const",
                "minimum",
                "multipleOf",
                "maxLength",
                "required",
                "uniqueItems",
                "unevaluatedProperties",
                "additionalProperties",
                "if",
                "then",
                "$schema",
                "$defs",
                "a",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(keyword.prop_map(str::to_owned), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_json_is_a_schema_or_refused(json in almost_a_schema(), value in any_json()) {
            if let Ok(schema) = Schema::parse(&json.to_string()) {
                drop(schema.check(&value.to_string()));
            }
        }
    }
}
