//! The drain of one process: the same engine as for a unit, with its state in the demo's folder.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use sockdiag::Socket;

use super::balancer::CHECKER;
use crate::config::{Ignore, Network, PoolSpec, Settings, WatchSettings};
use crate::drain::Target;
use crate::drain::engine::{self, Order};
use crate::evidence::probe::Kept;
use crate::evidence::{Members, Spoken, Unit, listeners};
use crate::receipts::{Lock, Locked};
use crate::world::Root;

/// The most that the drain may take; the longest request takes 4 s.
const LIMIT: Duration = Duration::from_secs(15);

/// Keeps what the backend speaks, as `install` would find out by asking it.
fn known(order: &Order) -> anyhow::Result<()> {
    let Target::Process { pid, name } = &order.target else {
        return Ok(());
    };
    let unit = Unit {
        name: name.clone(),
        members: Members::Process(*pid),
    };
    let found = listeners::find(
        &order.root,
        &mut Socket::open()?,
        &[unit],
        &[],
        Instant::now() + LIMIT,
        &|_| None,
    )?;
    let mut kept = Kept::default();
    for listener in &found.listeners {
        kept.put(listener, Spoken::PLAIN);
    }
    kept.write(&order.state)
        .context("keep what the backend speaks")
}

/// Drains the process `pid`, which serves as long as `marker` is not there, and prints each event as JSON; the exit code. Receipts,
/// history and lock lie below `state`.
///
/// # Errors
/// The lock can't be had.
pub fn run(pid: u32, marker: &Path, state: &Path) -> anyhow::Result<u8> {
    let pool = PoolSpec {
        name: "health-file".to_owned(),
        kind: "health-file".to_owned(),
        limit: LIMIT,
        settings: json!({ "path": marker, "leave": "create" }),
    };
    let checks = Network {
        address: IpAddr::V4(CHECKER),
        prefix: 32,
    };
    let order = Order {
        root: Root::host(),
        state: Root::at(state),
        target: Target::Process {
            pid,
            name: "backend 1".to_owned(),
        },
        settings: Settings {
            watch: WatchSettings {
                ignore: vec![Ignore::Peers(checks)],
                ..WatchSettings::default()
            },
            pools: vec![pool],
            ..Settings::default()
        },
        notes: Vec::new(),
        as_hook: false,
        limit: Some(LIMIT),
    };
    let Locked::Ours(_lock) = Lock::attempt(&order.state)? else {
        anyhow::bail!("{} is in use", state.display());
    };
    known(&order)?;
    let report = engine::run(&order, channel(), &mut |_, event| {
        if let Ok(line) = serde_json::to_string(event) {
            // The demo ends this process when it is gone.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    });
    Ok(report.exit)
}
