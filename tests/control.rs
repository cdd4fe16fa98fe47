//! A drain that is running is steered: the real engine on a real server, through its socket.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use drainctl::config::{PoolSpec, Settings, SettleSettings, WatchSettings};
use drainctl::drain::control::{Answer, ControlError, Now, Request, ask};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::event::Phase;
use drainctl::drain::{Outcome, Report, Target};
use drainctl::receipts::Store;
use drainctl::world::Root;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
const GENEROUS: Duration = Duration::from_secs(20);

/// A server, a request that it does not answer, and a drain that waits in some phase.
struct Lab {
    dir: tempfile::TempDir,
    server: Child,
    _request: Option<TcpStream>,
    drain: Option<JoinHandle<Report>>,
}

impl Lab {
    /// A drain that stays in `phase` until it is told otherwise.
    fn new(phase: Phase) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("marker");
        let mut server = Command::new(env!("CARGO_BIN_EXE_drainctl"))
            .args(["demo", "backend"])
            .arg(&marker)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let out = server.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut port).unwrap();
        let request = (phase == Phase::Waiting).then(|| {
            let port = port.trim().parse::<u16>().unwrap();
            let mut request = TcpStream::connect(("127.0.0.1", port)).unwrap();
            request
                .write_all(b"GET /slow/600 HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            request
        });
        let mut lab = Self {
            dir,
            server,
            _request: request,
            drain: None,
        };
        lab.start(phase);
        lab
    }

    fn start(&mut self, phase: Phase) {
        let path = self.dir.path().join("pool.sh");
        // A pool that agrees and then never says that the host is out holds the drain in its first phase.
        let out = if phase == Phase::Leaving {
            "leaving"
        } else {
            "out"
        };
        let script = format!(
            "#!/bin/sh\nread line\ncase \"$line\" in *prepare*) echo 1;; *status*) test -e {0}/back && echo '{{\"membership\":\"in\"}}' || \
             echo '{{\"membership\":\"{out}\"}}';; *rejoin*) touch {0}/back;; esac\n",
            self.dir.path().display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let settle = match phase {
            Phase::Settling => MINUTE,
            _ => Duration::from_millis(200),
        };
        let order = Order {
            root: Root::host(),
            state: self.state(),
            target: Target::Process {
                pid: self.server.id(),
                name: "server".to_owned(),
            },
            settings: Settings {
                settle: SettleSettings {
                    min: settle,
                    quiet: settle,
                    max: settle,
                },
                // The request comes as its connection does: what that looks like is not of interest here.
                watch: WatchSettings {
                    pause: MINUTE,
                    uncertain_hold: MINUTE,
                    ..WatchSettings::default()
                },
                pools: vec![PoolSpec {
                    name: "pool".to_owned(),
                    kind: "command".to_owned(),
                    limit: MINUTE,
                    settings: json!({ "argv": [path] }),
                }],
                ..Settings::default()
            },
            notes: Vec::new(),
            as_hook: false,
            limit: Some(MINUTE),
        };
        self.drain = Some(thread::spawn(move || {
            engine::run(&order, channel(), &mut |_, _| {})
        }));
        until(&format!("{phase}"), || {
            self.status()
                .filter(|now| now.phase == phase && now.looked.is_some())
        });
    }

    fn state(&self) -> Root {
        let state = Root::at(self.dir.path());
        std::fs::create_dir_all(state.path("/run/drainctl")).unwrap();
        state
    }

    fn socket(&self) -> PathBuf {
        self.state().path("/run/drainctl/control.sock")
    }

    fn status(&self) -> Option<Now> {
        match ask(&self.state(), Request::Status) {
            Ok(Answer::Status(now)) => Some(*now),
            Err(ControlError::NoDrain) => None,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&self, request: Request) -> Answer {
        ask(&self.state(), request).unwrap()
    }

    /// One that ends the drain: it may be gone before it has answered.
    fn end(&mut self, request: Request) -> Report {
        let asked = Instant::now();
        match ask(&self.state(), request) {
            Ok(Answer::Done(_)) | Err(ControlError::Ended) => {}
            other => panic!("{other:?}"),
        }
        let report = self.drain.take().unwrap().join().unwrap();
        assert!(asked.elapsed() < GENEROUS, "{:?}", asked.elapsed());
        assert!(!self.socket().exists());
        assert!(matches!(
            ask(&self.state(), Request::Status),
            Err(ControlError::NoDrain)
        ));
        report
    }

    fn receipts(&self) -> usize {
        let book = Store::open(&self.state()).unwrap().book();
        book.map_or(0, |book| book.receipts.len())
    }

    fn raw(&self, bytes: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(GENEROUS)).unwrap();
        // One that is turned away may be closed before it has sent everything.
        let _ = stream.write_all(bytes);
        stream
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(began.elapsed() < GENEROUS, "{what} never came");
        thread::sleep(Duration::from_millis(20));
    }
}

