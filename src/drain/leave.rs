//! Leaves one pool: what stood there first onto disk, then the request, then the pool's own word that it holds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::event::PoolStep;
use crate::config::PoolSpec;
use crate::pools::{Context, Membership, Pool, PoolError};
use crate::receipts::{Receipt, Store};
use crate::world::{Deadline, Root};

/// One call may take this long; a pool that hangs is then asked again, since the next call may reach a process that does not.
const CALL: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What was read of a pool so long before it is left is read again.
const STALE: Duration = Duration::from_secs(5);
/// A pool that still sends this long after it agreed is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// What one pool's leaving needs.
pub struct Leaving {
    /// The drain's id.
    pub drain: String,
    /// The pool as configured.
    pub spec: PoolSpec,
    /// The pool.
    pub pool: Box<dyn Pool>,
    /// The file system.
    pub root: Root,
    /// Where the receipt goes.
    pub store: Arc<Store>,
    /// Set when the drain is over: nothing new is begun then.
    pub over: Arc<AtomicBool>,
    /// The drain's end.
    pub deadline: Arc<RwLock<Instant>>,
    /// What the target listens on, once that is known.
    pub ports: Arc<OnceLock<BTreeSet<u16>>>,
}

impl Leaving {
    /// Leaves, telling each step to `say`; true when the pool is known to send nothing more. Reads at once, but changes nothing
    /// until `gate` says so: it is closed when there turns out to be nothing to drain.
    pub fn run(mut self, gate: &Receiver<Instant>, mut say: impl FnMut(PoolStep)) -> bool {
        let limit = Deadline::after(self.spec.limit);
        let left = self
            .wait_for_ports(limit)
            .and_then(|()| self.leave(limit, gate, &mut say));
        match left {
            Ok(membership) => {
                say(if membership == Membership::Out {
                    PoolStep::Out
                } else {
                    PoolStep::NotMember
                });
                true
            }
            Err(Stopped::Over) => false,
            Err(Stopped::Failed(error)) => {
                say(PoolStep::Failed { error });
                false
            }
        }
    }

    /// A pool that has to know what the target listens on is told.
    fn wait_for_ports(&mut self, limit: Deadline) -> Result<(), Stopped> {
        let Some(wanted) = self.pool.wanted_ports() else {
            return Ok(());
        };
        while !self.over.load(Ordering::Relaxed) && !limit.passed() {
            if let Some(ports) = self.ports.get() {
                wanted.clone_from(ports);
                // Another try would find no other.
                let none = "the programs listen on no port that other hosts reach; name that of the proxy before them in `ports`";
                let found = (!ports.is_empty()).then_some(());
                return found.ok_or_else(|| Stopped::Failed(none.to_owned()));
            }
            std::thread::sleep(FIRST_PAUSE);
        }
        Ok(())
    }

    fn leave(
        &self,
        limit: Deadline,
        gate: &Receiver<Instant>,
        say: &mut impl FnMut(PoolStep),
    ) -> Result<Membership, Stopped> {
        let before = match self.store.receipt(&self.spec) {
            // A drain that was killed has written it: what stands in the pool now may be our own work.
            Some(receipt) => Some(receipt.before),
            None => self.prepare(limit, say),
        };
        let prepared = Instant::now();
        let opened = gate.recv().map_err(|_| Stopped::Over)?;
        let limit = Deadline::at(opened + self.spec.limit);
        let fresh = opened.saturating_duration_since(prepared) < STALE;
        let before = match before.filter(|_| fresh || self.store.receipt(&self.spec).is_some()) {
            Some(before) => before,
            None => self.retry(limit, say, |cx| self.pool.prepare(cx))?,
        };
        self.retry(limit, say, |_| {
            let receipt = Receipt {
                pool: self.spec.clone(),
                written: Timestamp::now(),
                before: before.clone(),
            };
            self.store.add(&self.drain, receipt).map_err(|error| {
                let error = error.context("no receipt, so nothing is changed");
                PoolError::new(crate::pools::PoolErrorKind::Local, error)
            })
        })?;
        say(PoolStep::Receipt);
        // A disk that did not answer at first may have had one all along.
        let kept = self.store.receipt(&self.spec);
        let before = kept.map_or(before, |receipt| receipt.before);
        loop {
            self.retry(limit, say, |cx| self.pool.leave(cx, &before))?;
            say(PoolStep::Asked);
            if let Some(membership) = self.verify(limit, say)? {
                return Ok(membership);
            }
        }
    }

    /// What stands in the pool, if that can be read before the gate opens.
    fn prepare(&self, limit: Deadline, say: &mut impl FnMut(PoolStep)) -> Option<Value> {
        self.retry(limit, say, |cx| self.pool.prepare(cx)).ok()
    }

    /// Asks the pool until it says that this host is out; `None` when it must be asked to leave again.
    fn verify(
        &self,
        limit: Deadline,
        say: &mut impl FnMut(PoolStep),
    ) -> Result<Option<Membership>, Stopped> {
        let again = Deadline::after(ASK_AGAIN);
        let mut pause = Pause::new();
        loop {
            let membership = self.retry(limit, say, |cx| self.pool.status(cx))?;
            if matches!(membership, Membership::Out | Membership::NotMember) {
                return Ok(Some(membership));
            }
            if self.at_end(limit) {
                return Err(Stopped::Failed(
                    "it agreed, but still sends traffic here".to_owned(),
                ));
            }
            if again.passed() {
                return Ok(None);
            }
            pause.take();
        }
    }

    /// Calls until it succeeds or the limit is reached.
    fn retry<T>(
        &self,
        limit: Deadline,
        say: &mut impl FnMut(PoolStep),
        mut call: impl FnMut(&Context) -> Result<T, PoolError>,
    ) -> Result<T, Stopped> {
        let mut pause = Pause::new();
        let mut said = None;
        loop {
            if self.over.load(Ordering::Relaxed) {
                return Err(Stopped::Over);
            }
            let deadline = limit.min(self.end()).within(CALL);
            let error = match call(&Context {
                deadline,
                root: self.root.clone(),
            }) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let text = error.to_string();
            if self.at_end(limit) {
                return Err(Stopped::Failed(text));
            }
            if said.as_ref() != Some(&text) {
                say(PoolStep::Retrying {
                    kind: error.kind(),
                    error: text.clone(),
                });
                said = Some(text);
            }
            if !error.kind().may_pass() {
                // Somebody has to mend it first; until then each call is one more for its log.
                pause.0 = LONGEST_PAUSE;
            }
            pause.take();
        }
    }

    fn at_end(&self, limit: Deadline) -> bool {
        limit.min(self.end()).left() < FIRST_PAUSE
    }

    fn end(&self) -> Deadline {
        Deadline::at(*self.deadline.read().unwrap_or_else(PoisonError::into_inner))
    }
}

enum Stopped {
    Over,
    Failed(String),
}

/// Grows from call to call, with jitter: many hosts may leave the same registry in one moment.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    fn take(&mut self) {
        // Any number that differs between hosts will do.
        let jitter = Timestamp::now().subsec_nanosecond().unsigned_abs() % 256;
        std::thread::sleep(self.0 / 2 + self.0 * jitter / 512);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}
