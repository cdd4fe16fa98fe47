//! The drain of a process, with pools and disks that misbehave.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::channel;
use std::time::Duration;

use drainctl::config::{PoolSpec, Settings, SettleSettings};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::{Cause, Outcome, Report, Target};
use drainctl::receipts::{RECEIPTS, Run, Store};
use drainctl::world::Root;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

struct Server(Child);

impl Server {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opening it waits for its writer, as a file on a dead server waits for ever.
fn hanging(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
}

/// Drains a process whose one pool is of this kind, with the state below `dir`.
fn drain(dir: &Path, kind: &str, limit: Duration, settings: Value) -> Report {
    let server = Server::start();
    let order = Order {
        root: Root::host(),
        state: Root::at(dir),
        target: Target::Process {
            pid: server.0.id(),
            name: "sleep".to_owned(),
        },
        settings: Settings {
            pools: vec![PoolSpec {
                name: kind.to_owned(),
                kind: kind.to_owned(),
                limit,
                settings,
            }],
            settle: SettleSettings {
                min: Duration::ZERO,
                quiet: Duration::ZERO,
                max: Duration::from_secs(5),
            },
            ..Settings::default()
        },
        notes: Vec::new(),
        as_hook: false,
        limit: None,
    };
    engine::run(&order, channel(), &mut |_, _| {})
}

const SOON: Duration = Duration::from_millis(100);

#[test]
fn a_pool_that_hangs_is_given_up_at_its_limit_and_not_at_the_drains() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    hanging(&token);
    let settings = json!({ "address": "http://127.0.0.1:1", "token_file": token });
    let report = drain(dir.path(), "consul", SOON, settings);
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.exit, 4, "{report:?}");
    assert!(report.pools[0].error.is_some(), "{report:?}");
}

#[test]
fn a_disk_that_hangs_costs_no_drain_and_no_pool_is_changed_without_it() {
    let dir = tempfile::tempdir().unwrap();
    hanging(&Root::at(dir.path()).path(RECEIPTS));
    let mark = dir.path().join("draining");
    let settings = json!({ "path": mark, "leave": "create" });
    let report = drain(dir.path(), "health-file", SOON, settings);
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.exit, 4, "{report:?}");
    let told = |note: &String| note.contains("does not answer");
    assert!(report.notes.iter().any(told), "{report:?}");
    assert!(!mark.exists(), "{report:?}");
}

#[test]
fn a_drain_that_was_killed_keeps_the_time_that_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let state = Root::at(dir.path());
    let (mut run, _) = Run::begin_or_resume(&state);
    run.cause = Cause::Stop;
    run.limit = Settings::default().deadline.restart + Duration::from_secs(600);
    run.write(&state).unwrap();
    let mark = dir.path().join("draining");
    let settings = json!({ "path": mark, "leave": "create" });
    let report = drain(dir.path(), "health-file", Duration::from_secs(10), settings);
    assert_eq!(
        (&report.id, report.limit),
        (&run.id, run.limit),
        "{report:?}"
    );
    assert!(mark.exists() && Store::open(&state).unwrap().book().is_some());
}
