//! A second drain waits for the first, and tells its outcome as its own.

use std::time::Duration;

use anyhow::bail;

use super::Outcome;
use crate::receipts::{Lock, Locked, Run, boot_clock};
use crate::world::{Deadline, Root};

const PACE: Duration = Duration::from_millis(50);
/// What the first may take beyond its deadline, or when it is a rejoin, which has none.
const GRACE: Duration = Duration::from_secs(30);

/// What became of the first.
#[derive(Debug)]
pub enum Joined {
    /// It ended so, with that exit code.
    Ended(Outcome, u8),
    /// It was killed, or it was no drain: the lock is ours now.
    TakeOver(Lock),
}

/// Waits for the holder of the lock.
///
/// # Errors
/// It does not end.
pub fn join(root: &Root) -> anyhow::Result<Joined> {
    let running = || Run::read(root).filter(|run| run.ended.is_none());
    let mut first = running();
    let mut deadline = limit(first.as_ref());
    loop {
        match Lock::attempt(root)? {
            Locked::Taken if deadline.passed() => {
                bail!("another drainctl holds the lock and does not end")
            }
            Locked::Taken => std::thread::sleep(PACE),
            Locked::Ours(lock) => {
                let ended = Run::read(root)
                    .filter(|run| first.as_ref().is_some_and(|first| first.id == run.id))
                    .and_then(|run| run.ended);
                return Ok(match ended {
                    Some((outcome, code)) => Joined::Ended(outcome, code),
                    None => Joined::TakeOver(lock),
                });
            }
        }
        // It writes who it is a moment after it has the lock, and learns its deadline a moment later.
        if first.as_ref().is_none_or(|first| first.limit.is_zero()) {
            first = running();
            deadline = limit(first.as_ref());
        }
    }
}

fn limit(first: Option<&Run>) -> Deadline {
    let left = first.map(|run| (run.began + run.limit).saturating_sub(boot_clock()));
    Deadline::after(left.unwrap_or_default() + GRACE)
}
