//! What stands around the drain and is not the hook itself: systemd's manager, logind, the cloud, earlier drains, the other hosts. Looked at once, without
//! changing anything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Facts;
use super::grace::{self, Grace};
use super::sandbox;
use super::sight::Sight;
use crate::config::Settings;
use crate::drain::Outcome;
use crate::pools::{self, Closely, PeersSaid};
use crate::receipts;
use crate::supervisord::Supervisord;
use crate::systemd::logind::{self, Login};
use crate::systemd::{self, HOOK, REJOIN, systemctl, view};
use crate::world::{Deadline, Root, proc};

/// Each pool has this long, and PID 1.
const LIMIT: Duration = Duration::from_secs(3);
/// What the buses may take: milliseconds where they answer at all, but a busy host is no broken one.
const BUS: Duration = Duration::from_secs(5);
/// So many of the last drains are read.
const DRAINS: usize = 5;
/// The most that is read of a drop-in, or of a proxy's config, in bytes.
const MOST: u64 = 1 << 20;
/// Who made this machine, as its firmware says.
pub(super) const DMI: &str = "/sys/class/dmi/id/sys_vendor";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Properties of systemd's manager.
    pub manager: BTreeMap<String, String>,
    /// What logind says; `None` where it does not run.
    pub login: Option<Login>,
    /// Which of the ways to PID 1 does not answer, and why.
    pub answers: Answers,
    /// The text of drop-ins that are not ours, by path.
    pub drop_ins: BTreeMap<String, String>,
    /// The patience of the servers that are known.
    pub graces: Vec<Grace>,
    /// The requests that were waited for longest, one a program.
    pub longest: Vec<Longest>,
    /// What the last drain before a stop cut, if it did.
    pub cut: Option<Cut>,
    /// How long each pool took to send nothing more, in the last drain.
    pub pool_delays: Vec<(String, Duration)>,
    /// The file that each supervisord reads last, by its unit.
    pub last_words: BTreeMap<String, String>,
    /// The cloud.
    pub cloud: Option<Cloud>,
    /// How many others each pool knows, in the order of the config.
    pub peers: Vec<PeersSaid>,
    /// What each pool says besides, in that order.
    pub closely: Vec<Option<Closely>>,
    /// Proxies that read the registry without its health: process, config file.
    pub readers: Vec<(u32, String)>,
    /// What is seen from here.
    pub sight: Sight,
    /// What is seen in the hook's sandbox, or why that could not be tried; `None` where there is no hook.
    pub inside: Option<Result<Sight, String>>,
    /// The hook's program, where it can't be run, and why.
    pub unrunnable: Option<(String, String)>,
    /// The properties of that sandbox that are not those of our own unit.
    pub hardened: Vec<String>,
}

/// Why a way to PID 1 does not answer.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The system bus.
    pub bus: Option<String>,
    /// systemd's own socket, by `systemctl`.
    pub own: Option<String>,
}

/// A request that a drain waited for.
#[derive(Clone, Debug)]
pub struct Longest {
    /// The drain's id.
    pub drain: String,
    /// The program.
    pub program: String,
    /// How long it took.
    pub age: Duration,
}

/// What a drain's deadline cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The drain's id.
    pub drain: String,
    /// It was before a shutdown.
    pub shutdown: bool,
    /// Its deadline.
    pub limit: Duration,
    /// How many are named.
    pub count: usize,
    /// The longest of them.
    pub oldest: Duration,
}

/// A cloud, and how long it waits for a host that it has told to stop.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// Its name.
    pub name: &'static str,
    /// How it was known.
    pub seen: String,
    /// For every host.
    pub always: Option<Duration>,
    /// For one that may be taken away at any time.
    pub spot: Duration,
}

/// By the vendor's documentation: what begins the firmware's word, the name, for every host, for one that may be taken away.
const CLOUDS: [(&str, &str, Option<u64>, u64); 3] = [
    ("Amazon EC2", "Amazon EC2", None, 120),
    ("Google", "Google Compute Engine", Some(90), 30),
    ("Microsoft", "Microsoft Azure", None, 30),
];

