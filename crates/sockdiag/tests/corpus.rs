//! Real captures of the kernel's answers, whole and damaged. The same parsers run under libFuzzer in `fuzz/`.

#![cfg(test)]

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sockdiag::answer::{Dump, Lookups};
use sockdiag::{Error, Row, TcpState, wire};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::path::Path;

/// The datagrams in `tests/corpus`, by file name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Reads all that can be read, as an answer to the request that the first message names.
fn read_all(datagram: &[u8]) -> Result<u64, Error> {
    let first = wire::messages(datagram).find_map(Result::ok);
    let sequence = first.map_or(0, |message| message.sequence);
    let mut read = |row: &Row<'_>| {
        black_box((row.id.local(), row.id.remote()));
        black_box(row.info.map(|info| info.fields().count()));
    };
    let _ = Lookups::new(sequence, 2).take(datagram, &mut |_, row| {
        row.into_iter().for_each(&mut read);
    });
    let _ = Dump::new(sequence).take_unix(datagram, &mut |row| {
        black_box(row);
    });
    let mut dump = Dump::new(sequence);
    dump.take(datagram, &mut read)?;
    Ok(dump.rows())
}

#[test]
fn captures_hold_the_states_they_were_made_for() {
    let mut states = BTreeSet::new();
    let mut families = BTreeSet::new();
    let mut mapped = 0;
    let mut dumps = 0;
    for (name, bytes) in corpus() {
        if name.starts_with("unix") {
            continue;
        }
        for message in wire::messages(&bytes) {
            let message = message.unwrap();
            if message.kind != wire::SOCK_DIAG_BY_FAMILY {
                continue;
            }
            let row = Row::parse(message.payload).unwrap();
            states.insert(row.state);
            families.insert(row.id.family());
            mapped +=
                usize::from(row.id.family() == sockdiag::Family::V6 && row.id.local().is_ipv4());
            assert!(
                row.id.local().ip().is_loopback() || row.state == TcpState::Listen,
                "{name}"
            );
            assert_ne!(row.id.cookie(), 0);
        }
        if !name.starts_with("lookup") {
            dumps += read_all(&bytes).unwrap();
        }
    }
    for state in [
        TcpState::Listen,
        TcpState::Established,
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::CloseWait,
        TcpState::TimeWait,
    ] {
        assert!(states.contains(&state), "{state:?} of {states:?}");
    }
    assert_eq!((families.len(), mapped), (2, 1));
    assert!(dumps > 20, "{dumps}");
}

#[test]
fn the_capture_of_unix_sockets_holds_a_connection_with_unread_bytes() {
    let capture = corpus()
        .into_iter()
        .find(|(name, _)| name.starts_with("unix"));
    let (_, bytes) = capture.unwrap();
    let mut unread = vec![];
    let mut dump = Dump::new(7);
    let each = &mut |row: &sockdiag::UnixRow<'_>| {
        if row.name.is_some_and(|name| name.ends_with(b"app.sock")) {
            unread.push((row.state, row.peer.is_some(), row.rqueue));
        }
    };
    dump.take_unix(&bytes, each).unwrap();
    assert_eq!(unread, [(TcpState::Established, true, 6)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes changed, cut off and repeated: errors at worst, and never more rows than the bytes can hold.
    #[test]
    fn damaged_captures_are_errors_at_worst(
        capture in select(corpus()),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        keep in any::<Index>(),
        again in any::<Index>(),
    ) {
        let (_, mut bytes) = capture;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let tail = bytes[again.index(bytes.len())..].to_vec();
        bytes.truncate(keep.index(bytes.len()) + 1);
        bytes.extend(tail);
        if let Ok(rows) = read_all(&bytes) {
            // One of TCP takes 88 bytes.
            prop_assert!(rows <= u64::try_from(bytes.len() / 88).unwrap());
        }
    }

    #[test]
    fn random_bytes_are_errors_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_all(&bytes);
        let _ = Row::parse(&bytes);
    }
}
