//! `drainctl doctor`.

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;

use crate::doctor::picture::{self, Form};
use crate::doctor::{self, Severity};
use crate::world::Root;
use crate::{config, exit};

/// Prove before a shutdown that its drain would work: the hook, the order of the stop, time limits, pools. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: drainctl doctor --json | jq -r '.findings[].what'")]
pub(super) struct Doctor {
    /// As one JSON object.
    #[arg(long, conflicts_with = "all")]
    json: bool,
    /// Also show the time limits, and what outlives the drain
    #[arg(long)]
    all: bool,
    /// Draw what a shutdown stops, and in which order, into FILE: .svg or .dot
    #[arg(long, value_name = "FILE", value_parser = drawing)]
    order: Option<(PathBuf, Form)>,
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
    /// Not root; no systemd; every fault of the config; a drain that runs; what can't be read.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("doctor")?;
        super::uninstall::need_systemd(root)?;
        let program = std::env::current_exe()
            .and_then(std::fs::canonicalize)
            .context("this program's own file")?;
        let loaded = config::load(root)?;
        let facts = doctor::gather(root, &program, &loaded)?;
        let found = doctor::examine(&facts);
        if let Some((file, form)) = &self.order {
            let text = picture::draw(&facts.all, &facts.order, &facts.targets, *form);
            std::fs::write(file, text).with_context(|| file.display().to_string())?;
        }
        let sound = found
            .iter()
            .all(|found| found.finding.severity < Severity::Error);
        if self.json {
            let limits: Vec<_> = doctor::chain(&facts)
                .into_iter()
                .map(|limit| {
                    let finite = limit.time.filter(|time| *time != std::time::Duration::MAX);
                    json!({"what": limit.what, "seconds": finite.map(|time| time.as_secs_f64()), "set": limit.set})
                })
                .collect();
            let all = json!({
                "sound": sound,
                "findings": found,
                "limits": limits,
                "outlive": facts.order.outlive,
                "may_stop": facts.order.may_stop,
                "unsure": facts.order.unsure,
            });
            say!("{}", serde_json::to_string_pretty(&all)?);
        } else {
            doctor::print(&facts, &found, self.all, &mut super::say::Out)?;
        }
        Ok(if sound { exit::OK } else { exit::UNSOUND })
    }
}
