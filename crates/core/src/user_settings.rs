//! Settings of users: what is declared, and what counts when defaults, a user's own values and those
//! of a request come together.
//!
//! A setting's value is its default, patched with the user's own value, patched with the request's
//! (RFC 7396). A value of a user or a request that is null is none.

use crate::error::Error;
use crate::json::Members;
use crate::json_schema::{Declared, Flaw, Interrupts, MAX_SCHEMA, Unmet};
use crate::merge_patch::{self, MAX_DEPTH, ObjectWriter};

const MAX_KEY_LENGTH: usize = 100;

/// Names of the two arguments, for errors.
pub const OVERRIDES: &str = "overrides";
pub const PATCH: &str = "patch";

/// A declared setting. The texts of its values are those that jsonb prints.
pub struct Definition {
    key: String,
    default: String,
    schema: Declared,
    is_overridable: bool,
}

/// What a definition says. The JSON is as jsonb prints it.
pub struct Declaration {
    pub key: String,
    /// JSON.
    pub default: String,
    /// A JSON Schema.
    pub schema: Option<String>,
    pub is_overridable: bool,
}

/// What is laid over the defaults, both as JSON objects.
#[derive(Clone, Copy, Default)]
pub struct Layers<'a> {
    /// The user's own values.
    pub own: Option<&'a str>,
    /// What the request brings, over both.
    pub overrides: Option<&'a str>,
}

impl Definition {
    /// A setting as somebody declares it.
    ///
    /// # Errors
    /// [`Error::MalformedSettingKey`], [`Error::SchemaTooLarge`], [`Error::MalformedSchema`], [`Error::SchemaReference`],
    /// [`Error::SettingTooDeep`], [`Error::SettingRefused`] if the default does not meet the schema.
    pub fn declare(declaration: Declaration, interrupts: Interrupts) -> Result<Self, Error> {
        let Declaration { key, schema, .. } = &declaration;
        let is_fit = !key.trim().is_empty()
            && key.chars().count() <= MAX_KEY_LENGTH
            && !key.chars().any(char::is_control);
        if !is_fit {
            return Err(Error::MalformedSettingKey(MAX_KEY_LENGTH));
        }
        if schema
            .as_ref()
            .is_some_and(|schema| schema.len() > MAX_SCHEMA)
        {
            return Err(Error::SchemaTooLarge {
                key: key.clone(),
                max: MAX_SCHEMA,
            });
        }
        let definition = Self::from_stored(declaration, interrupts);
        match definition.schema.flaw() {
            Some(Flaw::External) => return Err(Error::SchemaReference(definition.key)),
            Some(Flaw::Malformed(at)) => {
                let at = at.clone();
                let key = definition.key;
                return Err(Error::MalformedSchema { key, at });
            }
            None => (),
        }
        definition.check_depth(&definition.default)?;
        definition.check(&definition.default)?;
        Ok(definition)
    }

    /// A setting as it was declared once. Whether it still makes sense shows when it is used.
    pub fn from_stored(declaration: Declaration, interrupts: Interrupts) -> Self {
        Self {
            key: declaration.key,
            default: declaration.default,
            schema: Declared::new(declaration.schema, interrupts),
            is_overridable: declaration.is_overridable,
        }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn default(&self) -> &str {
        &self.default
    }

    pub fn schema(&self) -> Option<&str> {
        self.schema.text()
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

    fn check(&self, value: &str) -> Result<(), Error> {
        self.schema.check(value).map_err(|unmet| {
            let key = self.key.clone();
            match unmet {
                Unmet::Unreadable => Error::UnreadableSchema(key),
                Unmet::Rule(rule) => Error::SettingRefused { key, rule },
            }
        })
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

/// All declared settings.
pub struct Definitions {
    list: Vec<Definition>,
    /// The values of a user who has set nothing.
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

    /// What is declared, for whoever makes a form of it: an object of each setting's `default`, `schema`, which is null
    /// where there is none, and `overridable`.
    pub fn described(&self) -> String {
        let mut described = String::new();
        let mut all = ObjectWriter::new(&mut described);
        for definition in &self.list {
            let mut one = ObjectWriter::new(all.name(&definition.key));
            one.name("default").push_str(&definition.default);
            one.name("schema")
                .push_str(definition.schema().unwrap_or("null"));
            one.name("overridable")
                .push_str(if definition.is_overridable {
                    "true"
                } else {
                    "false"
                });
            one.end();
        }
        all.end();
        described
    }

    /// The values that count, as an object. The overrides may have `max_size` bytes at most.
    ///
    /// # Errors
    /// [`Error::NotAnObject`], [`Error::SettingsTooLarge`], [`Error::UnknownSetting`],
    /// [`Error::SettingNotOverridable`], [`Error::SettingTooDeep`], [`Error::SettingRefused`],
    /// [`Error::UnreadableSchema`].
    pub fn effective(
        &self,
        Layers { own, overrides }: Layers,
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
        // Settings that are too large since the limit was lowered may still become smaller.
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

/// A key that may be of any length, shortened for a message.
fn shortened(key: &str) -> String {
    key.chars().take(MAX_KEY_LENGTH).collect()
}

#[cfg(test)]
mod tests;
