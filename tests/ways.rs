//! Ways out that fail, do nothing, or are undone by somebody else: the real engine on a real server, with pools that misbehave.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use drainctl::config::{PoolSpec, Settings, SettleSettings, StandIn, WatchSettings};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::event::{Phase, PoolStep};
use drainctl::drain::{Event, Outcome, Report, Target};
use drainctl::receipts::Store;
use drainctl::world::Root;
use serde_json::json;

/// A server, and pools that are programs: what each does is in the file of its name.
struct Lab {
    dir: tempfile::TempDir,
    server: Child,
    port: u16,
}

/// It does as asked.
const FINE: &str = "case \"$line\" in *prepare*) echo 1;; *leave*) touch NAME.out;; *rejoin*) rm -f NAME.out;;\n\
    *status*) test -e NAME.out && echo '{\"membership\":\"out\"}' || echo '{\"membership\":\"in\"}';; esac";
/// It never answers.
const HANGS: &str = "exec sleep 600";
/// It refuses everything.
const DEAD: &str = "echo '{\"error\":\"no leader\",\"kind\":\"unreachable\"}'; exit 1";

impl Lab {
    fn new(pools: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        symlink("/bin/sh", dir.path().join("pool")).unwrap();
        for (name, script) in pools {
            let script = script.replace("NAME", name);
            let text = format!("cd {}\nread line\n{script}\n", dir.path().display());
            fs::write(dir.path().join(name), text).unwrap();
        }
        let mut server = Command::new(env!("CARGO_BIN_EXE_drainctl"))
            .args(["demo", "backend"])
            .arg(dir.path().join("marker"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let out = server.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut port).unwrap();
        let port = port.trim().parse().unwrap();
        Self { dir, server, port }
    }

    fn spec(&self, name: &str) -> PoolSpec {
        let argv = [self.dir.path().join("pool"), self.dir.path().join(name)];
        PoolSpec {
            name: name.to_owned(),
            kind: "command".to_owned(),
            limit: Duration::from_secs(8),
            settings: json!({ "argv": argv }),
        }
    }

    fn drain(
        &self,
        pools: &[&str],
        stand_ins: Vec<StandIn>,
        max: Duration,
        mut hear: impl FnMut(&Event),
    ) -> Report {
        let order = Order {
            root: Root::host(),
            state: Root::at(self.dir.path().join("state")),
            target: Target::Process {
                pid: self.server.id(),
                name: "server".to_owned(),
            },
            settings: Settings {
                pools: pools.iter().map(|name| self.spec(name)).collect(),
                stand_ins,
                settle: SettleSettings {
                    min: Duration::from_millis(100),
                    quiet: Duration::from_millis(500),
                    max,
                },
                watch: WatchSettings {
                    pause: Duration::from_millis(100),
                    ..WatchSettings::default()
                },
                ..Settings::default()
            },
            notes: Vec::new(),
            as_hook: false,
            limit: Some(Duration::from_secs(50)),
        };
        engine::run(&order, channel(), &mut |_, event| hear(event))
    }

    fn stand_in(&self, name: &str, covers: &[&str]) -> StandIn {
        StandIn {
            pool: self.spec(name),
            covers: Some(covers.iter().map(|&name| name.to_owned()).collect()),
        }
    }

    fn receipts(&self) -> Vec<String> {
        let book = Store::open(&Root::at(self.dir.path().join("state")))
            .unwrap()
            .book();
        let receipts = book.map(|book| book.receipts).unwrap_or_default();
        receipts.into_iter().map(|one| one.pool.name).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn says(report: &Report, what: &str) -> bool {
    report.notes.iter().any(|note| note.contains(what))
}

/// Requests one after another, each on a connection of its own, until `stop` is there; how many.
fn traffic(port: u16, stop: &Path, over: &Arc<AtomicBool>) -> thread::JoinHandle<u32> {
    let (stop, over) = (stop.to_owned(), over.clone());
    thread::spawn(move || {
        let mut sent = 0;
        while !stop.exists() && !over.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            let _ = stream.read(&mut [0; 512]);
            sent += 1;
            thread::sleep(Duration::from_millis(20));
        }
        sent
    })
}

#[test]
fn a_dead_and_a_hanging_registry_are_stood_in_for_and_the_other_pool_is_not_held_up() {
    let mut stood_in = Vec::new();
    for script in [DEAD, HANGS] {
        let lab = Lab::new(&[("registry", script), ("edge", FINE), ("wall", FINE)]);
        let stand_ins = vec![lab.stand_in("wall", &["registry"])];
        let mut out = BTreeMap::new();
        let began = std::time::Instant::now();
        let report = lab.drain(
            &["edge", "registry"],
            stand_ins,
            Duration::from_secs(5),
            |event| {
                if let Event::Pool {
                    pool,
                    step: PoolStep::Out,
                } = event
                {
                    out.insert(pool.clone(), began.elapsed());
                }
            },
        );
        assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
        // A pool could not be left: that is said, however well another way did.
        assert_eq!(report.exit, 4, "{report:?}");
        assert!(says(&report, "wall stands in for it"), "{report:?}");
        assert!(out["edge"] < out["wall"], "{out:?}");
        stood_in.push(out["wall"]);
        assert!(
            report.took < Duration::from_secs(8),
            "the settle begins once the stand-in is out: {report:?}"
        );
        assert!(lab.path("wall.out").exists());
        assert!(
            lab.receipts().contains(&"wall".to_owned()),
            "rejoin undoes the stand-in"
        );
    }
    assert!(
        stood_in[0] < stood_in[1],
        "one that says no is given less time than one that says nothing: {stood_in:?}"
    );
}

#[test]
fn where_programs_listen_on_loopback_alone_the_firewall_has_nothing_to_refuse_and_says_so() {
    let lab = Lab::new(&[("registry", DEAD)]);
    let firewall = PoolSpec {
        name: "firewall".to_owned(),
        kind: "firewall".to_owned(),
        limit: Duration::from_secs(30),
        settings: json!({ "ports": [] }),
    };
    let limit = firewall.limit;
    let stand_in = StandIn {
        pool: firewall,
        covers: None,
    };
    let report = lab.drain(
        &["registry"],
        vec![stand_in],
        Duration::from_secs(5),
        |_| {},
    );
    assert_eq!(
        (report.outcome, report.exit),
        (Outcome::Drained, 4),
        "{report:?}"
    );
    let error = report.pools.last().unwrap().error.as_deref();
    assert!(
        error.is_some_and(|error| error.contains("no port that other hosts reach")),
        "{report:?}"
    );
    assert!(report.took < limit, "no other try would help: {report:?}");
    assert_eq!(lab.receipts(), Vec::<String>::new());
}

#[test]
fn a_stand_in_that_is_not_needed_is_not_touched() {
    let lab = Lab::new(&[("edge", FINE), ("wall", FINE)]);
    let stand_ins = vec![lab.stand_in("wall", &["edge"])];
    let report = lab.drain(&["edge"], stand_ins, Duration::from_secs(5), |_| {});
    assert_eq!(
        (report.outcome, report.exit),
        (Outcome::Drained, 0),
        "{report:?}"
    );
    assert!(!lab.path("wall.out").exists());
    assert_eq!(lab.receipts(), ["edge"]);
    assert_eq!(report.pools.len(), 1, "{report:?}");
}

#[test]
fn a_pool_that_says_it_is_out_and_does_nothing_is_found_out_by_the_sockets() {
    let lab = Lab::new(&[("edge", FINE), ("wall", FINE)]);
    let over = Arc::new(AtomicBool::new(false));
    // The traffic does not care for the pool; only the stand-in ends it.
    let load = traffic(lab.port, &lab.path("wall.out"), &over);
    let stand_ins = vec![lab.stand_in("wall", &["edge"])];
    let report = lab.drain(&["edge"], stand_ins, Duration::from_secs(2), |_| {});
    over.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap() > 0);
    assert_eq!(
        (report.outcome, report.exit),
        (Outcome::Drained, 4),
        "{report:?}"
    );
    assert!(
        says(&report, "traffic goes on although edge says"),
        "{report:?}"
    );
    let settled = report
        .phases
        .iter()
        .filter(|(phase, _)| *phase == Phase::Settling);
    assert_eq!(settled.count(), 2, "{report:?}");
    assert!(lab.path("wall.out").exists());
}

#[test]
fn a_host_that_somebody_puts_back_is_taken_out_again() {
    let lab = Lab::new(&[("edge", FINE)]);
    let mut settling = 0;
    let report = lab.drain(&["edge"], Vec::new(), Duration::from_secs(5), |event| {
        if let Event::Phase {
            phase: Phase::Settling,
        } = event
        {
            settling += 1;
            if settling == 1 {
                fs::remove_file(lab.path("edge.out")).unwrap();
            }
        }
    });
    assert_eq!(
        (report.outcome, report.exit),
        (Outcome::Drained, 0),
        "{report:?}"
    );
    assert!(
        says(&report, "somebody has put this host back"),
        "{report:?}"
    );
    assert!(lab.path("edge.out").exists());
    assert_eq!(settling, 2);
}

#[test]
fn whoever_puts_it_back_each_time_wins_in_the_end_and_it_is_said() {
    let lab = Lab::new(&[("edge", FINE)]);
    let report = lab.drain(&["edge"], Vec::new(), Duration::from_secs(5), |event| {
        if let Event::Phase {
            phase: Phase::Settling,
        } = event
        {
            fs::remove_file(lab.path("edge.out")).unwrap();
        }
    });
    assert_eq!(report.outcome, Outcome::Drained, "{report:?}");
    assert_eq!(report.exit, 4, "{report:?}");
    let error = report.pools[0].error.as_deref().unwrap_or_default();
    assert!(
        error.contains("somebody puts this host back each time"),
        "{report:?}"
    );
}
