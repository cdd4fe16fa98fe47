//! A fleet of hosts against a real Consul cluster, and against a FleetLock server.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod cluster;
mod host;
mod lock_server;
mod run;
