//! From the kernel's sockets to a verdict: is a request in flight on this connection?
//!
//! `verdict` (pure) judges one connection, `arrivals` and `settle` (pure) what arrives, `memory` keeps what ties need, `checkers` and
//! `newcomers` say who arrives, `watch` finds the target's sockets and looks at them, `locals` at the Unix sockets.

pub mod arrivals;
pub mod checkers;
pub mod listeners;
pub mod locals;
pub mod memory;
mod newcomers;
pub mod pingpong;
pub mod settle;
pub mod verdict;
pub mod watch;

pub use arrivals::{Poller, Traffic};
pub use listeners::{Listener, LocalListener, Members, Unit};
pub use settle::Settle;
pub use verdict::{Tie, Verdict, Why, judge};
pub use watch::{Glance, Watch};
