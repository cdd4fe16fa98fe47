//! A line on a terminal that is redrawn, and above it what happened.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{lines, words};
use crate::drain::Event;
use crate::drain::event::Phase;

/// The live line.
pub(super) struct Live {
    bar: ProgressBar,
    phase: Phase,
    limit: Duration,
}

impl Live {
    /// On standard error.
    #[must_use]
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        // A style that can't be read leaves indicatif's own.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            phase: Phase::Leaving,
            limit: Duration::ZERO,
        }
    }

    /// An event, with the time since the drain began.
    pub(super) fn take(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Began { limit, .. } | Event::Extended { limit, .. } => self.limit = *limit,
            Event::Phase { phase } => self.phase = *phase,
            _ => {}
        }
        for (_, text) in lines::lines(event) {
            self.bar.println(format!("{:>8}  {text}", words::short(at)));
        }
        if let Event::Looked(looked) = event {
            let left = self.limit.saturating_sub(at);
            self.bar.set_message(format!(
                "{}: {}, {} left",
                self.phase,
                words::in_flight(looked),
                words::age(left)
            ));
            self.bar.tick();
        }
        if let Event::Ended(_) = event {
            self.bar.finish_and_clear();
        }
    }
}
