//! A second drain waits for the first, and tells its outcome as its own.

use std::time::Duration;

use anyhow::bail;

use super::Outcome;
use crate::receipts::{Lock, Locked, Run, boot_clock};
use crate::world::{Deadline, Root};

const PACE: Duration = Duration::from_millis(50);
/// What the first may take beyond its deadline, or when it is a rejoin, which has none: its pools may take a minute together.
const GRACE: Duration = Duration::from_secs(75);

/// What became of the first.
#[derive(Debug)]
pub enum Joined {
    /// It ended so, with that exit code.
    Ended(Outcome, u8),
    /// It was killed, it was no drain, or what came of it does not do for us: the lock is ours now.
    TakeOver(Lock),
}

/// Waits for the holder of the lock; `waiting` is called all the while. `does` says whether an outcome with its exit code does for
/// the caller.
///
/// # Errors
/// It does not end.
pub fn join(
    root: &Root,
    does: impl Fn(Outcome, u8) -> bool,
    mut waiting: impl FnMut(),
) -> anyhow::Result<Joined> {
    let running = || Run::read(root).filter(|run| run.ended.is_none());
    let mut first = running();
    let mut deadline = limit(first.as_ref());
    loop {
        match Lock::attempt(root)? {
            Locked::Taken if deadline.passed() && limit(running().as_ref()).passed() => {
                bail!("another drainctl holds the lock and does not end")
            }
            Locked::Taken => {
                waiting();
                std::thread::sleep(PACE);
            }
            Locked::Ours(lock) => {
                let ended = Run::read(root)
                    .filter(|run| first.as_ref().is_some_and(|first| first.id == run.id))
                    .and_then(|run| run.ended);
                return Ok(match ended {
                    Some((outcome, code)) if does(outcome, code) => Joined::Ended(outcome, code),
                    _ => Joined::TakeOver(lock),
                });
            }
        }
        // It writes who it is a moment after it has the lock, and learns its deadline a moment later.
        if first.as_ref().is_none_or(|first| first.limit.is_zero()) {
            first = running().or(first);
            deadline = limit(first.as_ref());
        }
    }
}

fn limit(first: Option<&Run>) -> Deadline {
    let left = first.map(|run| (run.began + run.limit).saturating_sub(boot_clock()));
    Deadline::after(left.unwrap_or_default() + GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(root: &Root) -> Lock {
        match Lock::attempt(root).unwrap() {
            Locked::Ours(lock) => lock,
            Locked::Taken => panic!("the lock is taken"),
        }
    }

    /// Joins a drain that ends as skipped once it is joined.
    fn join_skipped(does: impl Fn(Outcome, u8) -> bool) -> Joined {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let mut first = Some(ours(&root));
        let (run, _) = Run::begin_or_resume(&root);
        run.write(&root).unwrap();
        let ended = Some((Outcome::Skipped, 5));
        join(&root, does, || {
            Run {
                ended,
                ..run.clone()
            }
            .write(&root)
            .unwrap();
            first = None;
        })
        .unwrap()
    }

    #[test]
    fn what_came_of_the_first_is_told_where_it_does() {
        assert!(matches!(
            join_skipped(|_, _| true),
            Joined::Ended(Outcome::Skipped, 5)
        ));
    }

    #[test]
    fn somebody_elses_skip_does_not_skip_ours() {
        let drained = |outcome, _| outcome == Outcome::Drained;
        assert!(matches!(join_skipped(drained), Joined::TakeOver(_)));
    }
}
