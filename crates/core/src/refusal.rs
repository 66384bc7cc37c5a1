//! Why the gate turns a request away, and how it is answered.

use std::net::IpAddr;

use crate::rate_headers::RateHeaders;

/// What a statement does with a table or a function, each named with its schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    Touches(String),
    Calls(String),
}

/// The message is the `Display` text. It tells only what the holder of a token may know of it, and repeats no piece
/// of the token.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The name of the header that has it.
    #[error("the value of {0} is not a complete token")]
    MalformedToken(String),
    #[error("the request presents two different personal access tokens")]
    TwoTokens,
    #[error("the claims of this request are malformed")]
    MalformedClaims,
    #[error("there is no such personal access token")]
    UnknownToken,
    #[error("the personal access token has been revoked")]
    Revoked,
    #[error("the personal access token has expired")]
    Expired,
    #[error("the personal access token is disabled")]
    Disabled,
    #[error("the user of the personal access token no longer exists")]
    UserGone,
    #[error("the user of the personal access token is banned")]
    UserBanned,
    #[error("the session of this login has ended")]
    SessionEnded,
    #[error("this token is no longer accepted")]
    Denied,
    #[error(
        "the personal access token may be used from certain addresses only, and yours is not known"
    )]
    AddressUnknown,
    #[error("the personal access token may not be used from {0}")]
    AddressNotAllowed(IpAddr),
    #[error("the personal access token lacks the scope {scope}")]
    ScopeMissing {
        scope: String,
        /// What a statement does, if it is not the request by itself that needs the scope.
        done: Option<Done>,
    },
    #[error(
        "the personal access token lacks the scope {0}, so the rows that it writes cannot be returned"
    )]
    ReadingMissing(String),
    #[error("no scope covers this request, so a token with a list of scopes may not make it")]
    UnknownRequest,
    #[error("this request was announced too late for its token")]
    TooLate,
    #[error("the role {0} is not for personal access tokens")]
    RoleNotAllowed(String),
    #[error("the personal access token has used up its {requests} requests in {window} seconds")]
    TooManyRequests {
        requests: u32,
        /// Seconds.
        window: i64,
        /// Seconds, rounded up.
        retry_after: i64,
        /// What else the answer tells of the limits.
        headers: Option<RateHeaders>,
    },
    #[error("there is no room to count the requests of the personal access token")]
    NoRoom,
    #[error("the count of the personal access token could not be written in time")]
    NoLease,
    #[error("the requests of the personal access token are counted only on the primary")]
    OnStandby,
    #[error("the requests of the personal access token are not counted without preloading")]
    Unpreloaded,
}

/// Every reason under which a refusal is counted.
pub const REASONS: [&str; 19] = [
    "malformed_token",
    "malformed_claims",
    "unknown_token",
    "revoked",
    "expired",
    "user_gone",
    "user_banned",
    "session_ended",
    "denied",
    "disabled",
    "address_unknown",
    "address_not_allowed",
    "scope_missing",
    "unknown_request",
    "role_not_allowed",
    "too_many_requests",
    "no_room",
    "no_lease",
    "not_counted_here",
];

impl Refusal {
    /// The place of the refusal's kind in [`REASONS`].
    pub fn reason(&self) -> u8 {
        use Refusal::*;
        match self {
            MalformedToken(_) => 0,
            TwoTokens => 0,
            MalformedClaims => 1,
            UnknownToken => 2,
            Revoked => 3,
            Expired => 4,
            UserGone => 5,
            UserBanned => 6,
            SessionEnded => 7,
            Denied => 8,
            Disabled => 9,
            AddressUnknown => 10,
            AddressNotAllowed(_) => 11,
            ScopeMissing { .. } => 12,
            ReadingMissing(_) => 12,
            UnknownRequest => 13,
            TooLate => 13,
            RoleNotAllowed(_) => 14,
            TooManyRequests { .. } => 15,
            NoRoom => 16,
            NoLease => 17,
            OnStandby => 18,
            Unpreloaded => 18,
        }
    }

