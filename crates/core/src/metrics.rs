//! What `pat.metrics()` tells, by the names that Prometheus wants: base units, `_total` for what only grows.

/// What a metric is, as in `# TYPE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only grows, and begins at zero when the server starts.
    Counter,
    Gauge,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// The name of its label, if it has one.
    pub label: Option<&'static str>,
}

impl Metric {
    /// Its labels as a JSON object. `value` counts only if it has one.
    pub fn labels(&self, value: &str) -> String {
        match self.label {
            Some(label) => serde_json::json!({ label: value }).to_string(),
            None => "{}".to_owned(),
        }
    }
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident $name:literal $({ $label:literal })? $help:literal;)*) => {
        $(pub const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            label: label!($($label)?),
        };)*

        /// Every metric.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

macro_rules! label {
    () => {
        None
    };
    ($label:literal) => {
        Some($label)
    };
}

metrics! {
    INFO: Gauge "supabase_pat_library_info" { "version" } "Always 1; version is that of the library.";
    REQUESTS: Counter "supabase_pat_requests_total"
        "Requests that the guard or the gate has judged in this database since the server started.";
    REFUSALS: Counter "supabase_pat_refusals_total" { "reason" }
        "Requests that were refused in this database since the server started, by reason.";
    LOST: Counter "supabase_pat_lost_uses_total"
        "Uses of tokens, of all databases, for which there was no room in shared memory since the server started.";
    PLACES: Gauge "supabase_pat_tracked_tokens"
        "Tokens of all databases for which shared memory is taken, in steps of sixteen.";
    MAX_PLACES: Gauge "supabase_pat_tracked_tokens_max"
        "How many tokens there can be room for: supabase_pat.tracked_keys, in steps of sixteen.";
    WORKER: Gauge "supabase_pat_worker_running" "1 if the background worker runs, 0 if not. Absent on a standby.";
    FLUSH_AGE: Gauge "supabase_pat_flush_age_seconds"
        "Seconds since the background worker last wrote the counts. Absent on a standby.";
    TOKENS: Gauge "supabase_pat_tokens" { "state" }
        "Personal access tokens that were revoked, and those that were not, as the statistics of the table estimate them.";
    SESSIONS: Gauge "supabase_pat_sessions"
        "Sessions with refresh tokens of this extension, as the statistics of the table estimate them.";
    DENIED: Gauge "supabase_pat_denied_tokens" "Tokens that were denied with pat.deny_token(), 100000 at most.";
    OUTBOX: Gauge "supabase_pat_outbox_messages" "Mails that wait to be sent, 100000 at most.";
    OUTBOX_AGE: Gauge "supabase_pat_outbox_oldest_age_seconds"
        "Seconds since the oldest mail that waits was put into the outbox, 0 if none waits.";
    SIGNING_KEYS: Gauge "supabase_pat_signing_keys" { "status" } "Signing keys, by status.";
    SIGNING_KEY_AGE: Gauge "supabase_pat_signing_key_age_seconds"
        "Seconds since the current signing key became current. Absent where the configured secret signs.";
    EVENTS: Gauge "supabase_pat_recent_events" { "event" }
        "Events of the last five minutes by their kind, of the 10000 latest.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_wants_them() {
        let mut names: Vec<&str> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let name = metric.name;
            let rest = name.strip_prefix("supabase_pat_").unwrap();
            assert!(
                rest.bytes()
                    .all(|byte| byte == b'_' || byte.is_ascii_lowercase()),
                "{name}"
            );
            assert_eq!(
                rest.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}"
            );
            assert_eq!(rest.contains("age_"), rest.ends_with("_seconds"), "{name}");
            assert!(
                metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']),
                "{name}"
            );
        }
    }

    #[test]
    fn labels_are_json_whatever_is_in_them() {
        assert_eq!(REQUESTS.labels("x"), "{}");
        assert_eq!(REFUSALS.labels("revoked"), r#"{"reason":"revoked"}"#);
        assert_eq!(EVENTS.labels("a\"b\n"), r#"{"event":"a\"b\n"}"#);
    }
}
