//! Whether a statement that runs with the rights of the extension's owner touches only what is the extension's own.
//!
//! Planning a query runs code: predicates and expressions of indexes, immutable functions, policies, casts. On a table of
//! somebody else's that would be their code with the owner's rights, a superuser's as a rule. So such a statement may
//! name nothing that belongs to others, and the compiler checks it. This is not a parser: it accepts what our statements
//! need, and nothing else.

const DEPTH: usize = 16;

/// Fails, which is an error of the compiler's in a constant, unless
///
/// - relations are named `pat.…` or `pg_catalog.…`, or by WITH in the statement itself, one after each FROM, JOIN,
///   INTO, UPDATE, USING (a list with commas could have another one in it);
/// - whatever else has a qualifier has one of these two schemas, or a name that AS gives in the statement;
/// - types are those of `pg_catalog` or `integer`, operators are written `operator(pg_catalog.…)`, but for the `=`
///   of SET;
/// - it is a SELECT, INSERT, UPDATE or DELETE.
pub const fn check(sql: &str) {
    let text = sql.as_bytes();
    assert!(
        !has(text, b"auth.") && !has(text, b"vault.") && !has(text, b"storage."),
        "a statement that runs as the extension's owner names a schema of others"
    );
    assert!(
        begins(text, 0, b"select ")
            || begins(text, 0, b"insert into ")
            || begins(text, 0, b"update ")
            || begins(text, 0, b"delete from ")
            || begins(text, 0, b"with "),
        "not a statement of ours"
    );
    let mut lists = [false; DEPTH];
    let mut assigns = [false; DEPTH];
    let (mut depth, mut at) = (0, 0);
    let mut wants_relation = false;
    // The word before, while nothing else has come between.
    let mut before = (0, 0);
    while at < text.len() {
        let byte = text[at];
        if is_letter(byte) {
            let start = at;
            while at < text.len() && (is_letter(text[at]) || text[at].is_ascii_digit()) {
                at += 1;
            }
            let word = (start, at);
            let is_member = start > 0 && text[start - 1] == b'.';
            let has_member = at < text.len() && text[at] == b'.';
            let is_schema = has_member && (is(text, word, b"pat") || is(text, word, b"pg_catalog"));
            if has_member && !is_member {
                assert!(
                    is_schema || is(text, word, b"excluded") || has_alias(text, word),
                    "a name of a schema of others, or of something without AS"
                );
            }
            if is_member || has_member {
                if !is_member && wants_relation {
                    assert!(is_schema, "a relation of others");
                    wants_relation = false;
                }
                before = (0, 0);
                continue;
            }
            if wants_relation {
                if !is(text, word, b"lateral") {
                    let is_function = is(text, word, b"unnest") && begins(text, at, b"(");
                    assert!(
                        is_function || is_with(text, word),
                        "a relation without its schema"
                    );
                    wants_relation = false;
                }
            } else if is(text, word, b"from") {
                wants_relation = !is(text, before, b"distinct");
                lists[depth] = true;
                assigns[depth] = false;
            } else if is(text, word, b"join") || is(text, word, b"into") || is(text, word, b"using")
            {
                wants_relation = true;
            } else if is(text, word, b"update") {
                wants_relation = !is(text, before, b"for") && !is(text, before, b"do");
            } else if is(text, word, b"set") {
                assigns[depth] = true;
                lists[depth] = false;
            } else if is(text, word, b"where")
                || is(text, word, b"returning")
                || is(text, word, b"select")
                || is(text, word, b"order")
                || is(text, word, b"limit")
                || is(text, word, b"for")
                || is(text, word, b"union")
                || is(text, word, b"insert")
            {
                lists[depth] = false;
                assigns[depth] = false;
            } else if is(text, word, b"operator") {
                assert!(begins(text, at, b"(pg_catalog."), "an operator of others");
                while text[at] != b')' {
                    at += 1;
                }
                at += 1;
            } else {
                let mut other = 0;
                while other < FORBIDDEN.len() {
                    assert!(!is(text, word, FORBIDDEN[other]), "not a statement of ours");
                    other += 1;
                }
            }
            before = word;
            continue;
        }
        match byte {
            b' ' | b'\n' => {
                at += 1;
                continue;
            }
            b'\'' => {
                at += 1;
                while text[at] != b'\'' {
                    assert!(text[at] != b'\\', "a text with a backslash");
                    at += 1;
                }
            }
            b'(' => {
                wants_relation = false;
                depth += 1;
                assert!(depth < DEPTH, "too deeply nested");
                lists[depth] = false;
                assigns[depth] = false;
            }
            b')' => {
                assert!(depth > 0, "brackets that do not match");
                depth -= 1;
            }
            b',' => assert!(!lists[depth], "a list of relations: use JOIN"),
            b':' => {
                assert!(begins(text, at, b"::"), "not a statement of ours");
                at += 1;
                assert!(
                    begins(text, at + 1, b"pg_catalog.") || begins(text, at + 1, b"integer"),
                    "a type of others"
                );
            }
            b'=' if begins(text, at, b"=>") => at += 1,
            b'=' => assert!(assigns[depth], "an operator without its schema"),
            b'*' => assert!(text[at - 1] == b'(', "an operator without its schema"),
            b'$' => assert!(text[at + 1].is_ascii_digit(), "not a statement of ours"),
            b'.' | b'0'..=b'9' => (),
            _ => panic!("an operator without its schema, or a quoted name"),
        }
        before = (0, 0);
        at += 1;
    }
    assert!(depth == 0, "brackets that do not match");
    assert!(!wants_relation, "a relation that is missing");
}