fn answer(stream: UnixStream) -> Value {
    let mut text = String::new();
    let _ = stream.take(1 << 20).read_to_string(&mut text);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

const PHASES: [Phase; 3] = [Phase::Leaving, Phase::Settling, Phase::Waiting];

#[test]
fn skip_ends_it_in_each_phase_and_leaves_the_host_out() {
    for phase in PHASES {
        let mut lab = Lab::new(phase);
        let report = lab.end(Request::Skip);
        assert_eq!(
            (report.outcome, report.exit),
            (Outcome::Skipped, 5),
            "{phase}"
        );
        assert_eq!(lab.receipts(), 1, "{phase}");
        assert_eq!(report.cut.len(), usize::from(phase == Phase::Waiting));
    }
}

#[test]
fn abort_undoes_it_in_each_phase() {
    for phase in PHASES {
        let mut lab = Lab::new(phase);
        let report = lab.end(Request::Abort);
        assert_eq!(
            (report.outcome, report.exit),
            (Outcome::Aborted, 5),
            "{phase}"
        );
        assert_eq!(lab.receipts(), 0, "{phase}");
        assert!(report.cut.is_empty(), "nothing ends it: {:?}", report.cut);
        assert!(lab.dir.path().join("back").exists(), "{phase}");
    }
}

#[test]
fn extend_moves_the_deadline_in_each_phase_and_a_day_is_the_most() {
    for phase in PHASES {
        let mut lab = Lab::new(phase);
        let by = |minutes| Request::Extend {
            by: MINUTE * minutes,
        };
        assert!(matches!(lab.ask(by(10)), Answer::Done(_)));
        let left = lab.status().unwrap().left;
        assert!(left > 10 * MINUTE && left <= 11 * MINUTE, "{left:?}");
        assert!(matches!(lab.ask(by(24 * 60)), Answer::Refused(_)));
        assert_eq!(lab.status().unwrap().phase, phase);
        assert_eq!(lab.end(Request::Skip).limit, 11 * MINUTE);
    }
}

#[test]
fn status_is_the_drains_own_view_for_two_at_once() {
    let lab = Lab::new(Phase::Waiting);
    let slow = lab.raw(b"");
    let now = lab.status().unwrap();
    let looked = now.looked.unwrap();
    assert_eq!((looked.busy, looked.held.len()), (1, 1));
    assert_eq!(now.pools[0].name, "pool");
    assert!(now.pools[0].out.is_some());
    (&slow).write_all(b"{\"ask\":\"status\"}\n").unwrap();
    assert_eq!(answer(slow)["status"]["id"], now.id.as_str());
}

#[test]
fn garbage_and_clients_that_hang_do_not_hurt_it() {
    let mut lab = Lab::new(Phase::Waiting);
    let before = lab.status().unwrap().left;
    for garbage in [
        &b"\n"[..],
        b"\0\xff\xfe\n",
        b"{\"ask\":\"stop\"}\n",
        b"{\"ask\":\"extend\",\"by\":\"-5m\"}\n",
        b"{\"ask\":\"extend\",\"by\":99}\n",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
    ] {
        let answer = answer(lab.raw(garbage));
        assert!(answer["refused"].is_string(), "{answer}");
    }
    answer(lab.raw(&vec![b'x'; 1 << 20]));
    // More than are served at once; the rest is turned away, and none stays for ever.
    let hanging: Vec<UnixStream> = (0..40).map(|_| lab.raw(b"{")).collect();
    assert!(hanging.into_iter().all(|stream| answer(stream).is_null()));
    let now = until("room for another", || {
        match ask(&lab.state(), Request::Status) {
            Ok(Answer::Status(now)) => Some(now),
            _ => None,
        }
    });
    assert_eq!(now.phase, Phase::Waiting);
    assert!(now.left <= before);
    assert_eq!(lab.end(Request::Skip).outcome, Outcome::Skipped);
}

#[test]
fn the_socket_of_a_killed_drain_is_replaced_and_only_root_may_use_it() {
    let mut lab = Lab::new(Phase::Settling);
    lab.end(Request::Skip);
    drop(UnixListener::bind(lab.socket()).unwrap());
    assert!(matches!(
        ask(&lab.state(), Request::Skip),
        Err(ControlError::NoDrain)
    ));
    lab.start(Phase::Settling);
    let mode = std::fs::metadata(lab.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(lab.end(Request::Skip).outcome, Outcome::Skipped);
}

#[test]
fn a_drain_that_can_not_be_controlled_drains() {
    let mut lab = Lab::new(Phase::Settling);
    lab.end(Request::Skip);
    // A folder with something in it can't be replaced.
    std::fs::create_dir_all(lab.socket().join("x")).unwrap();
    let order = Order {
        root: Root::host(),
        state: lab.state(),
        target: Target::Process {
            pid: lab.server.id(),
            name: "server".to_owned(),
        },
        settings: Settings {
            settle: SettleSettings {
                min: Duration::ZERO,
                quiet: Duration::ZERO,
                max: Duration::ZERO,
            },
            pools: Vec::new(),
            ..Settings::default()
        },
        notes: Vec::new(),
        as_hook: false,
        limit: Some(MINUTE),
    };
    let report = engine::run(&order, channel(), &mut |_, _| {});
    assert_eq!(report.outcome, Outcome::Drained);
    let told = report.notes.iter().any(|note| note.contains("controlled"));
    assert!(told, "{:?}", report.notes);
}
