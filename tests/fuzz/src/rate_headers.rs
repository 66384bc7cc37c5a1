use serde_json::Value;
use supabase_pat_core::lease::Counters;
use supabase_pat_core::rate::{Limit, Limits, Which};
use supabase_pat_core::rate_headers::RateHeaders;

use crate::input::{fields, optional, text};
use crate::json;

/// What answers tell of limits, and how it comes into what a function of the database has put there.
///
/// Fields: `response.headers`; a limit and a quota, each as requests and microseconds, and then times of requests.
pub fn rate_headers(data: &[u8]) {
    let input = text(data);
    let [present, numbers] = fields(&input);
    let numbers: Vec<i64> = numbers
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    let &[requests, window, quota, quota_window, ref times @ ..] = &numbers[..] else {
        return;
    };
    let limit = |which, requests, window| {
        i32::try_from(requests)
            .ok()
            .and_then(|requests| Limit::requested(which, requests, window).ok())
    };
    let limits = Limits {
        rate: limit(Which::Rate, requests, window),
        quota: limit(Which::Quota, quota, quota_window),
        have_leases: false,
    };
    let mut counters = Counters::NEW;
    let mut now = 0;
    for time in times {
        now = now.max((*time).clamp(0, 253_402_300_799_000_000));
        let is_admitted = counters.admit(&limits, now).is_ok();
        let Some(headers) = RateHeaders::new(&limits, &counters, now) else {
            assert!(limits.is_none() && is_admitted);
            continue;
        };
        told(&headers, &limits);
    }
    if let Some(headers) = RateHeaders::new(&limits, &counters, now) {
        added(&headers, optional(present));
    }
}

/// A second reading of the two headers: items of a list (RFC 9651), with parameters that are integers.
fn told(headers: &RateHeaders, limits: &Limits) {
    let [policy, state] = headers.each().map(|(_, value)| items(value));
    let known: Vec<(Which, Limit)> = limits.each().collect();
    assert_eq!((policy.len(), state.len()), (known.len(), known.len()));
    for (((name, policy), (other, state)), (which, limit)) in policy.iter().zip(&state).zip(known) {
        assert_eq!(
            (name.as_str(), other.as_str()),
            (which.name(), which.name())
        );
        let &[("q", quota), ("w", window)] = &policy[..] else {
            panic!("{policy:?}");
        };
        let &[("r", remaining), ("t", reset)] = &state[..] else {
            panic!("{state:?}");
        };
        assert_eq!(
            (quota, window),
            (i64::from(limit.requests), limit.seconds().max(1))
        );
        assert!((0..=quota).contains(&remaining));
        assert!((1..=window + 1).contains(&reset), "{reset} of {window}");
    }
}

fn items(value: &str) -> Vec<(String, Vec<(&str, i64)>)> {
    let item = |item| {
        let mut parts = str::split(item, ';');
        let name = parts
            .next()
            .and_then(|name| name.strip_prefix('"')?.strip_suffix('"'));
        let parameters = parts.map(|part| {
            let (key, number) = part.split_once('=').expect("it is a parameter");
            (key, number.parse().expect("it is an integer"))
        });
        (
            name.expect("it is a string").to_owned(),
            parameters.collect(),
        )
    };
    value.split(", ").map(item).collect()
}

fn added(headers: &RateHeaders, present: Option<&str>) {
    let read = |text: &str| -> Option<Vec<Vec<(String, String)>>> {
        let list: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(text).ok()?;
        list.iter()
            .map(|header| json::members(header.get()))
            .collect()
    };
    let before = present.map_or(Some(Vec::new()), read);
    let after = headers.added_to(present);
    assert_eq!(after.is_some(), before.is_some(), "{present:?}");
    let (Some(before), Some(after)) = (before, after) else {
        return;
    };
    let is_ours = |header: &Vec<(String, String)>| {
        header.iter().any(|(name, _)| {
            ["ratelimit", "ratelimit-policy"].contains(&name.to_ascii_lowercase().as_str())
        })
    };
    let after_read = read(&after).expect("it is a list of objects");
    let (ours, others): (Vec<_>, Vec<_>) = after_read.into_iter().partition(is_ours);
    let kept: Vec<_> = before
        .into_iter()
        .filter(|header| !is_ours(header))
        .collect();
    assert_eq!(others, kept, "what was there stays");
    let expected: Vec<_> = headers
        .each()
        .iter()
        .map(|(name, value)| vec![((*name).to_owned(), Value::from(*value).to_string())])
        .collect();
    assert_eq!(ours, expected, "each stands there once");
    assert_eq!(
        headers.added_to(Some(&after)).as_deref(),
        Some(after.as_str()),
        "twice is once"
    );
}
