//! Events as JSON, one object a line, on standard output.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use serde::Serialize;

use crate::drain::Event;

/// Writes JSON lines.
pub(super) struct Json(Option<File>);

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Json {
    /// Past the lock of the standard library: a write that hangs would hold it, and the end of the process would wait for it.
    pub(super) fn new() -> Self {
        let out = std::io::stdout().as_fd().try_clone_to_owned();
        Self(out.ok().map(File::from))
    }

    /// An event, with the time since the drain began.
    pub(super) fn take(&mut self, at: Duration, event: &Event) {
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        if let Ok(mut line) = serde_json::to_vec(&Line { at_ms, event }) {
            line.push(b'\n');
            // A reader that is gone is no reason to stop.
            if let Some(out) = &mut self.0 {
                let _ = out.write_all(&line);
            }
        }
    }
}
