//! How a drain ends: what is undone, what is kept, what is told.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Context as _;

use super::engine::Engine;
use super::event::{Event, Phase, PoolStep, Report};
use super::{Outcome, rejoin, slot};
use crate::world::Deadline;
use crate::{exit, receipts};

/// What ending may take: the report on disk, the journal.
const ENDING: Duration = Duration::from_millis(500);
/// What undoing the leave may take.
const UNDO: Duration = Duration::from_secs(20);

impl Engine<'_> {
    pub(super) fn end(mut self, outcome: Outcome) -> Report {
        let mut outcome = outcome;
        if outcome != Outcome::Aborted && self.is_called_off_by_now() {
            outcome = Outcome::Aborted;
        }
        self.over.store(true, Ordering::Relaxed);
        if outcome == Outcome::Aborted {
            self.start_again();
        }
        if outcome == Outcome::Refused {
            self.undo();
        }
        if outcome == Outcome::Aborted && !self.undo() {
            outcome = Outcome::Skipped;
        }
        if outcome == Outcome::Drained && self.story.has_overdue() {
            // Their own deadline came first.
            outcome = Outcome::DeadlineHit;
        }
        let left = matches!(outcome, Outcome::NothingToDo) || self.story.traffic_stopped();
        let code = exit::of(outcome, left);
        let report = self
            .story
            .report(outcome, code, self.began.elapsed(), self.run.limit);
        self.run.ended = Some((outcome, code));
        self.run.phase = Phase::Ended.to_string();
        let (state, run, store) = (
            self.order.state.clone(),
            self.run.clone(),
            self.store.clone(),
        );
        let (kept, keep) = channel();
        let copy = report.clone();
        let drafts = self.draft.over();
        let metrics = self.order.settings.report.metrics.clone();
        std::thread::spawn(move || {
            let ended = run.write(&state).map_err(anyhow::Error::from);
            let tidy = store.drop_empty();
            let mut over = drafts.lock().unwrap_or_else(PoisonError::into_inner);
            *over = true;
            let history = receipts::keep(&state, &copy);
            let told = metrics.map_or(Ok(()), |file| receipts::write_metrics(&state, &file));
            let whole = ended.and(tidy).and(history);
            kept.send(
                whole
                    .context("the report is not kept")
                    .and(told.context("the metrics are not written")),
            )
        });
        // A failing report never changes the outcome, and never holds it up.
        match keep.recv_timeout(ENDING) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.order_note(format!("{error:#}")),
            Err(_) => {
                self.order_note("the report is not kept: the disk does not answer".to_owned())
            }
        }
        self.say(Event::Ended(Box::new(report.clone())));
        report
    }

    /// Takes the host back into the pools it was taken out of; whether that worked.
    fn undo(&mut self) -> bool {
        let deadline = Deadline::after(UNDO);
        // An undo that began in time is not cut short by the drain's own deadline.
        let mut end = self
            .deadline
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *end = deadline.instant().max(*end);
        drop(end);
        // A pool still being left must not be left after it was rejoined.
        while self.unresolved > 0 {
            match self.inbox.recv_timeout(deadline.left()) {
                Ok(message) => drop(self.hear(message)),
                Err(_) => break,
            }
        }
        let mut fine = self.unresolved == 0;
        let receipts = self.store.book().map(|book| book.receipts);
        let mut results = Vec::new();
        let hear = |pool: &str, result| results.push((pool.to_owned(), result));
        rejoin::undo(
            &self.order.root,
            &self.store,
            receipts.unwrap_or_default(),
            deadline,
            hear,
        );
        for (pool, result) in results {
            match result {
                Ok(_) => self.say(Event::Pool {
                    pool,
                    step: PoolStep::Rejoined,
                }),
                Err(error) => {
                    fine = false;
                    self.order_note(format!(
                        "{pool} is not rejoined: {error:#}; `drainctl rejoin` tries again"
                    ));
                }
            }
        }
        if fine && let Err(error) = slot::give_back(&self.order.root, &self.store, deadline) {
            self.order_note(format!(
                "the slot of the fleet is still held: {error:#}; `drainctl rejoin` tries again"
            ));
        }
        fine
    }
}
