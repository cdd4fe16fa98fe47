//! The doors out. Everything that leaves the process goes through one of these, takes a deadline where it can block, and can be
//! pointed somewhere else by a test.

pub mod child;
pub mod clock;
pub mod dial;
pub mod exec;
pub mod files;
pub mod http;
pub mod memory;
pub mod proc;
pub mod signals;

pub use clock::Deadline;
pub use files::Root;
