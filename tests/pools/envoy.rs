//! Envoy, for real: one process for each test, its admin interface over TCP or behind a Unix socket.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use drainctl::config::read_alone;
use drainctl::pools::{Context, KINDS, Membership, PoolErrorKind, Rejoined};
use drainctl::world::http::{Client, Endpoint, Tls};
use drainctl::world::{Deadline, Root};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bad_server::{Answer, BadServer};
use crate::conformance::Fixture;
use crate::support::{GENEROUS, cx, eventually, pool};

struct Envoy {
    dir: TempDir,
    /// None: behind a Unix socket.
    admin: Option<u16>,
    web: u16,
    child: Child,
}

/// `$DRAINCTL_TEST_ENVOY`, the one in the cache of `cargo xtask`, or the one installed.
fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("DRAINCTL_TEST_ENVOY") {
        return Some(named.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let cached = cache.map(|cache| cache.join("drainctl/envoy/envoy/_bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    cached
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join("envoy"))
        .find(|file| file.is_file())
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Envoy {
    fn start(tcp: bool) -> Option<Self> {
        let Some(binary) = binary() else {
            // Not `eprintln!`, which the test harness keeps to itself.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED envoy: no Envoy binary; `cargo xtask test` as root provides one"
            );
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let (admin, web) = (tcp.then(free_port), free_port());
        let socket =
            |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
        let pipe = json!({ "pipe": { "path": dir.path().join("admin.sock") } });
        let of = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
        let answer = json!({ "match": { "prefix": "/" }, "direct_response": { "status": 200 } });
        let manager = json!({
            "@type": of("network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "web",
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [answer] }] },
            "http_filters": [
                { "name": "health", "typed_config": {
                    "@type": of("http.health_check.v3.HealthCheck"), "pass_through_mode": false,
                    "headers": [{ "name": ":path", "string_match": { "exact": "/health" } }] } },
                { "name": "router", "typed_config": { "@type": of("http.router.v3.Router") } },
            ],
        });
        let filters = json!([{ "name": "http", "typed_config": manager }]);
        let config = json!({
            "admin": { "address": admin.map_or(pipe, socket) },
            "static_resources": { "listeners": [
                { "name": "web", "address": socket(web), "filter_chains": [{ "filters": filters }] },
            ] },
        });
        fs::write(dir.path().join("envoy.json"), config.to_string()).unwrap();
        let child = spawn(&binary, dir.path());
        let envoy = Self {
            dir,
            admin,
            web,
            child,
        };
        envoy.wait_until_ready();
        Some(envoy)
    }

    fn address(&self) -> String {
        match self.admin {
            Some(port) => format!("http://127.0.0.1:{port}"),
            None => format!("unix://{}/admin.sock", self.dir.path().display()),
        }
    }

    fn wait_until_ready(&self) {
        eventually("Envoy answers", || {
            ask(&self.address(), "GET", "/ready").is_some_and(|(status, _)| status == 200)
        });
    }

    /// What a balancer's check sees.
    fn health(&self) -> u16 {
        ask(&format!("http://127.0.0.1:{}", self.web), "GET", "/health")
            .unwrap()
            .0
    }
}

fn ask(address: &str, method: &str, path: &str) -> Option<(u16, String)> {
    let client = Client::new(&Endpoint::parse(address).unwrap(), &Tls::default()).unwrap();
    let answer = client
        .request(method, path, &[], None, Deadline::after(GENEROUS))
        .ok()?;
    Some((answer.status, String::from_utf8(answer.body).unwrap()))
}

fn spawn(binary: &Path, dir: &Path) -> Child {
    /// Two with one id would take each other for a predecessor.
    static IDS: AtomicU32 = AtomicU32::new(0);
    let id = std::process::id() % 100_000 * 100 + IDS.fetch_add(1, Ordering::Relaxed);
    let log = fs::File::create(dir.join("log")).unwrap();
    Command::new(binary)
        .args(["--log-level", "error", "--concurrency", "1", "--base-id"])
        .arg(id.to_string())
        .arg("-c")
        .arg(dir.join("envoy.json"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "{}",
                fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            );
        }
    }
}

pub(crate) fn fixtures() -> Vec<Box<dyn Fixture>> {
    [true, false]
        .into_iter()
        .filter_map(|tcp| Some(Box::new(Envoy::start(tcp)?) as Box<dyn Fixture>))
        .collect()
}

