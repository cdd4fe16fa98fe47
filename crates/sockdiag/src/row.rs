//! One socket, as the kernel tells it. Parsed in place; nothing is allocated.

use crate::wire::{Cursor, attributes};
use crate::{Error, Family, Info, Shutdown, TcpState, Timer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Names one socket for as long as it lives, also from `SYN_RECV` into `TIME_WAIT`: 56 bytes.
///
/// The cookie alone tells sockets of one network namespace apart; the rest is where the kernel looks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    cookie: u64,
    interface: u32,
    family: Family,
    local_port: u16,
    remote_port: u16,
    /// As in the message: an IPv4 address is in the first 4 bytes.
    local: [u8; 16],
    remote: [u8; 16],
}

impl SocketId {
    /// Size of `struct inet_diag_sockid`.
    pub(crate) const SIZE: usize = 48;

    /// Names a socket known from elsewhere: its ends, the interface it is bound to (0: none), and its cookie
    /// (`SO_COOKIE`). [`Family::V4`] if both ends are IPv4, else [`Family::V6`]; for a v4-mapped socket give at least one end in its
    /// IPv6 form.
    #[must_use]
    pub fn new(local: SocketAddr, remote: SocketAddr, interface: u32, cookie: u64) -> Self {
        let (family, ips) = match (local.ip(), remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let pad = |ip: Ipv4Addr| (u128::from(ip.to_bits()) << 96).to_be_bytes();
                (Family::V4, [pad(local), pad(remote)])
            }
            (local, remote) => {
                let map = |ip| match ip {
                    IpAddr::V4(ip) => Ipv4Addr::to_ipv6_mapped(&ip).octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                (Family::V6, [map(local), map(remote)])
            }
        };
        let [local_ip, remote_ip] = ips;
        Self {
            cookie,
            interface,
            family,
            local_port: local.port(),
            remote_port: remote.port(),
            local: local_ip,
            remote: remote_ip,
        }
    }

    /// A number that the kernel gives to each socket once (`SO_COOKIE`); not 0, never used again before a reboot.
    #[must_use]
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Index of the interface that the socket is bound to, 0 if to none.
    #[must_use]
    pub const fn interface(&self) -> u32 {
        self.interface
    }

