//! The command line: one file a verb.

mod demo;
mod doctor;
mod drain;
mod install;
mod rejoin;
mod report;
mod status;
mod uninstall;

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Faults;
use crate::exit;
use crate::world::Root;

/// Drains this host before systemd stops it: out of its pools, until the requests in flight have really finished, and back again
/// afterwards.
#[derive(Debug, Parser)]
#[command(name = "drainctl", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 drained or nothing to do · 1 failed · 2 usage or config · 3 deadline hit with requests in \
    flight · 4 drained, but a pool could not be left · 5 skipped or aborted · 6 doctor found \
    errors"
)]
pub struct Opts {
    /// Say more about what is done; twice for the calls to pools and the kernel.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Install(install::Install),
    Uninstall(uninstall::Uninstall),
    Drain(drain::Drain),
    Rejoin(rejoin::Rejoin),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Report(report::Report),
    Demo(demo::Demo),
}

impl Opts {
    /// Runs the verb; the exit code.
    #[must_use]
    pub fn run(self) -> u8 {
        start_log(self.verbose);
        let root = Root::host();
        let result = match self.verb {
            Verb::Install(verb) => verb.run(&root),
            Verb::Uninstall(verb) => verb.run(&root),
            Verb::Drain(verb) => verb.run(&root),
            Verb::Rejoin(verb) => verb.run(&root),
            Verb::Status(verb) => verb.run(&root),
            Verb::Doctor(verb) => verb.run(&root),
            Verb::Report(verb) => verb.run(&root),
            Verb::Demo(verb) => verb.run(),
        };
        match result {
            Ok(code) => code,
            Err(error) => {
                eprintln!("drainctl: {error:#}");
                if error.is::<Faults>() {
                    exit::USAGE
                } else {
                    exit::FAILED
                }
            }
        }
    }
}

/// What is done inside goes to standard error, when asked for.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .init();
}

/// The error of everything that only root may do.
fn need_root(what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "{what} needs root (the sockets and processes of other users can't be seen otherwise): run it with sudo"
    );
    Ok(())
}

/// A duration with its unit, as the config takes it.
fn duration(text: &str) -> Result<Duration, String> {
    crate::config::duration::parse(text)
}
