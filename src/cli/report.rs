//! `report`: what the last drains waited for and cut.

use anyhow::Context as _;
use clap::Args;

use crate::world::Root;
use crate::{drain, exit, receipts, report};

/// What the last drain waited for, and what it cut.
#[derive(Debug, Args)]
#[command(after_help = "Example: drainctl report --json | jq .outcome")]
pub(super) struct Report {
    /// The whole report as JSON.
    #[arg(long)]
    json: bool,
}

impl Report {
    /// Runs it.
    ///
    /// # Errors
    /// The newest report can't be understood.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        let Some(last) = receipts::last(root) else {
            println!("no drain has run yet, or its report can't be read without root");
            return Ok(exit::OK);
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&last)?);
            return Ok(exit::OK);
        }
        let last: drain::Report =
            serde_json::from_value(last).context("understand the last report")?;
        println!(
            "{}  {}",
            last.began.strftime("%Y-%m-%d %H:%M:%S UTC"),
            last.id
        );
        for line in report::report(&last).iter().chain(&last.notes) {
            println!("{line}");
        }
        Ok(exit::OK)
    }
}
