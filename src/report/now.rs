//! A running drain, as people are told of it. Pure.

use super::words;
use crate::drain::control::Now;
use crate::text::middle_cut;

/// A look this old is said to be.
const RECENT: u64 = 1;
/// A program's name is longer only at the cost of why it holds, on a line of 80 columns.
const MOST_PROGRAM: usize = 20;
/// So is an address.
const MOST_PEER: usize = 30;

/// One line: `settling, 4 min 2 s left; 3 in flight (app 3), oldest 12 s`.
#[must_use]
pub fn headline(now: &Now) -> String {
    let in_flight = match &now.looked {
        Some(looked) => words::in_flight(looked),
        None => "what is in flight is unknown".to_owned(),
    };
    // What is known to be short comes first: the end of a line may be lost.
    format!("{}, {} left; {in_flight}", now.phase, words::age(now.left))
}

/// What it does, how its pools stand, and what holds it.
#[must_use]
pub fn lines(now: &Now) -> Vec<String> {
    let mut lines = vec![
        format!("drain    {}", headline(now)),
        format!(
            "         for {} ({}), {}",
            words::age(now.took),
            words::cause(now.cause),
            now.id
        ),
    ];
    for pool in &now.pools {
        let stands = match (&pool.out, &pool.error, &pool.asked) {
            (Some(_), _, _) => "out, it says so itself",
            (None, Some(error), _) => error,
            (None, None, Some(_)) => "asked for no new traffic",
            (None, None, None) => "not asked yet",
        };
        lines.push(format!("pool     {} ({}): {stands}", pool.name, pool.kind));
    }
    lines.extend(now.notes.iter().map(|note| format!("note     {note}")));
    if let Some(looked) = &now.looked {
        let ago = now.looked_ago.as_secs();
        if ago > RECENT && !looked.held.is_empty() {
            lines.push(format!("seen     {ago} s ago:"));
        }
        // On a narrow terminal the end of a line is lost: why it holds comes before how much it has carried.
        lines.extend(looked.held.iter().map(|held| {
            format!(
                "holds    {}  {}  {}: {}",
                middle_cut(&held.program, MOST_PROGRAM),
                middle_cut(&held.peer.to_string(), MOST_PEER),
                words::age(held.age),
                held.verdict
            )
        }));
        let named = u64::try_from(looked.held.len()).unwrap_or(u64::MAX);
        if looked.busy > named {
            lines.push(format!("         and {} more", looked.busy - named));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::drain::Cause;
    use crate::drain::event::{Held, Looked, Phase, PoolReport};
    use crate::evidence::{Verdict, Why};

    #[test]
    fn it_says_what_holds_the_drain_and_why_in_80_columns() {
        let held = Held {
            program: "app".to_owned(),
            peer: "[2001:db8::17]:51234".to_owned().into(),
            local: "10.0.0.1:80".to_owned().into(),
            age: Duration::from_secs(72),
            received: 10,
            sent: 0,
            verdict: Verdict::Busy(Why::Unanswered),
        };
        let pool = |name: &str, out, error: Option<&str>| PoolReport {
            name: name.to_owned(),
            kind: "consul".to_owned(),
            asked: Some(Duration::ZERO),
            out,
            error: error.map(str::to_owned),
        };
        let now = Now {
            id: "20260101T000000000-7".to_owned(),
            cause: Cause::Poweroff,
            phase: Phase::Waiting,
            took: Duration::from_secs(75),
            left: Duration::from_secs(225),
            units: vec!["supervisor.service".to_owned()],
            pools: vec![
                pool("consul", Some(Duration::ZERO), None),
                pool("other", None, Some("connection refused")),
            ],
            looked: Some(Looked {
                busy: 40,
                programs: vec![("app".to_owned(), 40)],
                held: vec![held],
                ..Looked::default()
            }),
            looked_ago: Duration::from_secs(4),
            notes: Vec::new(),
        };
        insta::assert_snapshot!(lines(&now).join("\n"), @r"
        drain    waiting, 3 min 45 s left; 40 in flight (app 40), oldest 1 min 12 s
                 for 1 min 15 s (poweroff), 20260101T000000000-7
        pool     consul (consul): out, it says so itself
        pool     other (consul): connection refused
        seen     4 s ago:
        holds    app  [2001:db8::17]:51234  1 min 12 s: request not answered
                 and 39 more
        ");
        assert!(lines(&now).iter().all(|line| line.chars().count() < 80));
    }
}