impl Fixture for Envoy {
    fn name(&self) -> &'static str {
        if self.admin.is_some() { "tcp" } else { "unix" }
    }

    fn settings(&self) -> Value {
        json!({ "address": self.address(), "a key of a later version": 1 })
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn state(&self) -> Value {
        json!([self.health(), ask(&self.address(), "GET", "/ready")])
    }

    fn take_out(&self) {
        assert_eq!(
            ask(&self.address(), "POST", "/healthcheck/fail").unwrap().0,
            200
        );
    }

    fn put_back(&self) {
        assert_eq!(
            ask(&self.address(), "POST", "/healthcheck/ok").unwrap().0,
            200
        );
    }

    fn is_taken_out(&self) -> bool {
        self.health() == 503
    }

    fn mark_is_absence(&self) -> bool {
        true
    }

    /// It keeps nothing: see `a_restarted_envoy_is_in_again`.
    fn restart(&mut self) {}

    fn receipt_0_1(&self) -> Value {
        self.take_out();
        let text = include_str!("receipts/envoy-0.1.json").replace("ADDRESS", &self.address());
        serde_json::from_str(&text).unwrap()
    }
}

#[test]
fn a_restarted_envoy_is_in_again() {
    let Some(mut envoy) = Envoy::start(true) else {
        return;
    };
    let pool = pool("envoy", envoy.settings());
    let dir = tempfile::tempdir().unwrap();
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    assert_eq!(
        (envoy.health(), pool.status(&cx(dir.path())).unwrap()),
        (503, Membership::Out)
    );
    envoy.child.kill().unwrap();
    envoy.child.wait().unwrap();
    envoy.child = spawn(&binary().unwrap(), envoy.dir.path());
    envoy.wait_until_ready();
    assert_eq!(
        (envoy.health(), pool.status(&cx(dir.path())).unwrap()),
        (200, Membership::In)
    );
    // The engine sees that and asks again; and a rejoin finds nothing to undo.
    assert_eq!(
        pool.rejoin(&cx(dir.path()), &before).unwrap(),
        Rejoined::Restored
    );
    pool.leave(&cx(dir.path()), &before).unwrap();
    assert_eq!(pool.status(&cx(dir.path())).unwrap(), Membership::Out);
}

#[test]
fn every_misbehaviour_is_an_error_of_its_kind_by_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let body = |text: &str| Answer::Bodies(vec![("/", text.as_bytes().to_vec())]);
    let redirect =
        "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    for (answer, kind) in [
        (Answer::Hang, PoolErrorKind::TimedOut),
        (Answer::Trickle, PoolErrorKind::TimedOut),
        (Answer::Reset, PoolErrorKind::Unreachable),
        (
            Answer::Raw(redirect.as_bytes().to_vec()),
            PoolErrorKind::BadAnswer,
        ),
        (Answer::Echo(403), PoolErrorKind::Refused),
        (Answer::Echo(404), PoolErrorKind::BadAnswer),
        (Answer::Echo(503), PoolErrorKind::Unreachable),
        (body("DRAINING"), PoolErrorKind::BadAnswer),
        (body("{}"), PoolErrorKind::BadAnswer),
        (body(r#"{"state":"DRAINED"}"#), PoolErrorKind::BadAnswer),
    ] {
        let server = BadServer::start(answer.clone());
        let pool = pool("envoy", json!({ "address": server.address() }));
        let limit = if kind == PoolErrorKind::TimedOut {
            Duration::from_millis(200)
        } else {
            GENEROUS
        };
        let cx = || Context {
            deadline: Deadline::after(limit),
            root: Root::at(dir.path()),
        };
        let before = json!({ "failing": false });
        let mut errors = vec![
            pool.prepare(&cx()).err(),
            pool.status(&cx()).err(),
            pool.rejoin(&cx(), &before).err(),
        ];
        // Its answer to this says nothing; only the state counts.
        if !matches!(answer, Answer::Bodies(_)) {
            errors.push(pool.leave(&cx(), &before).err());
        }
        for error in errors {
            let error = error.unwrap_or_else(|| panic!("{answer:?} is taken for an answer"));
            assert_eq!(error.kind(), kind, "{answer:?}: {error}");
        }
    }
}

#[test]
fn settings_are_checked_with_their_lines() {
    let kind = KINDS.iter().find(|kind| kind.name == "envoy").unwrap();
    let read = |text: &str| match read_alone(text, None, kind.settings) {
        Ok(settings) => settings.to_string(),
        Err(faults) => faults.to_string(),
    };
    assert_eq!(read(""), r#"{"address":"http://127.0.0.1:9901"}"#);
    assert!(read("\naddress = \"127.0.0.1:9901\"").starts_with("text:2: address: "));
}
