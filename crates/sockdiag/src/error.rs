//! What can go wrong. A look that fails returns one of these, never a shorter list.

use rustix::io::Errno;

/// Why a look at the sockets failed.
///
/// Nothing seen before the error may be used: see [`Socket::dump`](crate::Socket::dump) for the way that makes sure of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel or a sandbox refused (EPERM, EACCES).
    #[error("no permission for sock_diag: {0}")]
    Permission(#[source] Errno),
    /// The kernel lacks what was asked for: `sock_diag`, `tcp_diag` (ENOENT), the netlink family (also how
    /// `RestrictAddressFamilies=` of systemd looks), or the cgroup filter (before Linux 5.8).
    #[error("{what} is not available: {errno}")]
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// What the kernel said.
        #[source]
        errno: Errno,
    },
    /// The table changed while the kernel walked it (`NLM_F_DUMP_INTR`): the list may be wrong. Worth a retry.
    #[error("socket dump interrupted by a change of the table")]
    Interrupted,
    /// The kernel had to drop answers (ENOBUFS, `NLMSG_OVERRUN`). Worth a retry.
    #[error("answers lost: the receive buffer overran")]
    Lost,
    /// A datagram did not fit the buffer of [`BUFFER`](crate::BUFFER) bytes.
    #[error("datagram of {0} bytes truncated")]
    Truncated(usize),
    /// A message breaks the format; the text names the part.
    #[error("malformed answer: {0}")]
    Malformed(&'static str),
    /// The deadline passed before the answer was complete.
    #[error("deadline passed before the answer was complete")]
    Deadline,
    /// The port and cgroup lists need a longer filter program than a netlink attribute holds.
    /// Leave one of the lists out and filter the rows instead.
    #[error("filter of {bytes} bytes exceeds {limit}")]
    FilterTooLong {
        /// Size of the program that the lists would need.
        bytes: usize,
        /// Size that fits.
        limit: usize,
    },
    /// The kernel answered with any other error number.
    #[error("kernel refused the request: {0}")]
    Refused(#[source] Errno),
    /// A system call failed.
    #[error("{call} on the netlink socket: {errno}")]
    Io {
        /// The system call.
        call: &'static str,
        /// What it returned.
        #[source]
        errno: Errno,
    },
}

impl Error {
    /// Whether the same request may well succeed when it is made again at once.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Interrupted | Self::Lost)
    }

    /// Sorts the error of a system call.
    pub(crate) fn io(call: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::Permission(errno),
            Errno::NOBUFS => Self::Lost,
            Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT => Self::Unsupported {
                what: "sock_diag",
                errno,
            },
            _ => Self::Io { call, errno },
        }
    }

    /// Sorts an error number in an answer of the kernel.
    pub(crate) fn answer(errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::Permission(errno),
            Errno::NOBUFS => Self::Lost,
            Errno::NOENT => Self::Unsupported {
                what: "tcp_diag",
                errno,
            },
            _ => Self::Refused(errno),
        }
    }
}
