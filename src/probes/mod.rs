//! Counters of requests in flight that programs and proxies keep themselves, beside the sockets. Behind one trait and one table, as the
//! pools are. They are asked once the sockets show nothing in flight: they can only hold a drain for longer, never end it sooner.

mod asked;
mod command;
mod envoy;
mod haproxy;
mod nginx;
mod page;
mod prometheus;
mod table;

pub use asked::{Asked, Counted};
pub use table::{KINDS, Kind, build};

use crate::world::{Deadline, Root};

/// Something that counts requests in flight.
pub trait Probe: Send {
    /// How many there are now. Reads only, and ends by the deadline.
    ///
    /// # Errors
    /// It could not be asked, or answered something else: unknown, and so busy.
    fn count(&self, root: &Root, deadline: Deadline) -> anyhow::Result<u64>;
}
