//! What only shows on a real socket: waiting, truncation, overrun. No namespace needed: nothing here depends on
//! which sockets there are.

use super::{Socket, is_kernel, receive, wire};
use crate::{Error, Family, Query, SocketId, States, TcpState};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn a_kernel_that_says_nothing_is_waited_for_until_the_deadline() {
    let mut socket = Socket::open().unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    let nothing = receive(&socket.fd, &mut socket.buffer, deadline);
    assert_eq!(nothing, Err(Error::Deadline));
    assert!(Instant::now() >= deadline);
}

#[test]
fn a_datagram_beyond_the_buffer_is_an_error() {
    let mut socket = Socket::open().unwrap();
    let query = Query {
        states: States::NONE,
        ..Query::default()
    };
    let request = wire::dump_request(&query, Family::V4, 99).unwrap();
    socket.send(&request, soon()).unwrap();
    let mut small = [0; 8];
    let cut = receive(&socket.fd, &mut small, soon());
    assert_eq!(cut, Err(Error::Truncated(20)));
}

#[test]
fn only_the_kernel_is_believed() {
    assert!(is_kernel(&SocketAddrNetlink::new(0, 0).into()));
    assert!(!is_kernel(&SocketAddrNetlink::new(4711, 0).into()));
    assert!(!is_kernel(
        &std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()
    ));
}

#[test]
fn answers_lost_to_a_full_buffer_are_an_error_and_the_socket_goes_on() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut socket = Socket::open().unwrap();
    let query = Query {
        ports: &[listener.local_addr().unwrap().port()],
        states: States::of(&[TcpState::Listen]),
        ..Query::default()
    };
    let ids = socket.dump(&query, soon(), Vec::new, |ids, row| ids.push(row.id));
    let id: SocketId = ids.unwrap()[0];
    let mut found = 0;
    let mut look = |socket: &mut Socket| {
        found = 0;
        let looked = socket.lookup(&[id; 32], true, soon(), |_, row| {
            found += usize::from(row.is_some());
        });
        (looked, found)
    };
    // The least that the kernel allows holds one or two answers.
    set_socket_recv_buffer_size(&socket.fd, 1).unwrap();
    let (lost, found) = look(&mut socket);
    assert_eq!(lost, Err(Error::Lost));
    assert!(found < 32);
    set_socket_recv_buffer_size(&socket.fd, 100_000).unwrap();
    assert_eq!(look(&mut socket), (Ok(()), 32));
}
