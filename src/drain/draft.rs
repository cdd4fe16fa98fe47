//! The report of a drain on disk while the drain runs: what is known so far outlives a crash.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::event::{Event, Report};
use crate::receipts;
use crate::world::Root;

/// Between two steps what was looked at is kept this often.
const EVERY: Duration = Duration::from_secs(2);

/// Keeps drafts, on a thread of its own: a disk that hangs must not hold up the drain.
#[derive(Debug)]
pub(super) struct Draft {
    give: Sender<Report>,
    over: Arc<Mutex<bool>>,
    next: Instant,
}

impl Draft {
    /// Of a drain whose state lies below `state`.
    pub(super) fn start(state: &Root) -> Self {
        let (give, given) = channel();
        let over = Arc::new(Mutex::new(false));
        let (state, ended) = (state.clone(), over.clone());
        thread::spawn(move || write(&state, &given, &ended));
        Self {
            give,
            over,
            next: Instant::now(),
        }
    }

    /// Whether it is time to keep what is known, after that event.
    pub(super) fn is_due(&self, event: &Event) -> bool {
        match event {
            Event::Ended(_) => false,
            Event::Looked(_) | Event::Blind { .. } => Instant::now() >= self.next,
            _ => true,
        }
    }

    /// Keeps it, soon.
    pub(super) fn give(&mut self, report: Report) {
        self.next = Instant::now() + EVERY;
        // Without the thread there is only no draft.
        let _ = self.give.send(report);
    }

    /// What ends the drafts: with it held and set, no draft takes the place of the report any more.
    pub(super) fn over(&self) -> Arc<Mutex<bool>> {
        self.over.clone()
    }
}

fn write(state: &Root, given: &Receiver<Report>, over: &Mutex<bool>) {
    while let Ok(report) = given.recv() {
        // Only the newest counts.
        let report = given.try_iter().last().unwrap_or(report);
        let over = over.lock().unwrap_or_else(PoisonError::into_inner);
        if *over {
            return;
        }
        // The drain's own end says when nothing can be kept.
        let _ = receipts::keep(state, &report);
    }
}
