//! The lab: booted hosts, a registry, a balancer, and load.
//!
//! One [`site::Site`] is a switch with a Consul server, HAProxy, a client and one or two hosts, all in network namespaces of their
//! own, so that sites run side by side with the same addresses. The whole lab lives in one PID and one mount namespace
//! ([`enter`]): however it ends, the kernel takes every process, mount and network namespace of it away.

/// HAProxy, following Consul's DNS.
pub mod balancer;
/// A host alone.
pub mod bare;
/// A cgroup for every host.
pub mod cgroup;
/// Running programs, and waiting for things with a limit.
pub mod command;
/// The Consul server, and what it says about a host.
pub mod consul;
/// The namespaces around the lab, and what is left of dead runs.
pub mod enter;
/// Envoy, in the balancer's place.
mod envoy;
/// The figures that the cases leave for the table at the end.
pub mod figures;
/// A booted host.
pub mod host;
/// A host's journal, read from outside, also after its end.
pub mod journal;
/// Requests at a fixed rate, checked to the last byte.
pub mod load;
/// Network namespaces around one switch.
pub mod net;
/// The one place that knows the product's command line and files.
pub mod product;
/// The programs under supervisord.
pub mod programs;
/// The units that the project grew from.
pub mod seed;
/// Everything above, put together.
pub mod site;
