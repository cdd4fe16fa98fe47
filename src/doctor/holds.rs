//! Does what the programs use, and what else runs here, outlive the drain?

use super::Severity::{Error, Info, Warning};
use super::hook::restore;
use super::{Facts, Finding};
use crate::systemd::hold::{BOOT, Matters};
use crate::systemd::{HOLD, HOLD_TIMER, HOOK};

const INSTALL: &str = "drainctl install";
const STOPPED: &str =
    "what else runs on this host is stopped as the drain begins: requests that need it fail";

/// Whether there is a hook at all: without one nothing outlives anything, which is said already.
fn is_there(facts: &Facts) -> bool {
    facts.get(HOOK, "LoadState") == "loaded" && !facts.targets.is_empty()
}

pub(super) fn hold(facts: &Facts) -> Vec<Finding> {
    let get = |unit, key| facts.get(unit, key);
    if !is_there(facts) || !facts.settings.hold.everything || facts.order.circle.contains(HOLD) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if get(HOLD, "LoadState") != "loaded" {
        found.push(
            Finding::new(Error, STOPPED)
                .unit(facts, HOLD, "LoadState")
                .run(INSTALL),
        );
        return found;
    }
    let active = get(HOLD, "ActiveState") == "active";
    if !active && get(BOOT[0], "ActiveState") != "active" {
        let what = "the boot is not over: a shutdown now is drained, though what the programs use may be stopped meanwhile";
        found.push(
            Finding::new(Info, what)
                .unit(facts, BOOT[0], "ActiveState")
                .hand("see what it waits for: `systemctl list-jobs`"),
        );
    } else if !active {
        found.push(
            Finding::new(Error, STOPPED)
                .unit(facts, HOLD, "ActiveState")
                .run(format!("systemctl start {HOLD}")),
        );
    } else if !facts.order.outlive.contains(HOLD) {
        let what =
            "the drain is not ordered after what holds everything else: requests that need it fail";
        let finding = Finding::new(Error, what).unit(facts, HOOK, "After");
        found.push(restore(facts, finding));
    }
    let is_there = get(HOLD_TIMER, "LoadState") == "loaded";
    if !is_there || get(HOLD_TIMER, "UnitFileState") != "enabled" {
        let what = "after the next boot nothing else on this host is held until the drain is over";
        let finding = Finding::new(Warning, what);
        found.push(if is_there {
            finding
                .unit(facts, HOLD_TIMER, "UnitFileState")
                .run(format!("systemctl enable {HOLD_TIMER}"))
        } else {
            finding.unit(facts, HOLD_TIMER, "LoadState").run(INSTALL)
        });
    }
    found
}

/// The newcomers that the next shutdown may stop while it drains.
fn early<'a>(
    facts: &'a Facts,
    matters: &'a [Matters],
) -> impl Iterator<Item = &'a crate::systemd::hold::Newcomer> {
    let all = facts.newcomers.iter().filter(|_| is_there(facts));
    all.filter(|new| {
        matters.contains(&new.matters) && facts.order.may_stop.contains(&new.held.unit)
    })
}

pub(super) fn used(facts: &Facts) -> Vec<Finding> {
    let of = [Matters::Used, Matters::Named];
    let all = early(facts, &of).map(|new| {
        let unit = &new.held.unit;
        let (severity, what) = if new.matters == Matters::Used {
            let what = format!("{unit} is stopped as the drain begins, and the programs' requests use it: they fail");
            (Error, what)
        } else {
            let what = format!("{unit} is stopped as the drain begins, and the programs were told to use it");
            (Warning, what)
        };
        Finding::new(severity, what)
            .seen(unit, "", &new.held.why)
            .run(INSTALL)
    });
    all.collect()
}

pub(super) fn beside(facts: &Facts) -> Vec<Finding> {
    // Without the hold everything is beside it, and that is one finding.
    if facts.settings.hold.everything && !facts.order.outlive.contains(HOLD) {
        return Vec::new();
    }
    let all = early(facts, &[Matters::Runs]).map(|new| {
        let unit = &new.held.unit;
        let what = format!("{unit} is stopped as the drain begins: it was started by hand, or after the boot, and is not held");
        Finding::new(Warning, what)
            .seen(unit, "", &new.held.why)
            .run(INSTALL)
    });
    all.collect()
}
