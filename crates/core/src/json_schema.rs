//! JSON Schemas that values are checked against.
//!
//! They are trusted no further than they need to be: nothing outside of a schema is fetched, neither
//! from a file nor from the network, and `format` is an annotation, as in JSON Schema 2020-12.
//!
//! A check must not take long either. A match takes a time that grows with the length of the text times the size of
//! the pattern, some 0.6 ns for each byte of one and of the other: `(x{1,100}){1,100}` has 480 KB, and would take 17 s
//! for a value of 60 KB. So that product is bounded, and before each match the caller is asked whether somebody still
//! waits for the answer.

use std::cell::OnceCell;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Keyword, PatternOptions, ValidationError, Validator};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// Asks whether somebody still waits for the answer, and does not return if nobody does: Postgres's
/// `CHECK_FOR_INTERRUPTS`.
pub type Interrupts = fn();

/// How many bytes a declared schema may have: a value is checked against each rule in it.
pub const MAX_SCHEMA: usize = 64 << 10;

/// How many bytes a pattern may take once it is compiled, about.
const MAX_PATTERN: usize = 1 << 20;
/// The same for patterns of names, which the validator matches without asking us.
const MAX_NAME_PATTERN: usize = 32 << 10;
/// Up to here a pattern is small enough for a text of any length that settings may have.
const SMALL_PATTERN: usize = 16 << 10;
/// How much the bytes of a pattern times those of a text may be: beyond it, a match takes more than 0.6 s.
const MAX_MATCHING: usize = 1 << 30;

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
    pub fn parse(json: &str, interrupts: Interrupts) -> Result<Self, Flaw> {
        let schema: Value =
            serde_json::from_str(json).map_err(|_| Flaw::Malformed(String::new()))?;
        let built = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex().size_limit(MAX_NAME_PATTERN))
            .with_keyword("pattern", move |_, value, _| {
                match value
                    .as_str()
                    .and_then(|text| Pattern::parse(text, interrupts))
                {
                    Some(pattern) => Ok(Box::new(pattern)),
                    None => Err(ValidationError::schema("no pattern that can be used")),
                }
            })
            .should_validate_formats(false)
            .build(&schema);
        let validator = built.map_err(|error| match error.kind() {
            ValidationErrorKind::Referencing(_) => Flaw::External,
            _ => Flaw::Malformed(error.instance_path().to_string()),
        })?;
        // As it was read, since a name may be written with escapes.
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

/// A schema as somebody has declared it, or none, which any value meets.
pub struct Declared {
    text: Option<String>,
    /// Compiled when the first value is to be checked: that takes 10 µs and more, and 2 ms for the first schema of
    /// a backend.
    compiled: OnceCell<Result<Schema, Flaw>>,
    interrupts: Interrupts,
}

/// Why a value does not meet a declared schema.
pub enum Unmet {
    /// The schema has become one that cannot be used.
    Unreadable,
    /// The rule, as [`Schema::check`] has it.
    Rule(String),
}

impl Declared {
    pub fn new(text: Option<String>, interrupts: Interrupts) -> Self {
        Self {
            text,
            compiled: OnceCell::new(),
            interrupts,
        }
    }

    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// What is wrong with the schema.
    pub fn flaw(&self) -> Option<&Flaw> {
        self.compiled()?.as_ref().err()
    }

    /// # Errors
    /// [`Unmet`].
    pub fn check(&self, value: &str) -> Result<(), Unmet> {
        (self.interrupts)();
        match self.compiled() {
            None => Ok(()),
            Some(Err(_)) => Err(Unmet::Unreadable),
            Some(Ok(schema)) => schema.check(value).map_err(Unmet::Rule),
        }
    }

    fn compiled(&self) -> Option<&Result<Schema, Flaw>> {
        let text = self.text.as_ref()?;
        let parse = || Schema::parse(text, self.interrupts);
        Some(self.compiled.get_or_init(parse))
    }
}

/// The keyword `pattern`.
struct Pattern {
    regex: Regex,
    /// How many bytes it takes, at most.
    size: usize,
    interrupts: Interrupts,
}

impl Pattern {
    fn parse(text: &str, interrupts: Interrupts) -> Option<Self> {
        let text = jsonschema_regex::to_rust_regex(text).ok()?;
        let mut size = SMALL_PATTERN;
        loop {
            interrupts();
            match RegexBuilder::new(&text).size_limit(size).build() {
                Ok(regex) => {
                    return Some(Self {
                        regex,
                        size,
                        interrupts,
                    });
                }
                Err(regex::Error::CompiledTooBig(_)) if size < MAX_PATTERN => size *= 2,
                Err(_) => return None,
            }
        }
    }

    fn matches(&self, value: &Value) -> bool {
        let Some(text) = value.as_str() else {
            return true;
        };
        (self.interrupts)();
        let is_bounded =
            self.size <= SMALL_PATTERN || text.len().saturating_mul(self.size) <= MAX_MATCHING;
        is_bounded && self.regex.is_match(text)
    }
}

