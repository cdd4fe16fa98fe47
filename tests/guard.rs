//! The last one does not leave without saying so: the real engine, with a pool that says how many others it knows.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use drainctl::config::{GuardSettings, Policy, PoolSpec, Settings, SettleSettings};
use drainctl::drain::control::Request;
use drainctl::drain::engine::{self, Message, Order};
use drainctl::drain::event::Phase;
use drainctl::drain::{Event, Outcome, Report, Target};
use drainctl::world::Root;
use serde_json::json;

const LONG: Duration = Duration::from_secs(60);

/// A host with one pool, a program whose word on others is in the file `peers`, and which notes what it was asked in `asked`.
struct Host {
    dir: tempfile::TempDir,
    target: Child,
}

impl Host {
    fn new(peers: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "cd {0} || exit 1\nread line\ncase \"$line\" in *prepare*) echo 1;; *leave*) echo leave >> asked;; *rejoin*) rm -f asked;;\n\
             *status*) if test -e asked; then echo '{{\"membership\":\"out\"}}'; else\n\
             test -s peers || {{ echo gone >&2; exit 1; }}; echo \"{{\\\"membership\\\":\\\"in\\\",\\\"peers\\\":$(cat peers)}}\"; fi;; esac\n",
            dir.path().display()
        );
        fs::write(dir.path().join("script"), script).unwrap();
        symlink("/bin/sh", dir.path().join("pool")).unwrap();
        fs::write(dir.path().join("peers"), peers).unwrap();
        let target = Command::new("sleep").arg("600").spawn().unwrap();
        Self { dir, target }
    }

    fn has_left(&self) -> bool {
        self.dir.path().join("asked").exists()
    }

    /// A drain by hand; every event goes to `hear`, with the way to ask something of the drain.
    /// The drain of a process counts as a stop.
    fn drain(&self, policy: Policy, mut hear: impl FnMut(&Event, &Sender<Message>)) -> Report {
        let path = |name: &str| self.dir.path().join(name);
        let order = Order {
            root: Root::host(),
            state: Root::at(path("state")),
            target: Target::Process {
                pid: self.target.id(),
                name: "sleep".to_owned(),
            },
            settings: Settings {
                pools: vec![PoolSpec {
                    name: "edge".to_owned(),
                    kind: "command".to_owned(),
                    limit: Duration::from_secs(20),
                    settings: json!({ "argv": [path("pool"), path("script")] }),
                }],
                settle: SettleSettings {
                    min: Duration::ZERO,
                    quiet: Duration::ZERO,
                    max: Duration::from_secs(5),
                },
                guard: GuardSettings {
                    restart: policy,
                    ..GuardSettings::default()
                },
                ..Settings::default()
            },
            notes: Vec::new(),
            as_hook: false,
            limit: None,
        };
        let (tell, inbox) = channel();
        engine::run(&order, (tell.clone(), inbox), &mut |_, event| {
            hear(event, &tell)
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.target.kill();
        let _ = self.target.wait();
    }
}

fn says(report: &Report, what: &str) -> bool {
    report.notes.iter().any(|note| note.contains(what))
}

#[test]
fn the_last_one_is_refused_and_nothing_is_changed() {
    let host = Host::new("0");
    let report = host.drain(Policy::REFUSE, |_, _| {});
    assert_eq!(report.outcome, Outcome::Refused, "{report:?}");
    assert_eq!(report.exit, 5);
    assert!(!host.has_left());
    assert!(
        says(&report, "NOBODY ELSE IS HEALTHY in edge"),
        "{report:?}"
    );
    // The same with somebody there.
    fs::write(host.dir.path().join("peers"), "1").unwrap();
    let report = host.drain(Policy::REFUSE, |_, _| {});
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert!(report.notes.is_empty(), "{report:?}");
}

#[test]
fn the_last_one_that_goes_all_the_same_says_so() {
    let host = Host::new("0");
    let report = host.drain(Policy::WARN, |_, _| {});
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert!(host.has_left());
    let host = Host::new("0");
    let told = says(&report, "NOBODY ELSE IS HEALTHY in edge");
    let waited = host.drain(Policy::wait(Duration::from_secs(2)), |_, _| {});
    assert_eq!(waited.outcome, Outcome::Drained, "{waited:?}");
    assert!(says(&waited, "it drains all the same"), "{waited:?}");
    assert!(waited.took >= Duration::from_secs(1), "{waited:?}");
    assert!(told, "{report:?}");
}

#[test]
fn another_one_is_waited_for_and_then_it_goes() {
    let host = Host::new("0");
    let peers = host.dir.path().join("peers");
    let wait = Policy {
        wait: LONG,
        refuse: true,
    };
    let report = host.drain(wait, |event, _| {
        if let Event::Phase {
            phase: Phase::Queueing,
        } = event
        {
            fs::write(&peers, "2").unwrap();
        }
    });
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert!(host.has_left());
    let phases: Vec<Phase> = report.phases.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(phases[..2], [Phase::Queueing, Phase::Leaving]);
}

#[test]
fn a_wait_for_others_can_be_ended() {
    for (request, outcome) in [
        (Request::Skip, Outcome::Skipped),
        (Request::Abort, Outcome::Aborted),
    ] {
        let host = Host::new("0");
        let report = host.drain(Policy::wait(LONG), |event, tell| {
            if let Event::Phase {
                phase: Phase::Queueing,
            } = event
            {
                tell.send(Message::Request(request, None)).unwrap();
            }
        });
        assert_eq!(report.outcome, outcome, "{report:?}");
        assert!(!host.has_left());
        assert!(report.took < LONG, "{report:?}");
    }
}

#[test]
fn a_pool_that_cannot_be_asked_refuses_nothing_and_it_is_said() {
    let host = Host::new("");
    let report = host.drain(Policy::REFUSE, |_, _| {});
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert!(
        says(&report, "whether others are healthy in edge is unknown"),
        "{report:?}"
    );
}
