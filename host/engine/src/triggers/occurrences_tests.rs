//! Times of schedules: month ends, leap years, long gaps, clocks that jump; and none of them twice.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use handshake_core::workflow::Period;
use proptest::prelude::*;

use super::*;

fn cron(expression: &str) -> Schedule {
    Schedule::Cron(expression.to_owned())
}

fn every(seconds: u64) -> Schedule {
    Schedule::Every(Period(Duration::from_secs(seconds)))
}

fn at(text: &str) -> Timestamp {
    let text = if text.len() == 10 { format!("{text}T00:00:00Z") } else { format!("{text}Z") };
    Timestamp::parse(&text).unwrap()
}

/// The next times of a cron expression, without what they have in common.
fn next(expression: &str, from: &str, many: usize) -> Vec<String> {
    let times = std::iter::successors(Some(at(from)), |time| first(&cron(expression), *time).ok());
    times.skip(1).take(many).map(|time| time.to_string().replace(":00.000000Z", "")).collect()
}

#[test]
fn cron_expressions_come_when_they_say() {
    assert_eq!(next("0 6 * * *", "2026-01-01T06:00:00", 2), ["2026-01-02T06:00", "2026-01-03T06:00"]);
    assert_eq!(next("*/20 * * * *", "2026-12-31T23:30:30.5", 2), ["2026-12-31T23:40", "2027-01-01T00:00"]);
    assert_eq!(next("0 0 31 * *", "2026-01-31", 3), ["2026-03-31T00:00", "2026-05-31T00:00", "2026-07-31T00:00"]);
    assert_eq!(next("30 4 29 2 *", "2026-01-01", 2), ["2028-02-29T04:30", "2032-02-29T04:30"]);
    // 2100 is no leap year.
    assert_eq!(next("0 0 29 2 *", "2096-03-01", 1), ["2104-02-29T00:00"]);
    // Day of the month or day of the week, as cron has it when both are said.
    assert_eq!(next("0 0 13 * FRI", "2026-02-01", 3), ["2026-02-06T00:00", "2026-02-13T00:00", "2026-02-20T00:00"]);
    // When clocks elsewhere are put forward and back, UTC goes on.
    assert_eq!(next("30 2 * * *", "2026-03-28T03:00:00", 2), ["2026-03-29T02:30", "2026-03-30T02:30"]);
    assert_eq!(next("30 1 * * *", "2026-10-24T03:00:00", 2), ["2026-10-25T01:30", "2026-10-26T01:30"]);
}

#[test]
fn expressions_that_are_not_understood_or_never_come_are_refused() {
    for bad in ["", "0 6 * *", "0 0 6 * * *", "@daily", "60 * * * *", "* * * * MOO", "0 0 30 2 *", "0 0 31 4,6 *", "ä"]
    {
        let problem = Cron::parse(bad).unwrap_err();
        assert!(problem.contains(&format!("`{bad}`")), "{problem}");
        assert!(occurrences(&cron(bad), Missed::All, at("2026-01-01"), at("2027-01-01")).is_err());
    }
    assert!(Cron::parse(&format!("{}0 6 * * *", "0,".repeat(1_000))).is_err());
}

#[test]
fn what_was_missed_is_skipped_or_made_up_for_once_or_each() {
    let (schedule, next_at, now) = (cron("0 6 * * *"), at("2026-01-01T06:00:00"), at("2026-01-04T06:00:20"));
    let look = |missed| occurrences(&schedule, missed, next_at, now).unwrap();
    let next = at("2026-01-05T06:00:00");
    let days = |days: &[u32]| days.iter().map(|day| at(&format!("2026-01-0{day}T06:00:00"))).collect::<Vec<_>>();
    let due = |fire, left_out| Due { fire, next_at: next, left_out, uncounted: false };
    assert_eq!(look(Missed::Skip), due(days(&[4]), 3));
    assert_eq!(look(Missed::Once), due(days(&[4]), 3));
    assert_eq!(look(Missed::All), due(days(&[1, 2, 3, 4]), 0));
    let later = |missed| occurrences(&schedule, missed, next_at, at("2026-01-04T06:01:01")).unwrap();
    assert_eq!(later(Missed::Skip), due(vec![], 4));
    assert_eq!(later(Missed::Once), due(days(&[4]), 3));
}

#[test]
fn a_minute_of_delay_is_not_late() {
    let look = |now| occurrences(&cron("0 6 * * *"), Missed::Skip, at("2026-01-01T06:00:00"), at(now)).unwrap();
    assert_eq!(look("2026-01-01T06:01:00").fire.len(), 1);
    assert_eq!(
        look("2026-01-01T06:01:00.000001"),
        Due { fire: vec![], next_at: at("2026-01-02T06:00:00"), left_out: 1, uncounted: false }
    );
}

#[test]
fn of_many_missed_times_a_hundred_fire_at_a_look() {
    let (start, now) = (at("2026-01-01"), at("2026-01-01T00:04:09.5"));
    let (mut next_at, mut fired) = (start, Vec::new());
    for expected in [100, 100, 50, 0] {
        let due = occurrences(&every(1), Missed::All, next_at, now).unwrap();
        assert_eq!(due.fire.len(), expected);
        assert_eq!(due.next_at <= now, expected == 100 && fired.len() < 200);
        fired.extend(due.fire);
        next_at = due.next_at;
    }
    assert_eq!(fired.len(), 250);
}

