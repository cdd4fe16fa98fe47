//! Who may be out at once: slots that a fleet shares, behind one trait and one table.
//!
//! A slot is taken before anything is changed in a pool, held across the reboot, and given back after the rejoin. Whoever never comes back loses it
//! after a time. What is unknown is taken for full: a registry that can't be asked lets nobody out, until the settings' wait is over.

mod consul;
mod fleetlock;
mod semaphore;
#[cfg(test)]
mod simulation;
mod table;

pub use semaphore::{Pace, Slots};
pub use table::{KINDS, Kind, build};

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::drain::Cause;
use crate::pools::{Context, PoolError};

/// A keeper of slots.
///
/// Every call ends by its deadline, may be repeated without harm, and tells secrets to nobody.
pub trait Fleet: Send + Sync {
    /// Who holds slots now. Reads only.
    ///
    /// # Errors
    /// Any kind: unknown is not free.
    fn view(&self, cx: &Context) -> Result<View, PoolError>;

    /// Makes what a slot is held by. It holds none yet; what it answers is kept on disk before [`Fleet::take`] is called.
    ///
    /// # Errors
    /// Any kind. What was made ends by itself.
    fn enroll(&self, cx: &Context, who: &Holder) -> Result<Value, PoolError>;

    /// Takes a slot; `None` once it is held, else why there is none. Harmless where it is held already.
    ///
    /// # Errors
    /// Any kind; whether it is held is unknown then. `NotMember`: the ticket has ended, another one is needed.
    fn take(&self, cx: &Context, ticket: &Value) -> Result<Option<String>, PoolError>;

    /// Says that the holder lives.
    ///
    /// # Errors
    /// Any kind. `NotMember`: the slot is lost.
    fn keep(&self, cx: &Context, ticket: &Value) -> Result<(), PoolError>;

    /// Gives the slot back, and the ticket with it. Harmless where none is held.
    ///
    /// # Errors
    /// Any kind; the ticket stays.
    fn give_back(&self, cx: &Context, ticket: &Value) -> Result<(), PoolError>;

    /// How often [`Fleet::keep`] is to be called.
    fn rhythm(&self) -> Duration;
}

/// Who holds slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// The group that shares them.
    pub group: String,
    /// How many there are; `None` where the keeper does not say.
    pub slots: Option<u64>,
    /// Who holds one; `None` where the keeper does not say.
    pub holders: Option<Vec<Held>>,
}

impl View {
    /// Whether every slot is known to be held by others than the holder of `ticket`.
    #[must_use]
    pub fn is_full(&self, ticket: Option<&Value>) -> bool {
        let mine = |held: &Held| ticket.is_some_and(|ticket| ticket == &held.ticket);
        match (&self.holders, self.slots) {
            (Some(holders), Some(slots)) => {
                let held = u64::try_from(holders.len()).unwrap_or(u64::MAX);
                held >= slots && !holders.iter().any(mine)
            }
            _ => false,
        }
    }
}

/// A slot that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// What it is held by.
    pub ticket: Value,
    /// By whom; `None` where that can't be understood: another program's.
    pub who: Option<Holder>,
}

/// Who holds a slot, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host's name.
    pub host: String,
    /// Since when it has wanted one.
    pub since: Timestamp,
    /// Why it drains.
    pub cause: Cause,
    /// The drain.
    pub drain: String,
}

/// A keeper of slots as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetSpec {
    /// Its type, one of the table's.
    pub kind: String,
    /// The type's own settings, checked; never a secret.
    pub settings: Value,
}
