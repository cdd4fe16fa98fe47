//! Before anything is changed: a slot of the fleet, and whether others take the traffic while this host is out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Outcome;
use super::engine::{BEAT, EXTENSION, Engine, Message};
use super::event::{Event, Phase};
use super::guard::{Guard, judge};
use super::machine::Input;
use super::slot::{SlotStep, Taking};
use crate::config::{FleetSettings, Policy};
use crate::fleet::Holder;
use crate::pools;
use crate::systemd::Notifier;

/// The pools have this long to say who else is healthy.
const ASK: Duration = Duration::from_secs(3);
/// The keeper of the slots has at least this long to answer.
const FIRST: Duration = Duration::from_secs(3);
/// Where it goes in any case, it waits no longer for that.
const MOMENT: Duration = Duration::from_millis(500);
/// And are asked again this often, while somebody is waited for.
const AGAIN: Duration = Duration::from_secs(1);

/// The time before a drain in which nothing is changed yet.
pub(super) struct Turn<'t, 'a> {
    engine: &'t mut Engine<'a>,
    /// What came in and is for later.
    early: &'t mut Vec<Message>,
    notifier: Notifier,
    next_beat: Instant,
}

enum Heard {
    Slot(SlotStep),
    Others(Guard),
    /// Nothing until the end of the time asked for.
    Nothing,
    /// Somebody ended it.
    Ended(Outcome),
}

impl<'t, 'a> Turn<'t, 'a> {
    pub(super) fn new(engine: &'t mut Engine<'a>, early: &'t mut Vec<Message>) -> Self {
        let notifier = if engine.order.as_hook {
            Notifier::from_env()
        } else {
            Notifier::none()
        };
        Self {
            engine,
            early,
            notifier,
            next_beat: Instant::now(),
        }
    }

    /// Waits until the drain may begin, as long as the settings let it wait. Nothing where it goes on; else how it ends. The time that
    /// passes is not the drain's: its deadline moves on by as much.
    pub(super) fn come(mut self) -> Option<Outcome> {
        if let Some(fleet) = &self.engine.order.settings.fleet {
            let policy = fleet.policies.of(self.engine.run.cause);
            let outcome = self.timed(policy.wait + FIRST, |turn| turn.await_slot(fleet, policy));
            if outcome.is_some() {
                return outcome;
            }
        }
        let guard = self.engine.order.settings.guard;
        let policy = guard.policies().of(self.engine.run.cause);
        if guard.others == 0 {
            return None;
        }
        self.ask_others();
        if !policy.holds() {
            return self.hear_others();
        }
        let most = policy.wait + ASK * 2;
        self.timed(most, |turn| turn.await_others(policy, guard.others))
    }

    /// What takes at most `most`, and is not the drain's time.
    fn timed(
        &mut self,
        most: Duration,
        wait: impl FnOnce(&mut Self) -> Option<Outcome>,
    ) -> Option<Outcome> {
        let began = Instant::now();
        self.engine.shift(most, Duration::ZERO);
        let outcome = wait(self);
        // Where nobody had to be waited for, nothing moves.
        let queued = self.engine.story.phase() == Phase::Queueing;
        let used = if queued {
            began.elapsed()
        } else {
            Duration::ZERO
        };
        self.engine.shift(Duration::ZERO, most.saturating_sub(used));
        outcome
    }

    /// A slot of the fleet has to be held, or it is said that none is.
    fn await_slot(&mut self, fleet: &FleetSettings, policy: Policy) -> Option<Outcome> {
        let given_up = Arc::new(AtomicBool::new(false));
        let engine = &self.engine;
        let taking = Taking {
            spec: fleet.spec.clone(),
            who: Holder {
                host: hostname(),
                since: Timestamp::now(),
                cause: engine.run.cause,
                drain: engine.run.id.clone(),
            },
            root: engine.order.root.clone(),
            store: engine.store.clone(),
            given_up: given_up.clone(),
            over: engine.over.clone(),
        };
        taking.start(engine.tell.clone());
        let until = Instant::now() + policy.wait;
        // Even who does not wait asks once.
        let end = until.max(Instant::now() + FIRST);
        let mut why = "nobody says whether a slot is free".to_owned();
        let mut said = None;
        loop {
            match self.hear_until(end) {
                Heard::Slot(SlotStep::Held) => {
                    self.engine
                        .order_note("a slot of the fleet is held".to_owned());
                    return None;
                }
                Heard::Slot(SlotStep::Full(text) | SlotStep::Failed(text)) => {
                    why = text;
                    if Instant::now() < until {
                        if said.as_ref() != Some(&why) {
                            self.queue();
                            self.engine.order_note(format!("{why}: waiting for a slot"));
                            said = Some(why.clone());
                        }
                        continue;
                    }
                }
                Heard::Ended(outcome) => return Some(outcome),
                Heard::Others(_) => continue,
                Heard::Nothing => {}
            }
            given_up.store(true, Ordering::Relaxed);
            return self.give_up(policy.refuse, &format!("no slot of the fleet: {why}"));
        }
    }