#[test]
fn a_year_of_missed_minutes_is_one_run_and_counting_ends() {
    let due = occurrences(&cron("* * * * *"), Missed::Once, at("2026-01-01"), at("2027-01-01")).unwrap();
    assert_eq!((due.fire, due.left_out, due.uncounted), (vec![at("2027-01-01")], MOST_COUNTED - 1, true));
    let due = occurrences(&every(1), Missed::Once, at("2026-01-01"), at("2027-01-01")).unwrap();
    assert_eq!((due.left_out, due.uncounted), (365 * 86_400, false));
}

#[test]
fn what_never_comes_again_is_not_fired() {
    let due = occurrences(&every(1), Missed::All, Timestamp::NEVER, Timestamp::NEVER.plus(LATE)).unwrap();
    assert_eq!((due.fire, due.next_at), (vec![], Timestamp::NEVER));
    let end = Timestamp::from_micros(i64::MAX);
    assert_eq!(first(&cron("0 6 * * *"), end), Ok(Timestamp::NEVER));
    assert_eq!(first(&every(1), end), Ok(Timestamp::NEVER));
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let crons = prop::sample::select(vec![
        "* * * * *",
        "*/7 * * * *",
        "0 6 * * *",
        "59 23 28-31 * *",
        "0 0 31 * *",
        "15 3 29 2 *",
        "0 */5 * * MON-FRI",
        "0 0 1 1 *",
        "0 12 L * *",
    ]);
    prop_oneof![
        crons.prop_map(cron),
        (1_u64..400_000).prop_map(every),
        (1_000_u64..5_000).prop_map(|millis| Schedule::Every(Period(Duration::from_millis(millis)))),
    ]
}

/// How far the clock moves from look to look, in microseconds: a little mostly, now and then far, forward or back.
fn moves() -> impl Strategy<Value = Vec<i64>> {
    let second = 1_000_000_i64;
    let one = prop_oneof![
        5 => 0..10 * second,
        2 => 0..3 * 86_400 * second,
        1 => 0..800 * 86_400 * second,
        1 => -40 * 86_400 * second..0,
    ];
    prop::collection::vec(one, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_time_fires_twice_and_the_next_one_lies_ahead(
        schedule in schedules(),
        missed in prop::sample::select(Missed::ALL),
        start in 0_i64..2_000_000_000_000_000,
        moves in moves(),
    ) {
        let mut now = Timestamp::from_micros(start);
        let mut next_at = first(&schedule, now).unwrap();
        prop_assert!(next_at > now);
        let mut fired = BTreeSet::new();
        for by in moves {
            now = Timestamp::from_micros(now.micros() + by);
            let due = occurrences(&schedule, missed, next_at, now).unwrap();
            prop_assert!(due.fire.is_sorted() && due.fire.len() <= MOST_AT_ONCE);
            for at in &due.fire {
                prop_assert!(fired.insert(*at), "{at} fires twice");
                prop_assert!(next_at <= *at && *at <= now && *at < due.next_at);
                if missed == Missed::Skip {
                    prop_assert!(now.since(*at) <= LATE);
                }
            }
            let rest = missed == Missed::All && due.fire.len() == MOST_AT_ONCE;
            prop_assert!(due.next_at > now || rest);
            prop_assert!(due.next_at >= next_at);
            // The same look again finds the same: that is what a process does when the one before it was lost.
            prop_assert_eq!(&occurrences(&schedule, missed, next_at, now).unwrap(), &due);
            next_at = due.next_at;
        }
    }

    #[test]
    fn every_time_is_accounted_for(
        schedule in schedules(),
        start in 0_i64..2_000_000_000_000_000,
        gap in 0_i64..3 * 86_400_000_000,
    ) {
        let begin = first(&schedule, Timestamp::from_micros(start)).unwrap();
        let now = Timestamp::from_micros(begin.micros() + gap);
        // Step by step, without the shortcuts.
        let all: Vec<_> = std::iter::successors(Some(begin), |time| first(&schedule, *time).ok())
            .take_while(|time| *time <= now)
            .take(5_000)
            .collect();
        prop_assume!(all.len() < 5_000);
        let last = *all.last().unwrap();
        let next = first(&schedule, last).unwrap();
        let once = occurrences(&schedule, Missed::Once, begin, now).unwrap();
        prop_assert_eq!((&once.fire, once.next_at), (&vec![last], next));
        prop_assert_eq!(once.left_out + 1, all.len() as u64);
        let skip = occurrences(&schedule, Missed::Skip, begin, now).unwrap();
        let on_time: Vec<_> = all.iter().copied().filter(|at| now.since(*at) <= LATE).collect();
        prop_assert_eq!(skip.left_out, (all.len() - on_time.len()) as u64);
        prop_assert_eq!((skip.fire, skip.next_at), (on_time, next));
        let (mut each, mut next_at) = (Vec::new(), begin);
        while next_at <= now {
            let due = occurrences(&schedule, Missed::All, next_at, now).unwrap();
            each.extend(due.fire);
            next_at = due.next_at;
        }
        prop_assert_eq!((each, next_at), (all, next));
    }
}
