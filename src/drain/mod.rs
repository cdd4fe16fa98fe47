//! One drain: why (`cause`), what to do next (`machine`, pure), doing it (`engine`), what happened (`event`), how it ended
//! (`outcome`).

mod beginning;
pub mod cause;
pub mod control;
pub mod curve;
mod draft;
mod ending;
pub mod engine;
pub mod event;
pub mod evict;
pub mod guard;
pub mod join;
pub mod leave;
mod leavers;
pub mod looker;
pub mod machine;
pub mod outcome;
pub mod ports;
pub mod rejoin;
pub mod slot;
mod steering;
pub mod story;
pub mod target;
mod turn;
pub mod waits;
pub mod ways;

pub use cause::Cause;
pub use event::{Event, Report};
pub use machine::Machine;
pub use outcome::Outcome;
pub use target::Target;
