//! What every type of pool must do, and what each does against its real server.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

mod aws_fake;
mod aws_target_group;
mod bad_server;
mod command;
mod conformance;
mod consul;
mod consul_acl;
mod consul_agent;
mod consul_bad;
mod envoy;
mod faults;
mod firewall;
mod haproxy;
mod haproxy_process;
mod health_file;
mod http;
mod http_examples;
mod moto;
mod namespace;
mod nft_faults;
mod peers;
mod support;
