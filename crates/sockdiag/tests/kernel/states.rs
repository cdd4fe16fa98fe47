//! Real sockets in each state.

use super::lab::{Pair, fill, in_namespace, row, rows, skip, until, until_state};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket,
    socket_with, sockopt,
};
use sockdiag::{Families, Family, Query, Shutdown, States, TcpState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown as Half, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// A listener with an accept queue of `backlog` + 1.
fn listener(backlog: i32) -> (OwnedFd, u16) {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    listen(&fd, backlog).unwrap();
    let address = SocketAddr::try_from(getsockname(&fd).unwrap()).unwrap();
    (fd, address.port())
}

#[test]
fn a_full_accept_queue_shows_at_the_listener_and_leaves_clients_in_syn_sent() {
    in_namespace(|| {
        let (_listener, port) = listener(1);
        let clients: Vec<_> = (0..2)
            .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
            .collect();
        let row_of_listener = until("two in the queue", || {
            row(port, 0).filter(|row| row.rqueue == 2)
        });
        assert_eq!(row_of_listener.state, TcpState::Listen);
        assert_eq!(row_of_listener.wqueue, 1);
        assert_eq!(row_of_listener.info().unacked(), Some(2));
        assert_eq!(row_of_listener.info().sacked(), Some(1));
        // Not accepted yet: established, and held by no process.
        let waiting = row(port, clients[0].local_addr().unwrap().port()).unwrap();
        assert_eq!((waiting.state, waiting.inode), (TcpState::Established, 0));

        let late = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        connect(&late, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap_err();
        let late = SocketAddr::try_from(getsockname(&late).unwrap()).unwrap();
        assert_eq!(row(late.port(), port).unwrap().state, TcpState::SynSent);
    });
}

/// Holds back every connection until its first data.
#[expect(unsafe_code, reason = "rustix has no TCP_DEFER_ACCEPT")]
fn defer_accept(listener: &OwnedFd) {
    let seconds: libc::c_int = 10;
    let size = libc::socklen_t::try_from(size_of_val(&seconds)).unwrap();
    // SAFETY: the pointer and the size are those of one live `c_int`, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size,
        )
    };
    assert_eq!(result, 0);
}

#[test]
fn a_half_open_connection_is_a_small_row_in_syn_recv() {
    in_namespace(|| {
        let (listener, port) = listener(8);
        defer_accept(&listener);
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let client_port = client.local_addr().unwrap().port();
        let half_open = row(port, client_port).unwrap();
        assert_eq!(half_open.state, TcpState::SynRecv);
        assert_eq!((half_open.inode, half_open.info.as_ref()), (0, None));
        client.write_all(b"x").unwrap();
        let whole = until_state(port, client_port, TcpState::Established);
        assert_eq!(whole.id.cookie(), half_open.id.cookie());
        assert_eq!(whole.rqueue, 1);
    });
}

#[test]
fn unread_and_unsent_bytes_are_counted_at_both_ends() {
    in_namespace(|| {
        let mut pair = Pair::new();
        pair.client.write_all(&[1; 1000]).unwrap();
        let server = until("bytes to read", || {
            Some(pair.server_row()).filter(|row| row.rqueue == 1000)
        });
        assert_eq!(server.info().bytes_received(), Some(1000));
        assert_eq!(server.info().data_segs_in(), Some(1));
        let client = until("their acknowledgement", || {
            Some(pair.client_row()).filter(|row| row.wqueue == 0)
        });
        assert_eq!(client.info().bytes_sent(), Some(1000));
        assert_eq!(client.info().data_segs_out(), Some(1));
        assert!(client.info().segs_out() > client.info().data_segs_out());
        pair.server.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(pair.server_row().rqueue, 0);

        fill(&pair.server);
        let server = pair.server_row();
        let info = server.info();
        assert!(server.wqueue >= info.notsent_bytes().unwrap());
        assert!(info.bytes_sent() > info.bytes_received());
        assert_eq!(
            (server.state, server.shutdown),
            (TcpState::Established, Some(Shutdown::default()))
        );
    });
}

#[test]
fn the_age_of_data_counts_milliseconds_since_it_moved() {
    in_namespace(|| {
        let mut pair = Pair::new();
        // Nothing has moved yet: the connection's own age, which grows.
        until("30 ms", || {
            let server = pair.server_row();
            let ages = [
                server.info().last_data_recv(),
                server.info().last_data_sent(),
            ];
            ages.iter().all(|age| *age > Some(30)).then_some(())
        });
        pair.client.write_all(b"request").unwrap();
        pair.server.read_exact(&mut [0; 7]).unwrap();
        let server = pair.server_row();
        assert!(server.info().last_data_recv() < server.info().last_data_sent());
    });
}

