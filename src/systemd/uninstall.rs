//! How everything is taken away again: no drain, no maintenance and no file of ours is left behind.

use anyhow::bail;

use super::steps::{Act, Pid1, Step};
use super::survey::{self, Installed};
use super::units;
use super::{HOLD, HOLD_TIMER, HOOK, REJOIN};
use crate::config;
use crate::receipts::{RECEIPTS, RUN_DIR, STATE_DIR};
use crate::world::Root;

/// Where packages put units.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// Everything that the plan depends on.
#[derive(Debug, Default)]
pub struct Facts {
    /// `ActiveState` of the hook.
    pub hook: String,
    /// `ActiveState` of the rejoin unit.
    pub rejoin: String,
    /// Our files that are there.
    pub files: Vec<String>,
    /// What `install` put here.
    pub installed: Installed,
    /// The text of the config, where there is one.
    pub config: Option<String>,
    /// Whether a package brings the hook, too.
    pub packaged: bool,
    /// Whether the host is out of a pool.
    pub receipts: bool,
    /// Whether the folder of what survives a reboot, or of what does not, is there.
    pub folders: bool,
}

/// Looks at the host. Changes nothing.
///
/// # Errors
/// What can't be read, and systemd when it does not answer.
pub fn gather(root: &Root, pid1: &dyn Pid1) -> anyhow::Result<Facts> {
    let shown = pid1.show(&[HOOK.to_owned(), REJOIN.to_owned()], &["ActiveState"])?;
    let active = |at: usize| {
        let unit = shown.get(at).and_then(|unit| unit.get("ActiveState"));
        unit.cloned().unwrap_or_default()
    };
    let files = survey::own_files();
    Ok(Facts {
        hook: active(0),
        rejoin: active(1),
        config: root.read(config::MAIN, 1 << 20).ok(),
        files: files.into_iter().filter(|path| root.exists(path)).collect(),
        installed: survey::installed(root)?,
        packaged: PACKAGED
            .iter()
            .any(|dir| root.exists(format!("{dir}/{HOOK}"))),
        receipts: root.exists(RECEIPTS),
        folders: root.exists(STATE_DIR) || root.exists(RUN_DIR),
    })
}

/// What has to be done, and what stays and why. Pure.
///
/// # Errors
/// A drain that runs.
pub fn plan(facts: &Facts, purge: bool) -> anyhow::Result<(Vec<Step>, Vec<String>)> {
    if facts.hook == "deactivating" {
        bail!("a drain runs: wait for it, or end it with `drainctl skip` or `drainctl abort`");
    }
    let mut steps = Vec::new();
    let mut stays = Vec::new();
    let has = |path: &str| facts.files.iter().any(|file| file == path);
    if !matches!(facts.rejoin.as_str(), "inactive" | "failed" | "") {
        let why = "the rejoin happens here and now";
        steps.push(Step::new(Act::Tell("stop", vec![REJOIN]), why));
    }
    if facts.receipts {
        // First of all: if it fails, everything that could still do it stays.
        steps.push(Step::new(
            Act::Rejoin,
            "the host is out of a pool, and nobody else would take it back",
        ));
    }
    let own: Vec<&str> = units::UNITS
        .into_iter()
        .filter(|unit| has(&units::path(unit)))
        .collect();
    // One without [Install] is nothing to disable.
    let enabled: Vec<&str> = own.iter().copied().filter(|unit| *unit != HOLD).collect();
    if !enabled.is_empty() {
        steps.push(Step::new(
            Act::Tell("disable", enabled),
            "not started with the units it was for any more",
        ));
    }
    if own.contains(&HOLD) && !facts.packaged {
        let why = "it does nothing by itself; while its file is there, since what is not loaded can not be stopped";
        steps.push(Step::new(Act::Tell("stop", vec![HOLD_TIMER, HOLD]), why));
    }
    for unit in &own {
        let why = if *unit == HOOK {
            "without its file a stop is no drain"
        } else {
            "ours"
        };
        steps.push(Step::new(Act::Remove(units::path(unit)), why));
    }
    for unit in [HOOK, HOLD] {
        let path = units::order_path(unit);
        if has(&path) {
            steps.push(Step::new(Act::Remove(path), "ours"));
            steps.push(Step::new(
                Act::RemoveEmpty(units::drop_ins(unit)),
                "unless other drop-ins are there",
            ));
        }
    }
    if !own.is_empty() {
        let why = "from here on nothing drains";
        steps.push(Step::new(Act::Tell("daemon-reload", Vec::new()), why));
    }
    if facts.packaged {
        stays.push(format!(
            "{HOOK}: a package brings it, too; remove that package"
        ));
    } else if !matches!(facts.hook.as_str(), "inactive" | "") {
        // Only now: with its file it would drain. Nothing is stopped with it: the binding goes the other way.
        let why = "its command is gone, so this is no drain";
        steps.push(Step::new(Act::Tell("stop", vec![HOOK]), why));
    }
    match &facts.config {
        Some(text) if purge || facts.installed.config.as_ref() == Some(text) => {
            let why = if purge {
                "asked for with --purge"
            } else {
                "as `install` wrote it"
            };
            steps.push(Step::new(Act::Remove(config::MAIN.to_owned()), why));
            for dir in [config::DROP_INS, "/etc/drainctl"] {
                let why = "unless something else is in it";
                steps.push(Step::new(Act::RemoveEmpty(dir.to_owned()), why));
            }
        }
        Some(_) => stays.push(format!(
            "{}: yours, or changed since; --purge removes it",
            config::MAIN
        )),
        None => {}
    }
    if let Some(binary) = &facts.installed.binary {
        steps.push(Step::new(
            Act::Remove(binary.clone()),
            "the copy that `install` made",
        ));
    }
    for path in &facts.installed.paper {
        steps.push(Step::new(Act::Remove(path.clone()), "ours"));
    }
    for folder in &facts.installed.folders {
        let why = "made for the files above, unless something else is in it";
        steps.push(Step::new(Act::RemoveEmpty(folder.clone()), why));
    }
    if facts.folders {
        steps.push(Step::new(Act::RemoveAll(RUN_DIR.to_owned()), "run state"));
        // Last: it remembers what is ours, should one of the steps above fail.
        steps.push(Step::new(
            Act::RemoveAll(STATE_DIR.to_owned()),
            "receipts, all used, and history",
        ));
    }
    Ok((steps, stays))
}
