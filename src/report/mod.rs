//! Events in; lines for a log, a live line for a terminal, JSON, the journal out.

/// The kept report for a terminal.
pub mod full;
/// The kept report as a page.
pub mod html;
mod journal;
mod json;
mod lines;
mod live;
/// The last drain for Prometheus.
pub mod metrics;
/// A running drain, as people are told of it.
pub mod now;
#[cfg(test)]
pub(crate) mod sample;
/// Lines that are redrawn in place.
pub mod screen;
mod words;

use std::io::IsTerminal;
use std::time::Duration;

use crate::drain::Event;

pub use lines::{Level, lines};
pub use words::{age, cause, held, in_flight, pool, report, short};

/// Where a drain's events go.
pub enum Sink {
    /// One line each, as a log keeps them.
    Lines(lines::Lines),
    /// A line that is redrawn.
    Live(live::Live),
    /// One JSON object a line.
    Json(json::Json),
}

impl Sink {
    /// What fits where the output goes.
    #[must_use]
    pub fn choose(json: bool, as_hook: bool) -> Self {
        if json {
            Self::Json(json::Json)
        } else if !as_hook && std::io::stderr().is_terminal() {
            Self::Live(live::Live::new())
        } else {
            Self::Lines(lines::Lines::from_env())
        }
    }

    /// An event, with the time since the drain began.
    pub fn take(&mut self, at: Duration, event: &Event) {
        let in_journal = matches!(event, Event::Ended(report) if journal::keep(report));
        match self {
            Self::Lines(lines) => lines.take(at, event, in_journal),
            Self::Live(live) => live.take(at, event),
            Self::Json(json) => json.take(at, event),
        }
    }
}
