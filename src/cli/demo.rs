//! `demo`: what a drain is worth, seen on this machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::demo::show::Show;
use crate::demo::{Acts, backend, draining, parts};
use crate::drain::Report;
use crate::world::Root;
use crate::{exit, report};

/// See it work: backends, a balancer and load on this machine, drained against killed.
///
/// Needs nothing installed and no root, takes about 20 s, talks to nobody but itself, and leaves nothing behind but a page about the
/// drain, in the folder for temporary files.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    override_usage = "drainctl demo [OPTIONS]",
    after_help = "Example: drainctl demo --json | jq '.drained.failed, .killed.failed'"
)]
pub(super) struct Demo {
    /// How long there is load before and after each stop.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = super::duration)]
    load: Duration,
    /// Only the result, as one JSON object.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The processes of the demo, which it starts itself.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Backend { marker: PathBuf, port: Option<u16> },
    #[command(hide = true)]
    Drain {
        pid: u32,
        marker: PathBuf,
        state: PathBuf,
    },
}

impl Demo {
    /// Runs it, or a part of it.
    ///
    /// # Errors
    /// A part can't be started, or broke.
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let Some(part) = self.part else {
            return show(self.load, self.json);
        };
        parts::end_with_parent();
        match part {
            Part::Backend { marker, port } => backend::serve(&marker, port.unwrap_or_default())
                .map(|()| exit::OK)
                .map_err(Into::into),
            Part::Drain { pid, marker, state } => draining::run(pid, &marker, &state),
        }
    }
}

/// The report of the first act, as `drainctl report --html` writes it; where it is.
fn write_page(drain: &Report) -> anyhow::Result<String> {
    let path = std::env::temp_dir().join(format!("drainctl-demo-{}.html", drain.id));
    let path = std::path::absolute(path)?.display().to_string();
    Root::host()
        .place(&path, report::html::page(drain, false).as_bytes())
        .with_context(|| format!("write {path} (TMPDIR names another folder)"))?;
    Ok(path)
}

fn show(load: Duration, json: bool) -> anyhow::Result<u8> {
    let show = Show::new(json);
    let acts = Acts::run(load, &show);
    show.end();
    let acts = acts?;
    let page = acts.drained.drain.as_ref().map(write_page).transpose()?;
    let result = if json {
        let mut result = serde_json::to_value(&acts)?;
        result["page"] = page.into();
        serde_json::to_string_pretty(&result)?
    } else {
        let page = page.unwrap_or_default();
        format!(
            "\n{}\n\nThe drain as a page for your browser: {page}",
            acts.summary()
        )
    };
    say!("{result}");
    Ok(acts.code())
}
