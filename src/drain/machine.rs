//! What a drain does next. Pure: time and everything seen come in as arguments, what to do goes out.

use std::time::{Duration, Instant};

use super::Outcome;
use super::event::Phase;
use crate::config::SettleSettings;
use crate::evidence::Settle;

/// Looks are this far apart at least: ties are broken by counters of looks before (DESIGN: every 50 ms).
const PACE: Duration = Duration::from_millis(50);
/// While waiting, all connections are looked at again this often; in between only the oldest busy ones.
const WHOLE: Duration = Duration::from_secs(5);
/// So long before the deadline every look is a whole one.
const LAST_LOOKS: Duration = Duration::from_millis(500);
/// A whole look may take one part in this many of the time while waiting.
const WAITING_SHARE: u32 = 200;
/// And one part in this many while arrivals are measured.
const SETTLING_SHARE: u32 = 4;

/// While waiting the pools are asked this often whether they are still left.
const CHECK: Duration = Duration::from_secs(10);
/// Before the end they must have said so no longer ago than this.
const CHECKED: Duration = Duration::from_secs(1);
/// A pool that does not answer by then holds nothing up.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A pool was left, was never joined, or was given up.
    PoolResolved {
        /// Whether it is known to send nothing more.
        left: bool,
    },
    /// More pools are to be left: one stands in for another, or has to be left again; what becomes of them says how it is with all. With none, the
    /// pools were asked and are left.
    Joined {
        /// How many.
        pools: usize,
    },
    /// A look at all connections succeeded.
    Whole {
        /// How many hold the drain.
        busy: u64,
        /// When what has arrived is known to have stopped, if nothing more comes; none where nothing has.
        silent_at: Option<Instant>,
        /// The age of the oldest request in flight.
        oldest: Option<Duration>,
        /// What the look cost.
        cost: Duration,
    },
    /// A look at the oldest busy connections found one still busy; its age.
    StillBusy {
        /// The age of the oldest request in flight.
        oldest: Duration,
    },
    /// A look failed.
    Blind,
    /// Go on at once.
    Skip,
    /// Undo it.
    Abort,
    /// The deadline moves.
    Extend(Duration),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A phase begins.
    Enter(Phase),
    /// Look. There is one look at a time.
    Look(Depth),
    /// Traffic has not stopped: whoever can stand in for a pool is to do so.
    StandIn,
    /// Nothing more is in flight than what goes on arriving: whoever can turn it away is to do so.
    LastResort,
    /// Ask the pools whether they are still left; [`Input::Joined`] answers.
    Recheck,
    /// It is over.
    Finish(Outcome),
}

/// How much to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every watched connection.
    Whole,
    /// The oldest busy ones; every one if none of those is busy any more.
    Oldest,
}

/// One drain.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    deadline: Instant,
    limits: SettleSettings,
    pools_pending: usize,
    pools_left: bool,
    settle: Option<Settle>,
    settled_at: Option<Instant>,
    endless: bool,
    /// Somebody can turn away what goes on arriving.
    last_resort: bool,
    /// When the pools were asked whether they are still left, while they have not answered.
    asked: Option<Instant>,
    /// When they last did.
    answered: Option<Instant>,
    looking: bool,
    next_look: Instant,
    next_whole: Instant,
    in_flight: InFlight,
    /// No look has succeeded yet, or since one failed: a request that comes in pieces is dated by its last one then.
    undated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InFlight {
    Unknown,
    /// The kernel may skip a socket once when another one in its hash bucket goes away while the answer is cut into
    /// datagrams there: one look that finds nothing is not enough.
    NoneOnce,
    None,
    Some {
        oldest: Duration,
    },
}

impl Machine {
    /// A drain with that many pools, which must end by `deadline`.
    #[must_use]
    pub fn new(now: Instant, deadline: Instant, limits: SettleSettings, pools: usize) -> Self {
        Self {
            phase: Phase::Leaving,
            deadline,
            limits,
            pools_pending: pools,
            pools_left: true,
            settle: None,
            settled_at: None,
            endless: false,
            last_resort: false,
            asked: None,
            answered: None,
            looking: false,
            next_look: now,
            next_whole: now,
            in_flight: InFlight::Unknown,
            undated: true,
        }
    }

