//! What every test of a pool needs.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use drainctl::config::{PoolSpec, read_alone};
use drainctl::pools::{self, Context, KINDS, Looked, Membership, Pool, PoolError};
use drainctl::world::http::{Client, Endpoint, Response, Tls};
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

/// What the type `kind` reads of a table in the config, or its faults.
pub(crate) fn read(kind: &str, root: Option<&Root>, text: &str) -> String {
    let kind = KINDS.iter().find(|one| one.name == kind).unwrap();
    match read_alone(text, root, kind.settings) {
        Ok(settings) => settings.to_string(),
        Err(faults) => faults.to_string(),
    }
}

/// What is found of the type `kind` on the host at `root`.
pub(crate) fn find(kind: &str, root: &Root, start: &Value) -> Looked {
    let kind = KINDS.iter().find(|one| one.name == kind).unwrap();
    let cx = Context {
        deadline: Deadline::after(GENEROUS),
        root: root.clone(),
    };
    (kind.find.unwrap())(&cx, start)
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

/// One request of a test's own.
pub(crate) fn ask(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Result<Response, String> {
    let endpoint = Endpoint::parse(address).unwrap();
    Client::new(&endpoint, &Tls::default())
        .unwrap()
        .request(method, path, headers, body, Deadline::after(GENEROUS))
        .map_err(|error| error.to_string())
}

/// Says that `what` can't be tested here, and why. Not by `eprintln!`, which the test harness keeps to itself.
pub(crate) fn skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}

/// As [`skipped`], for what `cargo xtask` provides.
pub(crate) fn not_provided(what: &str) {
    skipped(
        what,
        "not on this machine; `cargo xtask test` as root provides it",
    );
}

/// The cache of `cargo xtask`.
pub(crate) fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.map(|cache| cache.join("drainctl"))
}

/// The program `name`: the one that `$variable` names, the first in `folders`, or the one installed.
pub(crate) fn program(variable: &str, folders: Vec<PathBuf>, name: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// A port that is free over TCP and UDP at this moment.
pub(crate) fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A process of a test's own, which ends with it. Where the test fails, it says its last words.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The hard way.
    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("last words, latest first:\n{}", tail.join("\n"));
        }
    }
}
