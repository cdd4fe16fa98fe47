//! From the kernel's sockets to a verdict: is a request in flight on this connection?
//!
//! `verdict` (pure) judges one connection, `arrivals` and `settle` (pure) what arrives, `memory` keeps what ties need and `flows` what
//! HTTP/2 needs, `checkers` and `newcomers` say who arrives, `watch` finds the target's sockets and looks at them (`sight`), `locals` at
//! the Unix sockets; `listeners` and `closed` say which sockets are the target's. `probe` finds out beforehand what is `spoken` on a port.

pub mod arrivals;
pub mod checkers;
pub mod closed;
mod flows;
pub mod listeners;
pub mod locals;
pub mod memory;
mod newcomers;
pub mod pingpong;
pub mod probe;
pub mod settle;
pub mod sight;
pub mod spoken;
mod table;
pub mod verdict;
mod walk;
pub mod watch;

pub use arrivals::{Poller, Traffic};
pub use listeners::{Listener, LocalListener, Members, Role, Unit};
pub use settle::Settle;
pub use spoken::Spoken;
pub use verdict::{Rule, Tie, Verdict, Why, judge};
pub use watch::{Glance, Watch};
