//! A host for tests: a made-up /proc, and a systemd that knows some units, reads ours from a root when told to reload, and tells what
//! it was asked to do.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;

use super::order::Units;
use super::steps::Pid1;
use super::{Error, units};
use crate::world::Root;

/// See the module.
pub(crate) struct Fake {
    root: Root,
    /// Units of the host, by the names they can be asked for, with their real names.
    host: Vec<(&'static str, &'static str)>,
    /// Our units, as of the last reload.
    ours: RefCell<BTreeMap<String, String>>,
    active: RefCell<BTreeSet<String>>,
    enabled: RefCell<bool>,
    /// Every unit, as far as the hold is concerned.
    pub(crate) all: RefCell<Units>,
    /// Everything it was told; "a drain" where a stop made one.
    pub(crate) told: RefCell<Vec<String>>,
}

impl Fake {
    pub(crate) fn new(root: &Root, host: &[(&'static str, &'static str)]) -> Self {
        Self {
            root: root.clone(),
            host: host.to_vec(),
            ours: RefCell::default(),
            // Its boot is over.
            active: RefCell::new(BTreeSet::from(["multi-user.target".to_owned()])),
            enabled: RefCell::new(false),
            all: RefCell::default(),
            told: RefCell::default(),
        }
    }

    /// What it was told since the last call.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.told.take()
    }

    fn reload(&self) {
        let mut ours = self.ours.borrow_mut();
        ours.clear();
        for unit in units::UNITS {
            if let Ok(mut text) = self.root.read(units::path(unit), 1 << 20) {
                let drop_in = self.root.read(units::order_path(unit), 1 << 20);
                text += &drop_in.unwrap_or_default();
                ours.insert(unit.to_owned(), text);
            }
        }
    }

    fn properties(&self, unit: &str) -> BTreeMap<String, String> {
        let text = self.ours.borrow().get(unit).cloned();
        let id = self
            .host
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, id)| *id);
        let all = |key: &str| {
            let lines = text.iter().flat_map(|text| text.lines());
            let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            values.collect::<Vec<_>>().join(" ")
        };
        let command = match all("ExecStop") {
            none if none.is_empty() => none,
            command => format!("{{ path=x ; argv[]={command} ; status=0/0 }}"),
        };
        let is_ours = text.is_some();
        let pick = |yes: bool, a: &str, b: &str| if yes { a } else { b }.to_owned();
        let enabled = is_ours && *self.enabled.borrow();
        [
            ("Id", id.unwrap_or(unit).to_owned()),
            (
                "LoadState",
                pick(is_ours || id.is_some(), "loaded", "not-found"),
            ),
            (
                "ActiveState",
                pick(self.active.borrow().contains(unit), "active", "inactive"),
            ),
            ("UnitFileState", pick(enabled, "enabled", "")),
            ("NeedDaemonReload", "no".to_owned()),
            ("After", all("After")),
            ("PartOf", all("PartOf")),
            ("ExecStop", command),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

impl Pid1 for Fake {
    fn show(
        &self,
        units: &[String],
        _properties: &[&str],
    ) -> Result<Vec<BTreeMap<String, String>>, Error> {
        Ok(units.iter().map(|unit| self.properties(unit)).collect())
    }

    fn all(&self, _properties: &[&str]) -> Result<Units, Error> {
        Ok(self.all.borrow().clone())
    }

    fn tell(&self, arguments: &[&str]) -> Result<(), Error> {
        self.told.borrow_mut().push(arguments.join(" "));
        match arguments {
            ["daemon-reload"] => self.reload(),
            ["reenable", ..] => *self.enabled.borrow_mut() = true,
            ["disable", ..] => *self.enabled.borrow_mut() = false,
            ["start", units @ ..] => {
                let units = units.iter().map(|unit| (*unit).to_owned());
                self.active.borrow_mut().extend(units);
            }
            ["stop", units @ ..] => {
                for unit in units {
                    if self.active.borrow_mut().remove(*unit)
                        && self
                            .ours
                            .borrow()
                            .get(*unit)
                            .is_some_and(|text| text.contains("ExecStop="))
                    {
                        self.told.borrow_mut().push("a drain".to_owned());
                    }
                }
            }
            _ => panic!("not told how to {arguments:?}"),
        }
        Ok(())
    }
}

/// A process in a made-up /proc.
pub(crate) fn process(root: &Root, pid: u32, arguments: &str, group: &str, sockets: &[u64]) {
    let dir = format!("/proc/{pid}");
    let put = |name: &str, text: &str| {
        root.replace(format!("{dir}/{name}"), text.as_bytes(), 0o644)
            .unwrap();
    };
    let program = arguments.split(' ').next().unwrap();
    put("cmdline", &format!("{}\0", arguments.replace(' ', "\0")));
    put(
        "comm",
        &format!("{}\n", program.rsplit('/').next().unwrap()),
    );
    put("cgroup", &format!("0::{group}\n"));
    fs::create_dir_all(root.path(format!("{dir}/fd"))).unwrap();
    fs::create_dir_all(root.path(format!("{dir}/ns"))).unwrap();
    symlink("pid:[1]", root.path(format!("{dir}/ns/pid"))).unwrap();
    for inode in sockets {
        let fd = root.path(format!("{dir}/fd/{inode}"));
        symlink(format!("socket:[{inode}]"), fd).unwrap();
    }
}

/// A host on which nothing runs.
pub(crate) fn host() -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    fs::create_dir_all(root.path("/proc/self/ns")).unwrap();
    fs::create_dir_all(root.path("/usr/local/share")).unwrap();
    symlink("pid:[1]", root.path("/proc/self/ns/pid")).unwrap();
    root.replace("/proc/net/tcp", TABLE.as_bytes(), 0o644)
        .unwrap();
    root.replace("/proc/net/unix", UNIX.as_bytes(), 0o644)
        .unwrap();
    (dir, root)
}

/// 127.0.0.1:8500 listens as 500; a connection to it as 501.
const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
    \x20  0: 0100007F:2134 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 500 1 0 100 0 0 10 0\n\
    \x20  1: 0100007F:2134 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 501 1 0 100 0 0 10 0\n";
const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path\n\
    0000000000000000: 00000002 00000000 00010000 0001 01 600 /run/consul.sock\n\
    0000000000000000: 00000003 00000000 00000000 0001 03 601 /run/consul.sock\n";
