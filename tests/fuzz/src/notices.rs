use supabase_pat_core::notices::{Kind, Kinds, language, shown};

use crate::input::{fields, text};
use crate::json;

/// What a mail shows of what others have written.
///
/// Fields: the name of a token, or what a stranger says; the metadata of a user; the setting with the kinds.
pub fn notices(data: &[u8]) {
    let input = text(data);
    let [name, metadata, kinds] = fields(&input);
    let line = shown(name);
    assert!(line.chars().count() <= 201);
    assert!(
        !line.chars().any(|c| c.is_control() || turns(c)),
        "{line:?}"
    );
    assert_eq!(line.trim(), line);
    assert_eq!(
        shown(&line).trim_end_matches('\u{2026}'),
        line.trim_end_matches('\u{2026}'),
        "twice is once"
    );

    if let Some(tag) = language(metadata) {
        assert!((2..=35).contains(&tag.len()));
        assert!(
            tag.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        );
        assert!(!tag.starts_with('-') && !tag.ends_with('-') && !tag.contains("--"));
        let members = json::unique_members(metadata).expect("it is an object without doubles");
        assert!(
            ["locale", "language"]
                .iter()
                .any(|name| members.contains_key(*name))
        );
        let again = serde_json::json!({ "language": tag }).to_string();
        assert_eq!(language(&again), Some(tag));
    }

    if let Some(read) = Kinds::parse(kinds) {
        let names: Vec<&str> = kinds
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect();
        for kind in Kind::ALL {
            assert_eq!(read.has(kind), names.contains(&kind.as_str()));
        }
        assert!(names.iter().all(|name| Kind::named(name).is_some()));
    }
}

/// A second reading of what turns the direction of writing, or ends a line.
fn turns(c: char) -> bool {
    [
        0x61c, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066,
        0x2067, 0x2068, 0x2069,
    ]
    .contains(&u32::from(c))
}
