//! The target: its units, its programs, and what it listens on.

use std::time::Duration;

use crate::evidence::{Members, Unit};
use crate::receipts::TargetMark;
use crate::supervisord::{self, Owner, Program, SUPERVISORD, State, Supervisord};
use crate::systemd::{UnitState, find};
use crate::world::{Deadline, Root, proc};

/// The most that supervisord may take to list its programs. They only give names; the sockets don't wait for them.
const NAMES_LIMIT: Duration = Duration::from_secs(1);

/// Where units lie, the first wins (systemd.unit(5)).
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// What is to be drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// systemd's units of these names; none: see [`unit_names`].
    Units(Vec<String>),
    /// A process and its descendants. systemd is not asked about it.
    Process {
        /// Its id.
        pid: u32,
        /// What people call it.
        name: String,
    },
}

/// The target's programs, as far as they are known.
#[derive(Debug, Default)]
pub struct Programs {
    /// Each supervisord's main process with its programs.
    servers: Vec<(u32, Vec<Program>)>,
    /// Main processes of units without a supervisord, with the unit's name.
    others: Vec<(u32, String)>,
    /// Main processes of those that can't be asked, with the unit's name.
    unasked: Vec<(u32, String)>,
    /// What an operator should know.
    pub notes: Vec<String>,
    /// Whether a supervisord that did not answer may do so later: not one whose config names no interface.
    pub may_answer: bool,
}

/// The units to ask PID 1 for: those configured, else those that run a supervisord, else the usual names.
#[must_use]
pub fn unit_names(root: &Root, configured: &[String]) -> Vec<String> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    // A host that can't be searched is asked for the usual names.
    let found = find::supervisors(root)
        .map(|(found, _)| found)
        .unwrap_or_default();
    if found.is_empty() {
        return find::USUAL.map(str::to_owned).to_vec();
    }
    found.into_iter().map(|found| found.unit).collect()
}

/// What is assumed of `names` when PID 1 can't be asked: those run that a control group is named for, in whichever slice it lies. Where groups
/// can't be listed all do, in the group that services have by default.
#[must_use]
pub fn assumed(root: &Root, names: &[String]) -> Vec<UnitState> {
    let groups = proc::cgroups(root).unwrap_or_default();
    let unit = |name: &str, control_group: String| UnitState {
        name: name.to_owned(),
        id: name.to_owned(),
        control_group,
        ..UnitState::default()
    };
    let mut units: Vec<UnitState> = Vec::new();
    for name in names {
        let name = aliased(root, name);
        let named = |path: &&String| path.rsplit('/').next() == Some(&*name);
        let found = groups.iter().map(|(_, path)| path).find(named);
        let by_default = || groups.is_empty().then(|| format!("/system.slice/{name}"));
        if let Some(group) = found.cloned().or_else(by_default)
            && units.iter().all(|unit| unit.id != name)
        {
            units.push(unit(&name, group));
        }
    }
    units
}

/// The name of the unit that `name` is a link to, as systemd does it; else itself.
fn aliased(root: &Root, name: &str) -> String {
    let linked = FOLDERS.iter().find_map(|folder| {
        let link = std::fs::read_link(root.path(format!("{folder}/{name}"))).ok()?;
        // A link to /dev/null masks, and names no unit.
        let real = link.file_name()?.to_str()?.to_owned();
        real.contains('.').then_some(real)
    });
    linked.unwrap_or_else(|| name.to_owned())
}

/// A process in the place of a unit: it has a main process, and no control group to tell its own sockets by. Nothing when it is gone.
#[must_use]
pub fn process(root: &Root, pid: u32, name: &str) -> Vec<UnitState> {
    let gone = matches!(proc::parent(root, pid), Ok(None));
    let unit = UnitState {
        name: name.to_owned(),
        id: name.to_owned(),
        main_pid: pid,
        ..UnitState::default()
    };
    if gone { Vec::new() } else { vec![unit] }
}

/// Those of `units` that have a control group or a process, and so may have sockets.
#[must_use]
pub fn watched(units: &[UnitState]) -> Vec<Unit> {
    units
        .iter()
        .filter_map(|unit| {
            Some(Unit {
                name: unit.id.clone(),
                members: members(unit)?,
            })
        })
        .collect()
}

