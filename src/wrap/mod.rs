//! One program under our care (`drainctl run`).
//!
//! What stays beside the program does nothing but sleep until there is a signal (`keeper`): one thread, no settings, no pools. It is
//! this binary executed anew with what has been worked out (`plan`), so that nothing of the working out stays in memory. Draining and
//! rejoining are done by processes of their own, which live only as long as that takes. What a signal means is decided by `stage`,
//! which is pure. A second process (`guard`) sleeps until the keeper is gone without a word, and takes the program along then.

pub mod guard;
pub mod host;
pub mod keeper;
pub mod plan;
pub mod program;
mod stage;
mod terminal;
pub mod unit;

pub use plan::Plan;
