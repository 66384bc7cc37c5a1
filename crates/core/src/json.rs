//! The members of a JSON object, each still the text that it is: most are only handed on.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The members of an object, in their order.
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A member that is there, but not of the type that it should have.
pub struct WrongType;

impl<'a> Members<'a> {
    /// `None` if the text is no JSON object, a name stands twice in it, or an escape stands for half
    /// a character or for NUL, which jsonb cannot hold. Which of two values counts differs from parser
    /// to parser (RFC 8259 section 4), and RFC 7515 section 4 and RFC 7519 section 4 let a token that
    /// leaves it open be refused.
    pub fn parse(json: &'a str) -> Option<Self> {
        let is_plain =
            !json.contains("\\u") || serde_json::from_str(json).is_ok_and(|v| !has_nul(&v));
        let members = Self::parse_lenient(json).ok()?;
        (is_plain && !members.has_doubles()).then_some(members)
    }

    /// As [`Self::parse`], but with whatever names and escapes there are: for telling what is wrong
    /// with a text, not for trusting it.
    ///
    /// # Errors
    /// An error of the category `Data` if the text begins as JSON that is not an object, else `Syntax` or `Eof`.
    pub fn parse_lenient(json: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let members = deserializer.deserialize_map(Object)?;
        deserializer.end()?;
        Ok(members)
    }

    /// The value of that name; of several, which only a lenient reading lets in, the last, as in
    /// jsonb. `None` if there is none, or it is null.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rfind(|(other, _)| other == name)?;
        Some(found.1).filter(|value| value.get() != "null")
    }

    /// The string of that name; `None` if there is none, or null.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, WrongType> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        // For any other value serde would compose a message, which takes as long as all the rest.
        if !value.get().starts_with('"') {
            return Err(WrongType);
        }
        let text: Text = serde_json::from_str(value.get()).map_err(|_| WrongType)?;
        Ok(Some(text.0))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Whether a name stands twice.
    pub fn has_doubles(&self) -> bool {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// Adds the name of a member and the colon after it to a text.
pub fn push_name(json: &mut String, name: &str) {
    push_string(json, name);
    json.push(':');
}

/// Adds a string to a text.
pub fn push_string(json: &mut String, text: &str) {
    // All bytes are looked at, so that the compiler can look at sixteen at once.
    let is_special = |special, b: u8| special | (b < b' ') | (b == b'"') | (b == b'\\');
    match text.bytes().fold(false, is_special) {
        false => json.extend(["\"", text, "\""]),
        true => json.push_str(&Value::from(text).to_string()),
    }
}

/// Nesting is no danger here: serde_json's own values go 128 levels deep at most.
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

/// A string, borrowed unless it is written with escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Private to this file, so that nothing reads an object without [`Members::parse`] unseen.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((Text(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_however_it_is_written() {
        assert!(Members::parse(r#"{"exp": 1, "Exp": 2}"#).is_some());
        assert!(Members::parse(r#"{"exp": 1, "exp": 1}"#).is_none());
        assert!(Members::parse(r#"{"exp": 1, "e\u0078p": 2}"#).is_none());
    }

    #[test]
    fn a_lenient_reading_takes_the_last_value_of_a_name() {
        let read = |json| Members::parse_lenient(json).ok().unwrap();
        let members = read(r#"{"exp": 1, "a": "\u0000", "e\u0078p": 2}"#);
        assert!(members.has_doubles());
        assert_eq!(members.get("exp").unwrap().get(), "2");
        assert_eq!(members.text("a").ok().flatten().as_deref(), Some("\0"));
        assert!(!read(r#"{"exp": 1, "Exp": 2}"#).has_doubles());
    }

    #[test]
    fn a_lenient_reading_tells_what_is_no_object_from_what_is_no_json() {
        let error = |json| Members::parse_lenient(json).err().unwrap();
        for json in ["[1]", "1", "null", "\"a\""] {
            assert!(error(json).is_data(), "{json}");
        }
        for json in ["", "x", "{", "{}{}", r#"{"a": "\u0"}"#] {
            assert!(!error(json).is_data(), "{json}");
        }
    }

    #[test]
    fn escapes_that_jsonb_cannot_hold_are_refused() {
        for text in [r"\ud800", r"\udc00\ud800", r"\u0000"] {
            for json in [
                format!(r#"{{"a": ["{text}"]}}"#),
                format!(r#"{{"{text}": 1}}"#),
            ] {
                assert!(Members::parse(&json).is_none(), "{json}");
            }
        }
        for text in [r"\u00e9", r"\ud83d\udd11", r"\\u0000"] {
            assert!(
                Members::parse(&format!(r#"{{"a": "{text}"}}"#)).is_some(),
                "{text}"
            );
        }
    }

    #[test]
    fn values_stay_the_text_that_they_are() {
        let members = Members::parse(r#"{"a": 1.50, "b": {"c": []}, "d": "\u0041"}"#);
        let members = members.unwrap();
        assert_eq!(members.get("a").unwrap().get(), "1.50");
        assert_eq!(members.get("b").unwrap().get(), r#"{"c": []}"#);
        assert!(members.get("c").is_none());
        assert_eq!(members.text("d").ok().flatten().as_deref(), Some("A"));
        assert!(members.text("a").is_err());
        assert!(matches!(members.text("e"), Ok(None)));
    }

    #[test]
    fn nesting_without_end_is_no_danger() {
        let deep = format!("{{\"a\": {}}}", "[".repeat(1_000_000));
        assert!(Members::parse(&deep).is_none());
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        assert!(Members::parse(&deep).is_some());
    }
}
