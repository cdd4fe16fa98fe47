//! The drain of a process, with pools that misbehave.

use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use drainctl::config::{PoolSpec, Settings, SettleSettings};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::{Outcome, Target};
use drainctl::world::Root;
use rustix::fs::{CWD, FileType, Mode, mknodat};

#[test]
fn a_pool_that_hangs_is_given_up_at_its_limit_and_not_at_the_drains() {
    let dir = tempfile::tempdir().unwrap();
    // Opening a pipe waits for its writer, as a file on a dead server waits for ever.
    let token = dir.path().join("token");
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, &token, FileType::Fifo, mode, 0).unwrap();
    let pool = PoolSpec {
        name: "consul".to_owned(),
        kind: "consul".to_owned(),
        limit: Duration::from_millis(100),
        settings: serde_json::json!({ "address": "http://127.0.0.1:1", "token_file": token }),
    };
    let mut target = Command::new("sleep").arg("600").spawn().unwrap();
    let order = Order {
        root: Root::host(),
        state: Root::at(dir.path()),
        target: Target::Process {
            pid: target.id(),
            name: "sleep".to_owned(),
        },
        settings: Settings {
            pools: vec![pool],
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
    let report = engine::run(&order, channel(), &mut |_, _| {});
    target.kill().unwrap();
    target.wait().unwrap();
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.exit, 4, "{report:?}");
    assert!(report.pools[0].error.is_some(), "{report:?}");
}
