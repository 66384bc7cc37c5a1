use supabase_pat_core::json::{Members, push_name};
use supabase_pat_core::merge_patch::{MAX_DEPTH, ObjectWriter, apply, depth};

use crate::input::{fields, text};
use crate::json::{self, merged};

/// JSON objects as the core reads and writes them, and RFC 7396 on them. Fields: the target; the patch.
pub fn merge_patch(data: &[u8]) {
    let input = text(data);
    let [target, patch] = fields(&input);
    for text in [target, patch] {
        members_are_those_of_a_second_reading(text);
        names_are_written_as_they_are_read(text);
    }

    let (once, from_nothing) = (apply(Some(target), patch), apply(None, patch));
    let (Some(before), Some(change)) = (json::plain(target), json::plain(patch)) else {
        return;
    };
    assert_eq!(depth(target), json::depth(&before));
    assert_eq!(depth(patch), json::depth(&change));
    // The texts that the core is given are jsonb's, which have nothing around them.
    if target.trim() != target || patch.trim() != patch || json::depth(&change) > MAX_DEPTH {
        return;
    }
    let after = json::plain(&once).expect("what is merged names nothing twice");
    assert_eq!(after, merged(Some(before.clone()), &change), "{once}");
    assert_eq!(json::plain(&from_nothing), Some(merged(None, &change)));
    assert_eq!(json::plain(&apply(Some(&once), patch)), Some(after.clone()));
    if before.is_object() {
        assert_eq!(
            json::plain(&apply(Some(target), "{}")),
            Some(before.clone())
        );
    }
    // What the patch does not speak of is handed on to the last digit.
    if change.is_object() {
        let texts = |json: &str| json::unique_members(json).unwrap_or_default();
        let (old, new) = (texts(target), texts(&once));
        for (name, value) in &old {
            assert!(
                !change[name].is_null()
                    || change.as_object().is_some_and(|c| c.contains_key(name))
                    || new.get(name) == Some(value)
            );
        }
    } else {
        assert_eq!(once, patch);
    }
}

fn members_are_those_of_a_second_reading(text: &str) {
    let expected = json::members(text);
    let lenient = Members::parse_lenient(text).ok();
    let pairs = |members: &Members| -> Vec<(String, String)> {
        let pair = |(name, value): (&str, &serde_json::value::RawValue)| {
            (name.to_owned(), value.get().to_owned())
        };
        members.iter().map(pair).collect()
    };
    assert_eq!(lenient.as_ref().map(pairs), expected);
    let strict = Members::parse(text);
    let is_unique = json::unique_members(text).is_some();
    if let Some(strict) = &strict {
        assert!(is_unique && Some(pairs(strict)) == expected);
        assert!(!text.contains("\\u") || json::plain_escapes(text).is_some());
    } else if !text.contains("\\u") {
        assert!(!is_unique);
    }
    let Some(members) = lenient else { return };
    assert_eq!(members.has_doubles(), !is_unique);
    for (name, _) in members.iter() {
        let last = expected
            .as_ref()
            .and_then(|all| all.iter().rfind(|(other, _)| other == name));
        let last = last
            .map(|(_, value)| value.as_str())
            .filter(|value| *value != "null");
        assert_eq!(members.get(name).map(|value| value.get()), last);
        let string: Option<String> = last.and_then(|value| serde_json::from_str(value).ok());
        match members.text(name) {
            Ok(text) => assert_eq!(text.map(|text| text.into_owned()), string),
            Err(_) => assert!(last.is_some() && string.is_none()),
        }
    }
}

fn names_are_written_as_they_are_read(name: &str) {
    let mut written = "{".to_owned();
    push_name(&mut written, name);
    written += "1}";
    let mut object = String::new();
    let mut writer = ObjectWriter::new(&mut object);
    writer.name(name).push('1');
    writer.end();
    for json in [written, object] {
        assert_eq!(
            json::members(&json),
            Some(vec![(name.to_owned(), "1".to_owned())])
        );
    }
}
