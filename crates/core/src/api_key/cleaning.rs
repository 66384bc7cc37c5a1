//! What got into a key on its way, and the key without it.

use std::collections::BTreeSet;

/// Something that got into a key on its way, in the order of the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flaw {
    Invisible,
    VariableName,
    HeaderName,
    Bearer,
    Quotes,
    EndMark,
    SpaceAround,
    LineBreak,
    SpaceInside,
    Doubled,
}

impl Flaw {
    pub(super) fn problem(self) -> &'static str {
        match self {
            Self::Invisible => {
                "The key contains invisible characters, such as a byte order mark or zero-width \
                 spaces. Delete it and type or paste it as plain text."
            }
            Self::VariableName => {
                "A variable's name and an equals sign stand before the key. Paste only what \
                 follows them."
            }
            Self::HeaderName => {
                "A header's name and a colon stand before the key. Paste only what follows them."
            }
            Self::Bearer => {
                "The word Bearer stands before the key. It belongs in the request's header; \
                 store the key without it."
            }
            Self::Quotes => {
                "There are quotation marks around the key. Remove them: not every program that \
                 reads .env files does."
            }
            Self::EndMark => "A comma or semicolon follows the key. Remove it.",
            Self::SpaceAround => {
                "There is white space or a line break before or after the key. Remove it."
            }
            Self::LineBreak => {
                "The key is broken by line breaks, as by a terminal or an e-mail. Join its lines \
                 into one."
            }
            Self::SpaceInside => "There is white space inside the key. Remove it.",
            Self::Doubled => "The key was pasted twice. Remove one of the two.",
        }
    }
}

/// Takes one kind of flaw off the ends of a text, if it is there.
type Step = fn(&str) -> Option<&str>;

const STEPS: [(Flaw, Step); 6] = [
    (Flaw::SpaceAround, |text| shorter(text, text.trim())),
    (Flaw::Quotes, |text| {
        shorter(text, text.trim_matches(is_quote))
    }),
    (Flaw::EndMark, |text| {
        shorter(text, text.trim_end_matches([',', ';']))
    }),
    (Flaw::Bearer, |text| after_word(text, "bearer")),
    (Flaw::VariableName, |text| after_name(text, '=')),
    (Flaw::HeaderName, |text| after_name(text, ':')),
];

/// The key in `key`, and what was around and in it. A step looks only at what it takes off and at
/// a name's length more, or else it ends the loop, so that the time is linear.
pub(super) fn clean(key: &str) -> (String, BTreeSet<Flaw>) {
    let mut flaws = BTreeSet::new();
    let visible: String = key.chars().filter(|c| !is_invisible(*c)).collect();
    if visible.len() < key.len() {
        flaws.insert(Flaw::Invisible);
    }
    let mut rest = visible.as_str();
    let step = |text| {
        STEPS
            .iter()
            .find_map(|(flaw, step)| Some((*flaw, step(text)?)))
    };
    while let Some((flaw, stripped)) = step(rest) {
        flaws.insert(flaw);
        rest = stripped;
    }
    if rest.contains(is_line_break) {
        flaws.insert(Flaw::LineBreak);
    }
    if rest.contains(|c: char| c.is_whitespace() && !is_line_break(c)) {
        flaws.insert(Flaw::SpaceInside);
    }
    let mut text: String = rest.chars().filter(|c| !c.is_whitespace()).collect();
    if is_double(&text) {
        flaws.insert(Flaw::Doubled);
        text.truncate(text.len() / 2);
    }
    (text, flaws)
}

fn shorter<'a>(text: &str, stripped: &'a str) -> Option<&'a str> {
    (stripped.len() < text.len()).then_some(stripped)
}

/// What follows a word, in any case, and white space.
fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = text.split_at_checked(word.len())?;
    (first.eq_ignore_ascii_case(word) && rest.starts_with(char::is_whitespace))
        .then(|| rest.trim_start())
}

/// What follows a name, declared or not, and `sign`. Base64 can look like a name: the beginning of a
/// key is none, and neither is text whose only `=` is the padding at its end, unless it is in
/// capitals, as only variables are.
fn after_name(text: &str, sign: char) -> Option<&str> {
    const MAX_NAME: usize = 64;
    const DECLARED_BY: [&str; 6] = ["export", "set", "env", "const", "let", "var"];
    let named = DECLARED_BY
        .iter()
        .find_map(|word| after_word(text, word))
        .unwrap_or(text);
    let end = named
        .bytes()
        .take(MAX_NAME)
        .take_while(|b| b.is_ascii_alphanumeric() || b"_-".contains(b))
        .count();
    let (name, rest) = named.split_at(end);
    let value = rest
        .trim_start_matches(|c| c == ' ' || is_quote(c))
        .strip_prefix(sign)?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !["eyJ", "sb_", "sbp_", "sbpat_"]
            .iter()
            .any(|start| name.starts_with(start));
    let is_value = match sign {
        '=' if value.is_empty() => !name.contains(|c: char| c.is_ascii_lowercase()),
        '=' => !value.starts_with('='),
        _ => !value.starts_with("//"),
    };
    (is_name && is_value).then(|| value.trim_start())
}

/// Whether a text is the same thing twice, and long enough for that to be no accident.
fn is_double(text: &str) -> bool {
    const MIN_BYTES: usize = 40;
    let half = text.len() / 2;
    text.len() >= MIN_BYTES && text.as_bytes()[..half] == text.as_bytes()[half..]
}

/// Marks that have no width and no place in a key: joiners, directions, byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
    )
}

pub(super) fn is_quote(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '`' | '\u{b4}' | '\u{ab}' | '\u{bb}' | '\u{2018}'..='\u{201f}'
    )
}

fn is_line_break(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}