#[test]
fn a_closed_half_shows_as_fin_wait_2_here_and_close_wait_there() {
    in_namespace(|| {
        let mut pair = Pair::new();
        let (client, server) = (pair.client_port(), pair.server_port());
        pair.client.shutdown(Half::Write).unwrap();
        let here = until_state(client, server, TcpState::FinWait2);
        assert_eq!(
            here.shutdown,
            Some(Shutdown {
                receive: false,
                send: true
            })
        );
        let there = until_state(server, client, TcpState::CloseWait);
        assert_eq!(
            there.shutdown,
            Some(Shutdown {
                receive: true,
                send: false
            })
        );
        // The other direction goes on.
        pair.server.write_all(b"answer").unwrap();
        pair.client.read_exact(&mut [0; 6]).unwrap();

        let before = pair.client_row();
        // Nothing was sent but a SYN and a FIN, and each counts as a byte; the FIN also as one to read.
        assert_eq!(before.info().bytes_acked(), Some(2));
        let there = pair.server_row();
        assert_eq!((there.info().bytes_received(), there.rqueue), (Some(1), 1));
        assert_eq!(pair.server.read(&mut [0]).unwrap(), 0);
        assert_eq!(pair.server_row().rqueue, 0);
        drop(pair.server);
        let over = until_state(client, server, TcpState::TimeWait);
        assert_eq!(over.info, None);
        assert_eq!(over.id.cookie(), before.id.cookie());
    });
}

#[test]
fn a_fin_behind_unsent_data_waits_in_fin_wait_1_then_closing() {
    in_namespace(|| {
        let pair = Pair::new();
        let (client, server) = (pair.client_port(), pair.server_port());
        fill(&pair.server);
        pair.server.shutdown(Half::Write).unwrap();
        let waits = until_state(server, client, TcpState::FinWait1);
        assert!(waits.info().notsent_bytes() > Some(0), "{waits:?}");
        assert_eq!(
            waits.shutdown,
            Some(Shutdown {
                receive: false,
                send: true
            })
        );
        pair.client.shutdown(Half::Write).unwrap();
        until_state(server, client, TcpState::Closing);
        until_state(client, server, TcpState::FinWait2);
    });
}

#[test]
fn the_second_fin_behind_unsent_data_waits_in_last_ack() {
    in_namespace(|| {
        let pair = Pair::new();
        let (client, server) = (pair.client_port(), pair.server_port());
        pair.client.shutdown(Half::Write).unwrap();
        until_state(server, client, TcpState::CloseWait);
        fill(&pair.server);
        pair.server.shutdown(Half::Write).unwrap();
        let waits = until_state(server, client, TcpState::LastAck);
        assert!(waits.wqueue > 0 && waits.inode > 0, "{waits:?}");
        // Closed by the program, and still the kernel's to deliver.
        drop(pair.server);
        let orphan = until("an orphan", || {
            row(server, client).filter(|row| row.inode == 0)
        });
        assert_eq!(orphan.state, TcpState::LastAck);
        assert!(orphan.wqueue > 0, "{orphan:?}");
    });
}

#[test]
fn ipv4_ipv6_and_mapped_sockets_are_each_in_the_dump_of_their_family() {
    in_namespace(|| {
        let v4 = Pair::new();
        let v6 = Pair::over((Ipv6Addr::LOCALHOST, 0).into(), Ipv6Addr::LOCALHOST.into());
        let mapped = Pair::over(
            (Ipv6Addr::UNSPECIFIED, 0).into(),
            Ipv4Addr::LOCALHOST.into(),
        );
        let expected = [
            (&v4, Family::V4, "127.0.0.1", Families::V4),
            (&v6, Family::V6, "::1", Families::V6),
            (&mapped, Family::V6, "127.0.0.1", Families::V6),
        ];
        for (pair, family, address, families) in expected {
            let seen = pair.server_row();
            assert_eq!(seen.id.family(), family);
            assert_eq!(seen.id.local().ip().to_string(), address);
            assert_eq!(seen.id.remote(), pair.client.local_addr().unwrap());
            for asked in [Families::V4, Families::V6, Families::Both] {
                let query = Query {
                    families: asked,
                    ports: &[pair.server_port()],
                    states: States::of(&[TcpState::Established]),
                    ..Query::default()
                };
                let want = usize::from(asked == families || asked == Families::Both);
                assert_eq!(rows(&query).len(), want, "{asked:?} for {address}");
            }
        }
    });
}

#[test]
fn a_bound_socket_without_listen_is_reported_as_closed_where_the_kernel_knows_it() {
    in_namespace(|| {
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&fd, true).unwrap();
        bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, 9999))).unwrap();
        assert!(row(9999, 0).is_none());
        let query = Query {
            states: States::of(&[TcpState::BoundInactive]),
            ..Query::default()
        };
        match rows(&query).as_slice() {
            [] => skip("states::a_bound_socket", "kernel before 6.8"),
            [bound] => {
                assert_eq!(bound.state, TcpState::Close);
                assert_eq!(bound.id.local().port(), 9999);
            }
            more => panic!("{more:?}"),
        }
    });
}

#[test]
fn a_vanished_peer_leaves_the_connection_established() {
    in_namespace(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        let port = client.local_addr().unwrap().port();
        assert_eq!(
            row(address.port(), port).unwrap().state,
            TcpState::Established
        );
        // With linger 0 a close is a reset, and the row goes at once.
        sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        drop(client);
        until("the reset", || {
            row(address.port(), port).is_none().then_some(())
        });
    });
}
