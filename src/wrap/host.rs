//! The host's own drain: where it has done the work already, a program's would only take time.

use crate::drain::Outcome;
use crate::receipts::{Lock, RECEIPTS, Run, boot_clock};
use crate::world::{Root, proc};

/// Whether the host is drained, the program of this process with it, and it has not been taken back yet. Readable without root. Whatever
/// can't be seen counts as no.
#[must_use]
pub fn is_drained(root: &Root) -> bool {
    let Some(run) = Run::read(root) else {
        return false;
    };
    let group = proc::control_group(root, std::process::id());
    let group = group.ok().flatten().unwrap_or_default();
    is_over(&run)
        && covers(&run.units, &group)
        // Each receipt is removed once its pool has taken the host back; a rejoin at work holds the lock.
        && root.exists(RECEIPTS)
        && Lock::is_free(root)
}

/// Whether it has waited as long as it ever will. One that was killed has not; one that came to its deadline has used it up.
fn is_over(run: &Run) -> bool {
    match run.ended {
        Some((outcome, _)) => matches!(
            outcome,
            Outcome::Drained | Outcome::DeadlineHit | Outcome::Skipped
        ),
        None => !run.limit.is_zero() && boot_clock() >= run.began + run.limit,
    }
}

/// Whether a process in the control group `group` is one of the `units` that were drained.
fn covers(units: &[String], group: &str) -> bool {
    group
        .split('/')
        .any(|part| units.iter().any(|unit| unit == part))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::receipts::Locked;

    /// A host that was drained, seen from a program of its supervisor.
    fn host(edit: impl FnOnce(&mut Run)) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        drop(Lock::attempt(&root).unwrap());
        let (mut run, _) = Run::begin_or_resume(&root);
        run.ended = Some((Outcome::Drained, 0));
        run.units = vec!["supervisor.service".to_owned()];
        edit(&mut run);
        run.write(&root).unwrap();
        root.replace(RECEIPTS, b"{}", 0o600).unwrap();
        let group = b"0::/system.slice/supervisor.service/deeper\n";
        let me = format!("/proc/{}/cgroup", std::process::id());
        root.replace(me, group, 0o644).unwrap();
        symlink("/proc/locks", root.path("/proc/locks")).unwrap();
        (dir, root)
    }

    #[test]
    fn a_drained_host_is_known_until_it_is_taken_back() {
        let (_dir, root) = host(|_| {});
        assert!(is_drained(&root));
        let Locked::Ours(rejoin) = Lock::attempt(&root).unwrap() else {
            panic!("the lock is taken")
        };
        assert!(!is_drained(&root), "while a rejoin is at work");
        drop(rejoin);
        assert!(is_drained(&root));
        root.remove(RECEIPTS).unwrap();
        assert!(!is_drained(&root), "once it is back");
    }

    #[test]
    fn only_a_drain_that_waited_for_this_program_will_do() {
        for (ended, drained) in [
            (Some((Outcome::DeadlineHit, 3)), true),
            (Some((Outcome::Skipped, 5)), true),
            (Some((Outcome::Aborted, 5)), false),
            (Some((Outcome::NothingToDo, 0)), false),
            (None, false),
        ] {
            let (_dir, root) = host(|run| run.ended = ended);
            assert_eq!(is_drained(&root), drained, "{ended:?}");
        }
        let (_dir, root) = host(|run| run.units = vec!["other.service".to_owned()]);
        assert!(!is_drained(&root));
        let (_dir, root) = host(|run| run.units.clear());
        assert!(!is_drained(&root));
    }

    #[test]
    fn a_drain_that_was_ended_by_its_deadline_has_used_the_time_up() {
        let killed = |run: &mut Run, limit| {
            run.ended = None;
            run.limit = limit;
        };
        let (_dir, root) = host(|run| killed(run, Duration::from_nanos(1)));
        assert!(is_drained(&root));
        let (_dir, root) = host(|run| killed(run, Duration::from_hours(1)));
        assert!(!is_drained(&root));
    }

    #[test]
    fn without_a_drain_there_is_nothing_to_know() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_drained(&Root::at(dir.path())));
    }
}
