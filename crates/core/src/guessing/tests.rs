use super::*;
use crate::codes::Code;
use proptest::prelude::*;
use std::collections::HashMap;

const NOW: i64 = 1_800_000_000_000_000;

fn probability(chance: Chance) -> f64 {
    chance.0 as f64 / 1e12
}

/// What the tries are worth that an allowance lets through in 24 hours, by an attacker who does nothing else and
/// begins with all of it, with codes of so many digits.
fn within_a_day(allowance: Allowance, digits: u32) -> f64 {
    let chance = Chance::of_code(digits);
    let cost = allowance.cost(chance);
    let mut level = Level::NONE;
    let mut tries = 0_u64;
    let mut now = NOW;
    while now <= NOW + DAY {
        if level.has_room(cost, now) {
            level.raise(cost, now);
            tries += 1;
        } else {
            // When there is room again.
            now += level.whole_at(now) + cost.0 - (now + DAY);
        }
    }
    tries as f64 * probability(chance)
}

/// The numbers of docs/threats.md.
#[test]
fn the_odds_of_the_strongest_attack_are_as_documented() {
    for digits in 5..=8 {
        let address = within_a_day(ADDRESS, digits);
        let all = within_a_day(INSTALLATION, digits);
        assert!(address <= 1.0 / 12_500.0 + 1e-9, "{digits}: {address}");
        assert!(all <= 1.0 / 625.0 + 1e-9, "{digits}: {all}");
    }
    // Six digits: 80 tries at one address, 1,600 at all of them.
    assert!((within_a_day(ADDRESS, 6) - 80e-6).abs() < 1e-9);
    assert!((within_a_day(INSTALLATION, 6) - 1600e-6).abs() < 1e-9);
    // Long ones, a million tries a second.
    let long = 86_400.0 * 1e6 / 10_f64.powi(LONG as i32);
    assert!(long < 1e-5, "{long}");
    assert!(1.0 / 12_500.0 + long < 1.0 / 10_000.0);
    assert!(1.0 / 625.0 + long < 1.0 / 500.0);
}

#[test]
fn a_chance_is_that_of_the_codes_that_are_drawn() {
    for digits in 5..=10 {
        let codes = 1e12 / Chance::of_code(digits).0 as f64;
        assert_eq!(codes, 10_f64.powi(digits as i32));
    }
    assert!(Chance::of_code(LONG).is_none());
    let code = Code::draw(LONG, || Ok(7_u64.to_le_bytes())).unwrap();
    assert_eq!(code.expose().len(), LONG as usize);
}

#[test]
fn short_codes_are_given_out_until_half_is_used_and_again_when_it_has_grown_back() {
    let cost = ADDRESS.cost(Chance::of_code(6));
    let mut level = Level::NONE;
    for _ in 0..20 {
        assert!(level.is_half_free(NOW));
        level.raise(cost, NOW);
    }
    assert!(level.is_half_free(NOW));
    level.raise(cost, NOW);
    assert!(!level.is_half_free(NOW));
    // The code that is out has 19 tries left.
    for _ in 0..19 {
        assert!(level.has_room(cost, NOW));
        level.raise(cost, NOW);
    }
    assert!(!level.has_room(cost, NOW));
    assert!(level.has_room(cost, NOW + DAY / 40));
    assert!(level.is_half_free(NOW + DAY / 2));
    level.lower(cost);
    assert!(level.has_room(cost, NOW));
}

#[test]
fn a_clock_that_is_set_back_stops_nobody_for_longer_than_a_day() {
    let cost = ADDRESS.cost(Chance::of_code(6));
    let mut level = Level::NONE;
    level.raise(cost, NOW);
    let long_ago = NOW - 1000 * DAY;
    assert!(!level.has_room(cost, long_ago));
    level.raise(cost, long_ago);
    assert!(level.is_half_free(long_ago + DAY));
}

#[test]
fn neighbours_count_together() {
    let of = |text: &str| neighbourhood(text.parse().unwrap()).to_string();
    assert_eq!(of("192.0.2.1"), "192.0.2.1");
    assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(of("2001:db8:1:2::1"), "2001:db8:1:2::");
    assert_ne!(of("2001:db8:1:3::1"), "2001:db8:1:2::");
}

#[test]
fn a_place_that_gives_way_is_counted_for_all_that_have_none() {
    let mut places = Places::<Tries, 1, 2>::EMPTY;
    let key = |number: u8| [number; 16];
    for (number, count) in [(1, 5), (2, 3), (3, 1)] {
        let place = places.place(&key(number), 0);
        place.count += count;
        place.expires_at = 10;
    }
    assert_eq!(places.of(&key(1)).at(0), 5);
    // Two has given way to three.
    assert_eq!(places.of(&key(2)).at(0), 3);
    assert_eq!(places.of(&key(9)).at(0), 3);
    // Not for longer than it would have counted itself.
    assert_eq!(places.of(&key(9)).at(10), 0);
    *places.place(&key(9), 10) = Tries::NONE;
    assert_eq!(places.of(&key(2)).at(0), 0);
}

proptest! {
    /// Whatever comes, in tables that are far too small.
    #[test]
    fn nothing_is_counted_too_little(steps in prop::collection::vec((0_u8..12, 1_u32..9, 0_i64..40), 0..200)) {
        let mut levels = Places::<Level, 2, 2>::EMPTY;
        let mut tries = Places::<Tries, 2, 2>::EMPTY;
        let mut exact: HashMap<u8, (Level, Tries)> = HashMap::new();
        let mut now = NOW;
        for (number, cost, pause) in steps {
            let key = [number; 16];
            let cost_in_time = Cost(i64::from(cost) * DAY / 16);
            now += pause * DAY / 100;
            let known = exact.entry(number).or_insert((Level::NONE, Tries::NONE));
            known.0.raise(cost_in_time, now);
            levels.place(&key, now).raise(cost_in_time, now);
            for place in [&mut known.1, tries.place(&key, now)] {
                *place = Tries { count: place.at(now) + cost, expires_at: now + DAY };
            }
            for (number, (level, count)) in &exact {
                prop_assert!(levels.of(&[*number; 16]).whole_at(now) >= level.whole_at(now));
                prop_assert!(tries.of(&[*number; 16]).at(now) >= count.at(now));
            }
        }
    }
}
