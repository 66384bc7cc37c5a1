//! Supabase's `auth.uid()`, `auth.role()`, `auth.email()` and `auth.jwt()`, as far as their bodies are known.
//!
//! A function of ours takes the place of one of them only if the body that stands in the database gives the same answer
//! for all settings. These bodies do:
//!
//! - those of Supabase Auth since 2022 (migrations `20220224000811_update_auth_functions` and
//!   `20220531120530_add_auth_jwt_function`), which nothing has changed since;
//! - those of `pat.install_auth_schema()`, and the same with or without the parentheses and casts that change nothing.
//!
//! Older ones differ, and are not known: the first ones (`00_init_auth_schema`, once more in v2.154.1 alone) read only
//! the legacy setting, and those of 2021 take an empty setting for a claim (`20211124214934_update_auth_functions`,
//! `20211202183645_update_auth_uid`).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFunction {
    Uid,
    Role,
    Email,
    Jwt,
}

impl AuthFunction {
    pub const ALL: [Self; 4] = [Self::Uid, Self::Role, Self::Email, Self::Jwt];

    /// Its name in the schema `auth`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::Role => "role",
            Self::Email => "email",
            Self::Jwt => "jwt",
        }
    }

    /// Whether a body in SQL gives the same answer as ours, as long as its names mean what they mean in `pg_catalog`.
    pub fn is_known(self, body: &str) -> bool {
        let body = normalized(body);
        let setting = |name: &str| format!("nullif(current_setting('{name}',true),'')");
        let claims = setting("request.jwt.claims");
        let (claim, result) = match self {
            Self::Jwt => {
                let legacy = setting("request.jwt.claim");
                return body == format!("select coalesce({legacy},{claims})::jsonb");
            }
            Self::Uid => ("sub", &["::uuid"][..]),
            Self::Role | Self::Email => (self.name(), &["", "::text"][..]),
        };
        let legacy = setting(&format!("request.jwt.claim.{claim}"));
        let field = format!("{claims}::jsonb->>'{claim}'");
        [format!("({field})"), field].iter().any(|field| {
            let value = format!("select coalesce({legacy},{field})");
            body.strip_prefix(&value)
                .is_some_and(|rest| result.contains(&rest))
        })
    }
}

/// A statement without what makes no difference: the case of what is not quoted, the white space that separates
/// nothing, and a semicolon at the end.
///
/// What is quoted stays as it is, and so do comments, which are thus in no body that is known.
fn normalized(sql: &str) -> String {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Word,
        Operator,
        Other,
    }
    let kind = |character: char| match character {
        '(' | ')' | ',' | '\'' | '"' | ';' | '.' => Kind::Other,
        _ if character.is_alphanumeric() || character == '_' || character == '$' => Kind::Word,
        _ => Kind::Operator,
    };
    // What Postgres takes for white space (`space` in scan.l).
    let is_space =
        |character: &char| matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');

    let mut text = String::with_capacity(sql.len());
    let mut quote = None;
    let mut is_apart = false;
    for character in sql.chars() {
        if quote.is_some() {
            text.push(character);
            quote = quote.filter(|&quote| quote != character);
            continue;
        }
        if is_space(&character) {
            is_apart = true;
            continue;
        }
        // Two words stay two, and two operators; two strings would become one with a quote in it.
        let before = text.chars().next_back();
        if is_apart
            && before.is_some_and(|before| match (kind(before), kind(character)) {
                (Kind::Other, Kind::Other) => before == character && matches!(before, '\'' | '"'),
                (before, after) => before == after,
            })
        {
            text.push(' ');
        }
        is_apart = false;
        quote = Some(character).filter(|character| matches!(character, '\'' | '"'));
        text.push(character.to_ascii_lowercase());
    }
    if quote.is_none() && text.ends_with(';') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the migrations of Supabase Auth write them, white space included.
    fn of_supabase_auth(function: AuthFunction) -> String {
        match function {
            AuthFunction::Jwt => "
  select 
    coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
"
            .into(),
            _ => {
                let (claim, result) = match function {
                    AuthFunction::Uid => ("sub", "uuid"),
                    _ => (function.name(), "text"),
                };
                format!(
                    "
  select 
  \tcoalesce(
\t\tnullif(current_setting('request.jwt.claim.{claim}', true), ''),
\t\t(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> '{claim}')
\t)::{result}
"
                )
            }
        }
    }

    #[test]
    fn bodies_of_supabase_auth_are_known_each_for_its_own_function() {
        for function in AuthFunction::ALL {
            let body = of_supabase_auth(function);
            for other in AuthFunction::ALL {
                assert_eq!(other.is_known(&body), other == function, "{other:?} {body}");
            }
        }
    }

    #[test]
    fn white_space_and_case_make_no_difference_outside_of_quotes() {
        for function in AuthFunction::ALL {
            let body = of_supabase_auth(function);
            let short = body.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            assert!(function.is_known(&short));
            assert!(function.is_known(&format!("{short} ;\n")));
            assert!(function.is_known(&short.replace("select", "SELECT").replace("null", "NULL")));
            assert!(function.is_known(&short.replace('(', " (\r\n\t").replace(')', " ) ")));
            assert!(!function.is_known(&short.replace("'request.jwt", "' request.jwt")));
            assert!(!function.is_known(&short.replace("'request.jwt", "'Request.jwt")));
            assert!(!function.is_known(&short.replace("''", "' '")));
            assert!(!function.is_known(&short.replace("''", "'' ''")));
            assert!(!function.is_known(&short.replace("''", "'\n'")));
        }
    }

    #[test]
    fn what_separates_is_not_dropped() {
        let body = of_supabase_auth(AuthFunction::Uid);
        for (part, other) in [
            ("->>", "- >>"),
            ("->>", "-> >"),
            ("::", ": :"),
            ("select", "sel ect"),
            ("select", "select distinct"),
            ("'sub'", "'s' 'ub'"),
            ("'sub'", "E'sub'"),
            ("'sub'", "$$sub$$"),
            ("nullif", "\"nullif\""),
            ("nullif", "x.nullif"),
            ("nullif", "/* */ nullif"),
            ("select", "select -- as it was\n"),
            ("::uuid", "::uuid;;"),
            ("::uuid", "::uuid; select null::uuid"),
            ("::uuid", "::uuid where true"),
            ("::uuid", "::text"),
            ("true", "false"),
            ("claims", "claim"),
            ("claims", "claimſ"),
            ("->>", "->"),
            ("jsonb", "json"),
        ] {
            assert!(
                !AuthFunction::Uid.is_known(&body.replace(part, other)),
                "{part} {other}"
            );
        }
    }

    #[test]
    fn bodies_that_answer_otherwise_are_not_known() {
        for body in [
            "select nullif(current_setting('request.jwt.claim.sub', true), '')::uuid;",
            "select coalesce(current_setting('request.jwt.claim.sub', true),
                (current_setting('request.jwt.claims', true)::jsonb ->> 'sub'))::uuid",
            "select nullif(coalesce(current_setting('request.jwt.claim.sub', true),
                (current_setting('request.jwt.claims', true)::jsonb ->> 'sub')), '')::uuid",
            "select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid",
            "",
            ";",
        ] {
            assert!(!AuthFunction::Uid.is_known(body), "{body}");
        }
    }
}
