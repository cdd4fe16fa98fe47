//! Linux sock_diag over netlink: every TCP socket of a network namespace with its `tcp_info`, filtered in the kernel; and the Unix
//! sockets.
//!
//! ```no_run
//! use sockdiag::{Query, Socket, States, TcpState};
//! use std::time::{Duration, Instant};
//!
//! let mut socket = Socket::open()?;
//! let query = Query { states: States::of(&[TcpState::Established]), ports: &[80, 443], ..Query::default() };
//! let deadline = Instant::now() + Duration::from_secs(1);
//! let unread = socket.dump(&query, deadline, || 0, |sum, row| *sum += u64::from(row.rqueue))?;
//! println!("{unread} bytes received and not yet read");
//! # Ok::<(), sockdiag::Error>(())
//! ```
//!
//! - **Whole or an error.** A dump that was interrupted, truncated, refused half-way, malformed or late is an [`Error`],
//!   never a shorter list. [`Socket::dump`] starts over where that helps.
//! - **Cheap.** Ports, states and cgroups are filtered in the kernel. Rows are parsed in place in one buffer of
//!   64 KiB, nothing is allocated for a row; memory does not grow with the number of sockets.
//! - **Any kernel.** [`Info`] reads a field only where the kernel's struct reaches it; unknown attributes and states are
//!   carried or skipped, not refused.
//! - **No policy, no threads, no panics**; the parsers ([`wire`], [`answer`], [`Row::parse`]) take plain bytes, and are fuzzed.
//!
//! Modules: `query` what to ask · `bytecode` the filter program for the kernel · [`wire`] messages and attributes ·
//! `row`, `info`, `state`, `unix` what comes back · [`answer`] when it is complete · `socket`, `ends` the I/O ·
//! `error`.

pub mod answer;
mod bytecode;
mod ends;
mod error;
mod info;
mod query;
mod row;
mod socket;
mod state;
mod unix;
pub mod wire;

pub use ends::Ends;
pub use error::Error;
pub use info::Info;
pub use query::{Families, Family, Query, States};
pub use row::{Row, SocketId};
/// An error number of the operating system, as in [`Error`].
pub use rustix::io::Errno;
pub use socket::{ATTEMPTS, BUFFER, Socket, Stats};
pub use state::{Shutdown, TcpState, Timer};
pub use unix::{UnixKind, UnixRow};
