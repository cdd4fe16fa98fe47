//! Why a drain runs: read from PID 1's own list of jobs, since the environment of the hook says nothing of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Deadlines;
use crate::systemd::{Job, Snapshot, UnitState};

/// Why a drain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The machine powers off.
    Poweroff,
    /// The machine restarts.
    Reboot,
    /// The machine halts.
    Halt,
    /// The machine starts another kernel.
    Kexec,
    /// User space restarts, the kernel stays (systemd 254).
    SoftReboot,
    /// The machine goes to rescue or emergency mode, or the manager exits (containers).
    OtherShutdown,
    /// A target unit restarts.
    Restart,
    /// A target unit stops.
    Stop,
    /// A target unit's main process had died, and systemd starts it again.
    CrashRestart,
    /// Only the hook itself is stopped or restarted.
    HookStop,
    /// Somebody ran `drainctl drain`.
    ByHand,
    /// PID 1 could not be asked. Counts as a poweroff.
    Unknown,
}

/// The targets that end the host, the most final first: two may be queued at once, and both are reported.
const SHUTDOWNS: [(&str, Cause); 8] = [
    ("poweroff.target", Cause::Poweroff),
    ("halt.target", Cause::Halt),
    ("reboot.target", Cause::Reboot),
    ("kexec.target", Cause::Kexec),
    ("soft-reboot.target", Cause::SoftReboot),
    ("exit.target", Cause::OtherShutdown),
    ("emergency.target", Cause::OtherShutdown),
    ("rescue.target", Cause::OtherShutdown),
];

impl Cause {
    /// The cause that PID 1's jobs tell. `hook` and `targets` are units of the snapshot; `as_hook` is whether systemd runs us to stop the hook.
    #[must_use]
    pub fn decide(snapshot: &Snapshot, hook: &str, targets: &[String], as_hook: bool) -> Self {
        if !as_hook {
            return Self::ByHand;
        }
        if let Some(&shutdown) = Self::shutdowns(snapshot).first() {
            return shutdown;
        }
        // Rescue mode's target may be reached before we are stopped, and leave no job.
        if matches!(snapshot.system_state.as_str(), "stopping" | "maintenance") {
            return Self::OtherShutdown;
        }
        let jobs = |kind: &'static str| {
            targets.iter().filter(move |target| {
                let job = snapshot.job(target);
                job.is_some_and(|job| job.kind == kind)
            })
        };
        let crashed = |target: &String| {
            let unit = snapshot.unit(target);
            unit.is_some_and(UnitState::has_crashed)
        };
        if jobs("restart").next().is_some() {
            if jobs("restart").all(crashed) {
                Self::CrashRestart
            } else {
                Self::Restart
            }
        } else if jobs("stop").next().is_some() {
            Self::Stop
        } else if snapshot.job(hook).is_some() {
            Self::HookStop
        } else {
            // Stopped without a job: somebody cancelled it. What follows can't be told.
            Self::Unknown
        }
    }

    /// Whether what the hook is being stopped for was called off: the host does not go down, and neither the hook nor a target, of
    /// which one is up, is to stop any more (systemctl(1), `cancel`).
    #[must_use]
    pub fn is_called_off(snapshot: &Snapshot, hook: &str, targets: &[String]) -> bool {
        let down = ["", "stopping", "maintenance"].contains(&snapshot.system_state.as_str())
            || !Self::shutdowns(snapshot).is_empty();
        let up = |target: &String| {
            let unit = snapshot.unit(target);
            unit.is_some_and(|unit| unit.active_state == "active")
        };
        !down && Self::stops(snapshot, hook, targets).is_empty() && targets.iter().any(up)
    }

    /// The jobs that stop the targets, and the one that stops the hook as the last: when that one is gone, the others go on.
    #[must_use]
    pub fn stops<'a>(snapshot: &'a Snapshot, hook: &str, targets: &[String]) -> Vec<&'a Job> {
        let units = targets.iter().map(String::as_str).chain([hook]);
        let jobs = units.filter_map(|unit| snapshot.job(unit));
        jobs.filter(|job| matches!(job.kind.as_str(), "stop" | "restart"))
            .collect()
    }

    /// Every way to go down that is queued, the most final first, none twice.
    #[must_use]
    pub fn shutdowns(snapshot: &Snapshot) -> Vec<Self> {
        let mut causes: Vec<Self> = SHUTDOWNS
            .iter()
            .filter(|(target, _)| {
                let job = snapshot.job(target);
                job.is_some_and(|job| job.kind == "start")
            })
            .map(|&(_, cause)| cause)
            .collect();
        causes.dedup();
        causes
    }

    /// The most that a drain for this cause may take.
    #[must_use]
    pub fn deadline(self, deadlines: &Deadlines) -> Duration {
        if self.is_shutdown() {
            deadlines.shutdown
        } else {
            deadlines.restart
        }
    }

    /// Whether the whole host goes down; what can't be told counts as that.
    #[must_use]
    pub fn is_shutdown(self) -> bool {
        match self {
            Self::Poweroff
            | Self::Reboot
            | Self::Halt
            | Self::Kexec
            | Self::SoftReboot
            | Self::OtherShutdown
            | Self::Unknown => true,
            Self::Restart | Self::Stop | Self::CrashRestart | Self::HookStop | Self::ByHand => {
                false
            }
        }
    }
}

