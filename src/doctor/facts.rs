//! What the checks judge, and the one place that gathers it. Changes nothing on the host but what is kept of what the ports speak.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::around::Around;
use super::limits;
use crate::config::{self, PoolSpec, Settings};
use crate::drain::ports;
use crate::evidence::{Listener, Members, Spoken, Unit, listeners, probe};
use crate::pools::{self, Said};
use crate::probes::{Asked, Counted};
use crate::receipts::{Book, Run, STATE_DIR, Store};
use crate::supervisord::{self, Owner, Program, Supervisord};
use crate::systemd::hold::{self, Newcomer};
use crate::systemd::order::{self, Order, Units};
use crate::systemd::steps::{Act, Pid1, Systemctl};
use crate::systemd::survey::{self, Request};
use crate::systemd::{self, HOLD, HOLD_TIMER, HOOK, REJOIN, find, install, systemctl, uses, view};
use crate::world::{Deadline, Root, proc};

/// Each pool and each supervisord has this long.
const LIMIT: Duration = Duration::from_secs(3);
/// How long the programs' connections are watched.
const WATCH: Duration = Duration::from_millis(150);
/// And PID 1, which a busy host slows down when it has to tell of hundreds of units.
const SYSTEMD: Duration = Duration::from_secs(20);
/// Services that listen on hosts of any kind.
const EVERYWHERE: [&str; 7] = [
    "ssh.service",
    "sshd.service",
    "rpcbind.service",
    "systemd-resolved.service",
    "systemd-networkd.service",
    "prometheus-node-exporter.service",
    "node_exporter.service",
];
/// systemd's note of a shutdown at a later time.
const SCHEDULED: &str = "/run/systemd/shutdown/scheduled";

/// The host, as far as its next drain depends on it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The config.
    pub settings: Settings,
    /// systemd's version.
    pub version: u32,
    /// Units that matter, by the names that they were asked for.
    pub units: Units,
    /// What a shutdown stops, and when.
    pub order: Order,
    /// The units to drain before.
    pub targets: Vec<String>,
    /// Why there are none, or not those of the config.
    pub no_target: Option<String>,
    /// The services that run supervisord.
    pub supervisors: Vec<find::Found>,
    /// What else runs supervisord.
    pub outside: Vec<find::Outside>,
    /// The unit file that packages bring for supervisord, where it is there.
    pub usual: Option<String>,
    /// Where there is no target, the services that others may be served by, with the ports that they listen on.
    pub serving: BTreeMap<String, BTreeSet<u16>>,
    /// The service of the registry's agent on this host.
    pub agent: Option<find::Found>,
    /// What must outlive the drain, and no install has named.
    pub newcomers: Vec<Newcomer>,
    /// Every unit that is loaded: what [`order::predict`] goes by.
    pub all: Units,
    /// Files of ours that are not as `install` would write them.
    pub changed: Vec<String>,
    /// Mounts over the network, by unit.
    pub remote_mounts: Vec<String>,
    /// How long supervisord waits for the end of each program: unit, program, time.
    pub stop_limits: Vec<(String, String, Duration)>,
    /// How supervisord stops each program, by unit.
    pub stops: Vec<(String, supervisord::Stop)>,
    /// Processes in a supervisord's unit that are none of its programs': unit, process, name.
    pub leftovers: Vec<(String, u32, String)>,
    /// Programs of a supervisord that listen outside of its unit: unit, program, control group.
    pub elsewhere: Vec<(String, String, String)>,
    /// What the targets listen on, and what is spoken there.
    pub ports: Vec<(Listener, Spoken)>,
    /// Each pool's own word.
    pub pools: Vec<Said>,
    /// And those that stand in for them.
    pub stand_ins: Vec<Said>,
    /// What each probe counts.
    pub probes: Vec<Counted>,
    /// The receipts not used yet.
    pub receipts: Option<Book>,
    /// Why they can't be read.
    pub unreadable: Option<String>,
    /// Whether a drain runs.
    pub draining: bool,
    /// Whether what must survive a reboot lies in memory.
    pub volatile: bool,
    /// systemd's note of a shutdown at a later time.
    pub scheduled: Option<String>,
    /// Everything else that the drain depends on.
    pub around: Around,
}

/// What is asked of the units that matter.
const PROPERTIES: [&str; 28] = [
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
    "After",
    "PartOf",
    "WantedBy",
    "Type",
    "RemainAfterExit",
    "ExecStop",
    "NotifyAccess",
    "TimeoutStopUSec",
    "JobTimeoutUSec",
    "CapabilityBoundingSet",
    "RestrictAddressFamilies",
    "PrivateNetwork",
    "PrivateUsers",
    "ProcSubset",
    "DynamicUser",
    "MainPID",
    "ControlGroup",
    "Result",
    "Restart",
    "RestartUSec",
];

impl Facts {
    /// A property of a unit; empty where there is none.
    #[must_use]
    pub fn get(&self, unit: &str, property: &str) -> &str {
        view::property(&self.units, unit, property)
    }

