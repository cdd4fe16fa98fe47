//! Who is at the other end of a socket. Pure.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::Use;

/// Who holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) unit: String,
    pub(super) program: String,
}

/// How far a TCP socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Listens,
    Open,
    /// It has ended, and nobody holds it any more (TIME_WAIT).
    Ended,
}

#[derive(Clone, Debug)]
pub(super) struct Tcp {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) stage: Stage,
    pub(super) owner: Option<Rc<Owner>>,
}

#[derive(Clone, Debug)]
pub(super) struct Unix {
    pub(super) inode: u32,
    pub(super) peer: Option<u32>,
    pub(super) listens: bool,
    /// A path, or an abstract name that begins with `@`.
    pub(super) name: Option<String>,
    pub(super) owner: Option<Rc<Owner>>,
}

/// A name as people write it.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    match text.strip_prefix('\0') {
        Some(name) => format!("@{name}"),
        None => text.trim_end_matches('\0').to_owned(),
    }
}

/// The owner of the socket that listens for connections to `address`.
pub(super) fn listener(tcp: &[Tcp], address: SocketAddr) -> Option<&Owner> {
    let listens = |socket: &&Tcp| {
        let at = socket.local;
        socket.stage == Stage::Listens
            && at.port() == address.port()
            && (at.ip() == address.ip() || at.ip().is_unspecified())
    };
    tcp.iter().find(listens)?.owner.as_deref()
}

/// Whether an address is one of this host's own.
pub(super) fn is_own(tcp: &[Tcp], ip: IpAddr) -> bool {
    ip.is_loopback() || tcp.iter().any(|socket| socket.local.ip() == ip)
}

/// Who is at the other end of the TCP connections of `targets`.
pub(super) fn tcp(sockets: &[Tcp], targets: &[&str]) -> Vec<Use> {
    let open = || sockets.iter().filter(|socket| socket.stage == Stage::Open);
    let ends: HashMap<_, _> = open()
        .map(|socket| ((socket.local, socket.remote), socket))
        .collect();
    let mut uses = Vec::new();
    for socket in open() {
        let Some(owner) = socket
            .owner
            .as_deref()
            .filter(|owner| targets.contains(&owner.unit.as_str()))
        else {
            continue;
        };
        let other = ends.get(&(socket.remote, socket.local));
        let other = other.and_then(|other| other.owner.as_deref());
        let own = || is_own(sockets, socket.remote.ip());
        let Some(other) = other.or_else(|| own().then(|| listener(sockets, socket.remote))?) else {
            continue;
        };
        let serves = listener(sockets, socket.local).is_some_and(|at| at.unit == owner.unit);
        let at = if serves { socket.local } else { socket.remote };
        uses.extend(between(owner, other, serves, &at.to_string()));
    }
    uses
}

/// Who is at the other end of the Unix sockets of `targets`.
pub(super) fn unix(sockets: &[Unix], targets: &[&str]) -> Vec<Use> {
    let by_inode: HashMap<u32, &Unix> = sockets
        .iter()
        .map(|socket| (socket.inode, socket))
        .collect();
    let mut uses = Vec::new();
    for socket in sockets {
        let Some(owner) = socket
            .owner
            .as_deref()
            .filter(|owner| targets.contains(&owner.unit.as_str()))
        else {
            continue;
        };
        let Some(other) = socket.peer.and_then(|peer| by_inode.get(&peer)) else {
            continue;
        };
        let Some(there) = other.owner.as_deref() else {
            continue;
        };
        // An accepted socket has the name of its listener.
        let serves = socket.name.is_some() && other.name.is_none();
        let name = socket.name.as_ref().or(other.name.as_ref());
        uses.extend(between(
            owner,
            there,
            serves,
            name.map_or("a Unix socket", String::as_str),
        ));
    }
    uses
}

/// The services of this host to which connections of this host have just ended, nobody can say whose.
pub(super) fn ended(sockets: &[Tcp], targets: &[&str]) -> Vec<Use> {
    let mut uses = Vec::new();
    for socket in sockets.iter().filter(|socket| socket.stage == Stage::Ended) {
        if !is_own(sockets, socket.remote.ip()) {
            continue;
        }
        for at in [socket.local, socket.remote] {
            let Some(owner) = listener(sockets, at) else {
                continue;
            };
            if !targets.contains(&owner.unit.as_str()) {
                uses.push(Use {
                    by: None,
                    unit: owner.unit.clone(),
                    why: format!(
                        "connections of this host to {at} have just ended; whose is unknown"
                    ),
                    seen: false,
                });
            }
        }
    }
    uses
}

