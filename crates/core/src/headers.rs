//! The headers of a request, as the REST server tells them: a JSON object with a member for each.
//!
//! Each request of each connection has its headers read, most of them for one or two values, and two thirds of what is
//! read are JWTs. A parser of JSON, which must look for escapes in each string and take any value, needs 0.8 µs for a
//! kilobyte. What servers write is plainer: strings alone, no escapes, and no white space but blanks. In such a text
//! each quotation mark begins or ends a string, so it is cut at them. Any other text is left to the parser.

use std::borrow::Cow;

use crate::json::{Members, WrongType};

/// The headers of a request. If a name stands twice, the last one is used, as in jsonb.
#[derive(Default)]
pub struct Headers<'a>(Form<'a>);

#[derive(Default)]
enum Form<'a> {
    /// There are none, or they cannot be read.
    #[default]
    None,
    Plain(Vec<(&'a str, &'a str)>),
    Parsed(Members<'a>),
}

impl<'a> Headers<'a> {
    pub fn parse(json: &'a str) -> Self {
        match plain(json) {
            Some(headers) => Self(Form::Plain(headers)),
            None => match Members::parse_lenient(json) {
                Ok(members) => Self(Form::Parsed(members)),
                Err(_) => Self(Form::None),
            },
        }
    }

    /// The value of a header. `None` if there is none, or it is no string. Names are in lower case.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).ok().flatten()
    }

    /// The value of a header, or, if it is a list or holds half a character, the JSON that stands there: whatever is in
    /// it must not be overlooked.
    pub fn whatever(&self, name: &str) -> Option<Cow<'a, str>> {
        match self.get(name) {
            Ok(text) => text,
            Err(WrongType) => match &self.0 {
                Form::Parsed(members) => members.get(name).map(|value| value.get().into()),
                Form::None | Form::Plain(_) => None,
            },
        }
    }

    fn get(&self, name: &str) -> Result<Option<Cow<'a, str>>, WrongType> {
        match &self.0 {
            Form::None => Ok(None),
            Form::Plain(headers) => {
                let found = headers.iter().rfind(|(other, _)| *other == name);
                Ok(found.map(|(_, value)| Cow::Borrowed(*value)))
            }
            Form::Parsed(members) => members.text(name),
        }
    }
}

/// The members of an object of strings without escapes. `None` for any other text.
fn plain(json: &str) -> Option<Vec<(&str, &str)>> {
    // Of what cannot stand in a string as it is (RFC 8259 section 7), only a quotation mark is left. All bytes of a
    // block are looked at, so that the compiler can look at sixteen at once.
    let is_special = |special, &byte: &u8| special | (byte < b' ') | (byte == b'\\');
    let mut blocks = json.as_bytes().chunks(128);
    if blocks.any(|block| block.iter().fold(false, is_special)) {
        return None;
    }
    let mut quotes = memchr::memchr_iter(b'"', json.as_bytes());
    let mut start = 0;
    // What stands before the next quotation mark.
    let mut next = || {
        let quote = quotes.next()?;
        let part = &json[start..quote];
        start = quote + 1;
        Some(part)
    };
    let is = |part: &str, sign: &str| part == sign || part.trim_matches(' ') == sign;
    if !is(next()?, "{") {
        return None;
    }
    let mut headers = Vec::with_capacity(24);
    loop {
        let name = next()?;
        if !is(next()?, ":") {
            return None;
        }
        headers.push((name, next()?));
        match next() {
            Some(after) if is(after, ",") => (),
            Some(_) => return None,
            None => return is(&json[start..], "}").then_some(headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_plain(json: &str) -> bool {
        matches!(Headers::parse(json).0, Form::Plain(_))
    }

    #[test]
    fn what_servers_write_is_not_left_to_the_parser() {
        for json in [
            r#"{"accept":"*/*"}"#,
            r#"{"accept": "*/*", "x-api-key": "", "user-agent": "{é}"}"#,
            r#" { "a" : "b" , "c":"d" } "#,
        ] {
            assert!(is_plain(json), "{json}");
        }
        assert_eq!(
            Headers::parse(r#"{"a":"1","b":", ","a":"2"}"#)
                .text("a")
                .as_deref(),
            Some("2")
        );
    }

    #[test]
    fn what_is_no_object_of_plain_strings_is_left_to_the_parser() {
        for json in [
            "",
            "{",
            "{}",
            "[]",
            "null",
            r#""""#,
            r#"{""}"#,
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":["b"]}"#,
            r#"{"a":"b""#,
            r#"{"a":"b",}"#,
            r#"{"a":"b"}{"#,
            r#"{"a":"b"} "c""#,
            r#"["a","b"]"#,
            r#"{"a","b"}"#,
            r#"{"a":"b":"c"}"#,
            r#"{{"a":"b"}}"#,
            r#"{"a":"\u0062"}"#,
            r#"{"a":"\""}"#,
            "{\"a\":\"\n\"}",
            "{\n\"a\":\"b\"}",
            "{\"a\":\"b\u{1f}\"}",
            "{\u{a0}\"a\":\"b\"}",
        ] {
            assert!(!is_plain(json), "{json}");
        }
    }

    #[test]
    fn a_list_and_half_a_character_are_not_overlooked() {
        let headers = Headers::parse(r#"{"a": ["b"], "c": "\ud800", "d": null, "e": "\u0066"}"#);
        assert_eq!(headers.text("a"), None);
        assert_eq!(headers.whatever("a").as_deref(), Some(r#"["b"]"#));
        assert_eq!(headers.whatever("c").as_deref(), Some(r#""\ud800""#));
        assert_eq!(headers.whatever("d"), None);
        assert_eq!(headers.whatever("e").as_deref(), Some("f"));
    }

    proptest! {
        /// Pieces of JSON in any order are read as the parser reads them.
        #[test]
        fn a_text_is_read_as_the_parser_reads_it(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ":", ",", " ", "\"", "\"", "\"a\"", "\"b\"", "\"a\":\"b\"", ",\"b\":\"\"",
                "a", "\\", "\\u0061", "\n", "\u{e9}", "null", "1", "{\"a\":\"b\"}",
            ]), 0..9),
            frame in any::<bool>(),
        ) {
            let inner = pieces.concat();
            let json = if frame { format!("{{{inner}}}") } else { inner };
            let headers = Headers::parse(&json);
            let members = Members::parse_lenient(&json).ok();
            for name in ["a", "b", ""] {
                let expected = members.as_ref().and_then(|members| members.text(name).ok().flatten());
                prop_assert_eq!(headers.text(name), expected, "{}", json);
            }
        }

        /// Any names and values, as they are written.
        #[test]
        fn what_was_written_is_read(headers in prop::collection::btree_map("[a-c-]{1,3}", any::<String>(), 1..6)) {
            let json = serde_json::to_string(&headers).unwrap();
            let read = Headers::parse(&json);
            for (name, value) in &headers {
                prop_assert_eq!(read.text(name), Some(Cow::Borrowed(value.as_str())));
            }
        }
    }
}
