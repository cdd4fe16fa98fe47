//! The command line: one file a verb.

#[macro_use]
mod say;

mod control;
mod demo;
mod doctor;
mod drain;
mod install;
mod rehearse;
mod rejoin;
mod report;
mod run;
mod status;
mod uninstall;
mod watch;
mod wrapped;

pub use run::keeper;

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
    flight · 4 drained, but a pool could not be left · 5 skipped, aborted or refused · 6 doctor found \
    errors"
)]
pub struct Opts {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Install(install::Install),
    Uninstall(uninstall::Uninstall),
    Drain(drain::Drain),
    Rejoin(rejoin::Rejoin),
    Rehearse(rehearse::Rehearse),
    Status(status::Status),
    Doctor(doctor::Doctor),
    Skip(control::Skip),
    Extend(control::Extend),
    Abort(control::Abort),
    Run(run::Run),
    Report(report::Report),
    Demo(demo::Demo),
}

impl Opts {
    /// Runs the verb; the exit code.
    #[must_use]
    pub fn run(self) -> u8 {
        let root = Root::host();
        let result = match self.verb {
            Verb::Install(verb) => verb.run(&root),
            Verb::Uninstall(verb) => verb.run(&root),
            Verb::Drain(verb) => verb.run(&root),
            Verb::Rejoin(verb) => verb.run(&root),
            Verb::Rehearse(verb) => verb.run(&root),
            Verb::Status(verb) => verb.run(&root),
            Verb::Doctor(verb) => verb.run(&root),
            Verb::Skip(verb) => verb.run(&root),
            Verb::Extend(verb) => verb.run(&root),
            Verb::Abort(verb) => verb.run(&root),
            Verb::Run(verb) => verb.run(&root),
            Verb::Report(verb) => verb.run(&root),
            Verb::Demo(verb) => verb.run(),
        };
        match result {
            Ok(code) => say::end(code),
            Err(error) => {
                tell!("drainctl: {error:#}");
                if error.is::<Faults>() {
                    exit::USAGE
                } else {
                    exit::FAILED
                }
            }
        }
    }
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
