//! Probes against the real servers, with a request in flight and without, and a drain that nothing but a probe holds.

#![cfg(test)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use drainctl::config::{ProbeSpec, Settings, SettleSettings};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::event::{Event, Phase};
use drainctl::drain::outcome::Count;
use drainctl::drain::{Outcome, Target};
use drainctl::probes;
use drainctl::world::{Deadline, Root};
use serde_json::{Value, json};

/// Late enough for a busy machine.
const GENEROUS: Duration = Duration::from_secs(60);

/// A process that ends with its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The program, or a word that the test is skipped: not `eprintln!`, which the harness keeps to itself.
fn program(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = cache
        .map(|cache| cache.join("drainctl/envoy/envoy/_bin"))
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        let line = format!("SKIPPED probes: no {name}; `cargo xtask test` as root provides one\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    found
}

/// An HTTP server that answers a request once it is told to.
struct Backend {
    port: u16,
    release: Sender<()>,
}

impl Backend {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (release, released) = channel::<()>();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                if released.recv().is_err() {
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = stream.write_all(answer);
            }
        });
        Self { port, release }
    }
}

fn spawn(program: &Path, arguments: &[&str]) -> Started {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Started(child.unwrap())
}

fn spec(kind: &str, settings: Value) -> ProbeSpec {
    ProbeSpec {
        name: "edge".to_owned(),
        kind: kind.to_owned(),
        limit: GENEROUS,
        settings,
    }
}

/// The probe is asked while nothing is in flight, with one request in flight at `front`, and after its answer.
fn counts(kind: &str, settings: Value, front: u16, backend: &Backend) {
    let probe = probes::build(&spec(kind, settings)).unwrap();
    let until = |want: u64| {
        let end = Instant::now() + GENEROUS;
        loop {
            let count = probe.count(&Root::host(), Deadline::at(end));
            if count.as_ref().is_ok_and(|count| *count == want) {
                return;
            }
            assert!(Instant::now() < end, "{kind}: {count:?}, and not {want}");
            std::thread::yield_now();
        }
    };
    until(0);
    let mut client = TcpStream::connect(("127.0.0.1", front)).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    until(1);
    backend.release.send(()).unwrap();
    let mut answer = [0; 15];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // The client keeps its connection; nothing is in flight on it.
    until(0);
}

#[test]
fn haproxy_counts_what_it_has_given_to_the_server() {
    let Some(haproxy) = program("haproxy") else {
        return;
    };
    let (dir, backend, front) = (tempfile::tempdir().unwrap(), Backend::start(), free_port());
    let socket = dir.path().join("admin.sock");
    let config = format!(
        "global\n stats socket {} mode 600 level user\ndefaults\n mode http\n timeout connect 60s\n timeout client 60s\n \
         timeout server 60s\nfrontend f\n bind 127.0.0.1:{front}\n default_backend web\nbackend web\n server app1 127.0.0.1:{}\n",
        socket.display(),
        backend.port
    );
    let file = dir.path().join("haproxy.cfg");
    fs::write(&file, config).unwrap();
    let _haproxy = spawn(&haproxy, &["-db", "-f", file.to_str().unwrap()]);
    let settings = json!({ "socket": socket, "servers": ["web/app1"] });
    counts("haproxy", settings, front, &backend);
}

#[test]
fn nginx_counts_what_it_works_on() {
    let Some(nginx) = program("nginx") else {
        return;
    };
    let (dir, backend, front) = (tempfile::tempdir().unwrap(), Backend::start(), free_port());
    let config = format!(
        "daemon off; master_process off; error_log stderr; pid {dir}/pid; events {{}}\nhttp {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n \
         fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n server {{ listen 127.0.0.1:{front};\n \
         location = /status {{ stub_status; }}\n location / {{ proxy_pass http://127.0.0.1:{}; }} }} }}\n",
        backend.port,
        dir = dir.path().display(),
    );
    let file = dir.path().join("nginx.conf");
    fs::write(&file, config).unwrap();
    let _nginx = spawn(
        &nginx,
        &[
            "-c",
            file.to_str().unwrap(),
            "-p",
            dir.path().to_str().unwrap(),
        ],
    );
    let url = format!("http://127.0.0.1:{front}/status");
    counts("nginx", json!({ "url": url }), front, &backend);
}

