//! Turns the events of one drain into its report. No I/O.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::control::Now;
use super::curve::Pen;
use super::event::{Event, Looked, Phase, PoolReport, PoolStep, Report};
use super::outcome::Count;
use super::waits::Waits;
use super::{Cause, Outcome};
use crate::config::PoolSpec;

/// The format of reports. Of those of format 1, only the numbers were kept.
const VERSION: u32 = 2;
/// So many notes are kept.
const MOST_NOTES: usize = 100;
/// So many connections are named to those who ask while it runs.
const SHOWN_HELD: usize = 32;
/// And so many notes.
const SHOWN_NOTES: usize = 4;

/// What has happened so far.
#[derive(Debug)]
pub struct Story {
    id: String,
    host: String,
    began: Timestamp,
    cause: Cause,
    phases: Vec<(Phase, Duration)>,
    units: Vec<String>,
    pools: Vec<PoolReport>,
    notes: Vec<String>,
    looked: Option<Looked>,
    looked_at: Duration,
    arrived_in_settle: u64,
    most_in_flight: u64,
    last_busy: Option<Duration>,
    /// Traffic went on although every pool had said that it sends none.
    went_on: bool,
    pen: Pen,
    waits: Waits,
    /// How long the drain had run when this process took it over.
    before: Duration,
}

impl Story {
    /// The story of the drain `id` of `host`.
    #[must_use]
    pub fn new(id: &str, host: &str, began: Timestamp) -> Self {
        Self {
            id: id.to_owned(),
            host: host.to_owned(),
            began,
            cause: Cause::Unknown,
            phases: Vec::new(),
            units: Vec::new(),
            pools: Vec::new(),
            notes: Vec::new(),
            looked: None,
            looked_at: Duration::ZERO,
            arrived_in_settle: 0,
            most_in_flight: 0,
            last_busy: None,
            went_on: false,
            pen: Pen::default(),
            waits: Waits::default(),
            before: Duration::ZERO,
        }
    }

    /// Goes on with what an earlier process, which was killed, had kept of the same drain; it began `before` this one did.
    pub fn resume(&mut self, kept: Report, before: Duration) {
        self.note(format!(
            "it was killed after {}, and taken over after {}",
            crate::report::short(kept.took),
            crate::report::short(before)
        ));
        self.began = kept.began;
        self.phases = kept.phases;
        self.pools = kept.pools;
        self.notes.splice(0..0, kept.notes);
        self.arrived_in_settle = kept.arrived_in_settle;
        self.most_in_flight = kept.most_in_flight;
        self.last_busy = kept.last_busy;
        self.pen = Pen::resume(kept.curve);
        self.waits = Waits::resume(kept.waited, kept.waited_more);
        self.before = before;
        // Nobody looked meanwhile.
        self.pen.take(kept.took, None);
    }

    /// A pool that is to be left; again, where a drain is taken over.
    pub fn pool(&mut self, spec: &PoolSpec) {
        self.pools.retain(|pool| pool.name != spec.name);
        self.pools.push(PoolReport {
            name: spec.name.clone(),
            kind: spec.kind.clone(),
            asked: None,
            out: None,
            error: None,
        });
    }

    /// An event, with the time since the beginning.
    pub fn take(&mut self, at: Duration, event: &Event) {
        let at = at + self.before;
        match event {
            Event::Began { cause, .. } => self.cause = *cause,
            Event::Note { text } => self.note(text.clone()),
            Event::Found { units, .. } => self.units.clone_from(units),
            Event::Pool { pool, step } => self.pool_step(at, pool, step),
            Event::Phase { phase } => self.phases.push((*phase, at)),
            Event::Looked(looked) => self.look(at, looked),
            Event::Blind { error } => {
                self.looked = None;
                self.pen.take(at, None);
                self.note(format!("connections could not be seen: {error}"));
            }
            Event::Extended { by, .. } => self.note(format!(
                "{} more were given after {}",
                crate::report::age(*by),
                crate::report::short(at)
            )),
            Event::Ended(_) => {}
        }
    }

