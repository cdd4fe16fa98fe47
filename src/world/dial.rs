//! Connections over TCP and Unix sockets that are there by a deadline or not at all.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use super::{Deadline, Root};

/// Where somebody listens who takes a question and closes after the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
    /// A name or an address, and a port.
    Tcp(String, u16),
}

/// Why a text is no [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the absolute path of a socket, or host:port")]
pub struct AddressError;

impl Address {
    /// Reads `/path`, `host:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let plain = |c: char| c.is_ascii_graphic() && !"/@[]".contains(c);
        if text.starts_with('/') && !text.contains('\0') {
            return Ok(Self::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let port = port.parse().map_err(|_| AddressError)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let sound = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.contains(':') && host.chars().all(plain),
        };
        if !sound || port == 0 {
            return Err(AddressError);
        }
        Ok(Self::Tcp(bare.unwrap_or(host).to_owned(), port))
    }

    /// Asks one question and reads until the other side closes.
    ///
    /// # Errors
    /// What the system says; `TimedOut` at the deadline, `InvalidData` after more than `most` bytes.
    pub fn ask(
        &self,
        root: &Root,
        question: &[u8],
        most: usize,
        deadline: Deadline,
    ) -> io::Result<Vec<u8>> {
        let socket: OwnedFd = match self {
            Self::Unix(path) => unix(&root.path(path), Some(left(deadline)?))?.into(),
            Self::Tcp(host, port) => tcp(host, *port, deadline)?.into(),
        };
        let mut sent = 0;
        while sent < question.len() {
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(left(deadline)?))?;
            sent += again(rustix::net::send(
                &socket,
                &question[sent..],
                SendFlags::NOSIGNAL,
            ))?;
        }
        let mut answer = Vec::new();
        let mut part = [0; 16 << 10];
        loop {
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(left(deadline)?))?;
            let received = rustix::net::recv(&socket, &mut part, RecvFlags::empty());
            let count = match received {
                Ok((0, _)) => return Ok(answer),
                Ok((count, _)) => count,
                Err(error) => again(Err(error))?,
            };
            answer.extend_from_slice(&part[..count]);
            if answer.len() > most {
                let what = format!("more than {most} bytes");
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A stream to the Unix socket at `path`, within `limit`, which must not be zero.
pub(super) fn unix(path: &Path, limit: Option<Duration>) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Where the server does not accept and its queue is full, connect itself waits, for as long as a send may take.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, limit)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?).map_err(timed_out)?;
    Ok(UnixStream::from(socket))
}

/// The addresses of `host`. Names are looked up on a thread of their own: the system's resolver can't be given a deadline, and a
/// thread that nobody waits for does not hold up the end of the process.
///
/// # Errors
/// `TimedOut` after `limit`, `NotFound` where there is none.
pub(super) fn lookup(
    host: &str,
    port: u16,
    limit: Option<Duration>,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (send, receive) = mpsc::channel();
    let name = host.to_owned();
    thread::Builder::new()
        .name("lookup".into())
        .spawn(move || send.send((name.as_str(), port).to_socket_addrs()))?;
    let found = match limit {
        Some(limit) => receive
            .recv_timeout(limit)
            .map_err(|_| ErrorKind::TimedOut)?,
        None => receive.recv().map_err(|_| ErrorKind::NotFound)?,
    };
    let found: Vec<SocketAddr> = found.map_err(|_| ErrorKind::NotFound)?.collect();
    if found.is_empty() {
        return Err(ErrorKind::NotFound.into());
    }
    Ok(found)
}

fn tcp(host: &str, port: u16, deadline: Deadline) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(ErrorKind::NotFound);
    for address in lookup(host, port, Some(left(deadline)?))? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// What is left; the kernel takes a timeout of zero for "for ever".
fn left(deadline: Deadline) -> io::Result<Duration> {
    let left = deadline.left();
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn again(result: rustix::io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(rustix::io::Errno::INTR) => Ok(0),
        other => other.map_err(timed_out),
    }
}

fn timed_out(error: rustix::io::Errno) -> io::Error {
    match error {
        rustix::io::Errno::AGAIN => ErrorKind::TimedOut.into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in [
            "/run/haproxy/admin.sock",
            "127.0.0.1:9999",
            "[::1]:9999",
            "lb.example:1",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "run/x.sock",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:99999",
            "::1:80",
            "[::1:80",
            "[x]:80",
            "a b:1",
            "user@host:1",
            "http://host:1",
        ] {
            assert_eq!(Address::parse(text), Err(AddressError), "{text}");
        }
    }
}
