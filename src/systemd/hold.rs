//! What must outlive the drain besides its target: decided from what was found, and remembered in our drop-ins, since what was used once
//! may be idle at the moment of the next look. Pure.

use super::order::{self, Units};
use super::survey::Facts;
use super::units::Held;
use super::uses::Use;
use super::{HOLD, HOLD_TIMER, HOOK, REJOIN, units, view};

/// Why the agent's unit is named.
const AGENT: &str = "runs the Consul agent: without this it is gone before we have left";
/// Why a unit of the config is named.
const CONFIG: &str = "named in [hold] keep";
/// Why a unit is named that the hold alone does not reach.
const BESIDE: &str =
    "runs, though not by way of multi-user.target: what the boot starts is held, this would not be";

/// The targets by way of which a boot starts what a host is for.
pub const BOOT: [&str; 2] = ["multi-user.target", "graphical.target"];

/// The properties of every unit that are looked at.
pub const PROPERTIES: [&str; 15] = [
    "Id",
    "LoadState",
    "ActiveState",
    "NeedDaemonReload",
    "After",
    "Conflicts",
    "ConflictedBy",
    "ConsistsOf",
    "RequiredBy",
    "BoundBy",
    "PropagatesStopTo",
    // Of a mount: its file system.
    "Type",
    "BusName",
    "TriggeredBy",
    "Transient",
];

/// Services that take the network down with them when they stop.
pub const NETWORKS: [&str; 6] = [
    "NetworkManager.service",
    "networking.service",
    "network.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "wpa_supplicant.service",
];

/// What outlives the drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// What the hook is ordered after, in its drop-in.
    pub named: Vec<Held>,
    /// What the hold unit is ordered after, in its own.
    pub beside: Vec<Held>,
    /// Those among both that no earlier install has named.
    pub new: Vec<Newcomer>,
}

/// A unit that must outlive the drain, and that no install has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// The unit, and why.
    pub held: Held,
    /// How it matters.
    pub matters: Matters,
}

/// How a newcomer matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matters {
    /// A connection to a target's program was seen.
    Used,
    /// A target's program was told of it; no connection was seen.
    Named,
    /// Connections of this host to it have just ended; whose is unknown.
    Perhaps,
    /// It is a remote mount, or the network goes with it.
    Carries,
    /// It only runs here, and everything is held.
    Runs,
}

/// What has to be held. `asked` are the units of `--keep`; none: those of the last time.
#[must_use]
pub fn decide(facts: &Facts, targets: &[String], asked: &[String]) -> Holds {
    let text = |path: &str| facts.files.get(path).map_or("", String::as_str);
    let old = units::entries(text(&units::order_path(HOOK)));
    let old_beside = units::entries(text(&units::order_path(HOLD)));
    let settings = &facts.settings.hold;
    let mut holds = Holds::default();
    let is_target = |unit: &str| targets.iter().any(|target| target == unit);

    // In the order of the file: the agent, what was asked for, what was found.
    let agent = facts.agent.as_ref().map(|agent| agent.unit.clone());
    let before = old.iter().find(|held| held.why == AGENT);
    let agent = agent.or_else(|| before.map(|held| held.unit.clone()));
    // Run under supervisord, it lives as long as its programs do.
    if let Some(unit) = agent.filter(|unit| !is_target(unit) && facts.exists(unit)) {
        add(&mut holds.named, unit, AGENT);
    }
    if asked.is_empty() {
        for held in old.iter().filter(|held| held.why == units::KEPT) {
            add(&mut holds.named, held.unit.clone(), units::KEPT);
        }
    }
    for unit in asked {
        add(&mut holds.named, unit.clone(), units::KEPT);
    }
    for unit in &settings.keep {
        add(&mut holds.named, unit.clone(), CONFIG);
    }
    let found_before = |held: &&Held| {
        ![AGENT, units::KEPT, CONFIG].contains(&held.why.as_str())
            && !settings.except.contains(&held.unit)
            && !is_target(&held.unit)
            && facts.exists(&held.unit)
    };
    for held in old.iter().filter(found_before) {
        add(&mut holds.named, held.unit.clone(), &held.why);
    }

    let stops = stops(facts, targets, &holds);
    for (held, matters) in found(facts, targets, &stops) {
        if add(&mut holds.named, held.unit.clone(), &held.why) {
            holds.new.push(Newcomer { held, matters });
        }
    }
    if settings.everything {
        for held in old_beside.iter().filter(found_before) {
            add(&mut holds.beside, held.unit.clone(), &held.why);
        }
        for unit in beside(facts, targets, &holds) {
            let held = Held::new(unit, BESIDE);
            if !settings.except.contains(&held.unit)
                && add(&mut holds.beside, held.unit.clone(), BESIDE)
            {
                let matters = Matters::Runs;
                holds.new.push(Newcomer { held, matters });
            }
        }
    }
    holds
}

impl Holds {
    /// The same without newcomers: what stands on a host where nothing has changed since the last install.
    #[must_use]
    pub fn settled(&self) -> Self {
        let known = |held: &&Held| !self.new.iter().any(|new| new.held == **held);
        Self {
            named: self.named.iter().filter(known).cloned().collect(),
            beside: self.beside.iter().filter(known).cloned().collect(),
            new: Vec::new(),
        }
    }
}

