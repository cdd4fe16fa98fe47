//! A look over one's own socket, with only the pure half of the crate. Also makes the corpus.

use super::lab::{Pair, fill, in_namespace, rows, until_state};
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};
use sockdiag::answer::{Dump, Lookups};
use sockdiag::{Family, Query, SocketId, States, TcpState, wire};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// Set to a folder, it gets every datagram as a file of its own: how `tests/corpus` was made.
const CAPTURE: &str = "SOCKDIAG_CAPTURE";

struct Bare {
    fd: OwnedFd,
    folder: Option<PathBuf>,
    buffer: Vec<u8>,
    datagrams: u32,
}

impl Bare {
    fn send(&mut self, request: &[u8]) {
        sendto(
            &self.fd,
            request,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )
        .unwrap();
    }

    fn receive(&mut self, name: &str) -> &[u8] {
        let (_, length) = recv(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC).unwrap();
        let datagram = &self.buffer[..length];
        if let Some(folder) = &self.folder {
            let file = format!("{name}-{:02}.bin", self.datagrams);
            std::fs::write(folder.join(file), datagram).unwrap();
            self.datagrams += 1;
        }
        datagram
    }

    fn dump(&mut self, query: &Query<'_>, family: Family, name: &str) -> Vec<(SocketId, TcpState)> {
        let request = wire::dump_request(query, family, 7).unwrap();
        self.send(&request);
        let mut dump = Dump::new(7);
        let mut seen = vec![];
        while !dump.is_done() {
            let datagram = self.receive(name);
            let taken = dump.take(datagram, &mut |row| seen.push((row.id, row.state)));
            taken.unwrap();
        }
        seen
    }

    /// The bytes that wait in each connected Unix socket, where there are any.
    fn dump_unix(&mut self, name: &str) -> Vec<u32> {
        let states = States::of(&[TcpState::Established]);
        self.send(&wire::unix_request(states, 7));
        let mut dump = Dump::new(7);
        let mut unread = vec![];
        while !dump.is_done() {
            let datagram = self.receive(name);
            let taken = dump.take_unix(datagram, &mut |row| {
                unread.extend((row.rqueue > 0).then_some(row.rqueue));
            });
            taken.unwrap();
        }
        unread
    }
}

#[test]
fn a_look_over_ones_own_socket_sees_the_same_as_ours() {
    in_namespace(|| {
        let mut bare = Bare {
            fd: socket(AddressFamily::NETLINK, SocketType::RAW, Some(SOCK_DIAG)).unwrap(),
            folder: std::env::var_os(CAPTURE).map(PathBuf::from),
            buffer: vec![0; sockdiag::BUFFER],
            datagrams: 0,
        };
        let v6 = Ipv6Addr::LOCALHOST;
        let mut pairs = [
            Pair::new(),
            Pair::new(),
            Pair::new(),
            Pair::over((v6, 0).into(), v6.into()),
            Pair::over(
                (Ipv6Addr::UNSPECIFIED, 0).into(),
                Ipv4Addr::LOCALHOST.into(),
            ),
        ];
        for pair in &mut pairs {
            pair.client.write_all(b"some unread bytes").unwrap();
        }
        fill(&pairs[0].server);
        pairs[0].server.shutdown(Shutdown::Write).unwrap();
        pairs[1].client.shutdown(Shutdown::Write).unwrap();
        let half_closed = (pairs[1].client_port(), pairs[1].server_port());
        until_state(half_closed.0, half_closed.1, TcpState::FinWait2);
        let over = Pair::new();
        let (client, server) = (over.client_port(), over.server_port());
        over.client.shutdown(Shutdown::Write).unwrap();
        until_state(server, client, TcpState::CloseWait);
        drop(over.server);
        until_state(client, server, TcpState::TimeWait);

        let whole = Query::default();
        let mut seen = bare.dump(&whole, Family::V4, "v4");
        seen.extend(bare.dump(&whole, Family::V6, "v6"));
        seen.sort();
        let mut want: Vec<_> = rows(&whole).iter().map(|row| (row.id, row.state)).collect();
        want.sort();
        assert_eq!(seen, want);

        let short = Query {
            info: false,
            ..whole
        };
        assert!(!bare.dump(&short, Family::V4, "short").is_empty());

        let dir = tempfile::tempdir().unwrap();
        // A process of its own: its working directory keeps the name of the folder out of the corpus.
        std::env::set_current_dir(&dir).unwrap();
        let listener = UnixListener::bind("app.sock").unwrap();
        let mut client = UnixStream::connect("app.sock").unwrap();
        let accepted = listener.accept().unwrap();
        client.write_all(b"unread").unwrap();
        assert_eq!(bare.dump_unix("unix"), [6]);
        drop(accepted);

        // One that is there, and one that is gone.
        let gone = Pair::new();
        let ids = [pairs[2].server_row().id, gone.server_row().id];
        rustix::net::sockopt::set_socket_linger(&gone.client, Some(std::time::Duration::ZERO))
            .unwrap();
        drop(gone);
        let mut request = vec![];
        wire::push_lookup(&mut request, &ids[0], true, 8);
        wire::push_lookup(&mut request, &ids[1], true, 9);
        bare.send(&request);
        let mut lookups = Lookups::new(8, 2);
        let mut found = [None; 2];
        while !lookups.is_done() {
            let datagram = bare.receive("lookup");
            let taken = lookups.take(datagram, &mut |at, row| {
                found[at] = row.map(|row| row.state)
            });
            taken.unwrap();
        }
        assert_eq!(found, [Some(TcpState::Established), None]);
    });
}
