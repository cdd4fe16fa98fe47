//! A drain of programs whose ports nobody has asked before what they speak: it asks them itself, beside its looks.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use drainctl::config::{PoolSpec, PortRule, PortSettings, Settings, SettleSettings};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::{Outcome, Report, Target};
use drainctl::world::Root;
use serde_json::json;

/// A program; it says its port, and each thing that happens.
struct Server {
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Server {
    /// None, loudly, where there is no Python for `test`.
    fn start(test: &str, arguments: &[&str]) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/unprobed.py");
        let child = Command::new("python3")
            .arg("-u")
            .arg(script)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("SKIPPED {test}: needs python3");
            return None;
        };
        let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = says.next().unwrap().unwrap().parse().unwrap();
        Some(Self { child, says, port })
    }

    fn wait_for(&mut self, word: &str) {
        assert!(self.says.any(|line| line.unwrap() == word), "no {word}");
    }

    fn drain(&self, dir: &Path, change: impl FnOnce(&mut Settings)) -> Report {
        let mark = dir.join("draining");
        let mut settings = Settings {
            pools: vec![PoolSpec {
                name: "health-file".to_owned(),
                kind: "health-file".to_owned(),
                limit: Duration::from_secs(5),
                settings: json!({ "path": mark, "leave": "create" }),
            }],
            // Over long before the answers come.
            settle: SettleSettings {
                min: Duration::from_secs(1),
                quiet: Duration::from_secs(1),
                max: Duration::from_secs(20),
            },
            ..Settings::default()
        };
        change(&mut settings);
        let order = Order {
            root: Root::host(),
            state: Root::at(dir),
            target: Target::Process {
                pid: self.child.id(),
                name: "server".to_owned(),
            },
            settings,
            notes: Vec::new(),
            as_hook: false,
            limit: None,
        };
        engine::run(&order, channel(), &mut |_, _| {})
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// A call that the server answers seconds later, and a ping that it answers meanwhile: what was sent last is no answer.
fn call(port: u16) -> thread::JoinHandle<Instant> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(SETTINGS, 0, 0, &[]));
    begin.extend(frame(HEADERS, 5, 1, &[0x82; 150]));
    stream.write_all(&begin).unwrap();
    thread::spawn(move || {
        let mut head = [0; 9];
        let mut pinged = false;
        loop {
            stream.read_exact(&mut head).unwrap();
            let mut payload = vec![0; usize::from(head[2])];
            stream.read_exact(&mut payload).unwrap();
            match head[3] {
                HEADERS => return Instant::now(),
                SETTINGS if !pinged => {
                    pinged = true;
                    stream.write_all(&frame(PING, 0, 0, &[7; 8])).unwrap();
                }
                _ => {}
            }
        }
    })
}

#[test]
fn a_call_over_http_2_on_a_new_port_is_finished() {
    let Some(mut server) = Server::start("a_call_over_http_2_on_a_new_port_is_finished", &["h2"])
    else {
        return;
    };
    let called = call(server.port);
    server.wait_for("ping");
    let dir = tempfile::tempdir().unwrap();
    // A ping and its answer share a tick: no doubt is to hold it for long.
    let hold = Duration::from_secs(1);
    let report = server.drain(dir.path(), |settings| settings.watch.uncertain_hold = hold);
    let ended = Instant::now();
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert!(called.join().unwrap() < ended, "{report:?}");
    // A port with a rule of its own is not asked: what was sent last is an answer then.
    let called = call(server.port);
    server.wait_for("ping");
    let report = server.drain(dir.path(), |settings| {
        settings.watch.uncertain_hold = hold;
        let rule = Some(PortRule::Requests);
        let ports = &mut settings.watch.ports;
        let settings = PortSettings {
            rule,
            ..PortSettings::default()
        };
        ports.insert(server.port, settings);
    });
    let ended = Instant::now();
    assert!(called.join().unwrap() > ended, "{report:?}");
}

#[test]
fn a_first_request_over_tls_on_a_new_port_is_finished_however_long_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let (key, certificate) = (dir.path().join("key"), dir.path().join("certificate"));
    let pair = rcgen::KeyPair::generate().unwrap();
    let signed = rcgen::CertificateParams::new(["lab".to_owned()])
        .unwrap()
        .self_signed(&pair)
        .unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    std::fs::write(&certificate, signed.pem()).unwrap();
    let [key, certificate] = [&key, &certificate].map(|path| path.to_str().unwrap());
    let name = "a_first_request_over_tls_on_a_new_port_is_finished_however_long_it_takes";
    let Some(mut server) = Server::start(name, &["tls", certificate, key]) else {
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/unprobed.py");
    let client = Command::new("python3")
        .args([script, "client", &server.port.to_string()])
        .stdout(Stdio::piped())
        .spawn();
    let client = thread::spawn(|| {
        let mut client = client.unwrap();
        let mut said = String::new();
        let mut says = BufReader::new(client.stdout.take().unwrap());
        says.read_line(&mut said).unwrap();
        let at = Instant::now();
        client.wait().unwrap();
        (said, at)
    });
    server.wait_for("request");
    let report = server.drain(dir.path(), |settings| {
        settings.watch.uncertain_hold = Duration::from_secs(1);
    });
    let ended = Instant::now();
    let (answer, at) = client.join().unwrap();
    assert_eq!(answer, "answered\n");
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert!(at < ended, "{report:?}");
}

#[test]
fn its_own_questions_are_no_traffic_and_nobody_waits_for_them() {
    let name = "its_own_questions_are_no_traffic_and_nobody_waits_for_them";
    // One closes at once, one never says a word.
    for kind in ["closes", "silent"] {
        let Some(mut server) = Server::start(name, &[kind]) else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let quiet = Duration::from_secs(30);
        let began = Instant::now();
        let report = server.drain(dir.path(), |settings| {
            settings.settle = SettleSettings {
                min: Duration::from_secs(1),
                quiet,
                max: quiet * 2,
            };
        });
        assert!(began.elapsed() < quiet, "{report:?}");
        assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
        assert!(report.cut.is_empty(), "{report:?}");
        server.wait_for("connection");
    }
}
