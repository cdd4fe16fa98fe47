//! What the verdicts were, against what was true.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use drainctl::evidence::verdict::{History, Seen, Stage, Verdict, Why};

use crate::book::Truth;

/// Whether the connection had been looked at before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sight {
    /// Never: so begins every drain.
    First,
    /// Every 50 ms since it was opened.
    Known,
}

/// One verdict and all that it rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) seen: Seen,
    pub(crate) history: History,
    pub(crate) verdict: Verdict,
}

/// So many wrong verdicts are kept with their evidence.
const MOST_WRONG: usize = 4;

/// The counts of one workload on one way.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    /// Looks at requests in flight.
    pub(crate) busy: u64,
    /// Looks at idle connections.
    pub(crate) quiet: u64,
    /// Looks during which the truth changed.
    pub(crate) changed: u64,
    /// In flight, and taken for idle.
    pub(crate) false_idle: u64,
    /// Idle, and taken for busy; uncertain ones and those with bytes in a queue apart.
    pub(crate) false_busy: u64,
    /// Uncertain and in flight.
    pub(crate) unsure_busy: u64,
    /// Uncertain and idle.
    pub(crate) unsure_quiet: u64,
    /// Idle by the program's word, with bytes still to be read or to be taken by the peer.
    pub(crate) queued: u64,
    /// How long after the answer an idle connection was held at most.
    pub(crate) held: Duration,
    /// By rule: looks in flight, idle looks that were held, the longest hold.
    pub(crate) rules: BTreeMap<String, (u64, u64, u64, Duration)>,
    /// Evidence of the first false idles.
    pub(crate) wrong: Vec<String>,
}

impl Cell {
    pub(crate) fn in_flight(&mut self, case: &Case, truth: &Truth) {
        self.busy += 1;
        self.rules.entry(rule(case)).or_default().0 += 1;
        match case.verdict {
            Verdict::Busy(_) => {}
            Verdict::Uncertain(_) => self.unsure_busy += 1,
            Verdict::Idle => {
                self.false_idle += 1;
                if self.wrong.len() < MOST_WRONG {
                    self.wrong.push(format!("{} {:?}", truth.plan(), case));
                }
            }
        }
    }

    pub(crate) fn idle(&mut self, case: &Case, truth: &Truth) {
        self.quiet += 1;
        let entry = self.rules.entry(rule(case)).or_default();
        entry.1 += 1;
        match case.verdict {
            Verdict::Idle => return,
            Verdict::Busy(Why::Unread | Why::Unaccepted | Why::Unsent) => {
                self.queued += 1;
                return;
            }
            Verdict::Busy(_) => self.false_busy += 1,
            Verdict::Uncertain(_) => self.unsure_quiet += 1,
        }
        let idle = truth.idle_for();
        entry.2 += 1;
        entry.3 = entry.3.max(idle);
        self.held = self.held.max(idle);
    }
}

/// The kind of evidence that a verdict rests on.
fn rule(case: &Case) -> String {
    let Some(ages) = case.seen.ages else {
        return "no ages".into();
    };
    if let Verdict::Busy(why @ (Why::Unread | Why::Unsent | Why::Unaccepted | Why::Fresh)) =
        case.verdict
    {
        return format!("{why:?}").to_lowercase();
    }
    if !matches!(case.seen.stage, Stage::Open | Stage::HalfClosed) {
        return "closed".into();
    }
    if case.seen.received == 0 {
        return "fresh".into();
    }
    if ages.received < ages.sent {
        return "received later".into();
    }
    if ages.sent < ages.received {
        return "sent later".into();
    }
    if ages.ack < ages.received && case.seen.stage == Stage::Open {
        return "tie, acked later".into();
    }
    let count = |count: u16| match count {
        0 => "0",
        1 => "1",
        _ => "+",
    };
    let since = case.history.since.or(case.seen.segments);
    let since = since.map_or_else(String::new, |since| {
        let acks = [
            since.acks_sent,
            since.acks_received,
            since.payloads_received,
        ]
        .map(count);
        format!("out {} in {} payloads {}", acks[0], acks[1], acks[2])
    });
    let bit = case.history.pingpong;
    let known = if case.history.since.is_some() {
        "since"
    } else {
        "ever"
    };
    let age = match ages.received {
        0..=200 => "young",
        _ => "",
    };
    let half = if case.seen.stage == Stage::HalfClosed {
        "half-closed"
    } else {
        ""
    };
    format!("tie, {known} {since}, {bit:?} {age} {half}")
}

/// All cells, by the server's port.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    cells: BTreeMap<(u16, Sight), Cell>,
}

impl Matrix {
    pub(crate) fn cell(&mut self, port: u16, sight: Sight) -> &mut Cell {
        self.cells.entry((port, sight)).or_default()
    }

    /// Looks at requests in flight, each connection once a look.
    pub(crate) fn looks(&self) -> u64 {
        self.cells
            .iter()
            .filter(|((_, sight), _)| *sight == Sight::Known)
            .map(|(_, cell)| cell.busy)
            .sum()
    }

    pub(crate) fn print(
        &self,
        name: impl Fn(u16) -> String,
        covered: impl Fn(u16) -> bool,
    ) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<34}{:<6} {:>8} {:>7} {:>8} {:>7} {:>7} {:>7} {:>7} {:>6} {:>7}",
            "",
            "look",
            "busy",
            "F-IDLE",
            "idle",
            "f-busy",
            "?busy",
            "?idle",
            "queued",
            "chg",
            "held"
        );
        let mut all: BTreeMap<(Sight, &str), (u64, u64, u64, Duration)> = BTreeMap::new();
        for ((port, sight), c) in &self.cells {
            let _ = writeln!(
                text,
                "{:<34}{:<6} {:>8} {:>7} {:>8} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6.2}s",
                name(*port),
                format!("{sight:?}"),
                c.busy,
                c.false_idle,
                c.quiet,
                c.false_busy,
                c.unsure_busy,
                c.unsure_quiet,
                c.queued,
                c.changed,
                c.held.as_secs_f64()
            );
            for wrong in &c.wrong {
                let _ = writeln!(text, "      {wrong}");
            }
            for (rule, counts) in c.rules.iter().filter(|_| covered(*port)) {
                let sum = all.entry((*sight, rule)).or_default();
                sum.0 += counts.0;
                sum.1 += counts.1;
                sum.2 += counts.2;
                sum.3 = sum.3.max(counts.3);
            }
        }
        for ((sight, rule), (busy, idle, held, longest)) in all {
            let _ = writeln!(
                text,
                "{:<6} {rule:<40} busy {busy:>8} idle {idle:>8} held {held:>8} longest {:.2}s",
                format!("{sight:?}"),
                longest.as_secs_f64()
            );
        }
        text
    }
}
