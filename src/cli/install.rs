//! `drainctl install`.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::drain::ports;
use crate::drain::target::unit_names;
use crate::pools::{self, Looked};
use crate::systemd::install;
use crate::systemd::steps::{Hands, Pid1, Systemctl};
use crate::systemd::survey::{self, Request};
use crate::world::Root;
use crate::{config, exit};

/// Connections that are made for each request are seen only by chance: the longer, the surer.
const WATCH: std::time::Duration = std::time::Duration::from_secs(2);
/// What looking for pools may take: proxies on this host, and the instance's metadata.
const LOOK: Duration = Duration::from_secs(8);

/// Make this host drain before it stops: finds the units, writes config and units, enables and starts the hook.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example: drainctl install --dry-run")]
pub(super) struct Install {
    /// The unit of the programs to drain; found by itself where they run under supervisord. May be given several times
    #[arg(long, value_name = "NAME")]
    unit: Vec<String>,
    /// A unit that must outlive the drain, besides what the programs are seen to use and all that the boot starts ([hold] in the
    /// config). May be given several times; remembered
    #[arg(long, value_name = "NAME")]
    keep: Vec<String>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Install {
    /// Installs on this host, and says each step.
    ///
    /// # Errors
    /// What could not be done; what was done before it stays.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("install")?;
        super::uninstall::need_systemd(root)?;
        self.install(root, &mut super::say::Out)
    }

    /// The same, for those who have looked at all that already.
    ///
    /// # Errors
    /// What could not be done; what was done before it stays.
    pub(super) fn install(self, root: &Root, out: &mut dyn Write) -> anyhow::Result<u8> {
        let program = std::env::current_exe()
            .and_then(std::fs::canonicalize)
            .context("this program's own file")?;
        let dry = self.dry_run;
        let code = self.on(root, &Systemctl, &program, out)?;
        if !dry {
            learn(root, out)?;
        }
        Ok(code)
    }

    fn on(
        self,
        root: &Root,
        pid1: &dyn Pid1,
        program: &std::path::Path,
        out: &mut dyn Write,
    ) -> anyhow::Result<u8> {
        let loaded = config::load(root)?;
        // What stands in a config was somebody's decision.
        let looked = if loaded.sources.is_empty() {
            pools::look(root, LOOK)
        } else {
            Looked::default()
        };
        let request = Request {
            units: self.unit,
            keep: self.keep,
            watch: WATCH,
            settled: false,
            pools: looked.found,
        };
        let facts = survey::gather(root, pid1, &request, program, &loaded)?;
        let plan = install::plan(&request, &facts)?;
        for line in &plan.found {
            writeln!(out, "found   {line}")?;
        }
        for line in &looked.remarks {
            writeln!(out, "found   {line}")?;
        }
        let hands = Hands {
            root,
            pid1,
            rejoin: &|| bail!("nothing to take back while installing"),
        };
        hands.perform(&plan.steps, self.dry_run, out)?;
        if self.dry_run {
            writeln!(out, "nothing was changed: this was a dry run")?;
            return Ok(exit::OK);
        }
        if plan.steps.is_empty() {
            writeln!(out, "nothing to change")?;
        }
        // What a drain falls back to when somebody breaks the config later.
        let loaded = config::load(root)?;
        config::keep_last_good(root, &loaded).context("keeping the settings")?;
        for line in install::verify(pid1, &plan)? {
            writeln!(out, "holds   {line}")?;
        }
        Ok(exit::OK)
    }
}

/// Finds out what the programs speak on their ports. Without it a drain is only slower: no reason to fail.
fn learn(root: &Root, out: &mut dyn Write) -> anyhow::Result<()> {
    let units = unit_names(root, &config::load(root)?.settings.units);
    match ports::learn(root, &units, Duration::ZERO) {
        Ok((listeners, kept)) => {
            for listener in &listeners {
                let spoken = kept.of(listener);
                let (port, program) = (listener.local.port(), &listener.program);
                writeln!(out, "spoken  {spoken} on port {port} of {program}")?;
            }
        }
        Err(error) => writeln!(
            out,
            "spoken  can't be found out now: {error:#}; `drainctl doctor` tries again"
        )?,
    }
    Ok(())
}

#[cfg(test)]
#[path = "install_tests.rs"]
pub(super) mod tests;
