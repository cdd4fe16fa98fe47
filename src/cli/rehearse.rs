//! `rehearse`: a real drain and rejoin, without stopping anything.

use std::io::Write as _;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::config::PoolSpec;
use crate::drain::engine::{self, Order};
use crate::drain::evict::forget_killed;
use crate::drain::{Outcome, Target};
use crate::exit;
use crate::pools::{self, Peers, PeersSaid, PoolErrorKind};
use crate::receipts::{Lock, Locked, Rehearsal, Run, Store};
use crate::report::Sink;
use crate::systemd::{self, HOOK};
use crate::world::{Deadline, Root};

/// Drain and rejoin for real, without stopping anything: what a shutdown would do, with its report.
///
/// The host is out of its pools meanwhile. Ctrl-C puts everything back; after a crash `drainctl rejoin` does. Refused where nobody else is
/// left to serve. When the host is stopped meanwhile, the drain for real takes over at once.
#[derive(Debug, Args)]
#[command(after_help = "Example: drainctl rehearse --deadline 2m && drainctl report")]
pub(super) struct Rehearse {
    /// The most the drain may take, with its unit ("90s", "5m"); by default what the config says for a restart.
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    deadline: Option<Duration>,
    /// Also where nobody else is left to serve, or where that can't be told: requests fail meanwhile.
    #[arg(long)]
    force: bool,
    /// One JSON object a line for each event.
    #[arg(long)]
    json: bool,
}

/// Each pool has this long to say who else is there.
const PEERS: Duration = Duration::from_secs(3);
/// PID 1 has this long to say whether the host is being stopped.
const HOOK_LIMIT: Duration = Duration::from_secs(1);

impl Rehearse {
    /// Runs it.
    ///
    /// # Errors
    /// Not root, a fault in the config, a drain is running, the host is out already, nobody else is left to serve, or it can't be put
    /// back.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("rehearse")?;
        let mut settings = crate::config::load(root)?.settings;
        if self.force {
            settings.force();
        }
        let Locked::Ours(lock) = Lock::attempt(root)? else {
            bail!("a drain or a rejoin is running: rehearse once it is over");
        };
        if let Some(book) = Store::open(root)?.book() {
            bail!(
                "this host is out of its pools since drain {}: `drainctl rejoin` first",
                book.drain
            );
        }
        if !self.force {
            somebody_stays(root, &settings.pools)?;
        }
        forget_killed(root)?;
        let rehearsal = Rehearsal::begin(root)?;
        let order = Order {
            root: root.clone(),
            state: root.clone(),
            target: Target::Units(settings.units.clone()),
            settings,
            notes: Vec::new(),
            as_hook: false,
            limit: self.deadline,
        };
        let (tell, inbox) = channel();
        super::drain::hear_signals(false, tell.clone())?;
        let mut sink = Sink::choose(self.json, false);
        let report = engine::run(&order, (tell, inbox), &mut |at, event| sink.take(at, event));
        let code = if host_is_stopped(report.outcome) {
            say(
                "the host is being stopped: the drain for real takes over, and the pools stay left",
            );
            exit::SKIPPED
        } else {
            let back = match report.outcome {
                Outcome::Aborted => exit::OK,
                // Nothing was stopped, so there is nothing to wait for.
                _ => super::rejoin::put_back(root, root, say)?,
            };
            if back == exit::OK { report.exit } else { back }
        };
        // A drain that waits for the lock must not take this one for its own.
        Run::withdraw(root)?;
        drop(rehearsal);
        drop(lock);
        Ok(code)
    }
}

/// Whether systemd stops the hook by now. Where it does not say, somebody who skipped the rehearsal is taken for the hook.
fn host_is_stopped(outcome: Outcome) -> bool {
    let snapshot = systemd::snapshot(&[HOOK.to_owned()], Deadline::after(HOOK_LIMIT));
    match snapshot {
        Ok(snapshot) => snapshot
            .unit(HOOK)
            .is_some_and(|hook| hook.active_state == "deactivating"),
        Err(_) => outcome == Outcome::Skipped,
    }
}

/// To whoever still reads: a connection that broke must not end the undoing.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Asks the pools whether anybody else serves what this host serves.
fn somebody_stays(root: &Root, specs: &[PoolSpec]) -> anyhow::Result<()> {
    match alone(&pools::peers(root, specs, PEERS)) {
        Some(why) => bail!("{why}; `--force` rehearses all the same"),
        None => Ok(()),
    }
}

/// Why nobody might be left; pure.
fn alone(pools: &[PeersSaid]) -> Option<String> {
    pools
        .iter()
        .find_map(|pool| match (&pool.peers, &pool.error) {
            (Some(Peers::Others { healthy: 0, of, .. }), _) => Some(format!(
                "this host is the last healthy one of {of} in {}: without it every request fails",
                pool.name
            )),
            // It sends this host nothing.
            (None, _) if pool.fault == Some(PoolErrorKind::NotMember) => None,
            (None, Some(error)) => Some(format!(
                "{} does not say whether anybody else is left to serve: {error}",
                pool.name
            )),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(peers: Option<Peers>, fault: Option<PoolErrorKind>) -> PeersSaid {
        PeersSaid {
            name: "consul".to_owned(),
            peers,
            error: fault.map(|_| "no answer".to_owned()),
            fault,
        }
    }

    #[test]
    fn the_last_healthy_one_stays_and_so_does_one_that_can_not_know() {
        let others = |healthy| {
            let of = "app".to_owned();
            let known = 1;
            said(Some(Peers::Others { healthy, known, of }), None)
        };
        let why = alone(&[others(1), others(0)]).unwrap();
        assert!(why.contains("last healthy one of app in consul"), "{why}");
        assert_eq!(alone(&[others(1), said(Some(Peers::Untold), None)]), None);
        let why = alone(&[said(None, Some(PoolErrorKind::TimedOut))]).unwrap();
        assert!(why.contains("no answer"), "{why}");
        assert_eq!(alone(&[said(None, Some(PoolErrorKind::NotMember))]), None);
    }
}
