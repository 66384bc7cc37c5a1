use std::collections::BTreeMap;
use std::net::IpAddr;

use supabase_pat_core::forwarded::client_address;
use supabase_pat_core::rate::{Counter, Limit, Which};
use supabase_pat_core::refresh_token::{Outcome, Presented, Progress};
use supabase_pat_core::refusal::Refusal;
use supabase_pat_core::token::{Kind, check_name};

use crate::input::{fields, text};

/// What the gate counts and compares. Fields: a header `X-Forwarded-For`; the number of trusted
/// proxies; a rate limit, as requests and microseconds, and then the times of requests; the name of a
/// token.
pub fn gate(data: &[u8]) {
    let input = text(data);
    let [header, proxies, rate, name] = fields(&input);
    addresses(header, proxies.parse().unwrap_or(1));
    let numbers: Vec<i64> = rate
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    if let [requests, window, times @ ..] = &numbers[..] {
        rate_limit(*requests, *window, times);
    }
    refreshing(&numbers);
    names(name);
}

fn addresses(header: &str, proxies: usize) {
    let found = client_address(header, proxies);
    let entries: Vec<&str> = header.split(',').map(str::trim).collect();
    let entry = (1..=entries.len())
        .contains(&proxies)
        .then(|| entries[entries.len() - proxies]);
    let Some(entry) = entry else {
        assert_eq!(found, None);
        return;
    };
    // Whatever stands before the entry that counts, and nothing else, is a stranger's to choose.
    let rest = entries[entries.len() - proxies..].join(",");
    for before in ["", "192.0.2.7", ",,", "x, y", header] {
        assert_eq!(client_address(&format!("{before},{rest}"), proxies), found);
    }
    assert_eq!(
        client_address(&format!("{header}, 192.0.2.7"), proxies + 1),
        found
    );
    let Some(address) = found else {
        assert!(entry.parse::<IpAddr>().is_err());
        return;
    };
    assert_eq!(address.to_canonical(), address);
    let bare = entry.trim_start_matches('[');
    let bare = bare.split_once(']').map_or(bare, |(bare, _)| bare);
    let without_port = match bare.matches(':').count() {
        1 => bare.split_once(':').map_or(bare, |(bare, _)| bare),
        _ => bare,
    };
    let without_zone = without_port
        .split_once('%')
        .map_or(without_port, |(bare, _)| bare);
    assert_eq!(
        without_zone.parse::<IpAddr>().map(|ip| ip.to_canonical()),
        Ok(address)
    );
    for spelling in [
        address.to_string(),
        std::net::SocketAddr::new(address, 443).to_string(),
        format!(" [{address}]\t"),
    ] {
        assert_eq!(client_address(&spelling, 1), Some(address), "{spelling}");
    }
}

fn rate_limit(requests: i64, window: i64, times: &[i64]) {
    const DAY: i64 = 86_400_000_000;
    let Ok(requests) = i32::try_from(requests) else {
        return;
    };
    let limit = match Limit::requested(Which::Rate, requests, window) {
        Ok(limit) => limit,
        Err(_) => {
            assert!(requests < 1 || !(1_000_000..=31 * DAY).contains(&window));
            return;
        }
    };
    assert!((1..=31 * 86_400).contains(&limit.seconds()));
    assert!((0..1_000_000).contains(&(limit.window - window)));
    let window = limit.window;
    // Clocks show the years 1970 to 9999.
    let times = times
        .iter()
        .map(|time| (*time).clamp(0, 253_402_300_799_000_000));

    let (mut counter, mut latest) = (Counter::NEW, 0);
    let mut admitted: BTreeMap<i64, u32> = BTreeMap::new();
    for time in times.clone() {
        // As they come, a clock that goes back included, nothing fails and no wait is endless.
        if let Err(wait) = counter.admit(limit, time) {
            assert!((1..=2 * window).contains(&wait));
            let refusal = Refusal::TooManyRequests {
                requests: limit.requests,
                window: limit.seconds(),
                retry_after: wait,
                headers: None,
            };
            assert_eq!(
                (refusal.code(), refusal.retry_after()),
                ("PT429", Some(wait))
            );
        }
    }
    counter = Counter::NEW;
    for time in times {
        latest = latest.max(time);
        let used = admitted.entry(latest.div_euclid(window)).or_default();
        if counter.is_over(latest) {
            assert_eq!(
                *used, 0,
                "what is forgotten has counted nothing in this window"
            );
        }
        match counter.admit(limit, latest) {
            Ok(()) => {
                *used += 1;
                assert!(*used <= limit.requests);
            }
            Err(wait) => {
                assert_eq!(*used, limit.requests);
                assert_eq!((latest + wait).rem_euclid(window), 0);
                let mut later = counter;
                assert!(later.admit(limit, latest + wait).is_ok());
            }
        }
    }
}

fn refreshing(numbers: &[i64]) {
    let [
        live,
        number,
        previously_refreshed_at,
        refreshed_at,
        now,
        interval,
        ..,
    ] = numbers[..]
    else {
        return;
    };
    let bound = |number: i64| number.clamp(0, 253_402_300_799_000_000);
    let (live, number) = (bound(live), bound(number));
    let progress = Progress {
        live,
        refreshed_at: bound(refreshed_at),
        previously_refreshed_at: bound(previously_refreshed_at),
    };
    let is_on_its_way = |replaced_at: i64| bound(now) - replaced_at <= bound(interval);
    let presented = Presented {
        number,
        at: bound(now),
    };
    let outcome = progress.outcome(presented, bound(interval));
    match live - number {
        0 => assert_eq!(outcome, Outcome::Next),
        ..0 => assert_eq!(outcome, Outcome::Reused),
        1 if is_on_its_way(progress.refreshed_at) => assert_eq!(outcome, Outcome::LiveAgain),
        2 if is_on_its_way(progress.previously_refreshed_at) => {
            assert_eq!(outcome, Outcome::LiveAgain);
        }
        1 | 2 => assert_eq!(outcome, Outcome::Reused),
        3.. => assert_eq!(outcome, Outcome::Reused),
    }
}

fn names(name: &str) {
    let is_fit = check_name(name, 100).is_ok();
    let length = name.chars().count();
    assert_eq!(
        is_fit,
        length <= 100 && !name.trim().is_empty() && !name.chars().any(char::is_control)
    );
    match name.parse::<Kind>() {
        Ok(kind) => assert_eq!(kind.as_str(), name),
        Err(error) => assert!(error.to_string().chars().count() < 80),
    }
}
