//! Drains a Linux host before systemd stops it: out of its pools, until the requests in flight have really finished, and back
//! again afterwards. `ARCHITECTURE.md` tells the flow; this list is the table of contents.

// `println!` ends the process when its reader is gone: verbs speak through `cli::say`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

/// The command line: one file a verb, its arguments and its run.
pub mod cli;
/// Settings: one file's values, merged, checked; every fault at once with its file and line.
pub mod config;
/// The whole story on one machine in seconds: backends, balancer and load; drained against killed.
pub mod demo;
/// Proves before a shutdown that its drain would work.
pub mod doctor;
/// One drain: what to do (pure), doing it, what happened, how it ended.
pub mod drain;
/// From the kernel's sockets to a verdict: is a request in flight on this connection?
pub mod evidence;
/// Exit codes, the one place where an outcome or error becomes a number.
pub mod exit;
/// Who may be out at once: the slots that a fleet shares.
pub mod fleet;
/// Man pages and completions.
pub mod paper;
/// The places that send this host traffic.
pub mod pools;
/// Counters of requests in flight that programs and proxies keep themselves.
pub mod probes;
/// What must survive a crash: the lock, the receipts, the last good settings, the history.
pub mod receipts;
/// Events in; terminal, journal and JSON out.
pub mod report;
/// supervisord's programs, process ids and states.
pub mod supervisord;
/// Units, PID 1's view of the host, notifications.
pub mod systemd;
/// Text that others wrote, made fit to be shown.
pub mod text;
/// The doors out: clock, files under a root, HTTP, processes.
pub mod world;
/// One program under our care: started, passed its signals, drained before it is told to stop.
pub mod wrap;
