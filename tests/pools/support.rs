//! What every test of a pool needs.

use std::path::Path;
use std::time::{Duration, Instant};

use drainctl::config::PoolSpec;
use drainctl::pools::{self, Context, Membership, Pool, PoolError};
use drainctl::world::{Deadline, Root};
use serde_json::Value;

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const GENEROUS: Duration = Duration::from_secs(30);

/// A call with all the time it needs, on the file system below `dir`.
pub(crate) fn cx(dir: &Path) -> Context {
    Context {
        deadline: Deadline::after(GENEROUS),
        root: Root::at(dir),
    }
}

pub(crate) fn spec(kind: &str, settings: Value) -> PoolSpec {
    PoolSpec {
        name: "test".to_owned(),
        kind: kind.to_owned(),
        limit: GENEROUS,
        settings,
    }
}

pub(crate) fn pool(kind: &str, settings: Value) -> Box<dyn Pool> {
    pools::build(&spec(kind, settings)).unwrap()
}

/// Looks until `seen` holds.
pub(crate) fn eventually(what: &str, mut seen: impl FnMut() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < GENEROUS, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Until the pool says `wanted`; errors on the way are those of a server that is still starting.
pub(crate) fn becomes(pool: &dyn Pool, dir: &Path, wanted: Membership) {
    let mut last = None;
    eventually(&format!("{wanted:?}"), || {
        let now = pool.status(&cx(dir));
        let there = now.as_ref().is_ok_and(|now| *now == wanted);
        if !there {
            let now = format!("{now:?}");
            if last.as_ref() != Some(&now) {
                eprintln!("    status: {now}");
                last = Some(now);
            }
        }
        there
    });
}

/// The error as a user or a log can see it, checked for `secret`.
pub(crate) fn said(error: &PoolError, secret: &str) -> String {
    let said = format!("{error} {error:?} {error:#?}");
    assert!(!said.contains(secret), "a secret is told: {said}");
    said
}
