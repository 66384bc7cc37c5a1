//! Settings of users: what is declared, and what counts when defaults, a user's own values and those
//! of a request come together.
//!
//! A setting's value is its default, patched with the user's own value, patched with the request's
//! (RFC 7396). A value of a user or a request that is null is none.

use std::cell::OnceCell;

use crate::error::Error;
use crate::json::Members;
use crate::json_schema::{Flaw, Schema};
use crate::merge_patch::{self, MAX_DEPTH, ObjectWriter};

const MAX_KEY_LENGTH: usize = 100;

/// Names of the two arguments, for errors.
pub const OVERRIDES: &str = "overrides";
pub const PATCH: &str = "patch";

/// A setting that there is. The texts of its values are those that jsonb prints.
pub struct Definition {
    key: String,
    default: String,
    schema: Option<String>,
    /// Compiled with the first value that is to be checked: that takes 10 µs and more, and 2 ms for
    /// the first schema of a backend.
    compiled: OnceCell<Result<Schema, Flaw>>,
    is_overridable: bool,
}

impl Definition {
    /// As somebody declares it.
    ///
    /// # Errors
    /// [`Error::MalformedSettingKey`], [`Error::MalformedSchema`], [`Error::SchemaReference`],
    /// [`Error::SettingTooDeep`], [`Error::SettingRefused`] if the default does not meet the schema.
    pub fn declare(
        key: &str,
        default: String,
        schema: Option<String>,
        is_overridable: bool,
    ) -> Result<Self, Error> {
        let is_fit = !key.trim().is_empty()
            && key.chars().count() <= MAX_KEY_LENGTH
            && !key.chars().any(char::is_control);
        if !is_fit {
            return Err(Error::MalformedSettingKey(MAX_KEY_LENGTH));
        }
        let definition = Self::from_stored(key.to_owned(), default, schema, is_overridable);
        match definition.compiled() {
            Some(Err(Flaw::External)) => return Err(Error::SchemaReference(definition.key)),
            Some(Err(Flaw::Malformed(at))) => {
                let at = at.clone();
                let key = definition.key;
                return Err(Error::MalformedSchema { key, at });
            }
            Some(Ok(_)) | None => (),
        }
        definition.check_depth(&definition.default)?;
        definition.check(&definition.default)?;
        Ok(definition)
    }