    /// `PT` and the HTTP status, as PostgREST takes it.
    pub fn code(&self) -> &'static str {
        match self.reason() {
            0..=9 => "PT401",
            10..=14 => "PT403",
            15..=16 => "PT429",
            _ => "PT503",
        }
    }

    pub fn detail(&self) -> Option<String> {
        match self {
            Self::ScopeMissing { done, .. } => done.as_ref().map(|done| match done {
                Done::Touches(table) => {
                    format!("The statement touches {table} with the rights of the request.")
                }
                Done::Calls(function) => {
                    format!(
                        "The statement calls {function} for a row, with the rights of its owner."
                    )
                }
            }),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        use Refusal::*;
        Some(match self {
            MalformedToken(_) => "Copy it again, from its beginning to its end.",
            TwoTokens => "Send one of them.",
            Revoked | Expired | UnknownToken => "Ask for a new one.",
            SessionEnded => "Log in again.",
            Denied => "Use another one.",
            Disabled => "Its user can enable it again: edit_pat(id, disabled => false).",
            AddressUnknown => {
                "Set supabase_pat.trusted_proxies to the number of proxies in front of the REST server that add to X-Forwarded-For."
            }
            ScopeMissing { .. } => "Use a token with that scope.",
            ReadingMissing(_) => {
                "Ask for nothing in return (Prefer: return=minimal), or use a token with that scope."
            }
            OnStandby => {
                "It has a limit whose window is a day or longer. Send the request to the primary."
            }
            Unpreloaded => {
                "It has a limit whose window is a day or longer. Put supabase_pat into shared_preload_libraries and \
                 restart."
            }
            TooLate => {
                "The server must set role, claims and headers in one SELECT, or before the first statement is prepared and the first cursor opened."
            }
            _ => return None,
        })
    }

    /// After how many seconds the request may be made again.
    pub fn retry_after(&self) -> Option<i64> {
        match self {
            Self::TooManyRequests { retry_after, .. } => Some(*retry_after),
            Self::NoRoom | Self::NoLease => Some(1),
            _ => None,
        }
    }

    /// Message and detail of an error with the SQLSTATE `PGRST`, from which PostgREST takes body and
    /// headers of the answer.
    pub fn with_retry_after(&self, retry_after: i64) -> (String, String) {
        let body = serde_json::json!({
            "code": self.code(),
            "message": self.to_string(),
            "details": format!("Try again in {retry_after} seconds."),
            "hint": self.hint(),
        });
        let mut headers = serde_json::Map::new();
        headers.insert("Retry-After".into(), retry_after.to_string().into());
        if let Self::TooManyRequests {
            headers: Some(limits),
            ..
        } = self
        {
            for (name, value) in limits.each() {
                headers.insert(name.into(), value.into());
            }
        }
        let status = self.code().trim_start_matches("PT").parse::<u16>();
        let answer = serde_json::json!({
            "status": status.unwrap_or(429),
            "headers": headers,
        });
        (body.to_string(), answer.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Counters;
    use crate::rate::{Limit, Limits};

    fn all() -> [Refusal; REASONS.len()] {
        use Refusal::*;
        [
            MalformedToken("x-api-key".into()),
            MalformedClaims,
            UnknownToken,
            Revoked,
            Expired,
            UserGone,
            UserBanned,
            SessionEnded,
            Denied,
            Disabled,
            AddressUnknown,
            AddressNotAllowed([192, 0, 2, 1].into()),
            ScopeMissing {
                scope: "todos:read".into(),
                done: None,
            },
            UnknownRequest,
            RoleNotAllowed("service_role".into()),
            TooManyRequests {
                requests: 3,
                window: 60,
                retry_after: 7,
                headers: None,
            },
            NoRoom,
            NoLease,
            OnStandby,
        ]
    }

    #[test]
    fn each_refusal_has_a_reason_and_a_status_of_its_kind() {
        for (place, refusal) in all().iter().enumerate() {
            assert_eq!(usize::from(refusal.reason()), place, "{refusal}");
            let passes = refusal.code() == "PT429" || *refusal == Refusal::NoLease;
            assert_eq!(refusal.retry_after().is_some(), passes);
        }
        let count = |code| {
            all()
                .iter()
                .filter(|refusal| refusal.code() == code)
                .count()
        };
        assert_eq!(
            ["PT401", "PT403", "PT429", "PT503"].map(count),
            [10, 5, 2, 2]
        );
    }

    #[test]
    fn whoever_may_write_and_not_read_is_told_how() {
        let refusal = Refusal::ReadingMissing("todos:read".into());
        assert_eq!((refusal.reason(), refusal.code()), (12, "PT403"));
        assert!(refusal.hint().unwrap().contains("return=minimal"));
    }

    #[test]
    fn a_refusal_for_a_table_names_scope_and_table() {
        let refusal = |done| Refusal::ScopeMissing {
            scope: "notes:read".into(),
            done,
        };
        let for_table = refusal(Some(Done::Touches("public.notes".into())));
        assert!(for_table.to_string().contains("notes:read"));
        assert!(for_table.detail().unwrap().contains("public.notes"));
        assert_eq!(refusal(None).detail(), None);
    }

    #[test]
    fn a_refusal_for_a_while_says_for_how_long() {
        let [.., too_many, _, no_lease, _] = all();
        let (body, answer) = too_many.with_retry_after(7);
        assert_eq!(
            body,
            r#"{"code":"PT429","details":"Try again in 7 seconds.","hint":null,"message":"the personal access token has used up its 3 requests in 60 seconds"}"#
        );
        assert_eq!(answer, r#"{"headers":{"Retry-After":"7"},"status":429}"#);
        let (_, answer) = no_lease.with_retry_after(1);
        assert_eq!(answer, r#"{"headers":{"Retry-After":"1"},"status":503}"#);
    }

    #[test]
    fn a_refusal_tells_of_the_limits() {
        let limits = Limits {
            rate: Some(Limit {
                requests: 3,
                window: 60_000_000,
            }),
            ..Limits::NONE
        };
        let too_many = Refusal::TooManyRequests {
            requests: 3,
            window: 60,
            retry_after: 7,
            headers: RateHeaders::new(&limits, &Counters::NEW, 1),
        };
        let (_, answer) = too_many.with_retry_after(7);
        assert_eq!(
            answer,
            r#"{"headers":{"RateLimit":"\"rate\";r=3;t=60","RateLimit-Policy":"\"rate\";q=3;w=60","Retry-After":"7"},"status":429}"#
        );
    }
}
