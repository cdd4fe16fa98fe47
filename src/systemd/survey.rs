//! What an install depends on: the host as it is, looked at and not changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use super::find::{self, Found};
use super::order::Units;
use super::steps::Pid1;
use super::uses::{self, Use};
use super::{Error, HOLD, HOLD_TIMER, HOOK, REJOIN, hold, units, view};
use crate::config::{self, FoundPool, Settings};
use crate::paper::{self, PAPER};
use crate::receipts::STATE_DIR;
use crate::world::Root;

/// Where this program is put when it lies where it may be gone at a shutdown.
pub(super) const BINARY: &str = "/usr/local/bin/drainctl";

/// The most that is read of a file of ours, in bytes.
const MOST: u64 = 1 << 20;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The units to drain before; none: those of the config, else those that run supervisord.
    pub units: Vec<String>,
    /// Units that must outlive the drain; none: those of the last time.
    pub keep: Vec<String>,
    /// How long to watch what the programs are connected to: many connections are short.
    pub watch: Duration,
    /// Whether what no earlier install has named is left out of the plan, and only listed.
    pub settled: bool,
    /// The pools that were found, for a config that is written for the first time.
    pub pools: Vec<FoundPool>,
}

/// What `install` put on the host that was not there before, and `uninstall` may remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Installed {
    /// The config as it was written.
    pub config: Option<String>,
    /// Where this program was copied to.
    pub binary: Option<String>,
    /// Man pages and completions.
    pub paper: Vec<String>,
    /// The folders that were made for them, the innermost first.
    pub folders: Vec<String>,
}

impl Installed {
    /// Where it is kept.
    #[must_use]
    pub fn path() -> String {
        format!("{STATE_DIR}/installed.json")
    }
}

/// Everything that the plan depends on.
#[derive(Debug, Default)]
pub struct Facts {
    /// The config.
    pub settings: Settings,
    /// Whether any config file is there.
    pub configured: bool,
    /// Our files, as far as they are there.
    pub files: BTreeMap<String, String>,
    /// What an earlier run put here.
    pub installed: Installed,
    /// Man pages and completions can be put here, and no package brings them.
    pub paper_wanted: bool,
    /// The folders that ours need and that are not there, the innermost first.
    pub missing_folders: Vec<String>,
    /// The running program.
    pub program: PathBuf,
    /// Whether the same program lies at its place already.
    pub copied: bool,
    /// The services that run supervisord.
    pub supervisors: Vec<Found>,
    /// What else runs supervisord; also among the remarks.
    pub outside: Vec<find::Outside>,
    /// What else was found, for people.
    pub remarks: Vec<String>,
    /// The service of the registry's agent.
    pub agent: Option<Found>,
    /// The services that the programs use, by the unit of those programs.
    pub uses: Vec<Use>,
    /// Every unit that is loaded: properties of [`hold::PROPERTIES`].
    pub all: Units,
    /// The units that the plan may name, by the name asked for: properties of [`PROPERTIES`], or of [`hold::PROPERTIES`] where they are
    /// held already and run.
    pub units: BTreeMap<String, BTreeMap<String, String>>,
}

/// The properties that [`Facts::units`] holds.
pub const PROPERTIES: [&str; 9] = [
    "Id",
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "After",
    "PartOf",
    "ExecStop",
    "ControlGroup",
];

/// The files of ours whose text decides what is to be done.
#[must_use]
pub fn own_files() -> Vec<String> {
    let mut files = vec![config::MAIN.to_owned()];
    files.extend(units::UNITS.map(units::path));
    files.extend([HOOK, HOLD].map(units::order_path));
    files.extend(PAPER.iter().map(|(path, _)| paper::place(path)));
    files
}

impl Facts {
    /// Whether a unit that was asked for is there.
    pub(super) fn exists(&self, unit: &str) -> bool {
        view::property(&self.units, unit, "LoadState") == "loaded"
    }
}

/// No package brings them, and where they go is no read-only image.
fn paper_wanted(root: &Root) -> bool {
    let mut folders = Path::new("/usr/local/share").ancestors();
    let there = folders.find(|folder| root.exists(folder));
    let writable = there.is_some_and(|folder| access(root.path(folder), Access::WRITE_OK).is_ok());
    writable && !paper::PACKAGED.iter().any(|page| root.exists(page))
}

/// The folders that man pages and completions need and that are not there, the innermost first.
fn missing_folders(root: &Root) -> Vec<String> {
    let mut missing = Vec::new();
    for (path, _) in PAPER {
        let place = paper::place(path);
        let folders = Path::new(&place).ancestors().skip(1);
        missing.extend(
            folders
                .filter(|folder| !root.exists(folder))
                .filter_map(|folder| folder.to_str().map(str::to_owned)),
        );
    }
    missing.sort_unstable_by(|one, other| other.cmp(one));
    missing.dedup();
    missing
}

