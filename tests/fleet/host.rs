//! One host of the fleet: this same program, started again as a process that drains, stays away, and rejoins.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use drainctl::config::{
    FleetSettings, GuardSettings, Policies, Policy, PoolSpec, Settings, SettleSettings,
};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::event::{Phase, PoolStep};
use drainctl::drain::{Event, Outcome, Target, rejoin, slot};
use drainctl::fleet::FleetSpec;
use drainctl::receipts::Store;
use drainctl::world::{Deadline, Root};
use serde_json::{Value, json};

/// The variable that makes the program a host: its folder.
pub(crate) const ROLE: &str = "DRAINCTL_TEST_FLEET_HOST";
const GENEROUS: Duration = Duration::from_secs(240);

/// Its `job` holds what it is told: the fleet's settings and how long it stays away.
pub(crate) fn job(dir: &Path, kind: &str, settings: &Value, away: Duration, wait: Duration) {
    std::fs::create_dir_all(dir).unwrap();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let (away, wait) = (millis(away), millis(wait));
    let job = json!({ "kind": kind, "settings": settings, "away": away, "wait": wait });
    std::fs::write(dir.join("job"), job.to_string()).unwrap();
}

/// The test that is none where the program is not told to be a host.
#[test]
fn be_a_host() {
    let Some(dir) = std::env::var_os(ROLE) else {
        return;
    };
    let dir = Path::new(&dir).to_owned();
    let job: Value = serde_json::from_slice(&std::fs::read(dir.join("job")).unwrap()).unwrap();
    let millis = |key: &str| Duration::from_millis(job[key].as_u64().unwrap());
    let root = Root::at(&dir);
    let outcome = drain(&dir, &job, millis("wait"));
    note(&dir, &format!("ended {outcome:?}"));
    if outcome == Outcome::Drained {
        // Its reboot: nobody runs here.
        std::thread::sleep(millis("away"));
        let store = Store::open(&root).unwrap();
        let deadline = Deadline::after(GENEROUS);
        let receipts = store.book().map(|book| book.receipts).unwrap_or_default();
        rejoin::undo(&Root::host(), &store, receipts, deadline, |pool, result| {
            assert!(result.is_ok(), "{pool}: {result:?}");
        });
        note(&dir, "in");
        while slot::give_back(
            &Root::host(),
            &store,
            Deadline::after(Duration::from_secs(5)),
        )
        .is_err()
        {
            std::thread::sleep(Duration::from_millis(200));
        }
        note(&dir, "done");
    }
}

fn drain(dir: &Path, job: &Value, wait: Duration) -> Outcome {
    let mut target = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let policy = Policy { wait, refuse: true };
    let order = Order {
        root: Root::host(),
        state: Root::at(dir),
        target: Target::Process {
            pid: target.id(),
            name: "sleep".to_owned(),
        },
        settings: Settings {
            pools: vec![PoolSpec {
                name: "file".to_owned(),
                kind: "health-file".to_owned(),
                limit: Duration::from_secs(15),
                settings: json!({ "path": dir.join("draining"), "leave": "create" }),
            }],
            stand_ins: Vec::new(),
            settle: SettleSettings {
                min: Duration::ZERO,
                quiet: Duration::ZERO,
                max: Duration::from_secs(1),
            },
            guard: GuardSettings {
                others: 0,
                ..GuardSettings::default()
            },
            fleet: Some(FleetSettings {
                spec: FleetSpec {
                    kind: job["kind"].as_str().unwrap().to_owned(),
                    settings: job["settings"].clone(),
                },
                policies: Policies {
                    shutdown: policy,
                    restart: policy,
                    by_hand: policy,
                },
            }),
            ..Settings::default()
        },
        notes: Vec::new(),
        as_hook: false,
        limit: None,
    };
    let report = engine::run(&order, channel(), &mut |_, event| match event {
        Event::Pool {
            step: PoolStep::Receipt,
            ..
        } => note(dir, "out"),
        Event::Phase {
            phase: Phase::Queueing,
        } => note(dir, "waits"),
        _ => {}
    });
    let _ = target.kill();
    let _ = target.wait();
    report.outcome
}

/// A line with its time, for the test to read: `1234567 out`.
fn note(dir: &Path, what: &str) {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("story"))
        .unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    file.write_all(format!("{now} {what}\n").as_bytes())
        .unwrap();
}
