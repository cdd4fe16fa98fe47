//! Before anything is changed: whether others take the traffic while this host is out.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Outcome;
use super::engine::{BEAT, EXTENSION, Engine, Message};
use super::event::{Event, Phase};
use super::guard::{Guard, judge};
use super::machine::Input;
use crate::config::Policy;
use crate::pools;
use crate::systemd::Notifier;

/// The pools have this long to say who else is healthy.
const ASK: Duration = Duration::from_secs(3);
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
        let began = Instant::now();
        let guard = self.engine.order.settings.guard;
        let policy = guard.policies().of(self.engine.run.cause);
        if guard.others == 0 {
            return None;
        }
        self.ask_others();
        if !policy.holds() {
            // It leaves meanwhile; what is answered is only said.
            return None;
        }
        let most = policy.wait + ASK * 2;
        self.engine.shift(most, Duration::ZERO);
        let outcome = self.await_others(policy, guard.others);
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

    /// Somebody else has to be healthy, or it is said that nobody is.
    fn await_others(&mut self, policy: Policy, needed: u64) -> Option<Outcome> {
        let until = Instant::now() + policy.wait;
        let mut said = None;
        loop {
            let guard = match self.hear_until(Instant::now() + ASK * 2) {
                Heard::Others(guard) => guard,
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
                Ok(message @ Message::Request(..)) => match self.engine.hear(message) {
                    Some(Input::Skip) => return Heard::Ended(Outcome::Skipped),
                    Some(Input::Abort) => return Heard::Ended(Outcome::Aborted),
                    _ => {}
                },
                Ok(message) => self.early.push(message),
                Err(_) if Instant::now() >= end => return Heard::Nothing,
                Err(_) => {}
            }
        }
    }
}

impl Engine<'_> {
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