fn between(owner: &Owner, other: &Owner, serves: bool, at: &str) -> Option<Use> {
    let (own, there) = (&owner.program, &other.program);
    let why = if serves {
        format!("its {there} sends requests to {own} at {at}")
    } else {
        format!("{own} of {} is connected to {at}", owner.unit)
    };
    (owner.unit != other.unit).then(|| Use {
        by: Some(owner.unit.clone()),
        unit: other.unit.clone(),
        why,
        seen: true,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn owner(text: &str) -> Option<Rc<Owner>> {
        let (unit, program) = text.split_once('/')?;
        Some(Rc::new(Owner {
            unit: unit.to_owned(),
            program: program.to_owned(),
        }))
    }

    /// `local remote owner`; `*` listens, `-` has no owner and has ended.
    pub(in super::super) fn sockets(lines: &[&str]) -> Vec<Tcp> {
        let parse = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let listens = words[1] == "*";
            let remote = if listens { "0.0.0.0:0" } else { words[1] };
            Tcp {
                local: words[0].parse().unwrap(),
                remote: remote.parse().unwrap(),
                stage: match (listens, words[2]) {
                    (true, _) => Stage::Listens,
                    (_, "-") => Stage::Ended,
                    _ => Stage::Open,
                },
                owner: owner(words[2]),
            }
        };
        lines.iter().map(parse).collect()
    }

    const TARGETS: [&str; 1] = ["app.service"];

    fn found(uses: Vec<Use>) -> Vec<(String, String)> {
        uses.into_iter().map(|by| (by.unit, by.why)).collect()
    }

    #[test]
    fn the_other_end_of_a_connection_over_loopback_is_found_both_ways() {
        let all = sockets(&[
            "0.0.0.0:8000 * app.service/web",
            "[::]:5432 * db.service/postgres",
            "127.0.0.1:40000 127.0.0.1:5432 app.service/web",
            "127.0.0.1:5432 127.0.0.1:40000 db.service/postgres",
            "127.0.0.1:8000 127.0.0.1:40001 app.service/web",
            "127.0.0.1:40001 127.0.0.1:8000 nginx.service/nginx",
            "127.0.0.1:40002 127.0.0.1:8000 app.service/web",
            "10.0.0.1:8000 10.0.0.9:999 app.service/web",
        ]);
        assert_eq!(
            found(tcp(&all, &TARGETS)),
            [
                (
                    "db.service".to_owned(),
                    "web of app.service is connected to 127.0.0.1:5432".to_owned()
                ),
                (
                    "nginx.service".to_owned(),
                    "its nginx sends requests to web at 127.0.0.1:8000".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn who_listens_counts_where_the_other_end_is_not_seen() {
        // Taken by a process in another namespace; and an address that only this host's own sockets show to be its own.
        let all = sockets(&[
            "0.0.0.0:6379 * docker.service/docker-proxy",
            "10.0.0.1:50000 10.0.0.1:6379 app.service/web",
            "10.0.0.1:50001 10.0.0.2:6379 app.service/web",
        ]);
        let uses = tcp(&all, &TARGETS);
        assert_eq!(uses.len(), 1);
        assert_eq!(uses[0].unit, "docker.service");
    }

    #[test]
    fn what_has_just_ended_is_nobodys() {
        let all = sockets(&[
            "127.0.0.1:5432 * db.service/postgres",
            "127.0.0.1:8000 * app.service/web",
            "127.0.0.1:40000 127.0.0.1:5432 -",
            "127.0.0.1:8000 127.0.0.1:40001 -",
            "10.0.0.1:8000 10.0.0.9:5432 -",
        ]);
        let uses = ended(&all, &TARGETS);
        assert_eq!(uses.len(), 1);
        assert_eq!((uses[0].unit.as_str(), uses[0].seen), ("db.service", false));
        assert_eq!(uses[0].by, None);
    }

    #[test]
    fn the_other_end_of_a_unix_socket_is_found() {
        let socket = |inode, peer, name: Option<&str>, by| Unix {
            inode,
            peer: Some(peer),
            listens: false,
            name: name.map(str::to_owned),
            owner: owner(by),
        };
        let all = [
            socket(1, 2, None, "app.service/web"),
            socket(2, 1, Some("/run/pg/.s"), "db.service/postgres"),
            socket(3, 4, Some("/run/app.sock"), "app.service/web"),
            socket(4, 3, None, "nginx.service/nginx"),
            socket(5, 6, None, "app.service/web"),
            socket(6, 5, None, "app.service/worker"),
            socket(7, 99, None, "app.service/web"),
        ];
        assert_eq!(
            found(unix(&all, &TARGETS)),
            [
                (
                    "db.service".to_owned(),
                    "web of app.service is connected to /run/pg/.s".to_owned()
                ),
                (
                    "nginx.service".to_owned(),
                    "its nginx sends requests to web at /run/app.sock".to_owned()
                ),
            ]
        );
        assert_eq!(shown(b"\0bus"), "@bus");
        assert_eq!(shown(b"/run/a\0"), "/run/a");
    }
}