    /// Whether a property that is a list names `name`.
    pub(super) fn lists(&self, unit: &str, property: &str, name: &str) -> bool {
        self.get(unit, property)
            .split_whitespace()
            .any(|one| one == name)
    }

    /// Whether a unit runs, so that a shutdown has something to stop.
    pub(super) fn is_up(&self, unit: &str) -> bool {
        !matches!(self.get(unit, "ActiveState"), "" | "inactive" | "failed")
    }

    /// A time span of a unit.
    pub(super) fn span(&self, unit: &str, property: &str) -> Option<Duration> {
        view::time_span(self.get(unit, property))
    }
}

/// Looks at the host.
///
/// # Errors
/// A drain that runs; systemd when it does not answer; what can't be read. The config has been checked before.
pub fn gather(root: &Root, program: &Path, loaded: &config::Loaded) -> anyhow::Result<Facts> {
    let request = Request {
        watch: WATCH,
        settled: true,
        ..Request::default()
    };
    let settings = &loaded.settings;
    thread::scope(|scope| {
        // Each of these waits for somebody else, and none of them for another.
        let around = scope.spawn(|| Around::ask(root, settings));
        let ways: Vec<PoolSpec> = settings.ways().cloned().collect();
        let pools = scope.spawn(move || pools::ask(root, &ways, LIMIT));
        let probes = scope.spawn(|| Asked::new(root, &settings.probes).count());
        let pid1 = Ahead {
            all: Cell::new(Some(scope.spawn(|| Systemctl.all(&hold::PROPERTIES)))),
            shown: RefCell::default(),
        };
        let survey = survey::gather(root, &pid1, &request, program, loaded)?;
        if view::property(&survey.units, HOOK, "ActiveState") == "deactivating" {
            bail!(
                "a drain runs: what would happen at a shutdown can only be told once it has ended"
            );
        }
        let mut facts = Facts {
            settings: settings.clone(),
            order: order::predict(&survey.all, HOOK),
            outside: survey.outside.clone(),
            supervisors: survey.supervisors.clone(),
            usual: usual(&survey),
            agent: survey.agent.clone(),
            units: survey.units.clone(),
            ..Facts::default()
        };
        // Of these more is known.
        facts.units.extend(pid1.shown.take());
        match install::plan(&request, &survey) {
            Ok(plan) => {
                facts.changed = plan.steps.iter().filter_map(changed).collect();
                facts.targets = plan.targets;
                facts.newcomers = plan.new;
            }
            Err(why) => {
                facts.no_target = Some(format!("{why:#}"));
                let found = survey.supervisors.into_iter();
                facts.targets = found.map(|found| found.unit).collect();
                if facts.targets.is_empty() {
                    facts.serving = serving(root, facts.agent.as_ref());
                }
            }
        }
        facts.all = survey.all;
        facts.ask_systemd()?;
        facts.ask_supervisord(root);
        facts.ask_ports(root);
        match Store::open(root) {
            Ok(store) => facts.receipts = store.book(),
            Err(error) => facts.unreadable = Some(format!("{error:#}")),
        }
        facts.draining = Run::read(root).is_some_and(|run| run.ended.is_none());
        facts.volatile = is_volatile(root);
        facts.scheduled = root.read(SCHEDULED, 4096).ok();
        facts.pools = pools.join().unwrap_or_default();
        facts.stand_ins = facts
            .pools
            .split_off(settings.pools.len().min(facts.pools.len()));
        facts.probes = probes.join().unwrap_or_default();
        let mut around = around.join().unwrap_or_default();
        around.complete(root, &facts);
        facts.version = around.version().context("systemd's version")?;
        facts.around = around;
        Ok(facts)
    })
}

/// PID 1, asked once for what both an install and the checks want to know, and for all of its units while something else is looked at: on a
/// host with many that takes longest.
struct Ahead<'scope> {
    all: Cell<Option<ScopedJoinHandle<'scope, Result<Units, systemd::Error>>>>,
    shown: RefCell<Units>,
}

impl Pid1 for Ahead<'_> {
    fn show(
        &self,
        units: &[String],
        properties: &[&str],
    ) -> Result<Vec<BTreeMap<String, String>>, systemd::Error> {
        let mut known = self.shown.borrow_mut();
        let ends = limits::ENDS.iter().map(|end| (*end).to_owned());
        let also: Vec<String> = ends.filter(|end| !known.contains_key(end)).collect();
        let properties = [properties, &PROPERTIES].concat();
        let mut shown = Systemctl.show(&[units, &also].concat(), &properties)?;
        let names = units.iter().chain(&also).cloned();
        known.extend(names.zip(shown.iter().cloned()));
        shown.truncate(units.len());
        Ok(shown)
    }

    fn all(&self, properties: &[&str]) -> Result<Units, systemd::Error> {
        let asked = self.all.take().and_then(|asked| asked.join().ok());
        asked.unwrap_or_else(|| Systemctl.all(properties))
    }

    fn tell(&self, arguments: &[&str]) -> Result<(), systemd::Error> {
        Systemctl.tell(arguments)
    }
}

