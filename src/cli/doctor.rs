//! `drainctl doctor`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

use super::install::Install;
use crate::doctor::picture::{self, Form};
use crate::doctor::{self, Facts, Fix, Found, Severity, Sight};
use crate::systemd::steps::{Pid1, Systemctl};
use crate::world::Root;
use crate::{config, exit};

/// Prove before a shutdown that its drain would work: the hook, the order of the stop, time limits, pools. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: drainctl doctor --json | jq -r '.findings[].what'")]
pub(super) struct Doctor {
    /// As one JSON object.
    #[arg(long, conflicts_with = "all")]
    json: bool,
    /// Also show the time limits, who else is out of the pools, and what outlives the drain
    #[arg(long)]
    all: bool,
    /// Draw what a shutdown stops, and in which order, into FILE: .svg or .dot
    #[arg(long, value_name = "FILE", value_parser = drawing)]
    order: Option<(PathBuf, Form)>,
    /// Mend what touches only our own units (write them, read them in, enable, start), say so, and look again
    #[arg(long)]
    fix: bool,
    /// What is seen from here, as JSON: run by doctor itself inside the hook's sandbox.
    #[arg(long, hide = true)]
    probe: bool,
}

/// Where a picture goes, and what it is.
fn drawing(file: &str) -> Result<(PathBuf, Form), String> {
    let file = PathBuf::from(file);
    let form = Form::of(&file).ok_or("its name must end in .svg or .dot")?;
    Ok((file, form))
}

impl Doctor {
    /// Runs it.
    ///
    /// # Errors
    /// Not root; no systemd; every fault of the config; a drain that runs; what can't be read or mended.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        if self.probe {
            say!("{}", serde_json::to_string(&Sight::look(root))?);
            return Ok(exit::OK);
        }
        super::need_root("doctor")?;
        super::uninstall::need_systemd(root)?;
        let program = std::env::current_exe()
            .and_then(std::fs::canonicalize)
            .context("this program's own file")?;
        let (mut facts, mut found) = examine(root, &program)?;
        if self.fix {
            let fixes = doctor::fixes(&found);
            // Standard output belongs to the report, which may be JSON.
            let mut out = std::io::stderr();
            if fixes.is_empty() {
                writeln!(out, "nothing that is ours to mend")?;
            } else {
                mend(root, &fixes, &mut out)?;
                (facts, found) = examine(root, &program)?;
            }
        }
        if let Some((file, form)) = &self.order {
            let text = picture::draw(&facts.all, &facts.order, &facts.targets, *form);
            std::fs::write(file, text).with_context(|| file.display().to_string())?;
        }
        let sound = found
            .iter()
            .all(|found| found.finding.severity < Severity::Error);
        if self.json {
            say!(
                "{}",
                serde_json::to_string_pretty(&json(&facts, &found, sound))?
            );
        } else {
            doctor::print(&facts, &found, self.all, &mut super::say::Out)?;
        }
        Ok(if sound { exit::OK } else { exit::UNSOUND })
    }
}

fn examine(root: &Root, program: &Path) -> anyhow::Result<(Facts, Vec<Found>)> {
    let loaded = config::load(root)?;
    let facts = doctor::gather(root, program, &loaded)?;
    let found = doctor::examine(&facts);
    Ok((facts, found))
}

/// Does each, and says so.
fn mend(root: &Root, fixes: &[Fix], out: &mut dyn Write) -> anyhow::Result<()> {
    for fix in fixes {
        match fix {
            Fix::Install => {
                writeln!(out, "fix     drainctl install")?;
                Install::default().install(root, out)?;
            }
            Fix::Tell(arguments) => {
                writeln!(out, "fix     systemctl {}", arguments.join(" "))?;
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                Systemctl.tell(&arguments)?;
            }
        }
    }
    Ok(())
}

fn json(facts: &Facts, found: &[Found], sound: bool) -> serde_json::Value {
    let limits: Vec<_> = doctor::chain(facts)
        .into_iter()
        .map(|limit| {
            let finite = limit.time.filter(|time| *time != std::time::Duration::MAX);
            json!({"what": limit.what, "seconds": finite.map(|time| time.as_secs_f64()), "set": limit.set})
        })
        .collect();
    let first = doctor::first_to_cut(facts)
        .map(|cut| json!({"seconds": cut.after.as_secs_f64(), "by": cut.by, "set": cut.set}));
    let peers: Vec<_> = facts
        .around
        .peers
        .iter()
        .zip(&facts.around.closely)
        .map(|(said, closely)| {
            let absent = closely.as_ref().map(|closely| &closely.absent);
            json!({"pool": said.name, "peers": said.peers, "absent": absent})
        })
        .collect();
    json!({
        "sound": sound,
        "findings": found,
        "limits": limits,
        "first_to_cut": first,
        "pools": peers,
        "outlive": facts.order.outlive,
        "may_stop": facts.order.may_stop,
        "unsure": facts.order.unsure,
    })
}