impl Around {
    /// A time span of the manager.
    pub(super) fn manager_span(&self, property: &str) -> Option<Duration> {
        view::time_span(self.manager.get(property)?)
    }

    /// systemd's version.
    pub(super) fn version(&self) -> Option<u32> {
        let text = self.manager.get("Version")?;
        let end = text.find(|c: char| !c.is_ascii_digit());
        text[..end.unwrap_or(text.len())].parse().ok()
    }

    /// All that depends on nothing but the settings.
    pub(super) fn ask(root: &Root, settings: &Settings) -> Self {
        let specs = settings.pools.as_slice();
        std::thread::scope(|scope| {
            // Each of these may wait for somebody else.
            let peers = scope.spawn(|| pools::peers(root, specs, LIMIT));
            let closely = scope.spawn(|| pools::closely(root, specs, LIMIT));
            let tried = scope.spawn(|| sandbox::try_out(root));
            let sight = scope.spawn(|| Sight::look(root));
            let manager = scope.spawn(|| systemctl::manager(&MANAGER, Deadline::after(LIMIT)));
            let (bus, own) = systemd::ways(Deadline::after(BUS));
            let mut around = Self {
                answers: Answers {
                    bus: bus.map(|error| error.to_string()),
                    own: own.map(|error| error.to_string()),
                },
                cloud: cloud(root),
                readers: readers(root),
                ..Self::default()
            };
            around.read_history(root);
            around.peers = peers.join().unwrap_or_default();
            around.closely = closely.join().unwrap_or_default();
            around.sight = sight.join().unwrap_or_default();
            around.manager = manager.join().ok().and_then(Result::ok).unwrap_or_default();
            if let Ok(Some(tried)) = tried.join() {
                // That is a finding of its own.
                around.inside = tried.program.is_none().then_some(tried.sight);
                around.unrunnable = tried.program;
                around.hardened = tried.hardened;
            }
            around
        })
    }

    /// And the rest, by the units and the targets.
    pub(super) fn complete(&mut self, root: &Root, facts: &Facts) {
        self.login = facts
            .order
            .is_stopped("systemd-logind.service")
            .then(|| logind::ask(Deadline::after(BUS)).ok())
            .flatten();
        self.read_drop_ins(root, facts);
        self.ask_programs(root, facts);
    }

    fn read_drop_ins(&mut self, root: &Root, facts: &Facts) {
        for unit in [HOOK, REJOIN] {
            for path in super::hook::foreign(facts, unit) {
                if let Ok(text) = root.read(path, MOST) {
                    self.drop_ins.insert(path.to_owned(), text);
                }
            }
        }
    }

    fn read_history(&mut self, root: &Root) {
        let ids = receipts::list(root).unwrap_or_default();
        let reports = ids.iter().rev().take(DRAINS);
        for report in reports.filter_map(|id| receipts::read(root, id).ok()) {
            for wait in &report.waited {
                let longest = Longest {
                    drain: report.id.clone(),
                    program: wait.program.clone(),
                    age: wait.age,
                };
                match self
                    .longest
                    .iter_mut()
                    .find(|old| old.program == wait.program)
                {
                    Some(old) if old.age < wait.age => *old = longest,
                    Some(_) => {}
                    None => self.longest.push(longest),
                }
            }
            if self.pool_delays.is_empty() {
                let pools = report.pools.iter();
                let took = pools.filter_map(|pool| {
                    Some((pool.name.clone(), pool.out?.saturating_sub(pool.asked?)))
                });
                self.pool_delays = took.collect();
            }
            let oldest = report.cut.iter().map(|held| held.age).max();
            if report.outcome == Outcome::DeadlineHit
                && self.cut.is_none()
                && let Some(oldest) = oldest
            {
                self.cut = Some(Cut {
                    drain: report.id.clone(),
                    shutdown: report.cause.is_shutdown(),
                    limit: report.limit,
                    count: report.cut.len(),
                    oldest,
                });
            }
        }
    }

