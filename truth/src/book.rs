//! The truth: which connections have a request in flight, by the servers' own word.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::plan::Plan;

/// What one server knows of one connection.
#[derive(Debug)]
pub(crate) struct Truth {
    began: Instant,
    /// Counts the changes: odd while a request is in flight.
    changes: AtomicU64,
    /// When it last became idle, milliseconds after `began`.
    answered: AtomicU64,
    plan: Mutex<Plan>,
}

impl Truth {
    /// The first byte of a request can be read.
    pub(crate) fn asked(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// The handshake is over, which may come long after the connection was accepted: until then bytes move, and belong to no request.
    pub(crate) fn ready(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.answered.store(now, Ordering::SeqCst);
    }

    /// The last byte of the answer was handed to the kernel.
    pub(crate) fn answered(&self) {
        self.ready();
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// What the request asks for, for the lines that explain a wrong verdict.
    pub(crate) fn serves(&self, plan: Plan) {
        *locked(&self.plan) = plan;
    }

    /// Equal before and after a look: nothing has changed meanwhile.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// The request in flight, or the last one.
    pub(crate) fn plan(&self) -> Plan {
        *locked(&self.plan)
    }

    /// At `now`, since the last answer, or since the connection's handshake.
    pub(crate) fn idle_for(&self, now: Instant) -> Duration {
        let answered = Duration::from_millis(self.answered.load(Ordering::SeqCst));
        now.saturating_duration_since(self.began + answered)
    }
}

/// Every open connection of every server, by socket cookie.
#[derive(Debug, Default)]
pub(crate) struct Book {
    connections: Mutex<HashMap<u64, Arc<Truth>>>,
}

/// The truth about one connection before a look.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    /// The connection.
    pub(crate) truth: Arc<Truth>,
    changes: u64,
}

impl Before {
    /// Whether a request was in flight throughout, or none if that has changed since.
    pub(crate) fn still(&self) -> Option<bool> {
        (self.truth.changes() == self.changes).then_some(self.changes % 2 == 1)
    }
}

impl Book {
    /// Enters a connection, idle.
    pub(crate) fn open(&self, cookie: u64) -> Arc<Truth> {
        let truth = Arc::new(Truth {
            began: Instant::now(),
            changes: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            plan: Mutex::default(),
        });
        locked(&self.connections).insert(cookie, Arc::clone(&truth));
        truth
    }

    /// Strikes a connection out, before its socket is closed. A look that has begun may find it open or closed, so this is a change.
    pub(crate) fn close(&self, cookie: u64) {
        if let Some(truth) = locked(&self.connections).remove(&cookie) {
            truth.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The truth about every connection now.
    pub(crate) fn before(&self) -> HashMap<u64, Before> {
        let before = |truth: &Arc<Truth>| Before {
            changes: truth.changes(),
            truth: Arc::clone(truth),
        };
        locked(&self.connections)
            .iter()
            .map(|(cookie, truth)| (*cookie, before(truth)))
            .collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_only_where_nothing_has_changed_meanwhile() {
        let book = Book::default();
        let truth = book.open(1);
        let before = || book.before()[&1].clone();
        let idle = before();
        assert_eq!(idle.still(), Some(false));
        truth.asked();
        assert_eq!(idle.still(), None);
        let busy = before();
        assert_eq!(busy.still(), Some(true));
        // Given up with a request in flight: what the kernel shows from here on is the end of it.
        book.close(1);
        assert_eq!(busy.still(), None);
    }
}
