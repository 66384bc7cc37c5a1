//! The headers that tell a client of its limits: `RateLimit-Policy` and `RateLimit`, as the draft
//! draft-ietf-httpapi-ratelimit-headers-10 of the IETF has them, and how they come into an answer of PostgREST's.

use std::fmt::Write;

use crate::json::Members;
use crate::lease::Counters;
use crate::rate::Limits;

const POLICY: &str = "RateLimit-Policy";
const LIMIT: &str = "RateLimit";

/// The values of both headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RateHeaders {
    policy: String,
    limit: String,
}

impl RateHeaders {
    /// What is to be told at the time `now`, in microseconds since 1970. `None` for a token without a limit.
    pub fn new(limits: &Limits, counters: &Counters, now: i64) -> Option<Self> {
        if limits.is_none() {
            return None;
        }
        let (mut policy, mut state) = (String::new(), String::new());
        for (which, limit) in limits.each() {
            let separator = if policy.is_empty() { "" } else { ", " };
            let (used, end) = counters.of(which).used(limit, now);
            let name = which.name();
            let left = limit.requests.saturating_sub(used);
            // Rounded up, as in Retry-After.
            let seconds = (end - now).max(1).saturating_add(999_999) / 1_000_000;
            // A String takes all that is written.
            let _ = write!(
                policy,
                r#"{separator}"{name}";q={};w={}"#,
                limit.requests,
                limit.seconds().max(1)
            );
            let _ = write!(state, r#"{separator}"{name}";r={left};t={seconds}"#);
        }
        Some(Self {
            policy,
            limit: state,
        })
    }

    /// Each header with its value.
    pub fn each(&self) -> [(&'static str, &str); 2] {
        [(POLICY, &self.policy), (LIMIT, &self.limit)]
    }

    /// The value of PostgREST's setting `response.headers` with these headers: what is there stays, but for headers of
    /// these names. `None` if something else is there than PostgREST takes.
    pub fn added_to(&self, present: Option<&str>) -> Option<String> {
        let mut headers = String::from("[");
        for header in present.map_or(Some(Vec::new()), others)? {
            headers.push_str(header);
            headers.push(',');
        }
        for (place, (name, value)) in self.each().into_iter().enumerate() {
            let header = serde_json::json!({ name: value });
            let separator = if place == 0 { "" } else { "," };
            write!(headers, "{separator}{header}").ok()?;
        }
        headers.push(']');
        Some(headers)
    }
}

/// The headers in a value of `response.headers`, each an object, without those of ours.
fn others(present: &str) -> Option<Vec<&str>> {
    let headers: Vec<&serde_json::value::RawValue> = serde_json::from_str(present).ok()?;
    let mut others = Vec::new();
    for header in headers {
        let members = Members::parse_lenient(header.get()).ok()?;
        let is_ours =
            |name: &str| name.eq_ignore_ascii_case(POLICY) || name.eq_ignore_ascii_case(LIMIT);
        if !members.iter().any(|(name, _)| is_ours(name)) {
            others.push(header.get());
        }
    }
    Some(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Limit;

    const SECOND: i64 = 1_000_000;
    const NOW: i64 = 1_800_000_000 * SECOND + 1;

    fn both() -> RateHeaders {
        let limits = Limits {
            rate: Some(Limit {
                requests: 10,
                window: SECOND,
            }),
            quota: Some(Limit {
                requests: 10_000,
                window: 86_400 * SECOND,
            }),
            have_leases: false,
        };
        let mut counters = Counters::NEW;
        assert!(counters.admit(&limits, NOW).is_ok());
        RateHeaders::new(&limits, &counters, NOW).unwrap()
    }

    #[test]
    fn they_tell_of_each_limit() {
        assert_eq!(
            both().each(),
            [
                (
                    "RateLimit-Policy",
                    r#""rate";q=10;w=1, "quota";q=10000;w=86400"#
                ),
                ("RateLimit", r#""rate";r=9;t=1, "quota";r=9999;t=57600"#),
            ]
        );
        assert!(RateHeaders::new(&Limits::NONE, &Counters::NEW, NOW).is_none());
    }

    #[test]
    fn other_headers_stay() {
        let ours = r#"{"RateLimit-Policy":"\"rate\";q=10;w=1, \"quota\";q=10000;w=86400"},{"RateLimit":"\"rate\";r=9;t=1, \"quota\";r=9999;t=57600"}"#;
        let added = |present| both().added_to(present);
        assert_eq!(added(None), Some(format!("[{ours}]")));
        assert_eq!(added(Some("[]")), Some(format!("[{ours}]")));
        let other = r#"{"Cache-Control": "no-store"}"#;
        let present = format!("[{other}]");
        let once = added(Some(&present)).unwrap();
        assert_eq!(once, format!("[{other},{ours}]"));
        assert_eq!(added(Some(&once)).as_ref(), Some(&once), "a second time");
        assert_eq!(
            added(Some(r#"[{"ratelimit": "mine"}]"#)),
            Some(format!("[{ours}]"))
        );
        for unfit in ["", "{}", "[1]", "no", r#"{"a": "b"}"#] {
            assert_eq!(added(Some(unfit)), None, "{unfit}");
        }
    }
}