impl fmt::Display for Cause {
    /// Its name for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Kexec => "kexec",
            Self::SoftReboot => "soft-reboot",
            Self::OtherShutdown => "shutdown",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::CrashRestart => "restart after a crash",
            Self::HookStop => "stop of the hook",
            Self::ByHand => "by hand",
            Self::Unknown => "unknown cause",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::systemd::HOOK;

    /// A host in `state` with `jobs` ("unit kind"), and supervisor.service asked for by its alias, in `sub_state`.
    fn host(state: &str, jobs: &[&str], sub_state: &str) -> Snapshot {
        let unit = |name: &str, id: &str, sub_state: &str| UnitState {
            name: name.to_owned(),
            id: id.to_owned(),
            sub_state: sub_state.to_owned(),
            main_pid: u32::from(sub_state == "running"),
            ..UnitState::default()
        };
        Snapshot {
            system_state: state.to_owned(),
            jobs: jobs
                .iter()
                .map(|job| {
                    let (unit, kind) = job.split_once(' ').unwrap();
                    Job {
                        id: 1,
                        unit: unit.to_owned(),
                        kind: kind.to_owned(),
                        state: "waiting".to_owned(),
                    }
                })
                .collect(),
            units: vec![
                unit("supervisord.service", "supervisor.service", sub_state),
                unit("other.service", "other.service", "running"),
                unit(HOOK, HOOK, "stop"),
            ],
        }
    }

    fn decide(snapshot: &Snapshot, as_hook: bool) -> Cause {
        let targets = ["supervisord.service".to_owned(), "other.service".to_owned()];
        Cause::decide(snapshot, HOOK, &targets, as_hook)
    }

