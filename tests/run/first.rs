//! As the first process of a namespace, as in a container.

use std::process::Command;

use rustix::process::Signal;

use crate::support::{Kept, Place, answer, child, is_root, poll, send};

/// `run`, as the first process of its own process namespace.
fn contained(run: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(run.get_program())
        .args(run.get_args());
    unshare
}

fn skipped(name: &str) -> bool {
    if !is_root() {
        eprintln!("SKIPPED {name}: needs root for a process namespace");
    }
    !is_root()
}

#[test]
fn zombies_are_reaped_and_the_exit_code_is_the_programs() {
    if skipped("zombies_are_reaped_and_the_exit_code_is_the_programs") {
        return;
    }
    let place = Place::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.0$i &); done
                  while grep -l ') [Z] 1 ' /proc/[0-9]*/stat >/dev/null || pgrep sleep >/dev/null; do :; done
                  test $(cut -d' ' -f1 /proc/1/stat) = 1 && exit 42";
    let status = contained(&place.run(&[], &["bash", "-c", script])).status();
    assert_eq!(status.unwrap().code(), Some(42));
}

#[test]
fn a_program_killed_by_a_signal_is_told_as_shells_do() {
    if skipped("a_program_killed_by_a_signal_is_told_as_shells_do") {
        return;
    }
    let place = Place::new();
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let script = format!("kill -{signal} $$");
        let status = contained(&place.run(&[], &["sh", "-c", &script])).status();
        assert_eq!(status.unwrap().code(), Some(code));
    }
}

#[test]
fn sigterm_drains() {
    if skipped("sigterm_drains") {
        return;
    }
    let place = Place::new();
    let mut kept = Kept::start(contained(&place.server(&[])));
    let request = place.request(2);
    let first = child(kept.pid(), "drainctl");
    send(first, Signal::TERM);
    poll("the pool to be left", || place.is_out().then_some(()));
    let answer = answer(request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    assert_eq!(kept.end().code(), Some(143));
}