impl<'i> Keyword<'i> for Pattern {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        match self.matches(value) {
            true => Ok(()),
            false => Err(ValidationError::custom("the text does not match")),
        }
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        self.matches(value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::merge_patch::tests::any_json;

    fn schema(json: &str) -> Schema {
        Schema::parse(json, || ()).unwrap_or_else(|flaw| panic!("{json}: {flaw:?}"))
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
            assert_eq!(Schema::parse(json, || ()).err(), malformed(at), "{json}");
        }
        assert!(Schema::parse("true", || ()).is_ok());
        assert!(Schema::parse("{}", || ()).is_ok());
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
            assert_eq!(
                Schema::parse(&json, || ()).err(),
                Some(Flaw::External),
                "{json}"
            );
            let json = format!(r#"{{"properties": {{"a": {{"$ref": "{reference}#/x"}}}}}}"#);
            assert_eq!(
                Schema::parse(&json, || ()).err(),
                Some(Flaw::External),
                "{json}"
            );
            let json = format!(r#"{{"$schema": "{reference}"}}"#);
            assert!(Schema::parse(&json, || ()).is_err(), "{json}");
        }
        assert_eq!(
            Schema::parse(r##"{"$ref": "#/$defs/missing"}"##, || ()).err(),
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
            if let Ok(schema) = Schema::parse(json, || ()) {
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
                matches!(Schema::parse(&json, || ()), Err(Flaw::Malformed(at)) if at == "/pattern"),
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_large_pattern_and_a_long_text_do_not_meet() {
        let start = Instant::now();
        let large = schema(r#"{"pattern": "y|(x{1,100}){1,100}z"}"#);
        let text = |len| format!(r#""{}""#, "x".repeat(len));
        assert_eq!(large.check(&text(60_000)), Err("/pattern".into()));
        assert_eq!(large.check(&text(2_000)), Err("/pattern".into()));
        assert!(large.check(&text(500).replace("x\"", "xz\"")).is_ok());
        // A name of letters of any script, which is large too.
        let name = schema(r#"{"pattern": "^[\\p{L} ]{1,10}$"}"#);
        assert!(name.check(r#""Jos\u00e9 P\u00e9rez""#).is_ok());
        assert!(name.check(&text(60_000)).is_err());
        // Small ones match what is as long as settings may be.
        let small = schema(r#"{"pattern": "^[a-z ,.]+$"}"#);
        assert!(small.check(&text(16 << 20)).is_ok());
        assert!(
            // It takes two seconds or so, unoptimised and on a machine that does nothing else.
            start.elapsed() < Duration::from_secs(60),
            "{:?}",
            start.elapsed()
        );
        // What is matched against names must be small.
        for keyword in ["patternProperties", "properties"] {
            let json = format!(r#"{{"{keyword}": {{"y|(x{{1,100}}){{1,100}}z": true}}}}"#);
            assert_eq!(Schema::parse(&json, || ()).is_ok(), keyword == "properties");
        }
        let names = schema(r#"{"patternProperties": {"^[\\w-]{1,40}$": {"type": "number"}}}"#);
        assert!(names.check(r#"{"a-b": "c"}"#).is_err());
    }

    #[test]
    fn whoever_no_longer_waits_is_asked_before_each_match() {
        thread_local! { static ASKED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) }; }
        let json = r#"{"items": {"pattern": "a"}}"#;
        let schema = Schema::parse(json, || ASKED.set(ASKED.get() + 1)).unwrap();
        ASKED.set(0);
        assert!(schema.check(r#"["a", "ba", "ca", 1]"#).is_ok());
        assert_eq!(ASKED.get(), 3);
    }

    #[test]
    fn schemas_that_compare_much_take_no_time() {
        let start = Instant::now();
        let many = |count: usize, text: fn(usize) -> String| {
            (0..count).map(text).collect::<Vec<_>>().join(",")
        };
        let values = [
            format!("[{}]", many(8_000, |i| format!(r#"{{"a":{i}}}"#))),
            format!("[{}]", many(15_000, |i| i.to_string())),
            format!("{{{}}}", many(6_000, |i| format!(r#""k{i}":{i}"#))),
        ];
        let rules = |rule: &str| vec![rule; 100].join(",");
        for json in [
            r#"{"uniqueItems": true}"#.to_owned(),
            format!(
                r#"{{"items": {{"enum": [{}]}}}}"#,
                many(1_000, |i| (i + 20_000).to_string())
            ),
            r#"{"multipleOf": 1e-300, "items": {"multipleOf": 1e-300}}"#.to_owned(),
            format!(
                r#"{{"allOf": [{}]}}"#,
                rules(r#"{"items": {"not": {"type": "null"}}}"#)
            ),
            format!(
                r#"{{"unevaluatedItems": false, "anyOf": [{}]}}"#,
                rules(r#"{"contains": {"type": "null"}}"#)
            ),
            format!(
                r#"{{"unevaluatedProperties": false, "anyOf": [{}]}}"#,
                rules(r#"{"properties": {"k1": true}}"#)
            ),
        ] {
            let schema = schema(&json);
            for value in &values {
                drop(schema.check(value));
            }
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn deep_nesting_is_no_danger() {
        for (open, close) in [
            (r#"{"not": "#, "}"),
            (r#"{"items": "#, "}"),
            (r#"{"allOf": ["#, "]}"),
        ] {
            let deep = |levels| format!("{}true{}", open.repeat(levels), close.repeat(levels));
            assert!(Schema::parse(&deep(100_000), || ()).is_err());
            if let Ok(schema) = Schema::parse(&deep(60), || ()) {
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
            if let Ok(schema) = Schema::parse(&json.to_string(), || ()) {
                drop(schema.check(&value.to_string()));
            }
        }
    }
}
