//! The way to a server. Its connections go out from ends that are known before they are made, where a look has to tell them from clients'.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, sockopt};

use super::shake::PATIENCE;
use crate::world::Deadline;

/// A probe makes no more connections.
const CONNECTIONS: usize = 5;

/// The way to one server.
#[derive(Debug)]
pub(super) struct Door {
    to: SocketAddr,
    /// None: any will do.
    ends: Vec<End>,
    used: Cell<usize>,
}

/// An end that is ours for as long as this lives: a bound socket that is never connected keeps the kernel from giving its port to others.
#[derive(Debug)]
struct End {
    at: SocketAddr,
    _holder: OwnedFd,
}

impl Door {
    /// From any end.
    pub(super) fn open(to: SocketAddr) -> Self {
        Self {
            to,
            ends: Vec::new(),
            used: Cell::new(0),
        }
    }

    /// From ends of our own.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn reserved(to: SocketAddr) -> io::Result<Self> {
        let end = || -> io::Result<End> {
            let holder = shared(SocketAddr::new(to.ip(), 0))?;
            let at = SocketAddr::try_from(getsockname(&holder)?)?;
            Ok(End {
                at: SocketAddr::new(at.ip(), at.port()),
                _holder: holder,
            })
        };
        Ok(Self {
            ends: (0..CONNECTIONS).map(|_| end()).collect::<Result<_, _>>()?,
            ..Self::open(to)
        })
    }

    /// Where it leads.
    pub(super) fn to(&self) -> SocketAddr {
        self.to
    }

    /// The ends of our own.
    pub(super) fn ends(&self) -> impl Iterator<Item = SocketAddr> {
        self.ends.iter().map(|end| end.at)
    }

    /// A connection.
    pub(super) fn connect(&self, deadline: Deadline) -> io::Result<TcpStream> {
        let left = deadline.within(PATIENCE).left();
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        if self.ends.is_empty() {
            return TcpStream::connect_timeout(&self.to, left);
        }
        let next = self.used.replace(self.used.get() + 1);
        let end = self.ends.get(next).ok_or(ErrorKind::AddrNotAvailable)?;
        let socket = shared(end.at)?;
        // Bounds the way there too.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(left))?;
        connect(&socket, &self.to)?;
        Ok(socket.into())
    }
}

/// A socket that is bound there, beside others of ours.
fn shared(at: SocketAddr) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let kind = SocketType::STREAM;
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(socket.as_fd(), true)?;
    bind(&socket, &at)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn connections_come_from_the_ends_that_were_named_and_there_are_no_more() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else {
                eprintln!("SKIPPED connections_come_from_the_ends_that_were_named: no IPv6");
                continue;
            };
            let door = Door::reserved(listener.local_addr().unwrap()).unwrap();
            let ends: Vec<_> = door.ends().collect();
            assert_eq!(ends.len(), CONNECTIONS);
            let soon = || Deadline::after(Duration::from_secs(5));
            for end in ends {
                let ours = door.connect(soon()).unwrap();
                let (theirs, peer) = listener.accept().unwrap();
                assert_eq!(peer, end);
                // Even once it is over, nobody else gets the end.
                drop((theirs, ours));
                let family = AddressFamily::INET;
                let family = if end.is_ipv4() {
                    family
                } else {
                    AddressFamily::INET6
                };
                let other = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
                assert_eq!(bind(&other, &end), Err(rustix::io::Errno::ADDRINUSE));
            }
            assert!(door.connect(soon()).is_err());
        }
    }
}
