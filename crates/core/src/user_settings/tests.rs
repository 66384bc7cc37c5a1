use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::merge_patch::tests::any_json;

const MAX: usize = 1000;

fn declaration(key: &str, default: &str, schema: Option<&str>) -> Declaration {
    Declaration {
        key: key.to_owned(),
        default: default.to_owned(),
        schema: schema.map(str::to_owned),
        is_overridable: true,
    }
}

fn chat() -> Definitions {
    let declare = |key, default, schema: Option<&str>, is_overridable| {
        let declaration = Declaration {
            is_overridable,
            ..declaration(key, default, schema)
        };
        Definition::declare(declaration, || ())
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
    let text = chat().effective(Layers { own, overrides }, MAX)?;
    Ok(serde_json::from_str(&text).unwrap())
}

fn layers<'a>(own: &'a str, overrides: Option<&'a str>) -> Layers<'a> {
    let own = Some(own);
    Layers { own, overrides }
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

    let own = r#"{"temperature": 1, "system_prompt": "Rhyme.", "editor": {"font": {"size": 14}}}"#;
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
    assert!(matches!(refused, Err(Error::SettingsTooLarge { key, .. }) if key == "system_prompt"));
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
        Definition::declare(declaration(key, default, schema), || ()).map(drop)
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
    let broken = declaration("a", "1", Some("{\"type\": 1}"));
    let settings = Definitions::new(vec![Definition::from_stored(broken, || ())]);
    let effective = |own, overrides| settings.effective(Layers { own, overrides }, MAX);
    assert_eq!(effective(None, None).unwrap(), r#"{"a": 1}"#);
    assert_eq!(effective(Some(r#"{"a": 2}"#), None).unwrap(), r#"{"a": 2}"#);
    let refused = effective(None, Some(r#"{"a": 2}"#));
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

#[test]
fn what_is_declared_is_described() {
    let described: Value = serde_json::from_str(&chat().described()).unwrap();
    assert_eq!(
        described["temperature"],
        json!({"default": 0.7, "schema": {"type": "number", "minimum": 0, "maximum": 2}, "overridable": true})
    );
    assert_eq!(described["system_prompt"]["overridable"], json!(false));
    assert_eq!(
        described["anything"],
        json!({"default": null, "schema": null, "overridable": true})
    );
    assert_eq!(described.as_object().unwrap().len(), 4);
    assert_eq!(Definitions::new(Vec::new()).described(), "{}");
}

proptest! {
    #[test]
    fn no_json_is_too_odd(own in any_json(), new in any_json(), text in any::<String>()) {
        let settings = chat();
        for new in [new.to_string(), text] {
            drop(settings.effective(layers(&own.to_string(), Some(&new)), MAX));
            drop(settings.patched(Some(&own.to_string()), &new, MAX));
            let own = own.to_string();
            drop(Definition::declare(declaration("a", &new, Some(&own)), || ()));
        }
    }

    #[test]
    fn whatever_is_taken_meets_the_schemas(own in any_settings(), patch in any_settings()) {
        let settings = chat();
        let Ok(own) = settings.patched(None, &own.to_string(), MAX) else { return Ok(()) };
        if let Ok(own) = settings.patched(Some(&own), &patch.to_string(), MAX) {
            let effective = settings.effective(layers(&own, None), MAX).unwrap();
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
        let overridden = settings.effective(layers(&own, Some(&patch.to_string())), MAX);
        if let (Ok(overridden), Ok(own)) = (overridden, settings.patched(Some(&own), &patch.to_string(), MAX))
            // Null in a patch gives the default back, and in an override it removes.
            && !patch.to_string().contains("null")
        {
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            prop_assert_eq!(read(&overridden), read(&settings.effective(layers(&own, None), MAX).unwrap()));
        }
    }
}
