//! A rehearsal in the way of a real drain is ended at once: asked to first, killed soon after. Either way its receipts stay, and the host with
//! them out of its pools, for the drain that follows.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::control::{self, Request};
use crate::receipts::{Rehearsal, Rehearsing, Run};
use crate::world::Root;

/// A rehearsal that was asked to end has this long: it may be asking its pools, and then hears nobody.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ends the rehearsal that is found running, if any is.
#[derive(Debug)]
pub struct Evict {
    root: Root,
    /// When it was asked to.
    asked: Option<Instant>,
}

impl Evict {
    /// Nobody was asked yet.
    #[must_use]
    pub fn new(root: &Root) -> Self {
        Self {
            root: root.clone(),
            asked: None,
        }
    }

    /// Does the next step; called again and again while the lock is taken.
    pub fn turn(&mut self) {
        let Ok(Rehearsing::Process(pid)) = Rehearsal::now(&self.root) else {
            return;
        };
        match self.asked {
            None => {
                self.asked = Some(Instant::now());
                let root = self.root.clone();
                // An answer may take seconds. One that comes too late, or says no, changes nothing.
                std::thread::spawn(move || drop(control::ask(&root, Request::Skip)));
            }
            Some(asked) if asked.elapsed() >= PATIENCE => {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    // The only failure is that it is gone.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            Some(_) => {}
        }
    }
}

/// Takes away what a rehearsal that was killed left of itself, so that nobody takes over its deadline with its drain. The receipts stay. The
/// caller holds the lock.
///
/// # Errors
/// What the system says.
pub fn forget_killed(root: &Root) -> std::io::Result<()> {
    if Rehearsal::now(root)? == Rehearsing::Killed {
        Run::forget(root)?;
        Rehearsal::forget(root)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipts::RUN_DIR;

    #[test]
    fn a_killed_rehearsal_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let (mut run, _) = Run::begin_or_resume(&root);
        run.limit = Duration::from_secs(3600);
        run.write(&root).unwrap();
        forget_killed(&root).unwrap();
        assert!(
            Run::begin_or_resume(&root).1,
            "a drain that was killed is taken over"
        );
        root.replace(format!("{RUN_DIR}/rehearsal"), b"1\n", 0o600)
            .unwrap();
        forget_killed(&root).unwrap();
        assert!(!Run::begin_or_resume(&root).1);
        assert_eq!(Rehearsal::now(&root).unwrap(), Rehearsing::Nobody);
    }
}
