//! Tests against the running kernel, each in a network namespace of its own.

#![cfg(test)]

mod capture;
mod cgroup;
mod ends;
mod filters;
mod host;
mod lab;
mod lookup;
mod states;
mod unix;
