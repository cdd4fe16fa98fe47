//! `rejoin`: the hook's second half.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;

use crate::config;
use crate::drain::{Outcome, Target, rejoin};
use crate::exit;
use crate::pools::Rejoined;
use crate::receipts::{Lock, Locked, Run, Store};
use crate::world::{Deadline, Root};

/// Take the host back into the pools that a drain took it out of, once the programs are up and well.
///
/// Undoes what the receipts say and nothing else: an operator's own maintenance stays.
#[derive(Debug, Args)]
#[command(after_help = "Example: drainctl rejoin")]
pub(super) struct Rejoin {
    /// Don't wait for the programs.
    #[arg(long)]
    now: bool,
}

/// A drain that is running holds the lock; it is not waited for long.
const LOCK: Duration = Duration::from_secs(5);
/// What the pools may take together.
const UNDO: Duration = Duration::from_secs(60);

impl Rejoin {
    /// Runs it.
    ///
    /// # Errors
    /// Not root, the programs are not well, or a drain is running.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("rejoin")?;
        let Some(book) = Store::open(root)?.book() else {
            say!("nothing to rejoin: no drain has taken this host out of a pool");
            return Ok(exit::OK);
        };
        let last = Run::read(root).map(|run| run.id);
        if !self.now {
            // What is undone comes from the receipts; of the config only the check counts, and a fault in it does not.
            let settings = config::load_or_last_good(root).0;
            let target = Target::Units(settings.units.clone());
            rejoin::await_health(root, &target, &settings, &book, |missing| {
                say!("waiting: {missing}");
            })?;
        }
        let lock = lock(root)?;
        if drained_since(root, last.as_ref()) {
            say!(
                "a drain has taken this host out meanwhile: its receipts wait for the next rejoin"
            );
            return Ok(exit::OK);
        }
        undo_locked(root, lock)
    }
}

/// Whether a drain other than `last` has run, and holds this host out: by hand, while we waited for the programs.
fn drained_since(root: &Root, last: Option<&String>) -> bool {
    Run::read(root).is_some_and(|run| {
        let nothing = matches!(
            run.ended,
            Some((
                Outcome::NothingToDo | Outcome::Aborted | Outcome::Refused,
                _
            ))
        );
        Some(&run.id) != last && !nothing
    })
}

/// Uses every receipt, and says what came of each.
pub(super) fn undo(root: &Root) -> anyhow::Result<u8> {
    undo_locked(root, lock(root)?)
}

fn undo_locked(root: &Root, _lock: Lock) -> anyhow::Result<u8> {
    put_back(root, root, |line| say!("{line}"))
}

/// The same for those who hold the lock of `state`, where the receipts are; `say` hears what worked.
pub(super) fn put_back(root: &Root, state: &Root, say: impl Fn(&str)) -> anyhow::Result<u8> {
    let store = Store::open(state)?;
    let mut code = exit::OK;
    for (pool, result) in rejoin::undo(root, &store, Deadline::after(UNDO)) {
        match result {
            Ok(Rejoined::Restored) => say(&format!("{pool}: back in")),
            Ok(Rejoined::LeftAlone(why)) => say(&format!("{pool}: left alone: {why}")),
            Err(error) => {
                let text = format!("{pool}: not rejoined, the receipt stays: {error:#}\n");
                // A terminal that is gone must not end the undoing.
                let _ = std::io::stderr().write_all(text.as_bytes());
                code = exit::FAILED;
            }
        }
    }
    if code == exit::OK {
        // A drain that was killed is over with that: the next one is another, with a deadline of its own.
        Run::forget(state)?;
    }
    Ok(code)
}

/// The lock of `root`, within a few seconds.
pub(super) fn lock(root: &Root) -> anyhow::Result<Lock> {
    let deadline = Deadline::after(LOCK);
    loop {
        match Lock::attempt(root)? {
            Locked::Ours(lock) => return Ok(lock),
            Locked::Taken if deadline.passed() => anyhow::bail!("a drain is running"),
            Locked::Taken => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_began_while_a_rejoin_waits_keeps_the_host_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        assert!(!drained_since(&root, None));
        let (mut run, _) = Run::begin_or_resume(&root);
        let earlier = run.id.clone();
        run.write(&root).unwrap();
        assert!(!drained_since(&root, Some(&earlier)));
        run.id.push_str("-later");
        run.ended = Some((Outcome::Drained, exit::OK));
        run.write(&root).unwrap();
        assert!(drained_since(&root, Some(&earlier)));
        assert!(drained_since(&root, None));
        run.ended = Some((Outcome::NothingToDo, exit::OK));
        run.write(&root).unwrap();
        assert!(!drained_since(&root, Some(&earlier)));
    }

    #[test]
    fn a_drain_that_was_killed_is_over_once_its_receipts_are_used() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let (mut run, _) = Run::begin_or_resume(&root);
        run.limit = Duration::from_secs(3600);
        run.write(&root).unwrap();
        assert!(Run::begin_or_resume(&root).1);
        undo(&root).unwrap();
        assert!(!Run::begin_or_resume(&root).1);
    }
}