    /// How the socket was created; [`Family::V6`] for a v4-mapped one.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The local end. A v4-mapped address is returned as IPv4.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.address(self.local, self.local_port)
    }

    /// The remote end, all zeros for a listener. A v4-mapped address is returned as IPv4.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.address(self.remote, self.remote_port)
    }

    fn address(&self, bytes: [u8; 16], port: u16) -> SocketAddr {
        let ip = match (self.family, bytes) {
            (Family::V4, [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            (Family::V6, bytes) => IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(),
        };
        match ip {
            IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
            IpAddr::V6(ip) => {
                let scope = if ip.is_unicast_link_local() {
                    self.interface
                } else {
                    0
                };
                SocketAddrV6::new(ip, port, 0, scope).into()
            }
        }
    }

    /// `struct inet_diag_sockid`.
    fn parse(family: Family, bytes: &mut Cursor<'_>) -> Option<Self> {
        let local_port = u16::from_be_bytes(bytes.take()?);
        let remote_port = u16::from_be_bytes(bytes.take()?);
        let local = bytes.take()?;
        let remote = bytes.take()?;
        let interface = u32::from_ne_bytes(bytes.take()?);
        // Two words, the lower one first on every machine.
        let low = u32::from_ne_bytes(bytes.take()?);
        let high = u32::from_ne_bytes(bytes.take()?);
        Some(Self {
            cookie: u64::from(high) << 32 | u64::from(low),
            interface,
            family,
            local_port,
            remote_port,
            local,
            remote,
        })
    }

    pub(crate) fn to_bytes(self) -> impl Iterator<Item = u8> {
        let [c0, c1, c2, c3, c4, c5, c6, c7] = self.cookie.to_le_bytes();
        let low = u32::from_le_bytes([c0, c1, c2, c3]);
        let high = u32::from_le_bytes([c4, c5, c6, c7]);
        let ports = [self.local_port, self.remote_port].map(u16::to_be_bytes);
        let words = [self.interface, low, high].map(u32::to_ne_bytes);
        let ports = ports.into_iter().flatten();
        ports
            .chain(self.local)
            .chain(self.remote)
            .chain(words.into_iter().flatten())
    }
}

/// One socket at the moment of the look.
///
/// Rows in `TIME_WAIT` and `SYN_RECV` (and those in `FIN_WAIT2` that the kernel has shrunk) are small: no [`Info`], no
/// cgroup, no shutdown bits, queues and uid 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// Ends, interface and cookie.
    pub id: SocketId,
    /// State.
    pub state: TcpState,
    /// The timer that runs.
    pub timer: Timer,
    /// When the timer fires, milliseconds from now.
    pub timer_expires: u32,
    /// Retransmissions or probes so far without an answer.
    pub retransmits: u8,
    /// Bytes received and not yet read by the program; in `LISTEN` the connections that wait for accept.
    /// A FIN counts as one until the program has read the end, so 1 in `CLOSE_WAIT` may mean no data at all.
    pub rqueue: u32,
    /// Bytes written by the program and not yet acknowledged, sent or not, a FIN counts as one; in `LISTEN` the limit of
    /// the accept queue.
    pub wqueue: u32,
    /// Owner, in the reader's user namespace.
    pub uid: u32,
    /// Inode of the socket, as in `/proc/PID/fd`. 0 once no process holds it: orphaned, or not accepted yet.
    pub inode: u32,
    /// Id of the cgroup (version 2) in which the socket was created; an accepted socket has that of its *listener*.
    /// 1 is the root. Linux 5.8.
    pub cgroup: Option<u64>,
    /// The halves that are shut. Linux 3.8.
    pub shutdown: Option<Shutdown>,
    /// The connection's counters, if asked for.
    pub info: Option<Info<'a>>,
}

impl<'a> Row<'a> {
    /// Parses the payload of a [`SOCK_DIAG_BY_FAMILY`](crate::wire::SOCK_DIAG_BY_FAMILY) message,
    /// `struct inet_diag_msg` and its attributes. Unknown attributes are skipped.
    /// Fails with [`Error::Malformed`] only.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let mut bytes = Cursor(payload);
        let mut row = Self::head(&mut bytes)?;
        for attribute in attributes(bytes.0) {
            row.add(attribute?)?;
        }
        Ok(row)
    }

    /// The fixed part.
    fn head(bytes: &mut Cursor<'a>) -> Result<Self, Error> {
        let short = Error::Malformed("row shorter than its fixed part");
        let [family, state, timer, retransmits] = bytes.take().ok_or(short)?;
        let family = match family {
            2 => Family::V4,
            10 => Family::V6,
            _ => return Err(Error::Malformed("family of a row")),
        };
        let id = SocketId::parse(family, bytes).ok_or(short)?;
        let mut word = || bytes.take().map(u32::from_ne_bytes).ok_or(short);
        Ok(Self {
            id,
            state: state.into(),
            timer: timer.into(),
            retransmits,
            timer_expires: word()?,
            rqueue: word()?,
            wqueue: word()?,
            uid: word()?,
            inode: word()?,
            cgroup: None,
            shutdown: None,
            info: None,
        })
    }

    fn add(&mut self, (number, value): (u16, &'a [u8])) -> Result<(), Error> {
        const INFO: u16 = 2;
        const SHUTDOWN: u16 = 8;
        const CGROUP_ID: u16 = 21;
        match number {
            INFO => self.info = Some(Info::new(value)),
            SHUTDOWN => {
                let [bits, ..] = value else {
                    return Err(Error::Malformed("empty shutdown attribute"));
                };
                self.shutdown = Some((*bits).into());
            }
            CGROUP_ID => {
                let id = value.first_chunk();
                let id = id.ok_or(Error::Malformed("cgroup id shorter than 8 bytes"))?;
                self.cgroup = Some(u64::from_ne_bytes(*id));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