fn members(unit: &UnitState) -> Option<Members> {
    match (unit.control_group.as_str(), unit.main_pid) {
        ("", 0) => None,
        ("", pid) => Some(Members::Process(pid)),
        (group, _) => Some(Members::ControlGroup(group.to_owned())),
    }
}

impl Programs {
    /// Asks each supervisord among `units` for its programs.
    #[must_use]
    pub fn ask(root: &Root, units: &[UnitState]) -> Self {
        let mut all = Self::default();
        for unit in units.iter().filter(|unit| unit.main_pid != 0) {
            let pid = unit.main_pid;
            match Supervisord::of(root, pid) {
                Ok(None) => all.others.push((pid, unit.id.clone())),
                Ok(Some(server)) => match server.programs(Deadline::after(NAMES_LIMIT)) {
                    Ok(programs) => all.servers.push((pid, programs)),
                    Err(error) => all.unnamed(unit, &error),
                },
                Err(error) => all.unnamed(unit, &error),
            }
        }
        all
    }

    fn unnamed(&mut self, unit: &UnitState, error: &supervisord::Error) {
        self.notes.push(format!(
            "the programs of {} can't be told by name: {error}",
            unit.id
        ));
        self.may_answer |= !matches!(error, supervisord::Error::Config { .. });
        self.others.push((unit.main_pid, unit.id.clone()));
        self.unasked.push((unit.main_pid, unit.id.clone()));
    }

    /// The program that the process `pid` belongs to.
    #[must_use]
    pub fn name(&self, root: &Root, pid: u32) -> Option<String> {
        for (main, programs) in &self.servers {
            match supervisord::owner(root, *main, programs, pid) {
                Ok(Owner::Program(program)) => return Some(program.label()),
                Ok(Owner::Supervisord) => return Some(SUPERVISORD.to_owned()),
                Ok(Owner::Leftover) | Err(_) => {}
            }
        }
        // What it listens on itself is no program's, and has another name after each start: nobody may wait for that.
        for (main, unit) in &self.unasked {
            if pid == *main {
                return Some(SUPERVISORD.to_owned());
            }
            if let Ok(Owner::Supervisord) = supervisord::owner(root, *main, &[], pid) {
                return Some(unit.clone());
            }
        }
        // A process that no supervisord owns, in a unit that has one: left over by one that crashed.
        let leftover = !self.servers.is_empty() && self.others.is_empty();
        leftover.then(|| format!("leftover process {pid}"))
    }

    /// What is up now, for rejoin to wait for. Of a process only its ports: the one that takes its place is another. Of a unit that does
    /// not run nothing: it may never do again.
    #[must_use]
    pub fn mark(&self, all: &[UnitState], ports: Vec<u16>, sockets: Vec<String>) -> TargetMark {
        let lasting = |unit: &&UnitState| matches!(members(unit), Some(Members::ControlGroup(_)));
        let units: Vec<String> = all
            .iter()
            .filter(lasting)
            .map(|unit| unit.id.clone())
            .collect();
        if units.is_empty() {
            let process = |unit: &UnitState| matches!(members(unit), Some(Members::Process(_)));
            let mut mark = TargetMark::default();
            if all.iter().any(process) {
                (mark.ports, mark.sockets) = (ports, sockets);
            }
            return mark;
        }
        let running = |program: &&Program| program.state == State::Running;
        let programs = self
            .servers
            .iter()
            .flat_map(|(_, all)| all.iter().filter(running).map(Program::label));
        TargetMark {
            units,
            programs: programs.collect(),
            ports,
            sockets,
        }
    }

    /// Those of the marked programs that are not running, with their states, and others that may still come up. One that is not
    /// configured any more is not missed, nor one that had failed before.
    #[must_use]
    pub fn missing(&self, mark: &TargetMark) -> Vec<String> {
        let all = || self.servers.iter().flat_map(|(_, programs)| programs);
        let bad = |program: &&Program| match program.state {
            State::Running => false,
            State::Starting | State::Backoff | State::Unknown => true,
            State::Fatal | State::Stopping | State::Stopped | State::Exited => {
                mark.programs.contains(&program.label())
            }
        };
        all()
            .filter(bad)
            .map(|program| format!("{} is {:?}", program.label(), program.state))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, control_group: &str, main_pid: u32) -> UnitState {
        UnitState {
            name: name.to_owned(),
            id: name.to_owned(),
            control_group: control_group.to_owned(),
            main_pid,
            ..UnitState::default()
        }
    }

