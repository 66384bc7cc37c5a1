//! Attributes of a personal access token: what it is limited to beside scopes, such as projects or tenants. An operator
//! declares them, a token has values of them, and policies ask for these.

use std::cell::OnceCell;
use std::collections::HashSet;

use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::Error;
use crate::json::Members;
use crate::json_schema::{self, Flaw, Interrupts, MAX_SCHEMA, Unmet};

const MAX_NAME_LENGTH: usize = 63;
/// In one token.
const MAX_ATTRIBUTES: usize = 32;
/// How many bytes of JSON the attributes of a token may have: a thousand UUIDs take 40 kB.
const MAX_SIZE: usize = 128 << 10;

/// A declared attribute.
pub struct Attribute {
    name: String,
    schema: json_schema::Declared,
    is_required: bool,
}

impl Attribute {
    /// An attribute as somebody declares it. `schema` is a JSON Schema.
    ///
    /// # Errors
    /// [`Error::MalformedAttributeName`], [`Error::AttributeSchema`].
    pub fn declare(
        name: &str,
        schema: Option<String>,
        is_required: bool,
        interrupts: Interrupts,
    ) -> Result<Self, Error> {
        let is_fit = (1..=MAX_NAME_LENGTH).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b));
        if !is_fit {
            return Err(Error::MalformedAttributeName(MAX_NAME_LENGTH));
        }
        let unfit = |at| Error::AttributeSchema {
            name: name.to_owned(),
            at,
        };
        if schema
            .as_ref()
            .is_some_and(|schema| schema.len() > MAX_SCHEMA)
        {
            return Err(unfit(format!("longer than {MAX_SCHEMA} bytes")));
        }
        let attribute = Self::from_stored(name.to_owned(), schema, is_required, interrupts);
        match attribute.schema.flaw() {
            Some(Flaw::External) => Err(unfit("it refers to something else".into())),
            Some(Flaw::Malformed(at)) => Err(unfit(at.clone())),
            None => Ok(attribute),
        }
    }

    /// An attribute as it was declared once.
    pub fn from_stored(
        name: String,
        schema: Option<String>,
        is_required: bool,
        interrupts: Interrupts,
    ) -> Self {
        Self {
            name,
            schema: json_schema::Declared::new(schema, interrupts),
            is_required,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn schema(&self) -> Option<&str> {
        self.schema.text()
    }

    pub fn is_required(&self) -> bool {
        self.is_required
    }

    fn check(&self, value: &str) -> Result<(), Error> {
        self.schema.check(value).map_err(|unmet| {
            let name = self.name.clone();
            match unmet {
                Unmet::Unreadable => Error::AttributeSchema {
                    name,
                    at: String::new(),
                },
                Unmet::Rule(rule) => Error::AttributeRefused { name, rule },
            }
        })
    }
}

/// All declared attributes.
#[derive(Default)]
pub struct Declared(pub Vec<Attribute>);

impl Declared {
    /// Lets a token have the attributes, a JSON object as jsonb prints it, `None` for none.
    ///
    /// # Errors
    /// [`Error::NotAnObject`], [`Error::AttributesTooLarge`], [`Error::UnknownAttribute`], [`Error::AttributeRefused`],
    /// [`Error::AttributeRequired`], [`Error::AttributeSchema`] for a schema that has become unreadable.
    pub fn check(&self, attributes: Option<&str>) -> Result<(), Error> {
        let text = attributes.unwrap_or("{}");
        if text.len() > MAX_SIZE {
            return Err(Error::AttributesTooLarge { max: MAX_SIZE });
        }
        let members = Members::parse_lenient(text).map_err(|_| Error::NotAnObject("attributes"))?;
        if members.iter().count() > MAX_ATTRIBUTES {
            return Err(Error::AttributesTooLarge { max: MAX_SIZE });
        }
        for (name, value) in members.iter() {
            let found = self.0.iter().find(|attribute| attribute.name == name);
            let unknown = || Error::UnknownAttribute(name.chars().take(MAX_NAME_LENGTH).collect());
            found.ok_or_else(unknown)?.check(value.get())?;
        }
        let missing = self
            .0
            .iter()
            .find(|attribute| attribute.is_required && members.get(&attribute.name).is_none());
        match missing {
            Some(attribute) => Err(Error::AttributeRequired(attribute.name.clone())),
            None => Ok(()),
        }
    }
}

/// The attributes of one token.
#[derive(Default)]
pub struct Attributes(Vec<(Box<str>, Held)>);

struct Held {
    json: Box<str>,
    /// What the attribute allows, if it is a text, a number, a boolean or a list of these, as SQL casts them to text.
    values: HashSet<Box<str>>,
    /// Those of the values that are ids as SQL casts them to text. Found when the first id is asked for.
    ids: OnceCell<HashSet<Uuid>>,
}

impl Attributes {
    /// Those of a JSON object, as jsonb prints it. What is none has no attributes: the table of tokens has no such value.
    pub fn parse(text: &str) -> Self {
        let Ok(members) = Members::parse_lenient(text) else {
            return Self::default();
        };
        let held = members.iter().map(|(name, value)| {
            let json = value.get();
            (Box::from(name), Held::parse(json))
        });
        Self(held.collect())
    }

    fn get(&self, name: &str) -> Option<&Held> {
        let found = self.0.iter().find(|(held, _)| **held == *name);
        found.map(|(_, held)| held)
    }

    /// The value of an attribute, as JSON.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(|held| &*held.json)
    }

    /// Whether an attribute allows a value: true for one that the token does not have, and false for `None`, SQL's
    /// null, where it has it.
    pub fn allow(&self, name: &str, value: Option<&str>) -> bool {
        match self.get(name) {
            None => true,
            Some(held) => value.is_some_and(|value| held.values.contains(value)),
        }
    }

    /// As [`Self::allow`] for the text of an id.
    pub fn allow_id(&self, name: &str, id: Option<Uuid>) -> bool {
        match (self.get(name), id) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(held), Some(id)) => held.ids().contains(&id),
        }
    }

    /// Whether `other` allows no more than these do: a list may lose values, or become one of them. Whatever else there is
    /// stays what it is, since a policy may ask for it: what is `true` becomes neither `"true"` nor an empty list.
    pub fn include(&self, other: &Attributes) -> bool {
        self.0
            .iter()
            .all(|(name, mine)| other.get(name).is_some_and(|theirs| mine.includes(theirs)))
    }
}