const FORBIDDEN: [&[u8]; 16] = [
    b"table",
    b"only",
    b"cast",
    b"collate",
    b"truncate",
    b"create",
    b"alter",
    b"drop",
    b"grant",
    b"copy",
    b"call",
    b"execute",
    b"merge",
    b"lock",
    b"natural",
    b"xmltable",
];

const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_uppercase() || byte == b'_' || byte >= 128
}

const fn is(text: &[u8], word: (usize, usize), other: &[u8]) -> bool {
    word.1 - word.0 == other.len() && begins(text, word.0, other)
}

const fn begins(text: &[u8], at: usize, other: &[u8]) -> bool {
    if text.len() < at + other.len() {
        return false;
    }
    let mut place = 0;
    while place < other.len() {
        if text[at + place] != other[place] {
            return false;
        }
        place += 1;
    }
    true
}

const fn has(text: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        if begins(text, at, other) {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether the word stands at that place, and ends there.
const fn stands(text: &[u8], at: usize, word: (usize, usize)) -> bool {
    let len = word.1 - word.0;
    let mut place = 0;
    while place < len {
        if at + place >= text.len() || text[at + place] != text[word.0 + place] {
            return false;
        }
        place += 1;
    }
    at + len == text.len() || !is_letter(text[at + len]) && !text[at + len].is_ascii_digit()
}

/// Whether WITH gives something that name.
const fn is_with(text: &[u8], word: (usize, usize)) -> bool {
    let mut at = 0;
    while at < text.len() {
        let after = if begins(text, at, b"with recursive ") {
            at + 15
        } else if begins(text, at, b"with ") {
            at + 5
        } else if begins(text, at, b"), ") {
            at + 3
        } else {
            at += 1;
            continue;
        };
        if stands(text, after, word) && begins(text, after + word.1 - word.0, b" as (") {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether AS or WITH gives something that name.
const fn has_alias(text: &[u8], word: (usize, usize)) -> bool {
    let mut at = 0;
    while at < text.len() {
        if begins(text, at, b" as ") && stands(text, at + 4, word) {
            return true;
        }
        at += 1;
    }
    is_with(text, word)
}

#[cfg(test)]
mod tests {
    use super::check;

    fn is_refused(sql: &'static str) -> bool {
        std::panic::catch_unwind(|| check(sql)).is_err()
    }

    #[test]
    fn what_is_our_own_passes() {
        for sql in [
            "select a from pat.x where b operator(pg_catalog.=) $1 for update",
            "select count(*)::integer from pat.x",
            "insert into pat.x as known (a, b) values ($1, 'it''s, from auth') on conflict (a) do update set b = known.b operator(pg_catalog.+) 1",
            "update pat.x set a = $1, b = case when $2 then a else 2.5 end where c is distinct from $3 returning a",
            "with dead as (update pat.x set a = $2 returning id), more as (select 1) insert into pat.y (b) select id from dead join more on true",
            "delete from pat.x where id in (select id from pat.x where a is null limit 100 for update skip locked)",
            "select pg_catalog.make_interval(secs => 1) from unnest($1, $2) as u (a, b) join pat.x as x on x.id operator(pg_catalog.=) u.a",
            "select $1::pg_catalog.inet, pat.take() from pat.x",
        ] {
            check(sql);
        }
    }

    #[test]
    fn what_is_of_others_is_refused() {
        for sql in [
            // Relations.
            "select a from auth.users",
            "select a from users",
            "select a from pat.x, users",
            "select a from pat.x as x, lateral (select 1) as y",
            "select a from pat.x join public.y on true",
            "select a from pat.x where exists (select from theirs)",
            "select a from \"auth\".users",
            "select a from only pat.x",
            "select (table pat.x)",
            "insert into sessions (a) values (1)",
            "insert into Auth.sessions (a) values (1)",
            "update extensions.x set a = 1",
            "delete from pat.x using auth_x where true",
            "select pg_catalog.query_to_xml('select from auth.users', true, true, '') from pat.x",
            // Types, functions, operators, columns of what has no name here.
            "select $1::mine from pat.x",
            "select $1::auth_x.mine from pat.x",
            "select cast($1 as mine) from pat.x",
            "select theirs.f(1) from pat.x",
            "select a from pat.x where b = $1",
            "select a from pat.x where b operator(public.=) $1",
            "select a || b from pat.x",
            "select a from pat.x where b < 1",
            "select a from pat.x where other.b is null",
            "select a collate mine from pat.x",
            // Other statements.
            "create table pat.y ()",
            "copy pat.x from '/etc/passwd'",
            "select 1; select 2",
            "select a from pat.x -- where",
            "select a from pat.x /* where */",
            "select $$ from auth $$",
            "select e'\\' from '",
            "lock pat.x",
            "",
        ] {
            assert!(is_refused(sql), "{sql}");
        }
    }
}