    /// Each once, as far as there is room.
    fn note(&mut self, text: String) {
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Whether it was said before.
    #[must_use]
    pub fn has_noted(&self, text: &str) -> bool {
        self.notes.iter().any(|note| note == text)
    }

    fn pool_step(&mut self, at: Duration, name: &str, step: &PoolStep) {
        let Some(pool) = self.pools.iter_mut().find(|pool| pool.name == name) else {
            return;
        };
        match step {
            PoolStep::Receipt | PoolStep::Rejoined => {}
            PoolStep::Asked => pool.asked = Some(at),
            PoolStep::Out | PoolStep::NotMember => {
                pool.out = Some(at);
                pool.error = None;
            }
            PoolStep::Failed { error } => {
                pool.out = None;
                pool.error = Some(error.clone());
            }
            PoolStep::Retrying { error, .. } => {
                pool.error = Some(error.clone());
            }
        }
    }

    fn look(&mut self, at: Duration, looked: &Looked) {
        if self.phase() == Phase::Settling {
            self.arrived_in_settle += looked.arrived;
        }
        self.most_in_flight = self.most_in_flight.max(looked.busy);
        if looked.busy > 0 {
            self.last_busy = Some(at);
        }
        self.pen.take(at, Some(looked));
        self.waits.take(at, looked);
        self.looked = Some(looked.clone());
        self.looked_at = at;
    }

    /// The oldest request that is known to be in flight still.
    pub fn still_busy(&mut self, at: Duration, age: Duration) {
        let at = at + self.before;
        self.last_busy = Some(at);
        self.waits.still(at, age);
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phases
            .last()
            .map_or(Phase::Leaving, |(phase, _)| *phase)
    }

    /// Traffic went on although every pool had said that it sends none.
    pub fn went_on(&mut self) {
        self.went_on = true;
    }

    /// Whether every pool did what it says and is known to send nothing more, and the sockets agree: nothing is in flight.
    #[must_use]
    pub fn traffic_stopped(&self) -> bool {
        let quiet = self
            .looked
            .as_ref()
            .is_some_and(|looked| looked.busy + looked.overdue == 0);
        quiet && !self.went_on && self.pools.iter().all(|pool| pool.out.is_some())
    }

    /// Whether streams go on that were given up at their own deadline.
    #[must_use]
    pub fn has_overdue(&self) -> bool {
        self.looked
            .as_ref()
            .is_some_and(|looked| looked.overdue > 0)
    }

    /// One line for `systemctl status`.
    #[must_use]
    pub fn status(&self, deadline: Instant) -> String {
        let left = deadline.saturating_duration_since(Instant::now()).as_secs();
        let phase = self.phase();
        match &self.looked {
            Some(looked) => {
                let in_flight = crate::report::in_flight(looked);
                format!("{phase}: {in_flight}, {left} s left")
            }
            None => format!("{phase}: what is in flight is unknown, {left} s left"),
        }
    }

    /// What is seen now, for those who ask while it runs.
    #[must_use]
    pub fn now(&self, took: Duration, left: Duration) -> Now {
        let took = took + self.before;
        let mut looked = self.looked.clone();
        if let Some(looked) = &mut looked {
            looked.held.truncate(SHOWN_HELD);
        }
        let skipped = self.notes.len().saturating_sub(SHOWN_NOTES);
        Now {
            id: self.id.clone(),
            cause: self.cause,
            phase: self.phase(),
            took,
            left,
            units: self.units.clone(),
            pools: self.pools.clone(),
            looked,
            looked_ago: took.saturating_sub(self.looked_at),
            notes: self.notes[skipped..].to_vec(),
        }
    }

    /// The report of a drain that ended so, or of one that has not ended yet.
    #[must_use]
    pub fn report(&self, outcome: Outcome, exit: u8, took: Duration, limit: Duration) -> Report {
        let (waited, waited_more) = self.waits.longest();
        let cut = match &self.looked {
            Some(looked) if outcome.cuts() => looked
                .held
                .iter()
                .chain(&looked.given_up)
                .cloned()
                .collect(),
            _ => Vec::new(),
        };
        let in_flight = match (&self.looked, outcome) {
            (_, Outcome::NothingToDo) => Count::Exactly(0),
            (Some(looked), _) if looked.unknown.is_empty() => {
                Count::Exactly(looked.busy + looked.overdue)
            }
            _ => Count::Unknown,
        };
        Report {
            version: VERSION,
            id: self.id.clone(),
            host: self.host.clone(),
            cause: self.cause,
            began: self.began,
            took: took + self.before,
            limit,
            outcome,
            exit,
            phases: self.phases.clone(),
            units: self.units.clone(),
            pools: self.pools.clone(),
            arrived_in_settle: self.arrived_in_settle,
            most_in_flight: self.most_in_flight,
            last_busy: self.last_busy,
            in_flight,
            cut,
            curve: self.pen.curve(),
            waited,
            waited_more,
            notes: self.notes.clone(),
        }
    }
}
