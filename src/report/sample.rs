//! Reports for tests: an ordinary one, and the largest that can be.

use std::time::Duration;

use crate::drain::curve::{Curve, MOST_POINTS, MOST_PROGRAMS, Point};
use crate::drain::event::{End, Held, Looked, Phase, PoolReport, Report};
use crate::drain::outcome::Count;
use crate::drain::waits::{MOST_WAITS, Wait};
use crate::drain::{Cause, Outcome};
use crate::evidence::{Tie, Verdict, Why};

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn wait(program: &str, peer: &str, until: u64, age: u64, open: bool) -> Wait {
    Wait {
        program: program.to_owned(),
        peer: peer.to_owned().into(),
        local: "10.0.0.1:8000".to_owned().into(),
        until: ms(until),
        age: ms(age),
        received: 412,
        sent: 0,
        verdict: Verdict::Busy(Why::Unanswered),
        open,
    }
}

/// A deadline with two requests of two programs in flight, after a settle in which one arrived.
pub(crate) fn sample() -> Report {
    let point = |at, busy, arrived, by: &[u64]| Point {
        at: ms(at),
        busy,
        arrived,
        by: by.to_vec(),
    };
    let waited = vec![
        wait("app", "10.0.0.7:51234", 60_000, 72_000, true),
        wait("api", "[2001:db8::17]:41000", 60_000, 58_800, true),
        wait("app", "10.0.0.8:51235", 4_000, 9_000, false),
    ];
    let cut = waited[..2]
        .iter()
        .map(|wait| Held {
            program: wait.program.clone(),
            peer: wait.peer.clone(),
            local: wait.local.clone(),
            age: wait.age,
            received: wait.received,
            sent: wait.sent,
            verdict: wait.verdict,
        })
        .collect();
    Report {
        version: 2,
        id: "20260102T030405000-7".to_owned(),
        host: "web1".to_owned(),
        cause: Cause::Poweroff,
        began: "2026-01-02T03:04:05Z".parse().unwrap(),
        took: ms(60_000),
        limit: ms(60_000),
        outcome: Outcome::DeadlineHit,
        exit: 3,
        phases: vec![
            (Phase::Leaving, ms(3)),
            (Phase::Settling, ms(412)),
            (Phase::Waiting, ms(3_420)),
        ],
        units: vec!["supervisor.service".to_owned()],
        pools: vec![
            PoolReport {
                name: "consul".to_owned(),
                kind: "consul".to_owned(),
                asked: Some(ms(12)),
                out: Some(ms(410)),
                error: None,
            },
            PoolReport {
                name: "edge".to_owned(),
                kind: "haproxy".to_owned(),
                asked: None,
                out: None,
                error: Some("connection refused".to_owned()),
            },
        ],
        arrived_in_settle: 1,
        most_in_flight: 3,
        last_busy: Some(ms(60_000)),
        in_flight: Count::Exactly(2),
        cut,
        curve: Curve {
            programs: vec!["app".to_owned(), "api".to_owned()],
            points: vec![
                point(20, Some(2), 0, &[2]),
                point(1_200, Some(3), 1, &[2, 1]),
                point(4_050, Some(2), 0, &[1, 1]),
                point(20_000, None, 0, &[]),
                point(21_000, Some(2), 0, &[1, 1]),
            ],
        },
        waited,
        waited_more: 0,
        notes: vec!["1 min 0 s more were given after 12.0 s".to_owned()],
    }
}

/// As much of everything as can be kept, of a drain of 10 000 connections.
pub(crate) fn largest() -> Report {
    let name = |n: u64| format!("{:x<62}{n:02}", "p");
    let address = |n: u64| End::Unix(format!("/run/{:x<100}{n:05}", "socket"));
    let verdict = Verdict::Uncertain(Tie::ProbablyBusy);
    let most = u64::try_from(MOST_WAITS).unwrap();
    let programs = u64::try_from(MOST_PROGRAMS).unwrap();
    let text = "\u{fffd}".repeat(500);
    let waited = (0..most)
        .map(|n| Wait {
            program: name(n % programs),
            peer: address(n),
            local: address(0xffff),
            until: ms(1_799_999 - 6_000 * n),
            age: ms(1_799_999_999),
            received: u64::MAX,
            sent: u64::MAX,
            verdict,
            open: n < 200,
        })
        .collect();
    let cut = (0..u64::try_from(Looked::MOST_HELD).unwrap())
        .map(|n| Held {
            program: name(n % programs),
            peer: address(n),
            local: address(0xffff),
            age: ms(1_799_999_999),
            received: u64::MAX,
            sent: u64::MAX,
            verdict,
        })
        .collect();
    let points = (0..=u64::try_from(MOST_POINTS).unwrap())
        .map(|n| Point {
            at: Duration::from_nanos(3_499_999_999 * n),
            busy: Some(10_000 - n * 17),
            arrived: 123_456,
            by: (0..programs)
                .map(|p| (10_000 - n * 17) / (3 * (p + 2)))
                .collect(),
        })
        .collect();
    Report {
        units: (0..20).map(name).collect(),
        pools: (0..20)
            .map(|n| PoolReport {
                name: name(n),
                kind: "health-file".to_owned(),
                asked: Some(Duration::from_nanos(1_234_567_891)),
                out: None,
                error: Some(text.clone()),
            })
            .collect(),
        took: ms(1_799_999),
        limit: ms(1_800_000),
        most_in_flight: 10_000,
        in_flight: Count::Exactly(1_296),
        cut,
        curve: Curve {
            programs: (0..programs).map(name).collect(),
            points,
        },
        waited,
        waited_more: 8_448,
        notes: (0..100).map(|n| format!("{n:02}{}", &text[6..])).collect(),
        ..sample()
    }
}
