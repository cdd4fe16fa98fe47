//! Envoy, for real: one process for each test, its admin interface over TCP or behind a Unix socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use drainctl::pools::{Membership, Rejoined};
use drainctl::world::Root;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conformance::Fixture;
use crate::support::{
    Daemon, ask, cache, cx, eventually, find, free_port, not_provided, pool, program, read,
};

struct Envoy {
    dir: TempDir,
    /// None: behind a Unix socket.
    admin: Option<u16>,
    web: u16,
    process: Daemon,
}

/// `$DRAINCTL_TEST_ENVOY`, the one in the cache of `cargo xtask`, or the one installed.
fn binary() -> Option<PathBuf> {
    let cached = cache().map(|cache| cache.join("envoy/envoy/_bin"));
    program("DRAINCTL_TEST_ENVOY", cached.into_iter().collect(), "envoy")
}

impl Envoy {
    fn start(tcp: bool) -> Option<Self> {
        Self::at(tcp.then(free_port))
    }

    /// With its admin interface on this port.
    fn at(admin: Option<u16>) -> Option<Self> {
        let Some(binary) = binary() else {
            not_provided("envoy");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let web = free_port();
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
        let process = spawn(&binary, dir.path());
        let envoy = Self {
            dir,
            admin,
            web,
            process,
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
            self.try_admin("GET", "/ready")
                .is_some_and(|(status, _)| status == 200)
        });
    }

    /// What a balancer's check sees.
    fn health(&self) -> u16 {
        let address = format!("http://127.0.0.1:{}", self.web);
        ask(&address, "GET", "/health", &[], None).unwrap().status
    }

    fn try_admin(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let answer = ask(&self.address(), method, path, &[], None).ok()?;
        Some((answer.status, String::from_utf8(answer.body).unwrap()))
    }

    fn post(&self, path: &str) {
        assert_eq!(self.try_admin("POST", path).unwrap().0, 200);
    }
}

fn spawn(binary: &Path, dir: &Path) -> Daemon {
    /// Two with one id would take each other for a predecessor.
    static IDS: AtomicU32 = AtomicU32::new(0);
    let id = std::process::id() % 100_000 * 100 + IDS.fetch_add(1, Ordering::Relaxed);
    let mut command = Command::new(binary);
    command
        .args([
            "--log-level",
            "error",
            "--concurrency",
            "1",
            "--drain-time-s",
            "1",
            "--base-id",
        ])
        .arg(id.to_string())
        .arg("-c")
        .arg(dir.join("envoy.json"));
    Daemon::start(&mut command, dir.join("log"))
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
        json!([self.health(), self.try_admin("GET", "/ready")])
    }

    fn take_out(&self) {
        self.post("/healthcheck/fail");
    }

    fn put_back(&self) {
        self.post("/healthcheck/ok");
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
    envoy.process.end();
    envoy.process = spawn(&binary().unwrap(), envoy.dir.path());
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
fn drained_listeners_stay_open_and_the_process_lives() {
    let Some(mut envoy) = Envoy::start(false) else {
        return;
    };
    let mut settings = envoy.settings();
    settings["drain_listeners"] = true.into();
    let pool = pool("envoy", settings);
    let dir = tempfile::tempdir().unwrap();
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    pool.rejoin(&cx(dir.path()), &before).unwrap();
    // Its drain time is over once every answer says that the connection ends.
    let closed = || {
        let (_, stats) = envoy
            .try_admin("GET", "/stats?filter=web.downstream_cx_drain_close")
            .unwrap();
        let count = stats.trim().rsplit(' ').next().unwrap().to_owned();
        count.parse::<u64>().unwrap()
    };
    eventually("connections are drained", || {
        let before = closed();
        (0..5).all(|_| envoy.health() == 200) && closed() == before + 5
    });
    assert!(envoy.process.is_running());
    assert_eq!(
        (envoy.health(), pool.status(&cx(dir.path())).unwrap()),
        (200, Membership::In)
    );
}

#[test]
fn it_is_found_by_the_ports_that_its_admin_interface_usually_has() {
    let usual = [9901, 15000, 19000];
    let free = usual
        .into_iter()
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let Some(_envoy) = free.and_then(|port| Envoy::at(Some(port))) else {
        return;
    };
    let looked = find("envoy", &Root::host(), &json!({}));
    let [pool] = &looked.found[..] else {
        panic!("{looked:?}");
    };
    let address = pool.keys[0].1.as_str().unwrap();
    assert!(
        usual
            .iter()
            .any(|port| address == format!("http://127.0.0.1:{port}"))
    );
    assert_eq!(
        pool.why,
        format!("Envoy's admin interface answers at {address}")
    );
}

#[test]
fn settings_are_checked_with_their_lines() {
    let read = |text: &str| read("envoy", None, text);
    assert_eq!(
        read(""),
        r#"{"address":"http://127.0.0.1:9901","drain_listeners":false}"#
    );
    assert!(read("\naddress = \"127.0.0.1:9901\"").starts_with("text:2: address: "));
}
