//! One drain: why (`cause`), what to do next (`machine`, pure), doing it (`engine`), what happened (`event`), how it ended
//! (`outcome`).

pub mod cause;
pub mod event;
pub mod outcome;

pub use cause::Cause;
pub use outcome::Outcome;