    /// As it was declared once. Whether it still makes sense shows when it is used.
    pub fn from_stored(
        key: String,
        default: String,
        schema: Option<String>,
        is_overridable: bool,
    ) -> Self {
        Self {
            key,
            default,
            schema,
            compiled: OnceCell::new(),
            is_overridable,
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn default(&self) -> &str {
        &self.default
    }

    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    pub fn is_overridable(&self) -> bool {
        self.is_overridable
    }

    /// Whether a stored value of a user is one that the setting may have.
    pub fn accepts(&self, own: &str) -> bool {
        self.check(&self.patched(own)).is_ok()
    }

    fn patched(&self, patch: &str) -> String {
        merge_patch::apply(Some(&self.default), patch)
    }

    fn compiled(&self) -> Option<&Result<Schema, Flaw>> {
        let schema = self.schema.as_ref()?;
        Some(self.compiled.get_or_init(|| Schema::parse(schema)))
    }

    fn check(&self, value: &str) -> Result<(), Error> {
        let key = || self.key.clone();
        match self.compiled() {
            None => Ok(()),
            Some(Err(_)) => Err(Error::UnreadableSchema(key())),
            Some(Ok(schema)) => schema
                .check(value)
                .map_err(|rule| Error::SettingRefused { key: key(), rule }),
        }
    }

    fn check_depth(&self, value: &str) -> Result<(), Error> {
        match merge_patch::depth(value) {
            ..=MAX_DEPTH => Ok(()),
            _ => Err(Error::SettingTooDeep {
                key: self.key.clone(),
                max: MAX_DEPTH,
            }),
        }
    }
}

/// All settings that there are.
pub struct Definitions {
    list: Vec<Definition>,
    /// What somebody gets who has set nothing.
    defaults: String,
}

impl Definitions {
    pub fn new(list: Vec<Definition>) -> Self {
        let mut defaults = String::new();
        let mut object = ObjectWriter::new(&mut defaults);
        for definition in &list {
            object.name(&definition.key).push_str(&definition.default);
        }
        object.end();
        Self { list, defaults }
    }

    /// The values that count, as an object: of a user with settings of their `own`, if there is one,
    /// in a request that brings `overrides`, of at most `max_size` bytes.
    ///
    /// # Errors
    /// [`Error::NotAnObject`], [`Error::SettingsTooLarge`], [`Error::UnknownSetting`],
    /// [`Error::SettingNotOverridable`], [`Error::SettingTooDeep`], [`Error::SettingRefused`],
    /// [`Error::UnreadableSchema`].
    pub fn effective(
        &self,
        own: Option<&str>,
        overrides: Option<&str>,
        max_size: usize,
    ) -> Result<String, Error> {
        let overrides = match overrides {
            // What some REST servers make of a null that a client passes.
            None | Some("null") => None,
            Some(text) => Some(self.read_overrides(text, max_size)?),
        };
        let own = own.and_then(|own| Members::parse_lenient(own).ok());
        if own.is_none() && overrides.is_none() {
            return Ok(self.defaults.clone());
        }
        let mut effective = String::with_capacity(self.defaults.len());
        let mut object = ObjectWriter::new(&mut effective);
        for definition in &self.list {
            let key = definition.key.as_str();
            let place = object.name(key);
            let own = own.as_ref().and_then(|own| own.get(key));
            match (own, overrides.as_ref().and_then(|new| new.get(key))) {
                (None, None) => place.push_str(&definition.default),
                (Some(own), None) => place.push_str(&definition.patched(own.get())),
                (own, Some(new)) => {
                    let own = own.map(|own| definition.patched(own.get()));
                    let value = own.as_ref().unwrap_or(&definition.default);
                    let value = merge_patch::apply(Some(value), new.get());
                    definition.check(&value)?;
                    place.push_str(&value);
                }
            }
        }
        object.end();
        Ok(effective)
    }

    /// What a user's `own` settings become by a `patch`, if nothing is wrong with any of it.
    ///
    /// # Errors
    /// As [`Self::effective`], but for [`Error::SettingNotOverridable`].
    pub fn patched(
        &self,
        own: Option<&str>,
        patch: &str,
        max_size: usize,
    ) -> Result<String, Error> {
        let patches = read_object(PATCH, patch, max_size)?;
        for (key, patch) in patches.iter() {
            self.find(key)?.check_depth(patch.get())?;
        }
        let patched = merge_patch::apply(Some(own.unwrap_or("{}")), patch);
        // What was too large before, since the limit was lowered, may still become smaller.
        if patched.len() > own.map_or(0, str::len) {
            check_size("settings", &patches, patched.len(), max_size)?;
        }
        let values = Members::parse_lenient(&patched).map_err(|_| Error::NotAnObject(PATCH))?;
        for (key, _) in patches.iter() {
            if let Some(own) = values.get(key) {
                let definition = self.find(key)?;
                definition.check(&definition.patched(own.get()))?;
            }
        }
        Ok(patched)
    }

    fn read_overrides<'a>(&self, text: &'a str, max_size: usize) -> Result<Members<'a>, Error> {
        let overrides = read_object(OVERRIDES, text, max_size)?;
        for (key, value) in overrides.iter() {
            let definition = self.find(key)?;
            if !definition.is_overridable && value.get() != "null" {
                return Err(Error::SettingNotOverridable(definition.key.clone()));
            }
            definition.check_depth(value.get())?;
        }
        Ok(overrides)
    }

    fn find(&self, key: &str) -> Result<&Definition, Error> {
        let found = self.list.iter().find(|definition| definition.key == key);
        found.ok_or_else(|| Error::UnknownSetting(shortened(key)))
    }
}

fn read_object<'a>(
    argument: &'static str,
    text: &'a str,
    max_size: usize,
) -> Result<Members<'a>, Error> {
    let members = Members::parse_lenient(text).map_err(|_| Error::NotAnObject(argument))?;
    check_size(argument, &members, text.len(), max_size)?;
    Ok(members)
}