#[test]
fn envoy_counts_its_active_requests() {
    let Some(envoy) = program("envoy") else {
        return;
    };
    let (dir, backend) = (tempfile::tempdir().unwrap(), Backend::start());
    let (front, admin) = (free_port(), free_port());
    let socket =
        |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let of = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    let manager = json!({
        "@type": of("network.http_connection_manager.v3.HttpConnectionManager"), "stat_prefix": "web",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "app", "timeout": "0s" } }] }] },
        "http_filters": [{ "name": "router", "typed_config": { "@type": of("http.router.v3.Router") } }],
    });
    let endpoint = json!({ "endpoint": { "address": socket(backend.port) } });
    let config = json!({
        "admin": { "address": socket(admin) },
        "static_resources": {
            "listeners": [{ "name": "web", "address": socket(front),
                "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }] }],
            "clusters": [{ "name": "app", "type": "STATIC", "connect_timeout": "60s",
                "load_assignment": { "cluster_name": "app", "endpoints": [{ "lb_endpoints": [endpoint] }] } }],
        },
    });
    let file = dir.path().join("envoy.json");
    fs::write(&file, config.to_string()).unwrap();
    let _envoy = spawn(
        &envoy,
        &[
            "-c",
            file.to_str().unwrap(),
            "--concurrency",
            "1",
            "--disable-hot-restart",
        ],
    );
    let settings = json!({ "address": format!("http://127.0.0.1:{admin}") });
    counts("envoy", settings, front, &backend);
}

/// A program that prints what `file` holds.
fn reader(dir: &Path, file: &Path) -> PathBuf {
    let program = dir.join("in-flight");
    fs::write(
        &program,
        format!("#!/bin/sh\nread n < {}; echo $n\n", file.display()),
    )
    .unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    program
}

fn order(state: &Path, pid: u32, probe: ProbeSpec, limit: Duration) -> Order {
    Order {
        root: Root::host(),
        state: Root::at(state),
        target: Target::Process {
            pid,
            name: "sleep".to_owned(),
        },
        settings: Settings {
            pools: Vec::new(),
            probes: vec![probe],
            settle: SettleSettings {
                min: Duration::ZERO,
                quiet: Duration::ZERO,
                max: Duration::from_secs(5),
            },
            ..Settings::default()
        },
        notes: Vec::new(),
        as_hook: false,
        limit: Some(limit),
    }
}

#[test]
fn a_drain_waits_for_what_only_a_probe_sees_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let number = dir.path().join("number");
    fs::write(&number, "2\n").unwrap();
    let probe = spec("command", json!({ "argv": [reader(dir.path(), &number)] }));
    let target = Started(Command::new("sleep").arg("600").spawn().unwrap());
    let order = order(dir.path(), target.0.id(), probe, GENEROUS);
    let mut held = false;
    let report = engine::run(&order, channel(), &mut |_, event| {
        if let Event::Looked(looked) = event
            && looked.programs == [("probe edge".to_owned(), 2)]
        {
            held = true;
        }
        // It is waited for by now: the requests end.
        if held
            && matches!(
                event,
                Event::Phase {
                    phase: Phase::Waiting
                } | Event::Looked(_)
            )
        {
            fs::write(&number, "0\n").unwrap();
        }
    });
    assert!(held, "{report:?}");
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.in_flight, Count::Exactly(0), "{report:?}");
}

#[test]
fn a_probe_that_does_not_answer_is_busy_until_the_deadline_and_never_zero() {
    let dir = tempfile::tempdir().unwrap();
    let probe = spec("command", json!({ "argv": ["/bin/false"] }));
    let target = Started(Command::new("sleep").arg("600").spawn().unwrap());
    let order = order(dir.path(), target.0.id(), probe, Duration::from_secs(2));
    let report = engine::run(&order, channel(), &mut |_, _| {});
    assert_eq!(report.outcome, Outcome::DeadlineHit, "{report:?}");
    assert_eq!(report.in_flight, Count::Unknown, "{report:?}");
    let noted = report
        .notes
        .iter()
        .filter(|note| note.contains("/bin/false"));
    assert_eq!(noted.count(), 1, "{report:?}");
}