/// A unit of a usual name that a file describes, and not somebody's command.
fn usual(survey: &survey::Facts) -> Option<String> {
    let is_there = |unit: &&str| {
        view::property(&survey.units, unit, "LoadState") == "loaded"
            && view::property(&survey.all, unit, "Transient") != "yes"
    };
    let unit = find::USUAL.into_iter().find(is_there)?;
    Some(view::property(&survey.units, unit, "Id").to_owned())
}

/// What listens here for others, but for what every host has.
fn serving(root: &Root, agent: Option<&find::Found>) -> BTreeMap<String, BTreeSet<u16>> {
    let mut serving = uses::serving(root).unwrap_or_default();
    let is_agent = |unit: &String| agent.is_some_and(|agent| agent.unit == *unit);
    serving.retain(|unit, _| !EVERYWHERE.contains(&unit.as_str()) && !is_agent(unit));
    serving
}

/// The unit file of ours that a step of `install` would write.
fn changed(step: &crate::systemd::steps::Step) -> Option<String> {
    match &step.act {
        Act::Write { path, .. } | Act::Remove(path) if path.starts_with("/etc/systemd/") => {
            Some(path.clone())
        }
        _ => None,
    }
}

impl Facts {
    /// Finds out what is spoken on the targets' ports, and keeps it for the next drain. One that can't be asked stays unknown.
    fn ask_ports(&mut self, root: &Root) {
        if let Ok((listeners, kept)) = ports::learn(root, &self.targets, probe::PROBED_AGAIN) {
            self.ports = listeners
                .into_iter()
                .map(|listener| (listener.clone(), kept.of(&listener)))
                .collect();
        }
    }

    fn ask_systemd(&mut self) -> anyhow::Result<()> {
        let own = [HOOK, REJOIN, HOLD, HOLD_TIMER]
            .into_iter()
            .chain(limits::ENDS);
        let own = own.map(str::to_owned);
        let agent = self.agent.iter().map(|agent| agent.unit.clone());
        let named = own.chain(self.targets.iter().cloned()).chain(agent);
        let mut names: Vec<String> = named
            .filter(|name| !self.units.contains_key(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        let shown = systemctl::show(&names, &PROPERTIES, Deadline::after(SYSTEMD))?;
        self.units.extend(names.into_iter().zip(shown));
        let all = self.all.keys();
        let remote = all.filter(|unit| hold::is_remote(&self.all, unit));
        self.remote_mounts = remote.cloned().collect();
        Ok(())
    }

    /// A supervisord that does not answer is not held against the drain, which does not need it.
    fn ask_supervisord(&mut self, root: &Root) {
        for unit in self.targets.clone() {
            let Ok(main @ 1..) = self.get(&unit, "MainPID").parse::<u32>() else {
                continue;
            };
            let Ok(Some(server)) = Supervisord::of(root, main) else {
                continue;
            };
            let deadline = Deadline::after(LIMIT);
            let limits = server.stop_limits(deadline).unwrap_or_default();
            let limits = limits.into_iter();
            let stops = server.stops(root, deadline).unwrap_or_default();
            let stops = stops.into_iter();
            self.stops.extend(stops.map(|stop| (unit.clone(), stop)));
            self.stop_limits
                .extend(limits.map(|(program, limit)| (unit.clone(), program, limit)));
            let Ok(programs) = server.programs(deadline) else {
                continue;
            };
            let group = self.get(&unit, "ControlGroup").to_owned();
            for program in programs.iter().filter(|program| program.pid != 0) {
                let outside = listens_outside(root, program, &group);
                let found = outside.map(|group| (unit.clone(), program.label(), group));
                self.elsewhere.extend(found);
            }
            for pid in proc::pids_of_cgroup(root, &group).unwrap_or_default() {
                if let Ok(Owner::Leftover) = supervisord::owner(root, main, &programs, pid)
                    && let Ok(Some(name)) = proc::name(root, pid)
                {
                    self.leftovers.push((unit.clone(), pid, name));
                }
            }
        }
    }
}

/// The control group from which a program listens, where that is not the one of its unit, or below it.
fn listens_outside(root: &Root, program: &Program, group: &str) -> Option<String> {
    let family = proc::family(root, program.pid).ok()?;
    // Looked at last: who was started meanwhile is no stranger.
    let inside = proc::pids_of_cgroup(root, group).ok()?;
    if inside.is_empty() {
        return None;
    }
    let mut outside = family.into_iter().filter(|pid| !inside.contains(pid));
    outside.find_map(|pid| {
        let own = proc::control_group(root, pid).ok()??;
        let members = Members::Process(pid);
        let name = program.label();
        let mut socket = sockdiag::Socket::open().ok()?;
        let end = Deadline::after(LIMIT).instant();
        let found = listeners::find(
            root,
            &mut socket,
            &[Unit { name, members }],
            &[],
            end,
            &|_| None,
        );
        let found = found.ok()?;
        (!found.listeners.is_empty() || !found.locals.is_empty()).then_some(own)
    })
}

fn is_volatile(root: &Root) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    rustix::fs::statfs(root.path(STATE_DIR))
        .ok()
        .and_then(|stat| u64::try_from(stat.f_type).ok())
        .is_some_and(|kind| IN_MEMORY.contains(&kind))
}
