//! `run`: a server under our care.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::wrapped::{self, Part};
use crate::world::{Root, signals};
use crate::wrap::{Plan, keeper, plan, program};

/// Run a server, and drain it before it is told to stop.
///
/// For a supervisord `command=` or a container's entry point. Signals and the exit status are passed through. On SIGTERM the program
/// leaves its pools, the requests in flight on the sockets that it listens on are waited for, and then the signal is passed on; a
/// second SIGTERM is passed on at once. Where the whole host is drained already, nothing is waited for.
#[derive(Clone, Debug, Args)]
#[command(
    override_usage = "drainctl run [OPTIONS] -- COMMAND...",
    after_help = "Example: drainctl run --service web -- /usr/bin/gunicorn app:app\n\
    Exit codes: the program's; 126 and 127 where it can't be started; 128 and the signal's number as the \
    first process of a container"
)]
pub(super) struct Run {
    /// A service of the local Consul agent, by name or id, that is set into maintenance. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(super) service: Vec<String>,
    /// Settings and pools of this program, as in /etc/drainctl/drainctl.toml. Without it that file counts, but for its pools.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// A URL that must answer 2xx before the program goes back into its pools.
    #[arg(long, value_name = "URL")]
    pub(super) check: Option<String>,
    /// The most a drain may take, with its unit ("90s", "5m"); by default `deadline.restart`.
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    pub(super) deadline: Option<Duration>,
    /// The signals that drain before they are passed on.
    #[arg(long, value_name = "SIGNALS", default_value = "TERM", value_delimiter = ',', value_parser = signal)]
    drain_on: Vec<i32>,
    /// Pass signals on to all processes in the program's group, as supervisord's stopasgroup does.
    #[arg(long)]
    group: bool,
    /// What to call the program; by default what supervisord calls it, or the name of its file.
    #[arg(long)]
    name: Option<String>,
    /// Where to keep what its drains did; by default below /var/lib/drainctl, or in the user's own folder of state.
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// What its keeper starts to drain and to rejoin.
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn signal(text: &str) -> Result<i32, String> {
    signals::number(text).ok_or_else(|| {
        format!("{text:?} is no signal that can be waited for: name it as in TERM, QUIT, INT")
    })
}

impl Run {
    /// Runs it.
    ///
    /// # Errors
    /// A fault in the config that `--config` names, which is better known now than at the first stop.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        let name = program::name(self.name.as_deref(), &self.command);
        if let Some(part) = &self.part {
            let state = program::state(self.state.as_deref(), &name)?;
            return part.run(root, &self, &name, &Root::at(state));
        }
        let settings = wrapped::checked(root, &self)?;
        let state = program::state(self.state.as_deref(), &name);
        if let Err(error) = &state {
            tell!("drainctl: {name}: {error:#}; without one it leaves no pool");
        }
        let plan = Plan {
            drain_on: self.drain_on,
            limit: settings.deadline.restart,
            to_group: self.group,
            name,
            state: state.ok(),
            options: options(&self.command),
            command: self.command,
        };
        // What was needed to come so far goes with this image.
        let binary = binary()?;
        let error = Command::new(&binary)
            .arg0(plan::NAME)
            .args(plan.to_args())
            .exec();
        Err(error).with_context(|| format!("execute {} anew", binary.to_string_lossy()))
    }
}

/// This program's file, also after it was replaced by a newer one.
fn binary() -> anyhow::Result<OsString> {
    let file = std::env::current_exe().context("find this program's file")?;
    Ok(if file.exists() {
        file.into_os_string()
    } else {
        "/proc/self/exe".into()
    })
}

/// What stands between the verb and the program on our own command line.
fn options(command: &[OsString]) -> Vec<OsString> {
    let mut options: Vec<OsString> = std::env::args_os().skip(2).collect();
    options.truncate(options.len().saturating_sub(command.len()));
    if options.last().is_some_and(|last| last == "--") {
        options.pop();
    }
    options
}

/// Runs as the keeper of a program, if that is what this process was executed for.
#[must_use]
pub fn keeper() -> Option<u8> {
    let mut args = std::env::args_os();
    if args.next()? != plan::NAME {
        return None;
    }
    let args: Vec<OsString> = args.collect();
    let Some(plan) = Plan::from_args(&args) else {
        tell!("drainctl: the keeper of a program is started by `drainctl run`");
        return Some(crate::exit::USAGE);
    };
    let binary = binary().unwrap_or_else(|_| "/proc/self/exe".into());
    Some(keeper::run(&plan, binary))
}
