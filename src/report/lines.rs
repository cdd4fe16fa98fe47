//! One line an event, for a log: only what changed.

use std::io::Write;
use std::time::{Duration, Instant};

use super::words;
use crate::drain::event::PoolStep;
use crate::drain::{Cause, Event};

/// What is in flight is said this often at most.
const EVERY: Duration = Duration::from_secs(5);

/// How grave a line is, as syslog counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// 4
    Warning,
    /// 6
    Info,
}

/// Writes lines to standard error.
pub(super) struct Lines {
    /// Standard error is the journal, which has times of its own and reads the level from a prefix (sd-daemon(3)).
    journal: bool,
    said: Option<(Instant, String)>,
}

impl Lines {
    /// What fits this process's standard error.
    #[must_use]
    pub(super) fn from_env() -> Self {
        Self {
            journal: std::env::var_os("JOURNAL_STREAM").is_some(),
            said: None,
        }
    }

    /// An event, with the time since the drain began. `in_journal`: its first line is there already, with fields.
    pub(super) fn take(&mut self, at: Duration, event: &Event, in_journal: bool) {
        match event {
            Event::Looked(looked) => {
                let text = words::in_flight(looked);
                let due = self
                    .said
                    .as_ref()
                    .is_none_or(|(when, last)| when.elapsed() >= EVERY && *last != text);
                if due {
                    self.line(at, Level::Info, &text);
                    self.said = Some((Instant::now(), text));
                }
            }
            other => {
                let known = usize::from(in_journal && self.journal);
                for (level, text) in lines(other).into_iter().skip(known) {
                    self.line(at, level, &text);
                }
            }
        }
    }

    fn line(&self, at: Duration, level: Level, text: &str) {
        let line = match (self.journal, level) {
            (true, Level::Warning) => format!("<4>{text}\n"),
            (true, Level::Info) => format!("<6>{text}\n"),
            (false, _) => format!("{:>8}  {text}\n", words::short(at)),
        };
        // A log that is full or gone is no reason to stop.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// What is said of an event that is said at once.
#[must_use]
pub fn lines(event: &Event) -> Vec<(Level, String)> {
    let info = |text: String| vec![(Level::Info, text)];
    match event {
        Event::Began {
            cause,
            limit,
            resumed,
            ..
        } => {
            let again = if *resumed {
                ", taking over one that was killed"
            } else {
                ""
            };
            let why = match cause {
                Cause::ByHand => String::new(),
                cause => format!(" for {}", words::cause(*cause)),
            };
            info(format!(
                "draining{why}, at most {}{again}",
                words::age(*limit)
            ))
        }
        Event::Note { text } => vec![(Level::Warning, text.clone())],
        Event::Found {
            units,
            listeners,
            sockets,
        } => {
            let ports = listeners
                .iter()
                .map(|(name, port)| format!("{name}:{port}"));
            let paths = sockets.iter().map(|(name, path)| format!("{name}:{path}"));
            let mut named: Vec<String> = ports.chain(paths).collect();
            named.dedup();
            let units = units.join(", ");
            if named.is_empty() {
                let nothing =
                    "listens on no TCP port and no Unix socket: there is nothing to wait for";
                return vec![(Level::Warning, format!("{units} {nothing}"))];
            }
            info(format!("watching {units} ({})", named.join(", ")))
        }
        Event::Pool { pool, step } => {
            let level = match step {
                PoolStep::Retrying { .. } | PoolStep::Failed { .. } => Level::Warning,
                _ => Level::Info,
            };
            vec![(level, words::pool(pool, step))]
        }
        Event::Phase { phase } => info(phase.to_string()),
        Event::Extended { by, limit } => info(format!(
            "{} more: at most {} in all",
            words::age(*by),
            words::age(*limit)
        )),
        Event::Blind { error } => {
            vec![(
                Level::Warning,
                format!("connections can't be seen, so the wait goes on: {error}"),
            )]
        }
        Event::Ended(report) => {
            let level = if report.exit == crate::exit::OK {
                Level::Info
            } else {
                Level::Warning
            };
            words::report(report)
                .into_iter()
                .map(|text| (level, text))
                .collect()
        }
        Event::Looked(_) => Vec::new(),
    }
}
