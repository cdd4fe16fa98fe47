//! The keeper is killed: its program goes with it, and the next start makes good what it left.

use std::process::Command;

use rustix::process::Signal;

use crate::support::{Kept, Place, child, is_gone, poll, send};

/// A program of three: itself, a child, and a child in a session of its own. The ids of the children.
fn family(place: &Place) -> (Kept, u32, u32) {
    let script = "sleep 3600 & a=$!; setsid sleep 3601 & echo $a $!; wait";
    let mut kept = Kept::start(place.run(&[], &["bash", "-c", script]));
    let ids: Vec<u32> = kept
        .line()
        .split(' ')
        .map(|id| id.parse().unwrap())
        .collect();
    // The second is renamed by its exec, once it has left the group.
    let shell = child(kept.pid(), "bash");
    poll("setsid", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", ids[1])).ok()?;
        let group: u32 = stat.rsplit_once(')')?.1.split(' ').nth(3)?.parse().ok()?;
        (group != shell).then_some(())
    });
    (kept, ids[0], ids[1])
}

fn gone(pid: u32) {
    poll("the program's end", || is_gone(pid).then_some(()));
}

#[test]
fn all_that_it_started_goes_with_it() {
    let place = Place::new();
    let (mut kept, in_group, apart) = family(&place);
    let program = child(kept.pid(), "bash");
    kept.signal(Signal::KILL);
    assert_eq!(kept.end_signal(), Some(9));
    for pid in [program, in_group, apart] {
        gone(pid);
    }
}

#[test]
fn the_next_start_ends_what_a_killed_guard_could_not() {
    let place = Place::new();
    let (mut kept, in_group, apart) = family(&place);
    let program = child(kept.pid(), "bash");
    send(child(kept.pid(), "drainctl-guard"), Signal::KILL);
    kept.signal(Signal::KILL);
    assert_eq!(kept.end_signal(), Some(9));
    gone(program);
    assert!(!is_gone(in_group) && !is_gone(apart));
    assert!(place.run(&[], &["true"]).status().unwrap().success());
    assert!(is_gone(in_group) && is_gone(apart));
}

#[test]
fn what_a_program_leaves_behind_in_order_is_left_alone() {
    let place = Place::new();
    let script = "setsid sleep 3600 >/dev/null 2>&1 & echo $!";
    let mut kept = Kept::start(place.run(&[], &["bash", "-c", script]));
    let daemon: u32 = kept.line().parse().unwrap();
    assert!(kept.end().success());
    assert!(place.run(&[], &["true"]).status().unwrap().success());
    assert!(!is_gone(daemon));
    send(daemon, Signal::KILL);
}

#[test]
fn a_drain_that_was_killed_is_undone_by_the_next_start() {
    let place = Place::new();
    let mut kept = place.serve();
    let server = child(kept.pid(), "drainctl");
    let _request = place.request(3600);
    kept.signal(Signal::TERM);
    poll("the pool to be left", || place.is_out().then_some(()));
    kept.signal(Signal::KILL);
    assert_eq!(kept.end_signal(), Some(9));
    gone(server);
    assert!(place.is_out() && place.has_receipts());
    let mut again = place.serve();
    poll("the pool to take it back", || {
        (!place.is_out()).then_some(())
    });
    again.signal(Signal::TERM);
    again.end();
}

#[test]
fn a_program_that_changes_its_user_goes_too() {
    if !crate::support::is_root() {
        eprintln!("SKIPPED a_program_that_changes_its_user_goes_too: needs root");
        return;
    }
    let place = Place::new();
    let program = [
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "sleep",
        "3600",
    ];
    let mut kept = Kept::start(place.run(&[], &program));
    let program = child(kept.pid(), "sleep");
    let bound = Command::new("grep")
        .args(["-c", "^Uid:.65534"])
        .arg(format!("/proc/{program}/status"))
        .status();
    assert!(bound.unwrap().success());
    kept.signal(Signal::KILL);
    assert_eq!(kept.end_signal(), Some(9));
    gone(program);
}
