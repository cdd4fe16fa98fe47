//! The netlink socket. Only this file and `ends` do I/O.

use crate::answer::{Dump, Lookups, start_over};
use crate::wire;
use crate::{Error, Family, Query, Row, SocketId, States, UnixRow};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, connect, recvfrom,
    send, socket_with,
};
use rustix::time::Timespec;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Size of the one receive buffer, bytes. The kernel fills at most 32 KiB of it in a dump.
pub const BUFFER: usize = 64 * 1024;

/// How often [`Socket::dump`] starts over before it gives up.
pub const ATTEMPTS: u32 = 5;

/// How long [`Socket::open`] waits for its trial.
const OPEN_LIMIT: Duration = Duration::from_secs(1);

/// A netlink socket for socket diagnostics.
///
/// It sees the network namespace in which the thread was that opened it. No privileges are needed; a sandbox must
/// allow `AF_NETLINK`.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Box<[u8]>,
    sequence: u32,
    /// Answers to an earlier request may still be on their way.
    unfinished: bool,
}

/// What one dump took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Rows delivered.
    pub rows: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Datagrams received.
    pub datagrams: u64,
}

impl Socket {
    /// Opens the socket and tries it with a request that matches nothing, so that a missing permission or kernel module
    /// is found here, and a socket that is gone can be told from a kernel that can't answer.
    ///
    /// Fails with [`Error::Permission`], [`Error::Unsupported`] or [`Error::Io`].
    pub fn open() -> Result<Self, Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(SOCK_DIAG),
        )
        .map_err(|errno| Error::io("socket", errno))?;
        // Connected to the kernel, so that other processes can't fill the receive buffer.
        connect(&fd, &SocketAddrNetlink::new(0, 0)).map_err(|errno| Error::io("connect", errno))?;
        let mut socket = Self {
            fd,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            sequence: 0,
            unfinished: false,
        };
        let nothing = Query {
            states: States::NONE,
            ..Query::default()
        };
        socket.dump_once(&nothing, Instant::now() + OPEN_LIMIT, |_| ())?;
        Ok(socket)
    }

    /// Collects all sockets that match, in as many attempts as it takes (at most [`ATTEMPTS`], all before `deadline`).
    ///
    /// Each attempt begins with a fresh `T` from `start`, and `each` adds one row to it. The `T` of an attempt that failed is
    /// dropped, so a list that is only partly filled can't be taken for a whole one.
    ///
    /// The kernel walks a table that goes on changing: a socket that lived through the whole dump is in it, with one exception
    /// the kernel doesn't report: where a hash bucket is continued in the next datagram and one of its earlier sockets
    /// goes away in between, a later one is skipped once. One that comes or goes meanwhile may be missing or, rarely, in it
    /// twice (same cookie).
    ///
    /// After an error other than [`Error::FilterTooLong`] the socket stays usable, unless it says [`Error::Refused`] with
    /// `EBUSY` from then on: open another.
    pub fn dump<T>(
        &mut self,
        query: &Query<'_>,
        deadline: Instant,
        start: impl FnMut() -> T,
        mut each: impl FnMut(&mut T, &Row<'_>),
    ) -> Result<T, Error> {
        start_over(ATTEMPTS, start, |whole| {
            self.dump_once(query, deadline, |row| each(whole, row))
                .map(|_| ())
        })
    }

    /// One attempt, row by row. After an error **all rows seen so far are void**; [`dump`](Self::dump) takes care of that.
    pub fn dump_once(
        &mut self,
        query: &Query<'_>,
        deadline: Instant,
        mut each: impl FnMut(&Row<'_>),
    ) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        for family in query.families.each() {
            self.dump_family(query, *family, deadline, &mut stats, &mut each)?;
        }
        Ok(stats)
    }

    fn dump_family(
        &mut self,
        query: &Query<'_>,
        family: Family,
        deadline: Instant,
        stats: &mut Stats,
        each: &mut impl FnMut(&Row<'_>),
    ) -> Result<(), Error> {
        let sequence = self.next_sequence();
        let request = wire::dump_request(query, family, sequence)?;
        stats.rows += self.receive_dump(&request, sequence, deadline, |dump, datagram| {
            stats.datagrams += 1;
            // Lossless: a datagram is at most `BUFFER` bytes.
            stats.bytes += u64::try_from(datagram.len()).unwrap_or_default();
            dump.take(datagram, each)
                .map_err(|error| without_cgroup_filter(query, error))
        })?;
        Ok(())
    }

    /// Collects all Unix sockets of the network namespace in one of `states`, as [`Socket::dump`] does: there is nothing by
    /// which the kernel could filter them further.
    ///
    /// Fails with [`Error::Unsupported`] on a kernel without `unix_diag`.
    pub fn dump_unix<T>(
        &mut self,
        states: States,
        deadline: Instant,
        start: impl FnMut() -> T,
        mut each: impl FnMut(&mut T, &UnixRow<'_>),
    ) -> Result<T, Error> {
        start_over(ATTEMPTS, start, |whole| {
            let sequence = self.next_sequence();
            let request = wire::unix_request(states, sequence);
            let mut each = |row: &UnixRow<'_>| each(whole, row);
            self.receive_dump(&request, sequence, deadline, |dump, datagram| {
                dump.take_unix(datagram, &mut each)
            })
            .map_err(|error| match error {
                Error::Unsupported { errno, .. } => Error::Unsupported {
                    what: "unix_diag",
                    errno,
                },
                other => other,
            })?;
            Ok(())
        })
    }

    /// Sends the request for a dump, and hands every datagram of the answer to `take`; the number of its rows.
    fn receive_dump(
        &mut self,
        request: &[u8],
        sequence: u32,
        deadline: Instant,
        mut take: impl FnMut(&mut Dump, &[u8]) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        self.send(request, deadline)?;
        let mut dump = Dump::new(sequence);
        while !dump.is_done() {
            take(&mut dump, receive(&self.fd, &mut self.buffer, deadline)?)?;
        }
        self.unfinished = false;
        Ok(dump.rows())
    }

    /// Looks at known sockets, much cheaper than a dump while they are few.
    ///
    /// `each` is called once for each id, with its index in `ids` and its row, or `None` when that socket is gone (the cookie
    /// decides, so a new one on the same ports counts as gone). After an error, ids for which `each` was not called are
    /// simply unknown.
    pub fn lookup(
        &mut self,
        ids: &[SocketId],
        info: bool,
        deadline: Instant,
        mut each: impl FnMut(usize, Option<&Row<'_>>),
    ) -> Result<(), Error> {
        for (number, batch) in ids.chunks(Lookups::MOST).enumerate() {
            let first = number * Lookups::MOST;
            self.lookup_batch(batch, info, deadline, |at, row| each(first + at, row))?;
        }
        Ok(())
    }

    fn lookup_batch(
        &mut self,
        ids: &[SocketId],
        info: bool,
        deadline: Instant,
        mut each: impl FnMut(usize, Option<&Row<'_>>),
    ) -> Result<(), Error> {
        let mut request = Vec::new();
        let mut first = None;
        for id in ids {
            let sequence = self.next_sequence();
            first.get_or_insert(sequence);
            wire::push_lookup(&mut request, id, info, sequence);
        }
        let Some(first) = first else { return Ok(()) };
        self.send(&request, deadline)?;
        let mut lookups = Lookups::new(first, ids.len());
        while !lookups.is_done() {
            let datagram = receive(&self.fd, &mut self.buffer, deadline)?;
            lookups.take(datagram, &mut each)?;
        }
        self.unfinished = false;
        Ok(())
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends a request, after what is left of an earlier one was thrown away.
    fn send(&mut self, request: &[u8], deadline: Instant) -> Result<(), Error> {
        if self.unfinished {
            self.discard(deadline)?;
        }
        self.unfinished = true;
        match send(&self.fd, request, SendFlags::empty()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(Error::io("send", errno)),
        }
    }

    /// Reads until nothing is left. The kernel prepares the next part of a dump while the last one is read, so "nothing
    /// there" means that the dump has ended.
    fn discard(&mut self, deadline: Instant) -> Result<(), Error> {
        loop {
            if Instant::now() >= deadline {
                return Err(Error::Deadline);
            }
            match recvfrom(&self.fd, &mut *self.buffer, RecvFlags::TRUNC) {
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(Error::io("recvfrom", errno)),
            }
        }
    }
}

/// Waits for the next datagram of the kernel.
fn receive<'b>(fd: &OwnedFd, buffer: &'b mut [u8], deadline: Instant) -> Result<&'b [u8], Error> {
    let length = loop {
        // Also between datagrams that are there: a dump that never ends must not outlive the deadline.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Deadline);
        }
        match recvfrom(fd, &mut *buffer, RecvFlags::TRUNC) {
            Ok((_, length, Some(sender))) if is_kernel(&sender) => break length,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(fd, left)?,
            Err(errno) => return Err(Error::io("recvfrom", errno)),
        }
    };
    buffer.get(..length).ok_or(Error::Truncated(length))
}

/// Whether the kernel sent it: other processes may send to any netlink socket.
pub(crate) fn is_kernel(sender: &SocketAddrAny) -> bool {
    SocketAddrNetlink::try_from(sender.clone()).is_ok_and(|sender| sender.pid() == 0)
}

/// Waits until there is something to read, or `limit` is over.
fn wait(fd: &OwnedFd, limit: Duration) -> Result<(), Error> {
    // A limit beyond what the kernel can count is no limit.
    let limit = Timespec::try_from(limit).ok();
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::io("poll", errno)),
    }
}

/// Names the missing feature: all else that a request can hold is understood since Linux 4.16.
fn without_cgroup_filter(query: &Query<'_>, error: Error) -> Error {
    match error {
        Error::Refused(errno @ Errno::INVAL) if !query.cgroups.is_empty() => Error::Unsupported {
            what: "cgroup filter",
            errno,
        },
        other => other,
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
