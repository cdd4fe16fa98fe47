//! Unix sockets. The kernel lists those of one network namespace, abstract names and paths alike.

use super::lab::{in_namespace, soon};
use sockdiag::{Socket, States, TcpState, UnixKind};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

/// A row that outlives the dump.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    state: TcpState,
    kind: UnixKind,
    inode: u32,
    peer: Option<u32>,
    queues: (u32, u32),
}

/// The sockets that are bound to `path`, or were accepted there, in the order of their inodes.
fn at(path: &Path) -> Vec<Seen> {
    let states = States::of(&[TcpState::Listen, TcpState::Established, TcpState::Close]);
    let mut rows = Socket::open()
        .unwrap()
        .dump_unix(states, soon(), Vec::new, |rows, row| {
            if row.name == Some(path.as_os_str().as_encoded_bytes()) {
                assert_ne!(row.cookie, 0);
                rows.push(Seen {
                    state: row.state,
                    kind: row.kind,
                    inode: row.inode,
                    peer: row.peer,
                    queues: (row.rqueue, row.wqueue),
                });
            }
        })
        .unwrap();
    rows.sort_by_key(|row| row.inode);
    rows
}

fn inode(socket: impl AsFd) -> u32 {
    u32::try_from(rustix::fs::fstat(socket).unwrap().st_ino).unwrap()
}

#[test]
fn an_accepted_socket_has_its_listeners_name_its_peer_and_its_queues() {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let datagrams = UnixDatagram::bind(dir.path().join("log.sock")).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let waiting = &at(&path)[..];
        let of_listener = |rows: &[Seen]| {
            let found = rows.iter().find(|row| row.inode == inode(&listener));
            found.cloned().unwrap()
        };
        assert_eq!(of_listener(waiting).state, TcpState::Listen);
        assert_eq!(of_listener(waiting).queues.0, 1);

        let (server, _) = listener.accept().unwrap();
        client.write_all(b"four").unwrap();
        let rows = at(&path);
        assert_eq!(of_listener(&rows).queues.0, 0);
        let accepted = |rows: &[Seen]| {
            let found = rows.iter().find(|row| row.inode == inode(&server));
            found.cloned().unwrap()
        };
        let row = accepted(&rows);
        assert_eq!(
            (row.state, row.kind),
            (TcpState::Established, UnixKind::Stream)
        );
        assert_eq!((row.peer, row.queues), (Some(inode(&client)), (4, 0)));
        assert_eq!(rows.len(), 2);

        (&server).read_exact(&mut [0; 4]).unwrap();
        (&server).write_all(b"answer").unwrap();
        let row = accepted(&at(&path));
        assert!(row.queues.0 == 0 && row.queues.1 > 0, "{row:?}");
        client.read_exact(&mut [0; 6]).unwrap();
        assert_eq!(accepted(&at(&path)).queues, (0, 0));
        drop(client);
        assert_eq!(accepted(&at(&path)).peer, None);

        let row = &at(&dir.path().join("log.sock"))[0];
        assert_eq!((row.inode, row.kind), (inode(&datagrams), UnixKind::Other));
    });
}
