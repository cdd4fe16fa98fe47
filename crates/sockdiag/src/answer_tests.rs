//! Every way in which an answer can fall short is an error, from handmade datagrams.

use super::{Dump, Lookups, start_over};
use crate::wire::{DONE, DUMP_INTR, ERROR, NOOP, OVERRUN, SOCK_DIAG_BY_FAMILY};
use crate::{Errno, Error, Row};
use proptest::prelude::*;

const SEQUENCE: u32 = 9;

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn row(flags: u16) -> Vec<u8> {
    let mut payload = vec![0; 72];
    payload[0] = 2;
    message(SOCK_DIAG_BY_FAMILY, flags, SEQUENCE, &payload)
}

fn status(kind: u16, errno: i32) -> Vec<u8> {
    message(kind, 0, SEQUENCE, &(-errno).to_ne_bytes())
}

/// What a dump says after these datagrams: how many rows, or why not.
fn dump(datagrams: &[Vec<u8>]) -> Result<Option<u64>, Error> {
    let mut dump = Dump::new(SEQUENCE);
    let mut rows = 0;
    for datagram in datagrams {
        dump.take(datagram, &mut |_: &Row<'_>| rows += 1)?;
    }
    assert_eq!(dump.rows(), rows);
    Ok(dump.is_done().then_some(rows))
}

#[test]
fn a_dump_ends_with_its_done_message_and_not_before() {
    let two = [row(0), row(0)].concat();
    assert_eq!(dump(&[two.clone(), row(0)]), Ok(None));
    assert_eq!(dump(&[two, row(0), status(DONE, 0)]), Ok(Some(3)));
}

#[test]
fn an_error_number_in_the_last_message_fails_the_dump() {
    let all = [row(0), status(DONE, 22)].concat();
    assert_eq!(dump(&[all]), Err(Error::Refused(Errno::INVAL)));
    let gone = Error::Unsupported {
        what: "tcp_diag",
        errno: Errno::NOENT,
    };
    assert_eq!(dump(&[status(DONE, 2)]), Err(gone));
    assert_eq!(
        dump(&[status(ERROR, 1)]),
        Err(Error::Permission(Errno::PERM))
    );
    assert_eq!(dump(&[status(ERROR, 105)]), Err(Error::Lost));
}

#[test]
fn an_interrupted_dump_fails_wherever_it_is_marked() {
    let marked_done = message(DONE, DUMP_INTR, SEQUENCE, &[0; 4]);
    assert_eq!(dump(&[row(0), marked_done]), Err(Error::Interrupted));
    let mut datagrams = vec![row(DUMP_INTR), row(0)];
    assert_eq!(dump(&datagrams), Ok(None));
    datagrams.push(status(DONE, 0));
    assert_eq!(dump(&datagrams), Err(Error::Interrupted));
}

#[test]
fn what_belongs_to_another_request_is_left_alone() {
    let stale = message(DONE, DUMP_INTR, SEQUENCE - 1, &[]);
    assert_eq!(dump(&[stale, row(0), status(DONE, 0)]), Ok(Some(1)));
}

#[test]
fn odd_messages_fail_the_dump() {
    assert!(matches!(
        dump(&[status(ERROR, 0)]),
        Err(Error::Malformed(_))
    ));
    assert!(matches!(
        dump(&[status(DONE, -5)]),
        Err(Error::Malformed(_))
    ));
    assert!(matches!(
        dump(&[status(DONE, i32::MAX)]),
        Err(Error::Malformed(_))
    ));
    assert!(matches!(
        dump(&[message(DONE, 0, SEQUENCE, &[])]),
        Err(Error::Malformed(_))
    ));
    assert!(matches!(
        dump(&[message(77, 0, SEQUENCE, &[])]),
        Err(Error::Malformed(_))
    ));
    assert_eq!(
        dump(&[message(OVERRUN, 0, SEQUENCE, &[])]),
        Err(Error::Lost)
    );
    assert_eq!(dump(&[message(NOOP, 0, SEQUENCE, &[])]), Ok(None));
}

#[test]
fn lookups_are_answered_once_each_in_any_order_even_when_the_numbers_wrap() {
    let mut lookups = Lookups::new(u32::MAX, 3);
    let gone = |sequence| message(ERROR, 0, sequence, &(-2i32).to_ne_bytes());
    let mut payload = vec![0; 72];
    payload[0] = 10;
    let found = message(SOCK_DIAG_BY_FAMILY, 0, 0, &payload);
    let mut seen = vec![];
    let all = [gone(1), found.clone(), gone(1), gone(2), found, gone(77)].concat();
    lookups
        .take(&all, &mut |at, row| seen.push((at, row.is_some())))
        .unwrap();
    assert_eq!(seen, [(2, false), (1, true)]);
    assert!(!lookups.is_done());
    lookups
        .take(&gone(u32::MAX), &mut |at, _| assert_eq!(at, 0))
        .unwrap();
    assert!(lookups.is_done());
}

#[test]
fn a_batch_of_any_size_is_done_after_as_many_answers() {
    for count in 0..=Lookups::MOST {
        let lookups = Lookups::new(0, count);
        assert_eq!(usize::try_from(lookups.open.count_ones()), Ok(count));
    }
    assert!(Lookups::new(0, 99).open.count_ones() == 32);
}

#[test]
fn a_lookup_fails_for_any_other_reason_than_a_missing_socket() {
    let mut lookups = Lookups::new(SEQUENCE, 1);
    let refused = lookups.take(&status(ERROR, 1), &mut |_, _| panic!("no answer"));
    assert_eq!(refused, Err(Error::Permission(Errno::PERM)));
    let odd = lookups.take(&status(DONE, 0), &mut |_, _| panic!("no answer"));
    assert!(matches!(odd, Err(Error::Malformed(_))));
}

#[test]
fn each_attempt_starts_with_nothing_and_only_passing_faults_are_tried_again() {
    let mut results = vec![Ok(()), Err(Error::Lost), Err(Error::Interrupted)];
    let got = start_over(3, Vec::new, |list| {
        list.push(results.len());
        results.pop().unwrap()
    });
    assert_eq!(got, Ok(vec![1]));
    let mut calls = 0;
    let mut fail = |error: Error| {
        calls += 1;
        Err(error)
    };
    assert_eq!(
        start_over(3, || (), |()| fail(Error::Lost)),
        Err(Error::Lost)
    );
    assert_eq!(
        start_over(3, || (), |()| fail(Error::Deadline)),
        Err(Error::Deadline)
    );
    assert_eq!(calls, 4);
}

proptest! {
    #[test]
    fn a_cut_answer_never_counts_as_a_shorter_one(cut in 0usize..284) {
        let whole = [row(0), row(0), row(0), status(DONE, 0)].concat();
        prop_assert_eq!(whole.len(), 284);
        let short = dump(&[whole[..cut].to_vec()]);
        prop_assert!(!matches!(short, Ok(Some(_))), "cut at {}: {:?}", cut, short);
    }

    #[test]
    fn no_bytes_make_an_answer_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), sequence: u32) {
        let _ = Dump::new(sequence).take(&bytes, &mut |_| ());
        let _ = Lookups::new(sequence, 7).take(&bytes, &mut |_, _| ());
    }
}