    fn ask_programs(&mut self, root: &Root, facts: &Facts) {
        for unit in &facts.targets {
            let Ok(main @ 1..) = facts.get(unit, "MainPID").parse::<u32>() else {
                continue;
            };
            let mut found = vec![(unit.clone(), main)];
            if let Ok(Some(server)) = Supervisord::of(root, main) {
                if let Some(file) = server.last_word(root) {
                    self.last_words.insert(unit.clone(), file);
                }
                let programs = server.programs(Deadline::after(LIMIT)).unwrap_or_default();
                let running = programs.iter().filter(|program| program.pid != 0);
                found = running
                    .map(|program| (program.label(), program.pid))
                    .collect();
            }
            for (program, pid) in found {
                let arguments = proc::arguments(root, pid).unwrap_or_default();
                let folder = proc::working_dir(root, pid)
                    .ok()
                    .flatten()
                    .unwrap_or_default();
                let folder = folder.to_string_lossy();
                self.graces
                    .extend(grace::of(root, &program, &arguments, &folder));
            }
        }
    }
}

/// What is asked of the manager.
const MANAGER: [&str; 2] = ["Version", "DefaultTimeoutStopUSec"];

fn cloud(root: &Root) -> Option<Cloud> {
    let seen = root.read(DMI, 256).ok()?.trim().to_owned();
    let (_, name, always, spot) = CLOUDS.iter().find(|cloud| seen.starts_with(cloud.0))?;
    // Windows machines of one's own say Microsoft as well.
    let product = root
        .read("/sys/class/dmi/id/chassis_asset_tag", 256)
        .unwrap_or_default();
    if seen.starts_with("Microsoft") && !product.starts_with("7783-7084-3265-9085-8269-3286-77") {
        return None;
    }
    Some(Cloud {
        name,
        seen,
        always: always.map(Duration::from_secs),
        spot: Duration::from_secs(*spot),
    })
}

/// linkerd 1.x reads Consul's catalog, and its health only when told to.
fn readers(root: &Root) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for pid in proc::pids(root).unwrap_or_default() {
        let arguments = proc::arguments(root, pid).unwrap_or_default();
        if !arguments.iter().any(|word| word.contains("linkerd")) {
            continue;
        }
        let is_config = |word: &&String| word.ends_with(".yaml") || word.ends_with(".yml");
        let Some(file) = arguments.iter().find(is_config) else {
            continue;
        };
        let folder = proc::working_dir(root, pid)
            .ok()
            .flatten()
            .unwrap_or_default();
        let path = folder.join(file);
        let text = root.read(&path, MOST).unwrap_or_default();
        let squeezed: String = text.split_whitespace().collect();
        if squeezed.contains("io.l5d.consul") && !squeezed.contains("useHealthCheck:true") {
            found.push((pid, path.display().to_string()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_known_by_its_firmware() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let put = |file: &str, text: &str| {
            root.replace(format!("/sys/class/dmi/id/{file}"), text.as_bytes(), 0o644)
                .unwrap();
        };
        assert!(cloud(&root).is_none());
        put("sys_vendor", "QEMU\n");
        assert!(cloud(&root).is_none());
        put("sys_vendor", "Google\n");
        assert_eq!(cloud(&root).unwrap().always, Some(Duration::from_secs(90)));
        put("sys_vendor", "Microsoft Corporation\n");
        assert!(cloud(&root).is_none());
        put("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
        assert_eq!(cloud(&root).unwrap().name, "Microsoft Azure");
    }

    #[test]
    fn a_linkerd_that_does_not_look_at_health_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let put = |file: &str, text: &str| {
            root.replace(file, text.as_bytes(), 0o644).unwrap();
        };
        put(
            "/proc/7/cmdline",
            "java\0-jar\0/opt/linkerd-1.7.exec\0/etc/l.yaml\0",
        );
        put(
            "/etc/l.yaml",
            "namers:\n- kind: io.l5d.consul\n  host: 127.0.0.1\n",
        );
        assert_eq!(readers(&root), [(7, "/etc/l.yaml".to_owned())]);
        put(
            "/etc/l.yaml",
            "namers:\n- kind: io.l5d.consul\n  useHealthCheck: true\n",
        );
        assert!(readers(&root).is_empty());
    }
}
