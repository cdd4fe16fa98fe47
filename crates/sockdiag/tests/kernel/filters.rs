//! What the filters let through, and what a dump does when it can't end well.

use super::lab::{Pair, in_namespace, rows, soon};
use sockdiag::{Error, Query, Socket, States, TcpState};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn local_ports(query: &Query<'_>) -> BTreeSet<u16> {
    let rows = rows(query);
    rows.iter().map(|row| row.id.local().port()).collect()
}

#[test]
fn ports_are_filtered_one_many_and_none() {
    in_namespace(|| {
        let listeners: Vec<_> = (0..300)
            .map(|n| TcpListener::bind((Ipv4Addr::LOCALHOST, 10_000 + 3 * n)).unwrap())
            .collect();
        let all: Vec<u16> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        let asked = |ports: &[u16]| {
            local_ports(&Query {
                ports,
                ..Query::default()
            })
        };
        assert_eq!(asked(&all), all.iter().copied().collect());
        assert_eq!(asked(&[]), all.iter().copied().collect());
        assert_eq!(asked(&all[7..8]), [all[7]].into());
        assert_eq!(asked(&[all[299], 1, all[0]]), [all[0], all[299]].into());
        assert_eq!(asked(&[1]), [].into());
        // A range, from the middle of a gap to a listener.
        let range: Vec<u16> = (10_001..=10_009).collect();
        assert_eq!(asked(&range), [10_003, 10_006, 10_009].into());
        // The longest list that fits passes the kernel's check of the program.
        let longest: Vec<u16> = (0..5461).map(|n| 2 * n).collect();
        assert_eq!(asked(&longest).len(), 150);
    });
}

#[test]
fn states_are_filtered() {
    in_namespace(|| {
        let pair = Pair::new();
        let ports = [pair.server_port()];
        let count = |states: &[TcpState]| {
            rows(&Query {
                states: States::of(states),
                ports: &ports,
                ..Query::default()
            })
            .len()
        };
        assert_eq!(count(&[TcpState::Listen]), 1);
        assert_eq!(count(&[TcpState::Established]), 1);
        assert_eq!(count(&[TcpState::Listen, TcpState::Established]), 2);
        assert_eq!(count(&[TcpState::TimeWait, TcpState::CloseWait]), 0);
        assert_eq!(count(&[]), 0);
    });
}

#[test]
fn rows_carry_info_only_when_asked() {
    in_namespace(|| {
        let _pair = Pair::new();
        let query = Query {
            info: false,
            ..Query::default()
        };
        let rows = rows(&query);
        assert_eq!(rows.len(), 3);
        assert!(
            rows.iter()
                .all(|row| row.info.is_none() && row.shutdown.is_some())
        );
    });
}

#[test]
fn a_list_too_long_for_the_kernel_is_an_error_and_the_socket_goes_on() {
    in_namespace(|| {
        let pair = Pair::new();
        let mut socket = Socket::open().unwrap();
        let ports: Vec<u16> = (0..6000).map(|n| 2 * n).collect();
        let long = Query {
            ports: &ports,
            ..Query::default()
        };
        let count = |socket: &mut Socket, query: &Query<'_>| {
            socket.dump(query, soon(), || 0, |count, _| *count += 1)
        };
        let refused = count(&mut socket, &long);
        assert!(
            matches!(refused, Err(Error::FilterTooLong { .. })),
            "{refused:?}"
        );
        assert_eq!(count(&mut socket, &Query::default()), Ok(3));
        drop(pair);
    });
}

#[test]
fn a_deadline_in_the_middle_of_a_dump_is_an_error_and_the_next_dump_is_whole() {
    in_namespace(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Vec<_> = (0..400)
            .map(|_| {
                (
                    TcpStream::connect(address).unwrap(),
                    listener.accept().unwrap(),
                )
            })
            .collect();
        let mut socket = Socket::open().unwrap();
        let query = Query::default();
        let past = Instant::now();
        let late = socket.dump_once(&query, past, |_| panic!("a row after the deadline"));
        assert_eq!(late, Err(Error::Deadline));

        let deadline = Instant::now() + Duration::from_millis(100);
        let mut rows = 0;
        let cut = socket.dump_once(&query, deadline, |_| {
            rows += 1;
            while Instant::now() < deadline {
                std::thread::yield_now();
            }
        });
        assert_eq!(cut, Err(Error::Deadline));
        assert!(rows > 0 && rows < 801, "{rows}");

        let stats = socket.dump_once(&query, soon(), |_| ()).unwrap();
        assert_eq!(stats.rows, 801);
        assert!(stats.datagrams > 3, "{stats:?}");
        drop(connections);
    });
}

#[test]
fn a_panic_in_the_callers_code_leaves_the_socket_usable() {
    in_namespace(|| {
        let _pair = Pair::new();
        let mut socket = Socket::open().unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            socket.dump_once(&Query::default(), soon(), |_| panic!("in the callback"))
        }));
        assert!(caught.is_err());
        let stats = socket.dump_once(&Query::default(), soon(), |_| ()).unwrap();
        assert_eq!(stats.rows, 3);
    });
}
