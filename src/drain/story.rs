//! Turns the events of one drain into its report. No I/O.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::control::Now;
use super::event::{Event, Looked, Phase, PoolReport, PoolStep, Report};
use super::outcome::Count;
use super::{Cause, Outcome};
use crate::config::PoolSpec;

/// The format of reports.
const VERSION: u32 = 1;
/// So many connections are named to those who ask while it runs.
const SHOWN_HELD: usize = 32;
/// And so many notes.
const SHOWN_NOTES: usize = 4;

/// What has happened so far.
#[derive(Debug)]
pub struct Story {
    id: String,
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
}

impl Story {
    /// The story of the drain `id`.
    #[must_use]
    pub fn new(id: &str, began: Timestamp) -> Self {
        Self {
            id: id.to_owned(),
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
        }
    }

    /// A pool that is to be left.
    pub fn pool(&mut self, spec: &PoolSpec) {
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
        match event {
            Event::Began { cause, .. } => self.cause = *cause,
            Event::Note { text } => self.notes.push(text.clone()),
            Event::Found { units, .. } => self.units.clone_from(units),
            Event::Pool { pool, step } => self.pool_step(at, pool, step),
            Event::Phase { phase } => self.phases.push((*phase, at)),
            Event::Looked(looked) => self.look(at, looked),
            Event::Blind { error } => {
                self.looked = None;
                let text = format!("connections could not be seen: {error}");
                if !self.notes.contains(&text) {
                    self.notes.push(text);
                }
            }
            Event::Extended { .. } | Event::Ended(_) => {}
        }
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
            PoolStep::Retrying { error, .. } | PoolStep::Failed { error } => {
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
        self.looked = Some(looked.clone());
        self.looked_at = at;
    }

    /// Something is known to be in flight still.
    pub fn still_busy(&mut self, at: Duration) {
        self.last_busy = Some(at);
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phases
            .last()
            .map_or(Phase::Leaving, |(phase, _)| *phase)
    }

    /// Whether every pool is known to send nothing more, and the sockets agree: nothing is in flight.
    #[must_use]
    pub fn traffic_stopped(&self) -> bool {
        let quiet = self.looked.as_ref().is_some_and(|looked| looked.busy == 0);
        quiet && self.pools.iter().all(|pool| pool.out.is_some())
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

    /// The report of a drain that ended so.
    #[must_use]
    pub fn report(&self, outcome: Outcome, exit: u8, took: Duration, limit: Duration) -> Report {
        let cut = match (&self.looked, outcome) {
            (_, Outcome::NothingToDo) => Vec::new(),
            (Some(looked), _) => looked.held.clone(),
            (None, _) => Vec::new(),
        };
        let in_flight = match (&self.looked, outcome) {
            (_, Outcome::NothingToDo) => Count::Exactly(0),
            (Some(looked), _) => Count::Exactly(looked.busy),
            (None, _) => Count::Unknown,
        };
        Report {
            version: VERSION,
            id: self.id.clone(),
            cause: self.cause,
            began: self.began,
            took,
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
            notes: self.notes.clone(),
        }
    }
}
