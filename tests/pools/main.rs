//! What every type of pool must do, and what each does against its real server.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod bad_server;
mod command;
mod conformance;
mod consul;
mod consul_agent;
mod consul_bad;
mod envoy;
mod firewall;
mod haproxy;
mod haproxy_process;
mod health_file;
mod http;
mod namespace;
mod peers;
mod support;
