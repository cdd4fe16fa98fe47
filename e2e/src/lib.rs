//! The lab: booted hosts, a balancer, and load.
