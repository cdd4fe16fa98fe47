//! The firewall where nft misbehaves. Another program takes its place, in a mount namespace that ends with the process: this one, started anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use drainctl::pools::{Context, Membership};
use drainctl::world::{Deadline, Root};
use serde_json::json;

use crate::support::{GENEROUS, pool, skipped};

/// What the process that is started anew expects of it.
const EXPECTED: &str = "DRAINCTL_TEST_NFT";

/// In place of nft, and what comes of it; nothing: it is gone.
const FAULTS: &[(&str, &str, &str)] = &[
    ("missing", "", "Local: install the package nftables"),
    (
        "hangs",
        "sleep 1000 & sleep 1000",
        "TimedOut: did not end in time",
    ),
    ("floods", "cat /dev/zero", "Local: wrote more than"),
    ("garbage", "echo '{'", "BadAnswer: not the JSON"),
    (
        "other JSON",
        "echo '{\"nftables\":7}'",
        "BadAnswer: not the JSON",
    ),
    (
        "refused",
        "echo 'Operation not permitted' >&2; exit 1",
        "Refused: CAP_NET_ADMIN",
    ),
    (
        "an old kernel",
        "echo 'Could not process rule: No such file or directory' >&2; exit 1",
        "Local: Could not process rule",
    ),
    ("killed", "kill -9 $$", "Local: nft"),
];

#[test]
fn whatever_nft_does_is_an_error_of_its_kind_by_the_deadline() {
    if !rustix::process::geteuid().is_root() {
        return skipped("nft misbehaves", "needs root for a mount namespace");
    }
    let nft = Command::new("sh").args(["-c", "command -v nft"]).output();
    let nft = String::from_utf8(nft.unwrap().stdout).unwrap();
    if nft.is_empty() {
        return skipped("nft misbehaves", "no nft on this machine");
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, text, expected) in FAULTS {
        let fake = dir.path().join("fake");
        fs::write(&fake, format!("#!/bin/sh\n{text}\n")).unwrap();
        // What can't be executed is as good as not there.
        let mode = if text.is_empty() { 0o644 } else { 0o755 };
        fs::set_permissions(&fake, fs::Permissions::from_mode(mode)).unwrap();
        let output = Command::new("unshare")
            .args(["-m", "sh", "-ec"])
            .arg("for nft in /usr/sbin/nft /usr/bin/nft /sbin/nft; do test ! -e $nft || mount --bind \"$1\" $nft; done; shift; exec \"$@\"")
            .arg("sh")
            .arg(&fake)
            .arg(std::env::current_exe().unwrap())
            .args(["nft_faults::with_another_nft", "--exact", "--nocapture"])
            .env(EXPECTED, expected)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("4 of 4"),
            "{name}: {said}"
        );
    }
}

/// Nothing where nobody starts it for that.
#[test]
fn with_another_nft() {
    let Ok(expected) = std::env::var(EXPECTED) else {
        return;
    };
    let (kind, text) = expected.split_once(": ").unwrap();
    let pool = pool("firewall", json!({ "ports": [8080] }));
    let limit = if kind == "TimedOut" {
        Duration::from_millis(200)
    } else {
        GENEROUS
    };
    let cx = || Context {
        deadline: Deadline::after(limit),
        root: Root::host(),
    };
    let before = json!({ "mark": "drainctl: draining this host (x, 1)", "ports": [8080] });
    let errors = [
        pool.prepare(&cx()).err(),
        pool.leave(&cx(), &before).err(),
        pool.status(&cx()).err(),
        pool.rejoin(&cx(), &before).err(),
    ];
    let mut as_expected = 0;
    for error in errors.into_iter().flatten() {
        assert_eq!(format!("{:?}", error.kind()), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        as_expected += 1;
    }
    assert_ne!(pool.status(&cx()).ok(), Some(Membership::Out));
    println!("{as_expected} of 4");
}