impl Held {
    fn parse(json: &str) -> Self {
        let values = elements(json).unwrap_or_else(|| vec![json]);
        Self {
            json: json.into(),
            values: values.into_iter().filter_map(text_of).collect(),
            ids: OnceCell::new(),
        }
    }

    fn ids(&self) -> &HashSet<Uuid> {
        self.ids.get_or_init(|| {
            let id_of = |text: &str| {
                let id = Uuid::try_parse(text).ok()?;
                let is_as_printed =
                    text == id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer());
                is_as_printed.then_some(id)
            };
            self.values.iter().filter_map(|text| id_of(text)).collect()
        })
    }

    fn includes(&self, other: &Self) -> bool {
        if self.json == other.json {
            return true;
        }
        let Some(mine) = elements(&self.json) else {
            return false;
        };
        let mine: HashSet<&str> = mine.into_iter().collect();
        let theirs = elements(&other.json).unwrap_or_else(|| vec![&other.json]);
        theirs.iter().all(|value| mine.contains(value))
    }
}

/// The values of a list, as JSON. `None` for what is none.
fn elements(json: &str) -> Option<Vec<&str>> {
    let list: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    Some(list.into_iter().map(RawValue::get).collect())
}

/// What SQL makes of a JSON text, number or boolean as a text. `None` for null, lists and objects.
fn text_of(json: &str) -> Option<Box<str>> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(json).ok().map(Box::from),
        b't' | b'f' | b'-' | b'0'..=b'9' => Some(json.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn declared(list: &[(&str, Option<&str>, bool)]) -> Declared {
        let attribute = |&(name, schema, is_required): &(&str, Option<&str>, bool)| {
            Attribute::declare(name, schema.map(str::to_owned), is_required, || ()).unwrap()
        };
        Declared(list.iter().map(attribute).collect())
    }

    #[test]
    fn an_id_is_allowed_as_its_text_is() {
        let id = Uuid::from_u128(0xabcd_ef00_0000_4000_8000_0000_0000_0001);
        let texts = [
            id.to_string(),
            id.to_string().to_uppercase(),
            id.simple().to_string(),
            id.braced().to_string(),
            id.urn().to_string(),
            "one".into(),
        ];
        for text in &texts {
            for json in [format!("\"{text}\""), format!("[1, \"{text}\"]")] {
                let held = Attributes::parse(&format!("{{\"a\": {json}}}"));
                let as_text = held.allow("a", Some(&id.to_string()));
                assert_eq!(held.allow_id("a", Some(id)), as_text, "{json}");
                assert_eq!(as_text, *text == texts[0], "{json}");
                assert!(!held.allow_id("a", Some(Uuid::nil())));
                assert!(!held.allow_id("a", None));
                assert!(held.allow_id("b", None) && held.allow_id("b", Some(id)));
            }
        }
    }

    #[test]
    fn names_and_schemas_that_cannot_be_used_are_refused() {
        let declare = |name: &str, schema: Option<&str>| {
            Attribute::declare(name, schema.map(str::to_owned), false, || ())
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        for name in ["project", "a", "x.y-z_9"] {
            assert!(declare(name, None).is_ok(), "{name}");
        }
        for name in ["", "Project", "a b", "\u{e9}", &"x".repeat(64)] {
            assert!(declare(name, None).is_err(), "{name}");
        }
        assert!(declare("a", Some(r#"{"type": "array"}"#)).is_ok());
        assert!(declare("a", Some(r#"{"type": 1}"#)).is_err());
        let elsewhere = declare("a", Some(r#"{"$ref": "https://example.com/x"}"#));
        assert!(elsewhere.unwrap_err().contains("refers"));
    }

    #[test]
    fn a_token_has_what_is_declared_and_all_that_is_required() {
        let declared = declared(&[
            ("project", Some(r#"{"type": "array", "minItems": 1}"#), true),
            ("env", None, false),
        ]);
        let check = |text| declared.check(text).map_err(|error| error.to_string());
        assert_eq!(check(Some(r#"{"project": ["a"]}"#)), Ok(()));
        assert_eq!(check(Some(r#"{"project": ["a"], "env": 1}"#)), Ok(()));
        assert!(check(None).unwrap_err().contains("project"));
        assert!(
            check(Some(r#"{"project": []}"#))
                .unwrap_err()
                .contains("minItems")
        );
        assert!(
            check(Some(r#"{"project": ["a"], "x": 1}"#))
                .unwrap_err()
                .contains("\"x\"")
        );
        assert!(check(Some("[]")).is_err());
        let long = format!(r#"{{"project": ["{}"]}}"#, "x".repeat(MAX_SIZE));
        assert!(check(Some(&long)).is_err());
        assert!(Declared::default().check(None).is_ok());
    }

    #[test]
    fn an_attribute_allows_its_values_and_no_others() {
        let held = Attributes::parse(
            r#"{"list": ["a", 1, true, 1.50, null, ["b"]], "one": "x", "none": null, "empty": [], "object": {"a": 1}}"#,
        );
        let allows = |name, value| held.allow(name, Some(value));
        for value in ["a", "1", "true", "1.50"] {
            assert!(allows("list", value), "{value}");
        }
        for value in ["b", "", "A", "1.5", "null", "[\"b\"]"] {
            assert!(!allows("list", value), "{value}");
        }
        assert!(allows("one", "x") && !allows("one", "y"));
        for name in ["none", "empty", "object"] {
            assert!(!allows(name, "a") && !allows(name, "null"), "{name}");
        }
        assert!(allows("absent", "anything") && held.allow("absent", None));
        assert!(!held.allow("list", None));
        assert_eq!(held.value("one"), Some(r#""x""#));
        assert_eq!(held.value("absent"), None);
    }

    #[test]
    fn attributes_become_narrower_only() {
        let includes =
            |mine: &str, theirs: &str| Attributes::parse(mine).include(&Attributes::parse(theirs));
        assert!(includes("{}", r#"{"a": ["x"]}"#));
        assert!(!includes(r#"{"a": ["x"]}"#, "{}"));
        assert!(includes(r#"{"a": ["x", "y"]}"#, r#"{"a": ["x"]}"#));
        assert!(includes(r#"{"a": ["x", "y"]}"#, r#"{"a": "x"}"#));
        assert!(includes(r#"{"a": ["x", "y"]}"#, r#"{"a": [], "b": 1}"#));
        assert!(!includes(r#"{"a": ["x"]}"#, r#"{"a": ["x", "y"]}"#));
        assert!(!includes(r#"{"a": ["x"]}"#, r#"{"a": [["z"]]}"#));
        assert!(!includes(r#"{"a": ["x"]}"#, r#"{"a": {"x": 1}}"#));
        for value in [r#""x""#, "1", "true", "null", r#"{"x": 1}"#] {
            let as_is = format!(r#"{{"a": {value}}}"#);
            for other in [
                r#""true""#,
                r#""1""#,
                "[]",
                "{}",
                "false",
                &format!("[{value}]"),
            ] {
                assert!(
                    !includes(&as_is, &format!(r#"{{"a": {other}}}"#)),
                    "{value}"
                );
            }
            assert!(includes(&format!(r#"{{"a": ["y", {value}]}}"#), &as_is));
        }
        assert!(!includes(r#"{"a": [1, true]}"#, r#"{"a": ["1"]}"#));
        assert!(!includes(r#"{"a": [1, true]}"#, r#"{"a": ["true"]}"#));
        assert!(includes(r#"{"a": {"max": 1}}"#, r#"{"a": {"max": 1}}"#));
        assert!(!includes(r#"{"a": {"max": 1}}"#, r#"{"a": {"max": 2}}"#));
        assert!(!includes(r#"{"a": {"max": 1}}"#, r#"{"a": []}"#));
    }

    proptest! {
        #[test]
        fn what_is_included_allows_no_more(
            mine in prop::collection::vec(0..6_u8, 0..6),
            theirs in prop::collection::vec(0..6_u8, 0..6),
            has in any::<[bool; 2]>(),
        ) {
            let object = |values: &[u8], has| match has {
                true => serde_json::json!({ "a": values }).to_string(),
                false => "{}".to_owned(),
            };
            let [mine, theirs] = [Attributes::parse(&object(&mine, has[0])), Attributes::parse(&object(&theirs, has[1]))];
            let is_narrower = (0..6).all(|value| {
                let value = value.to_string();
                mine.allow("a", Some(&value)) || !theirs.allow("a", Some(&value))
            });
            prop_assert!(!mine.include(&theirs) || is_narrower);
        }
    }
}