    /// Somebody else has to be healthy, or it is said that nobody is.
    fn await_others(&mut self, policy: Policy, needed: u64) -> Option<Outcome> {
        let until = Instant::now() + policy.wait;
        let mut said = None;
        loop {
            let guard = match self.hear_until(Instant::now() + ASK * 2) {
                Heard::Others(guard) => guard,
                Heard::Slot(_) => continue,
                Heard::Nothing => Guard::Unknown("no pool says who else is healthy".to_owned()),
                Heard::Ended(outcome) => return Some(outcome),
            };
            let alone = matches!(guard, Guard::Alone(_));
            let why = match guard {
                Guard::Fine => return None,
                Guard::Unknown(why) => {
                    self.engine.order_note(why);
                    return None;
                }
                Guard::Last(why) | Guard::Alone(why) => why,
            };
            if Instant::now() + AGAIN > until {
                // Alone by design, it could never be drained.
                return self.give_up(policy.refuse && !alone, &why);
            }
            if said.as_ref() != Some(&why) {
                self.queue();
                let text = format!("{why}; at least {needed} must be: waiting");
                self.engine.order_note(text);
                said = Some(why);
            }
            if let Heard::Ended(outcome) = self.hear_until(Instant::now() + AGAIN) {
                return Some(outcome);
            }
            self.ask_others();
        }
    }

    /// What is answered is only said; but a pool that has been left knows less.
    fn hear_others(&mut self) -> Option<Outcome> {
        let end = Instant::now() + MOMENT;
        loop {
            match self.hear_until(end) {
                Heard::Others(guard) => {
                    self.engine.tell_others(guard);
                    return None;
                }
                Heard::Slot(_) => {}
                Heard::Ended(outcome) => return Some(outcome),
                Heard::Nothing => return None,
            }
        }
    }

    fn give_up(&mut self, refuse: bool, why: &str) -> Option<Outcome> {
        if refuse {
            let text = format!("{why}; refused, nothing is changed: --force drains all the same");
            self.engine.order_note(text);
            return Some(Outcome::Refused);
        }
        self.engine
            .order_note(format!("{why}; it drains all the same"));
        None
    }

    fn queue(&mut self) {
        if self.engine.story.phase() != Phase::Queueing {
            self.engine.say(Event::Phase {
                phase: Phase::Queueing,
            });
        }
    }

    /// Asks every pool on a thread of its own; the answer is a message.
    fn ask_others(&self) {
        let order = self.engine.order;
        let (root, specs) = (order.root.clone(), order.settings.pools.clone());
        let tell = self.engine.tell.clone();
        std::thread::spawn(move || tell.send(Message::Others(pools::peers(&root, &specs, ASK))));
    }

    fn hear_until(&mut self, end: Instant) -> Heard {
        loop {
            let now = Instant::now();
            if now >= self.next_beat {
                self.next_beat = now + BEAT;
                self.notifier.tell("waits for its turn", EXTENSION);
            }
            let wake = end.min(self.next_beat);
            let left = wake.saturating_duration_since(Instant::now());
            match self.engine.inbox.recv_timeout(left) {
                Ok(Message::Others(said)) => {
                    return Heard::Others(judge(&said, self.engine.order.settings.guard.others));
                }
                Ok(Message::Slot(step)) => return Heard::Slot(step),
                Ok(message @ Message::Request(..)) => match self.engine.hear(message)[..] {
                    [Input::Skip] => return Heard::Ended(Outcome::Skipped),
                    [Input::Abort] => return Heard::Ended(Outcome::Aborted),
                    _ => {}
                },
                Ok(message) => self.early.push(message),
                Err(_) if Instant::now() >= end => return Heard::Nothing,
                Err(_) => {}
            }
        }
    }
}

fn hostname() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

impl Engine<'_> {
    /// Says who else is healthy, where that is not enough.
    pub(super) fn tell_others(&mut self, guard: Guard) {
        match guard {
            Guard::Fine => {}
            Guard::Last(why) | Guard::Alone(why) => {
                self.order_note(format!("{why}; it drains all the same"));
            }
            Guard::Unknown(why) => self.order_note(why),
        }
    }

    /// Moves the deadline, silently: what passes before the drain begins is not its time.
    fn shift(&mut self, on: Duration, back: Duration) {
        let mut deadline = self
            .deadline
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *deadline = *deadline + on - back;
        self.run.limit = (self.run.limit + on).saturating_sub(back);
    }
}