    #[test]
    fn only_what_was_up_is_waited_for() {
        let programs = Programs::default();
        let up = unit("a.service", "/system.slice/a.service", 7);
        let down = unit("b.service", "", 0);
        let mark = programs.mark(&[up, down.clone()], vec![80], vec![]);
        assert_eq!(mark.units, ["a.service"]);
        assert_eq!(
            programs.mark(&[down], vec![], vec![]),
            TargetMark::default()
        );
        let process = unit("p", "", 7);
        let mark = programs.mark(&[process], vec![80], vec!["/run/a".to_owned()]);
        assert!(mark.units.is_empty());
        assert_eq!((&mark.ports[..], mark.sockets.len()), (&[80][..], 1));
    }

    #[test]
    fn a_supervisord_without_an_interface_is_not_expected_to_answer_later() {
        let unit = unit("supervisor.service", "/system.slice/supervisor.service", 7);
        let mut programs = Programs::default();
        let fault = supervisord::Error::Config {
            file: "/etc/supervisor/supervisord.conf".to_owned(),
            fault: "names no interface".to_owned(),
        };
        programs.unnamed(&unit, &fault);
        assert!(!programs.may_answer && programs.notes.len() == 1);
        programs.unnamed(&unit, &supervisord::Error::Status(503));
        assert!(programs.may_answer);
        // Its own socket is told from those of its programs.
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let stat = "8 (web) S 7 8 8 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0\n";
        root.replace("/proc/8/stat", stat.as_bytes(), 0o644)
            .unwrap();
        assert_eq!(programs.name(&root, 7).as_deref(), Some(SUPERVISORD));
        assert_eq!(
            programs.name(&root, 8).as_deref(),
            Some("supervisor.service")
        );
        assert_eq!(programs.name(&root, 9), None);
    }

    #[test]
    fn without_pid_1_a_unit_is_found_in_whatever_slice_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let names: Vec<String> = ["web.service", "alias.service", "gone.service"]
            .map(str::to_owned)
            .to_vec();
        let groups = |units: Vec<UnitState>| -> Vec<String> {
            units.into_iter().map(|unit| unit.control_group).collect()
        };
        let by_default = names.iter().map(|name| format!("/system.slice/{name}"));
        assert_eq!(
            groups(assumed(&root, &names)),
            by_default.collect::<Vec<_>>()
        );
        let mount = "30 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n";
        root.replace("/proc/self/mountinfo", mount.as_bytes(), 0o644)
            .unwrap();
        for group in ["shop.slice/web.service", "system.slice/real.service"] {
            std::fs::create_dir_all(root.path(format!("/cg/{group}"))).unwrap();
        }
        std::fs::create_dir_all(root.path("/etc/systemd/system")).unwrap();
        let alias = root.path("/etc/systemd/system/alias.service");
        std::os::unix::fs::symlink("/lib/systemd/system/real.service", alias).unwrap();
        assert_eq!(
            groups(assumed(&root, &names)),
            ["/shop.slice/web.service", "/system.slice/real.service"]
        );
    }

    #[test]
    fn a_program_that_had_failed_before_is_not_missed() {
        let program = |name: &str, state| Program {
            group: name.to_owned(),
            name: name.to_owned(),
            state,
            pid: 0,
            started: None,
            description: String::new(),
        };
        let programs = Programs {
            servers: vec![(
                7,
                vec![
                    program("web", State::Fatal),
                    program("broken", State::Fatal),
                    program("slow", State::Starting),
                    program("job", State::Exited),
                ],
            )],
            ..Programs::default()
        };
        let mark = TargetMark {
            programs: vec!["web".to_owned()],
            ..TargetMark::default()
        };
        assert_eq!(
            programs.missing(&mark),
            ["web is Fatal", "slow is Starting"]
        );
    }
}
