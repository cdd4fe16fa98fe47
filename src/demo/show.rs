//! What is seen while it runs: a line for each thing that happens, and on a terminal one below them that is redrawn.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;

/// Shows, on standard output.
#[derive(Clone, Debug)]
pub struct Show {
    bar: ProgressBar,
    began: Instant,
    silent: bool,
}

impl Show {
    /// Times count from now. `silent`: shows nothing at all.
    #[must_use]
    pub fn new(silent: bool) -> Self {
        let target = if silent {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stdout()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        // A style that can't be read leaves indicatif's own.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            bar,
            began: Instant::now(),
            silent,
        }
    }

    /// Something happened.
    pub fn line(&self, text: &str) {
        let at = report::short(self.began.elapsed());
        self.plain(&format!("{at:>8}  {text}"));
    }

    /// A line without its time.
    pub fn plain(&self, text: &str) {
        if !self.bar.is_hidden() {
            self.bar.println(text);
        } else if !self.silent {
            // A reader that is gone is no reason to stop.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// How things stand.
    pub fn state(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Nothing more is redrawn.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