/// A unit once, with the first reason for it; whether it is new.
fn add(list: &mut Vec<Held>, unit: String, why: &str) -> bool {
    let new = !list.iter().any(|held| held.unit == unit);
    if new {
        list.push(Held::new(unit, why));
    }
    new
}

/// What the target uses, as far as a shutdown stops it.
fn found(facts: &Facts, targets: &[String], stops: &order::Order) -> Vec<(Held, Matters)> {
    let is_stopped = |unit: &str| stops.outlive.contains(unit) || stops.may_stop.contains(unit);
    let wanted = |unit: &str| {
        is_stopped(unit)
            && !targets.iter().any(|target| target == unit)
            && !facts.settings.hold.except.iter().any(|one| one == unit)
            && !units::ALWAYS.contains(&unit)
            && ![HOOK, REJOIN, HOLD, HOLD_TIMER].contains(&unit)
    };
    let of_target = |by: &Use| by.by.as_ref().is_none_or(|by| targets.contains(by));
    let used = facts.uses.iter().filter(|by| of_target(by)).map(|by| {
        let matters = match (by.seen, &by.by) {
            (true, _) => Matters::Used,
            (false, Some(_)) => Matters::Named,
            (false, None) => Matters::Perhaps,
        };
        (Held::new(by.unit.clone(), &by.why), matters)
    });
    let mounts = facts.all.keys().filter(|unit| is_remote(&facts.all, unit));
    let mounts = mounts.map(|unit| {
        let kind = view::property(&facts.all, unit, "Type");
        let why = format!("a file system over the network: {kind}");
        (Held::new(unit.clone(), &why), Matters::Carries)
    });
    let networks = NETWORKS.iter().map(|unit| {
        let why = "takes the network down when it stops";
        (Held::new((*unit).to_owned(), why), Matters::Carries)
    });
    // What is held by its own order already needs no line, and gets none: the file stays short.
    let unheld = |(held, _): &(Held, Matters)| stops.may_stop.contains(&held.unit);
    let all = used
        .chain(mounts.filter(unheld))
        .chain(networks.filter(unheld));
    all.filter(|(held, _)| wanted(&held.unit)).collect()
}

/// Whether a unit is the mount of a file system that goes away with the network.
#[must_use]
pub fn is_remote(all: &Units, unit: &str) -> bool {
    const REMOTE: [&str; 9] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "ceph",
        "glusterfs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "9p",
    ];
    let get = |key| view::property(all, unit, key);
    // systemd orders those so that it knows for remote, also by `_netdev` (systemd.mount(5)).
    let ordered = get("After")
        .split_whitespace()
        .any(|name| name == "remote-fs-pre.target");
    unit.ends_with(".mount") && (ordered || REMOTE.contains(&get("Type")))
}

/// What a shutdown would do, were everything in place that is decided so far.
fn stops(facts: &Facts, targets: &[String], holds: &Holds) -> order::Order {
    let mut all = facts.all.clone();
    let mut place = |unit: &str, after: Vec<&str>| {
        let unit = all.entry(unit.to_owned()).or_default();
        unit.insert("ActiveState".to_owned(), "active".to_owned());
        unit.insert("Conflicts".to_owned(), "shutdown.target".to_owned());
        let old = unit.entry("After".to_owned()).or_default();
        *old = format!("{old} {}", after.join(" "));
    };
    let names =
        |list: &'_ [Held]| -> Vec<String> { list.iter().map(|held| held.unit.clone()).collect() };
    let (named, beside) = (names(&holds.named), names(&holds.beside));
    let mut after: Vec<&str> = targets.iter().chain(&named).map(String::as_str).collect();
    after.extend(units::ALWAYS);
    if facts.settings.hold.everything {
        after.push(HOLD);
        let after = BOOT.into_iter().chain(beside.iter().map(String::as_str));
        place(HOLD, after.collect());
    }
    place(HOOK, after);
    order::predict(&all, HOOK)
}

/// The services that run and would still be stopped at once, were the hold in place.
fn beside(facts: &Facts, targets: &[String], holds: &Holds) -> Vec<String> {
    let stops = stops(facts, targets, holds);
    // Nothing is sure then, and no line would make it so.
    if !stops.circle.is_empty() {
        return Vec::new();
    }
    let stays = |unit: &&String| lasts(&facts.all, unit);
    stops.may_stop.iter().filter(stays).cloned().collect()
}

/// Whether a service is one to hold: not ours, not a user's, and not what comes and goes by itself.
fn lasts(all: &Units, unit: &str) -> bool {
    let get = |key| view::property(all, unit, key);
    let triggered = |kind: &str| {
        let by = get("TriggeredBy").split_whitespace();
        by.into_iter().any(|name| name.ends_with(kind))
    };
    unit.ends_with(".service")
        && get("ActiveState") == "active"
        && ![HOOK, REJOIN, HOLD].contains(&unit)
        && !unit.starts_with("user@")
        && !unit.starts_with("user-runtime-dir@")
        && get("Transient") != "yes"
        // Started by whoever calls it, and gone when nobody does.
        && get("BusName").is_empty()
        && !triggered(".timer")
        // One instance a connection.
        && !(unit.contains('@') && triggered(".socket"))
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
