//! Exit codes: a contract, and the only place where an outcome or an error becomes a number.

use crate::drain::Outcome;

/// Drained, or nothing to do.
pub const OK: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// Wrong usage, or a fault in the config.
pub const USAGE: u8 = 2;
/// The deadline came with requests in flight, or with their number unknown.
pub const DEADLINE: u8 = 3;
/// Drained, but a pool could not be left, or traffic went on although every pool was.
pub const POOL: u8 = 4;
/// Skipped, aborted or refused.
pub const SKIPPED: u8 = 5;
/// Doctor found errors.
pub const UNSOUND: u8 = 6;

/// The exit code of a drain that ended with `outcome`; `left` is false when a pool could not be left, or
/// traffic went on.
#[must_use]
pub fn of(outcome: Outcome, left: bool) -> u8 {
    match outcome {
        Outcome::DeadlineHit => DEADLINE,
        Outcome::Skipped | Outcome::Aborted | Outcome::Refused => SKIPPED,
        Outcome::Drained | Outcome::NothingToDo if !left => POOL,
        Outcome::Drained | Outcome::NothingToDo => OK,
        Outcome::Unfinished => FAILED,
    }
}