    #[test]
    fn every_cause_is_told_by_its_jobs() {
        let hook_stop = format!("{HOOK} stop");
        let hook_restart = format!("{HOOK} restart");
        let down = |target: &'static str| {
            host(
                "stopping",
                &[
                    &hook_stop,
                    "supervisor.service stop",
                    target,
                    "shutdown.target start",
                ],
                "running",
            )
        };
        let running = |jobs: &[&str]| host("running", jobs, "running");
        for (snapshot, cause) in [
            (down("poweroff.target start"), Cause::Poweroff),
            (down("reboot.target start"), Cause::Reboot),
            (down("halt.target start"), Cause::Halt),
            (down("kexec.target start"), Cause::Kexec),
            (down("soft-reboot.target start"), Cause::SoftReboot),
            (down("exit.target start"), Cause::OtherShutdown),
            (
                host(
                    "maintenance",
                    &[&hook_stop, "supervisor.service stop"],
                    "running",
                ),
                Cause::OtherShutdown,
            ),
            (
                host(
                    "maintenance",
                    &[&hook_stop, "emergency.target start"],
                    "running",
                ),
                Cause::OtherShutdown,
            ),
            (
                host("stopping", &[&hook_stop], "running"),
                Cause::OtherShutdown,
            ),
            (
                running(&[&hook_restart, "supervisor.service restart"]),
                Cause::Restart,
            ),
            (
                running(&[&hook_stop, "supervisor.service stop"]),
                Cause::Stop,
            ),
            (running(&[&hook_stop]), Cause::HookStop),
            (running(&[&hook_restart]), Cause::HookStop),
            (
                host(
                    "running",
                    &[&hook_restart, "supervisor.service restart"],
                    "auto-restart",
                ),
                Cause::CrashRestart,
            ),
            (
                host(
                    "running",
                    &[&hook_restart, "supervisor.service restart"],
                    "auto-restart-queued",
                ),
                Cause::CrashRestart,
            ),
            // One target died, a living one is restarted: somebody waits for answers.
            (
                host(
                    "running",
                    &[
                        &hook_restart,
                        "supervisor.service restart",
                        "other.service restart",
                    ],
                    "auto-restart",
                ),
                Cause::Restart,
            ),
            (running(&["unrelated.service start"]), Cause::Unknown),
            (Snapshot::default(), Cause::Unknown),
        ] {
            assert_eq!(decide(&snapshot, true), cause, "{snapshot:?}");
            assert_eq!(decide(&snapshot, false), Cause::ByHand);
        }
    }

    #[test]
    fn of_two_ways_down_the_more_final_decides_and_both_are_told() {
        let jobs = [
            "reboot.target start",
            "poweroff.target start",
            "rescue.target stop",
        ];
        let snapshot = host("stopping", &jobs, "running");
        assert_eq!(decide(&snapshot, true), Cause::Poweroff);
        assert_eq!(
            Cause::shutdowns(&snapshot),
            [Cause::Poweroff, Cause::Reboot]
        );
    }

    #[test]
    fn what_was_called_off_leaves_no_job_that_stops() {
        let targets = ["supervisord.service".to_owned(), "other.service".to_owned()];
        let up = |state: &str, jobs: &[&str]| {
            let mut snapshot = host(state, jobs, "running");
            snapshot.units[0].active_state = "active".to_owned();
            snapshot
        };
        let off = |snapshot: &Snapshot| Cause::is_called_off(snapshot, HOOK, &targets);
        assert!(off(&up("running", &[])));
        assert!(off(&up("degraded", &["unrelated.service stop"])));
        let hook_start = format!("{HOOK} start");
        assert!(off(&up("running", &[&hook_start])));
        for (state, job) in [
            ("running", "supervisor.service stop"),
            ("running", "supervisor.service restart"),
            ("running", "drain-connections.service stop"),
            ("running", "poweroff.target start"),
            ("stopping", "unrelated.service start"),
            ("maintenance", "unrelated.service start"),
            ("", "unrelated.service start"),
        ] {
            assert!(!off(&up(state, &[job])), "{state} {job}");
        }
        assert!(!off(&host("running", &[], "dead")), "nothing is up");
        let jobs = [
            "drain-connections.service stop",
            "supervisor.service restart",
        ];
        let snapshot = up("running", &jobs);
        let stops = Cause::stops(&snapshot, HOOK, &targets);
        assert_eq!(stops.last().map(|job| job.unit.as_str()), Some(HOOK));
        assert_eq!(stops.len(), 2);
    }

    #[test]
    fn what_cannot_be_told_gets_the_time_of_a_shutdown() {
        let deadlines = Deadlines {
            shutdown: Duration::from_secs(300),
            restart: Duration::from_secs(60),
        };
        assert_eq!(Cause::Unknown.deadline(&deadlines), deadlines.shutdown);
        assert_eq!(Cause::SoftReboot.deadline(&deadlines), deadlines.shutdown);
        assert_eq!(Cause::CrashRestart.deadline(&deadlines), deadlines.restart);
        assert_eq!(Cause::ByHand.deadline(&deadlines), deadlines.restart);
    }
}
