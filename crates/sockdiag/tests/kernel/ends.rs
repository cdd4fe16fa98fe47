//! What is told of sockets that are gone.

use super::lab::{Pair, Seen, in_namespace, soon, until};
use sockdiag::{Ends, TcpState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What has gone since the last call with `port` as its own, once something has.
fn gone(ends: &mut Ends, port: u16) -> Vec<Seen> {
    until("a socket that is gone", || {
        let mut rows: Vec<Seen> = Vec::new();
        assert!(ends.read(soon(), |row| rows.push(row.into())).unwrap());
        rows.retain(|row| row.id.local().port() == port);
        (!rows.is_empty()).then_some(rows)
    })
}

fn exchange(pair: &mut Pair) {
    pair.client.write_all(b"four").unwrap();
    pair.server.read_exact(&mut [0; 4]).unwrap();
    pair.server.write_all(b"answer").unwrap();
    pair.client.read_exact(&mut [0; 6]).unwrap();
}

#[test]
fn a_connection_that_lived_between_two_looks_is_told_with_its_cookie_and_counters() {
    in_namespace(|| {
        let mut ends = Ends::open().unwrap();
        for to in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            for client_first in [true, false] {
                let mut pair = Pair::over((Ipv6Addr::UNSPECIFIED, 0).into(), to);
                let (port, remote) = (pair.server_port(), pair.client_port());
                exchange(&mut pair);
                let cookie = pair.server_row().id.cookie();
                let Pair {
                    client,
                    server,
                    listener,
                } = pair;
                if client_first {
                    drop(client);
                    drop(server);
                } else {
                    drop(server);
                    drop(client);
                }
                let rows = gone(&mut ends, port);
                let [row] = &rows[..] else { panic!("{rows:?}") };
                assert_eq!(row.id.cookie(), cookie);
                assert_eq!(row.id.remote(), (to, remote).into());
                assert_eq!(row.state, TcpState::Close);
                assert_eq!(row.info().data_segs_in(), Some(1));
                // The client's FIN counts as a byte, where there was one.
                assert!((4..=5).contains(&row.info().bytes_received().unwrap()));
                drop(listener);
            }
        }
    });
}

#[test]
fn an_overrun_queue_is_said() {
    in_namespace(|| {
        let mut ends = Ends::open().unwrap();
        // Two ends of each; how much the kernel takes for one differs, but it is never less than 256 bytes.
        for _ in 0..ends.queue().unwrap() / 256 {
            drop(Pair::new());
        }
        until("an overrun", || {
            (!ends.read(soon(), |_| ()).unwrap()).then_some(())
        });
    });
}
