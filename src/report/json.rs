//! Events as JSON, one object a line, on standard output.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::drain::Event;

/// Writes JSON lines.
pub(super) struct Json;

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Json {
    /// An event, with the time since the drain began.
    pub(super) fn take(&mut self, at: Duration, event: &Event) {
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        if let Ok(mut line) = serde_json::to_vec(&Line { at_ms, event }) {
            line.push(b'\n');
            // A reader that is gone is no reason to stop.
            let _ = std::io::stdout().write_all(&line);
        }
    }
}
