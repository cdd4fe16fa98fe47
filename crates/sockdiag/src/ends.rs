//! Sockets that the kernel has done away with, told as it happens: also those that lived between two dumps.

use crate::socket::{BUFFER, is_kernel};
use crate::wire::{self, messages};
use crate::{Error, Row};
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, socket_recv_buffer_size,
};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use std::os::fd::OwnedFd;
use std::time::Instant;

/// `SKNLGRP_INET_TCP_DESTROY` and `SKNLGRP_INET6_TCP_DESTROY` (include/uapi/linux/sock_diag.h) as a mask of groups.
const TCP_DESTROY: u32 = 1 << 0 | 1 << 2;

/// What the receive buffer is asked for, bytes: the kernel takes about 1 KiB of it for each socket.
const QUEUE: usize = 4 << 20;

/// Hears of each TCP socket of the network namespace in which it was opened, once that socket is gone.
///
/// Linux 4.2. Needs no privileges; the queue is longer with `CAP_NET_ADMIN`. A socket that goes into `TIME_WAIT` is told then.
/// What comes is told by a kernel thread, so a row may be some milliseconds late.
#[derive(Debug)]
pub struct Ends {
    fd: OwnedFd,
    buffer: Box<[u8]>,
}

impl Ends {
    /// Begins to listen.
    ///
    /// Fails with [`Error::Permission`], [`Error::Unsupported`] or [`Error::Io`].
    pub fn open() -> Result<Self, Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::NETLINK;
        let fd = socket_with(family, SocketType::RAW, flags, Some(SOCK_DIAG))
            .map_err(|errno| Error::io("socket", errno))?;
        if set_socket_recv_buffer_size_force(&fd, QUEUE).is_err() {
            // As long as an unprivileged one may be.
            let _ = set_socket_recv_buffer_size(&fd, QUEUE);
        }
        bind(&fd, &SocketAddrNetlink::new(0, TCP_DESTROY))
            .map_err(|errno| Error::io("bind", errno))?;
        Ok(Self {
            fd,
            buffer: vec![0; BUFFER].into_boxed_slice(),
        })
    }

    /// Size of the receive buffer as the kernel counts it, bytes.
    ///
    /// Fails with [`Error::Io`].
    pub fn queue(&self) -> Result<usize, Error> {
        socket_recv_buffer_size(&self.fd).map_err(|errno| Error::io("getsockopt", errno))
    }

    /// Calls `each` for every socket that has gone since the last call, without waiting. `false` when some were lost: the queue
    /// had overrun.
    ///
    /// A row has its ends, its cookie and its [`Info`](crate::Info); its state is [`Close`](crate::TcpState::Close), queues, inode
    /// and uid read 0. Fails with [`Error::Malformed`], [`Error::Truncated`], [`Error::Io`], or [`Error::Deadline`] when sockets end
    /// faster than they are read.
    pub fn read(
        &mut self,
        deadline: Instant,
        mut each: impl FnMut(&Row<'_>),
    ) -> Result<bool, Error> {
        let mut whole = true;
        while Instant::now() < deadline {
            let length = match recvfrom(&self.fd, &mut *self.buffer, RecvFlags::TRUNC) {
                Ok((_, length, Some(sender))) if is_kernel(&sender) => length,
                Ok(_) | Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(whole),
                Err(Errno::NOBUFS) => {
                    whole = false;
                    continue;
                }
                Err(errno) => return Err(Error::io("recvfrom", errno)),
            };
            let datagram = self.buffer.get(..length).ok_or(Error::Truncated(length))?;
            for message in messages(datagram) {
                let message = message?;
                if message.kind == wire::SOCK_DIAG_BY_FAMILY {
                    each(&Row::parse(message.payload)?);
                }
            }
        }
        Err(Error::Deadline)
    }
}