/// Looks at the host. Changes nothing.
///
/// # Errors
/// What can't be read, systemd when it does not answer, and names that are no units. The config has been checked before.
pub fn gather(
    root: &Root,
    pid1: &dyn Pid1,
    request: &Request,
    program: &Path,
    loaded: &config::Loaded,
) -> anyhow::Result<Facts> {
    let mut files = BTreeMap::new();
    for path in own_files() {
        if let Some(text) = text(root, &path)? {
            files.insert(path, text);
        }
    }
    let (supervisors, outside) = find::supervisors(root).context("looking for supervisord")?;
    let mut remarks: Vec<String> = outside.iter().map(|one| one.why.clone()).collect();
    let consul = loaded.settings.ways().find(|pool| pool.kind == "consul");
    let address = consul.and_then(|pool| pool.settings.get("address")?.as_str());
    let agent = find::agent(root, address.unwrap_or(find::AGENT)).context("looking for Consul")?;
    let agent = match agent {
        Some(Err(remark)) => {
            remarks.push(remark);
            None
        }
        Some(Ok(found)) => Some(found),
        None => None,
    };
    if let Some(found) = &agent
        && consul.is_none()
        && !loaded.sources.is_empty()
    {
        remarks.push(format!(
            "{}: {}, but the config has no [pool.consul]",
            found.unit, found.why
        ));
    }
    let fixed = [HOOK, REJOIN, HOLD, HOLD_TIMER, hold::BOOT[0]];
    let named = request.units.iter().chain(&request.keep);
    let mut names: Vec<String> = named
        .chain(&loaded.settings.units)
        .chain(&loaded.settings.hold.keep)
        .map(|name| full_name(name))
        .chain(fixed.into_iter().chain(find::USUAL).map(str::to_owned))
        .chain(supervisors.iter().map(|found| found.unit.clone()))
        .chain(agent.iter().map(|found| found.unit.clone()))
        .collect();
    names.sort_unstable();
    names.dedup();
    let shown = pid1.show(&names, &PROPERTIES)?;
    let mut units: Units = names.into_iter().zip(shown).collect();
    let programs = supervisors.iter().map(|found| &found.unit);
    let programs = programs.chain(&loaded.settings.units).chain(&request.units);
    let groups = uses::groups(programs.map(|name| full_name(name)), &units);
    let uses = match uses::find(root, &groups, request.watch) {
        Ok(uses) => uses,
        Err(error) => {
            remarks.push(format!(
                "what the programs are connected to can't be seen ({error:#}): name it with --keep"
            ));
            Vec::new()
        }
    };
    let all = pid1.all(&hold::PROPERTIES)?;
    units.extend(held(pid1, &files, &all, &units)?);
    Ok(Facts {
        settings: loaded.settings.clone(),
        configured: !loaded.sources.is_empty(),
        files,
        installed: installed(root)?,
        paper_wanted: paper_wanted(root),
        missing_folders: missing_folders(root),
        program: program.to_owned(),
        copied: std::fs::read(root.path(BINARY))
            .is_ok_and(|copy| std::fs::read(program).is_ok_and(|program| program == copy)),
        supervisors,
        outside,
        remarks,
        agent,
        uses,
        all,
        units,
    })
}

/// What our drop-ins name and is not `known`: of what runs, no more is asked than was of all. On a large host that is most of it.
fn held(
    pid1: &dyn Pid1,
    files: &BTreeMap<String, String>,
    all: &Units,
    known: &Units,
) -> Result<Units, Error> {
    let orders = [HOOK, HOLD].map(units::order_path);
    let texts = orders.iter().filter_map(|path| files.get(path));
    let names: BTreeSet<String> = texts
        .flat_map(|text| units::entries(text))
        .map(|held| held.unit)
        .filter(|name| view::is_unit_name(name) && !known.contains_key(name))
        .collect();
    let (run, rest): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| all.contains_key(name));
    let run = run.into_iter();
    let mut found: Units = run
        .filter_map(|name| all.get(&name).cloned().map(|unit| (name, unit)))
        .collect();
    if !rest.is_empty() {
        let shown = pid1.show(&rest, &PROPERTIES)?;
        found.extend(rest.into_iter().zip(shown));
    }
    Ok(found)
}

/// What an earlier run put on the host.
///
/// # Errors
/// What the system says, and a file that is not ours.
pub fn installed(root: &Root) -> anyhow::Result<Installed> {
    let path = Installed::path();
    match text(root, &path)? {
        Some(text) => serde_json::from_str(&text).context(path),
        None => Ok(Installed::default()),
    }
}

fn text(root: &Root, path: &str) -> anyhow::Result<Option<String>> {
    match root.read(path, MOST) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(path.to_owned()),
    }
}

/// As `systemctl` completes names.
pub(super) fn full_name(name: &str) -> String {
    if view::is_unit_name(name) {
        name.to_owned()
    } else {
        format!("{name}.service")
    }
}
