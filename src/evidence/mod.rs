//! From the kernel's sockets to a verdict: is a request in flight on this connection?
//!
//! `verdict` (pure) judges one connection, `settle` (pure) the arrivals, `memory` keeps what ties need, `watch` finds the target's
//! sockets and looks at them, `locals` at the Unix sockets.

pub mod listeners;
pub mod locals;
pub mod memory;
pub mod pingpong;
pub mod settle;
pub mod verdict;
pub mod watch;

pub use listeners::{Listener, LocalListener, Members, Unit};
pub use settle::Settle;
pub use verdict::{Tie, Verdict, Why, judge};
pub use watch::{Glance, Watch};
