use serde_json::Value;
use supabase_pat_core::error::Error;
use supabase_pat_core::merge_patch::MAX_DEPTH;
use supabase_pat_core::user_settings::{Declaration, Definition, Definitions, Layers};

use crate::input::{fields, optional, text};
use crate::json::{self, merged};

const MAX_SIZE: usize = 2_000;

/// Fields: the settings that there are, as an object of objects with `default`, `schema` and `fixed`; a
/// user's own values; the overrides of a request; a patch. They are handed on as jsonb would print
/// them, without doubles, or not at all.
pub fn user_settings(data: &[u8]) {
    let input = text(data);
    let [definitions, own, overrides, patch] = fields(&input);
    let printed = |json: &str| json::plain(json).map(|value| value.to_string());
    // What was stored has gone through `patched`, which lets nothing deeper in.
    let own = optional(own)
        .and_then(printed)
        .filter(|own| json::depth(&value(own)) <= MAX_DEPTH);
    let overrides = printed(overrides);
    let patch = printed(patch);
    let declared = declare(definitions);
    let defaults: Vec<(String, Value)> = declared
        .iter()
        .map(|definition| (definition.key().to_owned(), value(definition.default())))
        .collect();
    let definitions = Definitions::new(declared);

    let of_user = Layers {
        own: own.as_deref(),
        overrides: None,
    };
    let overridden_by = |overrides| Layers {
        overrides: Some(overrides),
        ..of_user
    };
    let of_user = definitions.effective(of_user, MAX_SIZE);
    let of_user = of_user.expect("without overrides nothing is refused");
    assert_eq!(value(&of_user), effective(&defaults, own.as_deref()));
    if let Some(overrides) = &overrides {
        match definitions.effective(overridden_by(overrides), MAX_SIZE) {
            Ok(found) => {
                assert!(overrides.len() <= MAX_SIZE || overrides == "null");
                overridden(value(&of_user), &value(overrides), &value(&found));
            }
            Err(error) => is_short(&error),
        }
    }
    if let Some(patch) = &patch {
        match definitions.patched(own.as_deref(), patch, MAX_SIZE) {
            Ok(new) => patched(&definitions, &defaults, own.as_deref(), patch, &new),
            Err(error) => is_short(&error),
        }
    }
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn declare(definitions: &str) -> Vec<Definition> {
    let Some(Value::Object(members)) = json::plain(definitions) else {
        return Vec::new();
    };
    let declare = |(key, what): (&String, &Value)| {
        let schema = Some(&what["schema"]).filter(|schema| !schema.is_null());
        let default = what["default"].to_string();
        let is_overridable = what["fixed"].is_null();
        let declaration = Declaration {
            key: key.clone(),
            default,
            schema: schema.map(Value::to_string),
            is_overridable,
        };
        match Definition::declare(declaration, || ()) {
            Ok(definition) => {
                assert!(key.chars().count() <= 100);
                assert_eq!(definition.is_overridable(), is_overridable);
                Some(definition)
            }
            Err(error) => {
                is_short(&error);
                None
            }
        }
    };
    members.iter().filter_map(declare).collect()
}

/// Default, patched with the user's own value, for each setting that there is.
fn effective(defaults: &[(String, Value)], own: Option<&str>) -> Value {
    let own = own.map(value).unwrap_or_default();
    let of = |(key, default): &(String, Value)| {
        let value = match &own[key] {
            Value::Null => default.clone(),
            own => merged(Some(default.clone()), own),
        };
        (key.clone(), value)
    };
    defaults.iter().map(of).collect()
}

fn overridden(before: Value, overrides: &Value, found: &Value) {
    let members = before.as_object().expect("settings are an object");
    let expected: Value = members
        .iter()
        .map(|(key, value)| match &overrides[key] {
            Value::Null => (key.clone(), value.clone()),
            new => (key.clone(), merged(Some(value.clone()), new)),
        })
        .collect();
    assert_eq!(*found, expected);
}

fn patched(
    definitions: &Definitions,
    defaults: &[(String, Value)],
    own: Option<&str>,
    patch: &str,
    new: &str,
) {
    assert!(patch.len() <= MAX_SIZE);
    assert!(new.len() <= MAX_SIZE || new.len() <= own.map_or(0, str::len));
    let expected = merged(Some(own.map_or_else(|| value("{}"), value)), &value(patch));
    assert_eq!(value(new), expected);
    let again = definitions.patched(Some(new), patch, MAX_SIZE);
    assert_eq!(
        value(&again.expect("what was taken once is taken twice")),
        expected
    );
    let found = definitions.effective(
        Layers {
            own: Some(new),
            overrides: None,
        },
        MAX_SIZE,
    );
    assert_eq!(
        value(&found.expect("what is stored is read")),
        effective(defaults, Some(new))
    );
}

/// Messages name a setting and a rule of its schema, and so no more than those can hold.
fn is_short(error: &Error) {
    let words = error.to_string();
    assert!(words.len() < 4_000, "{} bytes", words.len());
    assert_eq!(error.sqlstate().len(), 5);
}
