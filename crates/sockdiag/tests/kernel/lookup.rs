//! Looking at sockets that are known.

use super::lab::{Pair, in_namespace, rows, soon, until, until_state};
use rustix::net::sockopt::set_socket_linger;
use sockdiag::{Query, Socket, SocketId, TcpState};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// State and unread bytes of each id, or nothing where it is gone.
fn look(socket: &mut Socket, ids: &[SocketId]) -> Vec<Option<(TcpState, u32)>> {
    let mut seen = vec![None; ids.len()];
    let mut calls = 0;
    let looked = socket.lookup(ids, true, soon(), |at, row| {
        calls += 1;
        seen[at] = row.map(|row| {
            assert_eq!(row.id, ids[at]);
            (row.state, row.rqueue)
        });
    });
    looked.unwrap();
    assert_eq!(calls, ids.len());
    seen
}

#[test]
fn a_known_socket_is_found_in_every_family() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let loopback6 = Ipv6Addr::LOCALHOST;
        let mut pairs = [
            Pair::new(),
            Pair::over((loopback6, 0).into(), loopback6.into()),
            Pair::over(
                (Ipv6Addr::UNSPECIFIED, 0).into(),
                Ipv4Addr::LOCALHOST.into(),
            ),
        ];
        for pair in &mut pairs {
            let ids = [pair.server_row().id, pair.client_row().id];
            let up = Some((TcpState::Established, 0));
            assert_eq!(look(&mut socket, &ids), [up, up]);
            pair.client.write_all(b"four").unwrap();
            let unread = Some((TcpState::Established, 4));
            until("unread bytes", || {
                (look(&mut socket, &ids)[0] == unread).then_some(())
            });
        }
        let listeners = rows(&Query {
            states: sockdiag::States::of(&[TcpState::Listen]),
            ..Query::default()
        });
        assert_eq!(listeners.len(), 3);
        for listener in listeners {
            let found = look(&mut socket, &[listener.id]);
            assert_eq!(found, [Some((TcpState::Listen, 0))]);
        }
    });
}

#[test]
fn a_socket_that_is_gone_is_gone_even_when_another_has_its_ports() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let client = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            )
            .unwrap();
            let from = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 9999));
            rustix::net::bind(&client, &from).unwrap();
            rustix::net::connect(&client, &address).unwrap();
            TcpStream::from(client)
        };
        let (client, server) = (connect(), listener.accept().unwrap());
        let old = super::lab::row(address.port(), 9999).unwrap().id;
        assert!(look(&mut socket, &[old])[0].is_some());
        set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop((client, server));
        // The listener on the same port must not stand in for it.
        until("gone", || {
            look(&mut socket, &[old])[0].is_none().then_some(())
        });

        let (_client, _server) = (connect(), listener.accept().unwrap());
        let new = super::lab::row(address.port(), 9999).unwrap().id;
        assert_eq!((old.local(), old.remote()), (new.local(), new.remote()));
        assert_eq!(
            look(&mut socket, &[old, new]),
            [None, Some((TcpState::Established, 0))]
        );
    });
}

#[test]
fn a_connection_is_followed_into_time_wait() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let pair = Pair::new();
        let (client, server) = (pair.client_port(), pair.server_port());
        let id = pair.client_row().id;
        pair.client.shutdown(Shutdown::Write).unwrap();
        drop(pair.server);
        until_state(client, server, TcpState::TimeWait);
        assert_eq!(look(&mut socket, &[id]), [Some((TcpState::TimeWait, 0))]);
    });
}

#[test]
fn any_number_of_sockets_is_looked_at_in_batches() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients: Vec<_> = (0..100)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let mut ids: Vec<_> = rows(&Query::default()).iter().map(|row| row.id).collect();
        ids.retain(|id| id.remote() == address);
        assert_eq!(ids.len(), 100);
        for count in [0, 1, 31, 32, 33, 64, 100] {
            let found = look(&mut socket, &ids[..count]);
            assert!(found.iter().all(Option::is_some));
        }
        let gone = clients.swap_remove(50);
        let port = gone.local_addr().unwrap().port();
        set_socket_linger(&gone, Some(Duration::ZERO)).unwrap();
        drop(gone);
        for (id, found) in ids.iter().zip(look(&mut socket, &ids)) {
            assert_eq!(found.is_none(), id.local().port() == port);
        }
    });
}
