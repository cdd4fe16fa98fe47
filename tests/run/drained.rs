//! SIGTERM drains the program, and the next start takes it back.

use rustix::process::Signal;

use crate::support::{Kept, Place, answer, child, is_gone, poll, send};

#[test]
fn a_request_in_flight_is_answered_before_the_program_hears_of_sigterm() {
    let place = Place::new();
    let mut kept = place.serve();
    let request = place.request(2);
    kept.signal(Signal::TERM);
    poll("the pool to be left", || place.is_out().then_some(()));
    assert!(place.has_receipts());
    let answer = answer(request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    assert_eq!(kept.end_signal(), Some(15));
    assert!(place.is_out(), "nobody serves yet");

    let mut again = place.serve();
    poll("the pool to take it back", || {
        (!place.is_out()).then_some(())
    });
    poll("the receipts to be used", || {
        (!place.has_receipts()).then_some(())
    });
    again.signal(Signal::TERM);
    assert_eq!(again.end_signal(), Some(15));
}

#[test]
fn a_second_sigterm_is_passed_on_at_once() {
    let place = Place::new();
    let mut kept = place.serve();
    let request = place.request(3600);
    kept.signal(Signal::TERM);
    poll("the pool to be left", || place.is_out().then_some(()));
    assert!(kept.child.try_wait().unwrap().is_none());
    kept.signal(Signal::TERM);
    assert_eq!(kept.end_signal(), Some(15));
    assert_eq!(answer(request), "");
}

#[test]
fn other_signals_drain_where_they_are_named_and_are_passed_on_themselves() {
    let place = Place::new();
    let mut kept = Kept::start(place.server(&["--drain-on", "QUIT,SIGINT"]));
    drop(answer(place.request(0)));
    kept.signal(Signal::QUIT);
    assert_eq!(kept.end_signal(), Some(3));
    assert!(place.is_out());
    let mut kept = place.serve();
    poll("the pool to take it back", || {
        (!place.is_out()).then_some(())
    });
    let request = place.request(3600);
    kept.signal(Signal::INT);
    assert_eq!(kept.end_signal(), Some(2), "not drained");
    drop(request);
    assert!(!place.is_out());
}

#[test]
fn its_deadline_ends_a_drain() {
    let place = Place::new();
    let mut kept = Kept::start(place.server(&["--deadline", "300ms"]));
    let request = place.request(3600);
    kept.signal(Signal::TERM);
    assert_eq!(kept.end_signal(), Some(15));
    assert_eq!(answer(request), "");
    assert!(place.is_out());
}

#[test]
fn a_crash_leaves_no_mark_in_a_pool() {
    let place = Place::new();
    let mut kept = place.serve();
    drop(answer(place.request(0)));
    let server = child(kept.pid(), "drainctl");
    send(server, Signal::KILL);
    assert_eq!(kept.end_signal(), Some(9));
    assert!(!place.is_out() && !place.has_receipts());
}

#[test]
fn a_program_that_ends_while_it_is_drained_is_not_waited_for() {
    let place = Place::new();
    let mut kept = place.serve();
    let _request = place.request(3600);
    let server = child(kept.pid(), "drainctl");
    kept.signal(Signal::TERM);
    poll("the pool to be left", || place.is_out().then_some(()));
    send(server, Signal::ABORT);
    assert_eq!(kept.end_signal(), Some(6));
    poll("what drained it to be gone", || {
        is_gone(server).then_some(())
    });
}

#[test]
fn two_programs_of_one_name_are_told_apart_by_asking_for_another() {
    let place = Place::new();
    let mut kept = place.serve();
    drop(answer(place.request(0)));
    let second = place.run(&[], &["true"]).output().unwrap();
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stderr).contains("--name"));
    let third = place.run(&["--name=other"], &["true"]).output().unwrap();
    assert_eq!(third.status.code(), Some(2), "a name given twice");
    kept.signal(Signal::TERM);
    kept.end();
}
