//! Takes a slot of the fleet, on a thread of its own, and keeps it while the drain runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::engine::Message;
use crate::fleet::{self, Fleet, FleetSpec, Holder, Pace, View};
use crate::pools::{Context, PoolError, PoolErrorKind};
use crate::receipts::{Slot, Store};
use crate::world::{Deadline, Root};

/// One call may take this long.
const CALL: Duration = Duration::from_secs(5);
/// Whoever is told to stop hears it this soon.
const BEAT: Duration = Duration::from_millis(50);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotStep {
    /// It is held.
    Held,
    /// All are held; by whom, for people.
    Full(String),
    /// It could not be asked for, or what is held is lost.
    Failed(String),
}

/// What taking a slot needs.
pub(super) struct Taking {
    pub(super) spec: FleetSpec,
    pub(super) who: Holder,
    pub(super) root: Root,
    pub(super) store: Arc<Store>,
    /// Set when it is not wanted any more.
    pub(super) given_up: Arc<AtomicBool>,
    /// Set when the drain is over.
    pub(super) over: Arc<AtomicBool>,
}

impl Taking {
    pub(super) fn start(self, tell: Sender<Message>) {
        std::thread::spawn(move || {
            let say = |step| tell.send(Message::Slot(step)).is_ok();
            match fleet::build(&self.spec) {
                Ok(fleet) => self.run(fleet.as_ref(), &say),
                Err(error) => {
                    say(SlotStep::Failed(error.to_string()));
                }
            }
        });
    }

    fn run(&self, fleet: &dyn Fleet, say: &dyn Fn(SlotStep) -> bool) {
        let mut pace = Pace::new();
        loop {
            if self.is_over() {
                self.withdraw(fleet);
                return;
            }
            let step = match self.attempt(fleet) {
                Ok(None) => SlotStep::Held,
                Ok(Some(why)) => SlotStep::Full(why),
                Err(error) => SlotStep::Failed(error.to_string()),
            };
            let held = step == SlotStep::Held;
            if !say(step) {
                return;
            }
            if held {
                return self.keep(fleet, say);
            }
            let dice = Timestamp::now().subsec_nanosecond().unsigned_abs();
            self.rest(pace.next(dice / 1000));
        }
    }

    fn is_over(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) || self.over.load(Ordering::Relaxed)
    }

    fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while Instant::now() < end && !self.is_over() {
            std::thread::sleep(BEAT);
        }
    }

    fn cx(&self) -> Context {
        Context {
            deadline: Deadline::after(CALL),
            root: self.root.clone(),
        }
    }

    /// One try; why there is no slot, if there is none.
    fn attempt(&self, fleet: &dyn Fleet) -> Result<Option<String>, PoolError> {
        let kept = self.store.slot().filter(|slot| slot.fleet == self.spec);
        let view = fleet.view(&self.cx())?;
        if view.is_full(kept.as_ref().map(|slot| &slot.ticket)) {
            return Ok(Some(held_by(&view)));
        }
        let ticket = match kept {
            Some(slot) => slot.ticket,
            None => {
                let slot = Slot {
                    fleet: self.spec.clone(),
                    ticket: fleet.enroll(&self.cx(), &self.who)?,
                    since: Timestamp::now(),
                };
                let kept = self.store.hold(&self.who.drain, slot.clone());
                kept.map_err(|error| PoolError::new(PoolErrorKind::Local, error))?;
                slot.ticket
            }
        };
        match fleet.take(&self.cx(), &ticket) {
            Err(error) if error.kind() == PoolErrorKind::NotMember => {
                // Whatever it was held by has ended: the next try makes another one.
                let _ = self.store.give_back();
                Ok(Some(
                    "the ticket has ended; another one is asked for".to_owned(),
                ))
            }
            taken => taken,
        }
    }

    /// Until the drain is over. The time without a word begins with the last one.
    fn keep(&self, fleet: &dyn Fleet, say: &dyn Fn(SlotStep) -> bool) {
        loop {
            let end = Instant::now() + fleet.rhythm();
            while Instant::now() < end {
                if self.over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(BEAT);
            }
            let Some(slot) = self.store.slot() else {
                return;
            };
            if let Err(error) = fleet.keep(&self.cx(), &slot.ticket) {
                let lost = error.kind() == PoolErrorKind::NotMember;
                if !say(SlotStep::Failed(error.to_string())) || lost {
                    return;
                }
            }
        }
    }

    /// Nobody waits for it any more: what it would have been held by goes too.
    fn withdraw(&self, fleet: &dyn Fleet) {
        if let Some(slot) = self.store.slot().filter(|slot| slot.fleet == self.spec)
            && fleet.give_back(&self.cx(), &slot.ticket).is_ok()
        {
            let _ = self.store.give_back();
        }
    }
}

/// Who holds the slots, for people: `all 2 slots of web are held (alpha since …)`.
fn held_by(view: &View) -> String {
    let slots = view.slots.unwrap_or_default();
    let holders = view.holders.iter().flatten();
    let named = holders.map(|held| match &held.who {
        Some(who) => format!("{} since {}", who.host, who.since.strftime("%H:%M:%S UTC")),
        None => "somebody".to_owned(),
    });
    let named: Vec<String> = named.take(5).collect();
    format!(
        "all {slots} slots of {} are held ({})",
        view.group,
        named.join(", ")
    )
}

/// Gives back the slot that this host holds, if it holds one; whether it did.
///
/// # Errors
/// It could not be given back: it stays on disk for the next try, and ends by itself in the end.
pub fn give_back(root: &Root, store: &Store, deadline: Deadline) -> anyhow::Result<bool> {
    let Some(slot) = store.slot() else {
        return Ok(false);
    };
    let cx = Context {
        deadline: deadline.within(CALL),
        root: root.clone(),
    };
    fleet::build(&slot.fleet)?.give_back(&cx, &slot.ticket)?;
    store.give_back()?;
    Ok(true)
}

/// Says that this host lives and still wants its slot: a rejoin may have to wait long for its programs.
///
/// # Errors
/// It could not be said, or the slot is lost by now.
pub fn renew(root: &Root, store: &Store, deadline: Deadline) -> anyhow::Result<()> {
    let Some(slot) = store.slot() else {
        return Ok(());
    };
    let cx = Context {
        deadline: deadline.within(CALL),
        root: root.clone(),
    };
    fleet::build(&slot.fleet)?.keep(&cx, &slot.ticket)?;
    Ok(())
}