    /// With somebody who can turn away what goes on arriving, once what is in flight is done.
    #[must_use]
    pub fn with_last_resort(mut self, there_is: bool) -> Self {
        self.last_resort = there_is;
        self
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When it must have ended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes what came in, answers what to do.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Ended {
            return actions;
        }
        match input {
            Input::Skip => return self.finish(Outcome::Skipped),
            Input::Abort => return self.finish(Outcome::Aborted),
            Input::Extend(by) => self.deadline += by,
            Input::PoolResolved { left } => {
                self.pools_pending = self.pools_pending.saturating_sub(1);
                self.pools_left &= left;
            }
            Input::Joined { pools } => {
                self.asked = None;
                self.answered = Some(now);
                if pools > 0 {
                    // What they say now will be of another leaving.
                    self.answered = None;
                    self.pools_pending += pools;
                    self.pools_left = true;
                    self.settle = None;
                    if self.phase != Phase::Leaving {
                        self.enter(Phase::Leaving, &mut actions);
                    }
                }
            }
            Input::Whole {
                busy,
                silent_at,
                oldest,
                cost,
            } => {
                if std::mem::take(&mut self.undated)
                    && let Some(settled_at) = &mut self.settled_at
                {
                    // When they began nobody knows: what is in flight now is owed.
                    *settled_at = now;
                }
                self.in_flight = match (busy, self.in_flight) {
                    (0, InFlight::None | InFlight::NoneOnce) => InFlight::None,
                    (0, _) => InFlight::NoneOnce,
                    _ => InFlight::Some {
                        oldest: oldest.unwrap_or_default(),
                    },
                };
                self.looked(now, silent_at, cost);
            }
            Input::StillBusy { oldest } => {
                self.in_flight = InFlight::Some { oldest };
                self.looking = false;
                self.next_look = now + PACE;
            }
            Input::Blind => {
                self.in_flight = InFlight::Unknown;
                self.undated = true;
                self.looking = false;
                self.next_look = now + PACE;
                if let Some(settle) = &mut self.settle {
                    settle.blind(now);
                }
            }
            Input::Tick => {}
        }
        self.advance(now, &mut actions);
        actions
    }

    /// When it wants to be asked again, if nothing comes in before.
    #[must_use]
    pub fn wake(&self) -> Instant {
        let settle = match (self.phase, &self.settle) {
            (Phase::Settling, Some(settle)) => settle.latest(),
            _ => self.deadline,
        };
        let look = if self.looking {
            self.deadline
        } else {
            self.next_look
        };
        let check = match (self.phase, self.asked) {
            (Phase::Waiting, Some(asked)) => (asked + PATIENCE).max(self.next_look),
            (Phase::Waiting, None) => self.next_check(),
            _ => self.deadline,
        };
        self.deadline.min(settle).min(look).min(check)
    }

    fn looked(&mut self, now: Instant, silent_at: Option<Instant>, cost: Duration) {
        if let Some(settle) = &mut self.settle {
            settle.looked(now, silent_at);
        }
        self.looking = false;
        let share = if self.phase == Phase::Settling {
            SETTLING_SHARE
        } else {
            WAITING_SHARE
        };
        // While someone is known to be busy the next look is a cheap one; otherwise the cost decides.
        self.next_look = match (self.phase, self.in_flight) {
            (Phase::Waiting, InFlight::Some { .. }) => now + PACE,
            (Phase::Waiting, InFlight::NoneOnce) => now,
            _ => now + PACE.max(cost * SETTLING_SHARE),
        };
        self.next_whole = now + WHOLE.max(cost * share);
    }

    fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.phase == Phase::Leaving && self.pools_pending == 0 && self.turns_away_later() {
            // A settle would wait for the end of what does not end yet.
            self.settled_at = Some(now);
            self.endless = true;
            self.enter(Phase::Waiting, actions);
        }
        if self.phase == Phase::Leaving && self.pools_pending == 0 {
            self.settle = Some(Settle::new(self.limits, now));
            self.enter(Phase::Settling, actions);
        }
        if self.phase == Phase::Settling && self.settle.as_ref().is_some_and(|s| s.is_over(now)) {
            self.settled_at = Some(now);
            self.endless = !self.pools_left || !self.settle.as_ref().is_some_and(Settle::is_quiet);
            if self.looking {
                // Ended by its limit while a look hangs: what was seen before it is too old to end the drain.
                self.in_flight = InFlight::Unknown;
            }
            self.enter(Phase::Waiting, actions);
            if self
                .settle
                .as_ref()
                .is_some_and(|settle| !settle.is_quiet())
            {
                actions.push(Action::StandIn);
            }
        }
        if self.phase == Phase::Waiting && self.is_time_for_the_last_resort(now) {
            self.last_resort = false;
            actions.push(Action::LastResort);
        } else if self.phase == Phase::Waiting
            // A look under way knows better than the one before it.
            && !self.looking
            && self.nothing_owed(now)
            && self.is_checked(now, actions)
        {
            actions.extend(self.finish(Outcome::Drained));
            return;
        }
        if self.phase == Phase::Waiting && now >= self.next_check() {
            self.check(now, actions);
        }
        if now >= self.deadline {
            actions.extend(self.finish(Outcome::DeadlineHit));
            return;
        }
        if !self.looking && now >= self.next_look {
            self.looking = true;
            // The last looks before the deadline are whole ones: they say what is cut.
            let cheap = self.phase == Phase::Waiting
                && now + LAST_LOOKS < self.deadline
                && matches!(self.in_flight, InFlight::Some { .. })
                && now < self.next_whole;
            actions.push(Action::Look(if cheap {
                Depth::Oldest
            } else {
                Depth::Whole
            }));
        }
    }

    /// Nothing is in flight; or, where traffic goes on without an end (a pool could not be left, or something kept arriving until
    /// the settle's limit), nothing that was in flight when the settle ended: what came after would be followed by more for ever.
    fn nothing_owed(&self, now: Instant) -> bool {
        match (self.in_flight, self.settled_at) {
            (InFlight::None, _) => true,
            (InFlight::Some { oldest }, Some(settled_at)) => {
                self.endless && oldest < now.duration_since(settled_at)
            }
            _ => false,
        }
    }

    /// Whether a pool is not left, and what it sends will be turned away.
    fn turns_away_later(&self) -> bool {
        self.last_resort && !self.pools_left
    }

    /// What was in flight is done, or there is just enough time left to see an end of what arrives.
    fn is_time_for_the_last_resort(&self, now: Instant) -> bool {
        let is_late = now + self.limits.max >= self.deadline;
        self.last_resort && self.endless && (self.nothing_owed(now) || is_late)
    }

    /// Whether the pools have just said that they are still left, or don't say; asks them otherwise.
    fn is_checked(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let recent = |at: &Instant| now.duration_since(*at) < CHECKED;
        if self.answered.as_ref().is_some_and(recent) {
            return true;
        }
        match self.asked {
            Some(asked) => now.duration_since(asked) >= PATIENCE,
            None => {
                self.check(now, actions);
                false
            }
        }
    }

    fn check(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.asked = Some(now);
        actions.push(Action::Recheck);
    }

    /// When the pools are asked again; they may have taken this host back in the middle of a long wait.
    fn next_check(&self) -> Instant {
        let last = [self.settled_at, self.asked, self.answered];
        let last = last.into_iter().flatten().max();
        last.map_or(self.deadline, |last| last + CHECK)
    }

    fn enter(&mut self, phase: Phase, actions: &mut Vec<Action>) {
        self.phase = phase;
        actions.push(Action::Enter(phase));
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Action> {
        self.phase = Phase::Ended;
        vec![Action::Enter(Phase::Ended), Action::Finish(outcome)]
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
