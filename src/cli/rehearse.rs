//! `rehearse`: a real drain and rejoin, without stopping anything.

use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::drain::engine::{self, Order};
use crate::drain::{Outcome, Target};
use crate::exit;
use crate::receipts::{Lock, Locked, Run, Store};
use crate::report::Sink;
use crate::world::Root;

/// Drain and rejoin for real, without stopping anything: what a shutdown would do, with its report.
///
/// The host is out of its pools meanwhile. Ctrl-C puts everything back; after a crash `drainctl rejoin` does.
#[derive(Debug, Args)]
#[command(after_help = "Example: drainctl rehearse --deadline 2m && drainctl report")]
pub(super) struct Rehearse {
    /// The most the drain may take, with its unit ("90s", "5m"); by default what the config says for a restart.
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    deadline: Option<Duration>,
    /// One JSON object a line for each event.
    #[arg(long)]
    json: bool,
}

impl Rehearse {
    /// Runs it.
    ///
    /// # Errors
    /// Not root, a fault in the config, a drain is running, the host is out already, or it can't be put back.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("rehearse")?;
        let loaded = crate::config::load(root)?;
        let Locked::Ours(lock) = Lock::attempt(root)? else {
            bail!("a drain or a rejoin is running: rehearse once it is over");
        };
        if let Some(book) = Store::open(root)?.book() {
            bail!(
                "this host is out of its pools since drain {}: `drainctl rejoin` first",
                book.drain
            );
        }
        let order = Order {
            root: root.clone(),
            state: root.clone(),
            target: Target::Units(loaded.settings.units.clone()),
            settings: loaded.settings,
            notes: Vec::new(),
            as_hook: false,
            limit: self.deadline,
        };
        let (tell, inbox) = channel();
        super::drain::hear_signals(false, tell.clone())?;
        let mut sink = Sink::choose(self.json, false);
        let report = engine::run(&order, (tell, inbox), &mut |at, event| sink.take(at, event));
        let back = match report.outcome {
            Outcome::Aborted => exit::OK,
            // Nothing was stopped, so there is nothing to wait for.
            _ => super::rejoin::put_back(root, |line| eprintln!("{line}"))?,
        };
        // A drain that waits for the lock must not take this one for its own: the host is in again.
        Run::withdraw(root)?;
        drop(lock);
        Ok(if back == exit::OK { report.exit } else { back })
    }
}