fn check_size(
    what: &'static str,
    members: &Members<'_>,
    len: usize,
    max: usize,
) -> Result<(), Error> {
    if len <= max {
        return Ok(());
    }
    let largest = members
        .iter()
        .max_by_key(|(key, value)| key.len() + value.get().len());
    let key = largest.map_or(String::new(), |(key, _)| shortened(key));
    Err(Error::SettingsTooLarge {
        what,
        len,
        max,
        key,
    })
}

/// A key that may be anything, for a message.
fn shortened(key: &str) -> String {
    key.chars().take(MAX_KEY_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::merge_patch::tests::any_json;

    const MAX: usize = 1000;

    fn chat() -> Definitions {
        let declare = |key, default, schema: Option<&str>, is_overridable| {
            Definition::declare(
                key,
                str::to_owned(default),
                schema.map(str::to_owned),
                is_overridable,
            )
        };
        let list: Result<Vec<_>, Error> = [
            declare(
                "temperature",
                "0.7",
                Some(r#"{"type": "number", "minimum": 0, "maximum": 2}"#),
                true,
            ),
            declare("system_prompt", r#""Be brief.""#, Some(r#"{"type": "string"}"#), false),
            declare(
                "editor",
                r#"{"theme": "light", "font": {"size": 12, "family": "mono"}}"#,
                Some(r#"{"type": "object", "required": ["font"], "properties": {"font": {"required": ["size"]}}}"#),
                true,
            ),
            declare("anything", "null", None, true),
        ]
        .into_iter()
        .collect();
        Definitions::new(list.unwrap())
    }

    fn effective(own: Option<&str>, overrides: Option<&str>) -> Result<Value, Error> {
        let text = chat().effective(own, overrides, MAX)?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    fn message<T>(result: Result<T, Error>) -> String {
        result.err().map(|error| error.to_string()).unwrap()
    }

    #[test]
    fn the_request_comes_before_the_user_and_the_user_before_the_default() {
        let defaults = json!({
            "temperature": 0.7, "system_prompt": "Be brief.", "anything": null,
            "editor": {"theme": "light", "font": {"size": 12, "family": "mono"}},
        });
        assert_eq!(effective(None, None).unwrap(), defaults);
        assert_eq!(effective(Some("{}"), Some("{}")).unwrap(), defaults);
        assert_eq!(effective(None, Some("null")).unwrap(), defaults);

        let own =
            r#"{"temperature": 1, "system_prompt": "Rhyme.", "editor": {"font": {"size": 14}}}"#;
        let value = effective(
            Some(own),
            Some(r#"{"temperature": 1.5, "editor": {"theme": "dark"}}"#),
        );
        assert_eq!(
            value.unwrap(),
            json!({
                "temperature": 1.5, "system_prompt": "Rhyme.", "anything": null,
                "editor": {"theme": "dark", "font": {"size": 14, "family": "mono"}},
            })
        );
    }

    #[test]
    fn null_removes_within_a_value_and_is_no_value_itself() {
        let value = effective(
            None,
            Some(r#"{"editor": {"theme": null}, "temperature": null}"#),
        )
        .unwrap();
        assert_eq!(
            value["editor"],
            json!({"font": {"size": 12, "family": "mono"}})
        );
        assert_eq!(value["temperature"], json!(0.7));
        let stored = r#"{"editor": {"font": {"family": null}}, "temperature": null}"#;
        let value = effective(Some(stored), None).unwrap();
        assert_eq!(value["editor"]["font"], json!({"size": 12}));
        assert_eq!(value["temperature"], json!(0.7));
        // Not even where overriding is not permitted.
        assert!(effective(None, Some(r#"{"system_prompt": null}"#)).is_ok());
    }

    #[test]
    fn overrides_that_may_not_be_are_refused_by_name() {
        for (overrides, expected) in [
            (r#"{"colour": "pink"}"#, "there is no setting \"colour\""),
            (r#"{"colour": null}"#, "there is no setting \"colour\""),
            (
                r#"{"system_prompt": "Obey."}"#,
                "setting \"system_prompt\" cannot be overridden",
            ),
            (
                r#"{"temperature": 3.25}"#,
                "the value of setting \"temperature\" does not meet its schema (/maximum)",
            ),
            // Only what comes out counts.
            (
                r#"{"editor": {"font": {"size": null}}}"#,
                "the value of setting \"editor\" does not meet its schema (/properties/font/required)",
            ),
            (r#"["temperature"]"#, "overrides must be a JSON object"),
        ] {
            assert_eq!(message(effective(None, Some(overrides))), expected);
        }
        let deep = format!(r#"{{"anything": {}{}}}"#, "[".repeat(65), "]".repeat(65));
        assert_eq!(
            message(effective(None, Some(&deep))),
            "setting \"anything\" is nested more than 64 levels deep"
        );
        let large = format!(r#"{{"temperature": 1, "anything": "{}"}}"#, "x".repeat(MAX));
        assert_eq!(
            message(effective(None, Some(&large))),
            "\"anything\" makes the overrides 1034 bytes long, more than the 1000 that \
             supabase_pat.max_settings_size allows"
        );
        let long = format!(r#"{{"{}": 1}}"#, "k".repeat(900));
        let expected = format!("there is no setting \"{}\"", "k".repeat(100));
        assert_eq!(message(effective(None, Some(&long))), expected);
    }

    #[test]
    fn a_patch_is_taken_whole_or_not_at_all() {
        let settings = chat();
        let patched = |own, patch| settings.patched(own, patch, MAX);
        let own = patched(
            None,
            r#"{"temperature": 1.10, "editor": {"theme": null, "font": {"size": 9}}}"#,
        );
        let own = own.unwrap();
        assert_eq!(
            own,
            r#"{"editor": {"font": {"size": 9}}, "temperature": 1.10}"#
        );
        let own = patched(Some(&own), r#"{"temperature": null, "anything": [1]}"#).unwrap();
        assert_eq!(own, r#"{"editor": {"font": {"size": 9}}, "anything": [1]}"#);
        assert_eq!(
            patched(Some(&own), r#"{"editor": null, "anything": null}"#).unwrap(),
            "{}"
        );
        assert_eq!(patched(Some(&own), "{}").unwrap(), own);

        for patch in [
            r#"{"anything": 2, "colour": null}"#,
            r#"{"anything": 2, "temperature": "hot"}"#,
            r#"{"anything": 2, "editor": {"font": 1, "font": "no object, which is fine"}, "temperature": -1}"#,
            "1",
        ] {
            assert!(patched(Some(&own), patch).is_err(), "{patch}");
        }
    }

    #[test]
    fn what_is_not_declared_any_more_stays_and_does_not_show() {
        let own = r#"{"colour": "pink", "temperature": 1}"#;
        assert_eq!(effective(Some(own), None).unwrap().get("colour"), None);
        let patched = chat()
            .patched(Some(own), r#"{"temperature": 2}"#, MAX)
            .unwrap();
        assert_eq!(patched, r#"{"colour": "pink", "temperature": 2}"#);
    }

    #[test]
    fn settings_that_are_too_large_may_only_shrink() {
        let settings = chat();
        let fill = |len| format!(r#"{{"anything": "{}"}}"#, "x".repeat(len));
        let own = settings.patched(None, &fill(900), MAX).unwrap();
        let more = format!(r#"{{"system_prompt": "{}"}}"#, "y".repeat(100));
        let refused = settings.patched(Some(&own), &more, MAX);
        assert!(
            matches!(refused, Err(Error::SettingsTooLarge { key, .. }) if key == "system_prompt")
        );
        assert!(settings.patched(None, &fill(1000), MAX).is_err());
        assert!(
            settings
                .patched(Some(&own), r#"{"anything": 1}"#, 20)
                .is_ok()
        );
        assert!(
            settings
                .patched(Some(&own), r#"{"temperature": 1}"#, 20)
                .is_err()
        );
        assert!(settings.patched(Some(&own), "{}", 20).is_ok());
    }

    #[test]
    fn a_declaration_must_make_sense() {
        let declare = |key: &str, default: &str, schema: Option<&str>| {
            Definition::declare(key, default.to_owned(), schema.map(str::to_owned), true).map(drop)
        };
        for key in ["", " ", "\u{3000}", "a\nb", "a\u{7f}", &"x".repeat(101)] {
            assert!(
                matches!(
                    declare(key, "1", None),
                    Err(Error::MalformedSettingKey(100))
                ),
                "{key:?}"
            );
        }
        assert!(declare(&"é".repeat(100), "1", None).is_ok());
        assert_eq!(
            message(declare("a", "1", Some(r#"{"type": "text"}"#))),
            "the schema of setting \"a\" is not a JSON Schema that can be used (/type)"
        );
        assert!(matches!(
            declare("a", "1", Some(r#"{"$ref": "file:///etc/passwd"}"#)),
            Err(Error::SchemaReference(key)) if key == "a"
        ));
        assert_eq!(
            message(declare("a", "12345", Some(r#"{"type": "string"}"#))),
            "the value of setting \"a\" does not meet its schema (/type)"
        );
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        assert!(matches!(
            declare("a", &deep, None),
            Err(Error::SettingTooDeep { .. })
        ));
    }

    #[test]
    fn a_schema_that_was_stored_broken_refuses_values_and_leaves_defaults() {
        let broken =
            Definition::from_stored("a".into(), "1".into(), Some("{\"type\": 1}".into()), true);
        let settings = Definitions::new(vec![broken]);
        assert_eq!(settings.effective(None, None, MAX).unwrap(), r#"{"a": 1}"#);
        assert_eq!(
            settings.effective(Some(r#"{"a": 2}"#), None, MAX).unwrap(),
            r#"{"a": 2}"#
        );
        let refused = settings.effective(None, Some(r#"{"a": 2}"#), MAX);
        assert!(matches!(refused, Err(Error::UnreadableSchema(_))));
    }

    /// An object with the keys of [`chat`], and sometimes another.
    fn any_settings() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            Just("temperature"),
            Just("system_prompt"),
            Just("editor"),
            Just("anything"),
            Just("else")
        ];
        let value = prop_oneof![
            any_json(),
            (0.0..3.0).prop_map(Value::from),
            Just(json!({"font": {"size": 1}}))
        ];
        prop::collection::btree_map(key, value, 0..4).prop_map(|members| {
            members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn no_json_is_too_odd(own in any_json(), new in any_json(), text in any::<String>()) {
            let settings = chat();
            for new in [new.to_string(), text] {
                drop(settings.effective(Some(&own.to_string()), Some(&new), MAX));
                drop(settings.patched(Some(&own.to_string()), &new, MAX));
                drop(Definition::declare("a", new, Some(own.to_string()), true));
            }
        }

        #[test]
        fn whatever_is_taken_meets_the_schemas(own in any_settings(), patch in any_settings()) {
            let settings = chat();
            let Ok(own) = settings.patched(None, &own.to_string(), MAX) else { return Ok(()) };
            if let Ok(own) = settings.patched(Some(&own), &patch.to_string(), MAX) {
                let effective = settings.effective(Some(&own), None, MAX).unwrap();
                let effective = Members::parse_lenient(&effective).ok().unwrap();
                prop_assert_eq!(effective.iter().count(), settings.list.len());
                for (key, value) in effective.iter() {
                    prop_assert!(settings.find(key).unwrap().check(value.get()).is_ok());
                }
            }
        }

        #[test]
        fn what_a_user_sets_counts_as_an_override_would(own in any_settings(), patch in any_settings()) {
            let settings = chat();
            let Ok(own) = settings.patched(None, &own.to_string(), MAX) else { return Ok(()) };
            let overridden = settings.effective(Some(&own), Some(&patch.to_string()), MAX);
            if let (Ok(overridden), Ok(own)) = (overridden, settings.patched(Some(&own), &patch.to_string(), MAX))
                // Null in a patch gives the default back, and in an override it removes.
                && !patch.to_string().contains("null")
            {
                let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                prop_assert_eq!(read(&overridden), read(&settings.effective(Some(&own), None, MAX).unwrap()));
            }
        }
    }
}
