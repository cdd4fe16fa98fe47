//! What is spoken on the target's ports: found out at `install` and `doctor`, so that a drain knows from its first look on.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::target::{Programs, watched};
use crate::config::{SettleSettings, WatchSettings};
use crate::evidence::probe::{self, Kept};
use crate::evidence::{Listener, Role, Watch};
use crate::systemd::{self, UnitState};
use crate::world::{Deadline, Root};

/// PID 1 has this long, and so has the kernel.
const LIMIT: Duration = Duration::from_secs(3);

/// What the programs of the units of these names and the local proxies before them listen on, each with what is spoken there: probed if
/// that was not known, or is older than `age`.
///
/// # Errors
/// systemd does not answer, the listeners can't be seen, or what was found can't be kept.
pub fn learn(
    root: &Root,
    units: &[String],
    age: Duration,
) -> anyhow::Result<(Vec<Listener>, Kept)> {
    let snapshot = systemd::snapshot(units, Deadline::after(LIMIT))?;
    let running: Vec<_> = snapshot
        .units
        .into_iter()
        .filter(|unit| unit.main_pid != 0)
        .collect();
    learn_of(root, root, &running, age)
}

/// The same for these units; what was found is kept in `state`.
///
/// # Errors
/// The listeners can't be seen, or what was found can't be kept.
pub fn learn_of(
    root: &Root,
    state: &Root,
    running: &[UnitState],
    age: Duration,
) -> anyhow::Result<(Vec<Listener>, Kept)> {
    let programs = Programs::ask(root, running);
    let settings = WatchSettings::default();
    let mut watch = Watch::new(
        root,
        watched(running),
        &settings,
        SettleSettings::default(),
        Kept::default(),
        Vec::new(),
        Instant::now(),
    )?;
    watch.discover(&|pid| programs.name(root, pid))?;
    let listening = watch.listeners().iter().filter(|l| l.role != Role::Closed);
    let listeners: Vec<_> = listening.cloned().collect();
    let kept = probe::refresh(state, &listeners, age)
        .context("keep what is spoken on the target's ports")?;
    Ok((listeners, kept))
}
