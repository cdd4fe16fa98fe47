//! Whole drains in the lab: the product's engine, a server in a process of its own that is killed when the drain says so, and a balancer that
//! stops sending when it pleases. What was sent and not answered was dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drainctl::config::{PoolSpec, Settings};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::{Outcome, Report, Target};
use drainctl::world::Root;

use crate::book::Book;
use crate::client::{Client, To};
use crate::dice::Dice;
use crate::plan::Plan;
use crate::proxy::{self, Upstream, Via};
use crate::server;
use crate::tls::Speech;

/// A drain and what goes on around it.
struct Scene {
    name: &'static str,
    via: Via,
    /// The traffic, each kind by itself.
    traffic: &'static [Traffic],
    /// What holds it for a reason may hold it so long, beside the request and the settle's own minimum.
    most: Duration,
}

impl Scene {
    /// Idle connections and no traffic.
    fn is_pool(&self) -> bool {
        self.name.starts_with("pool-")
    }
}

/// One sender.
#[derive(Clone, Copy)]
struct Traffic {
    /// The last part of its address.
    peer: u8,
    way: Way,
    /// Milliseconds between two requests, at least and at most.
    gap: (u64, u64),
    /// So many at once.
    at_once: usize,
    /// Goes on for so many milliseconds after the drain began; `FOREVER` for checkers, whose requests nobody misses.
    tail: u64,
    /// How long a request takes, milliseconds.
    wait: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Connections that are kept.
    Kept,
    /// One for each request, which the client closes.
    Closed,
}

const FOREVER: u64 = u64::MAX;
/// Traffic runs so long before the drain begins.
const LEAD: Duration = Duration::from_millis(700);
/// What a busy machine may add.
const SLOW: Duration = Duration::from_secs(2);
/// A proxy has so long to come up.
const COMES_UP: Duration = Duration::from_secs(20);
/// How many idle connections a pool has.
const POOL: usize = 1000;

/// A sender of real requests.
const fn balancer(way: Way, gap: (u64, u64), at_once: usize, tail: u64) -> Traffic {
    Traffic {
        peer: 2,
        way,
        gap,
        at_once,
        tail,
        wait: 2,
    }
}

const fn checker(peer: u8, way: Way, period: u64) -> Traffic {
    Traffic {
        peer,
        way,
        gap: (period, period),
        at_once: 1,
        tail: FOREVER,
        wait: 2,
    }
}

const fn scene(name: &'static str, traffic: &'static [Traffic], most: u64) -> Scene {
    Scene {
        name,
        via: Via::V4,
        traffic,
        most: Duration::from_secs(most),
    }
}

use Way::{Closed, Kept};

const SCENES: &[Scene] = &[
    scene("idle", &[], 1),
    scene("busy", &[balancer(Kept, (15, 35), 2, 1500)], 5),
    scene("tail-busy", &[balancer(Closed, (15, 35), 2, 17_000)], 5),
    scene(
        "tail-sparse",
        &[balancer(Kept, (1500, 3000), 1, 17_000)],
        12,
    ),
    scene("tail-short", &[balancer(Closed, (500, 900), 1, 17_000)], 12),
    scene(
        "tail-bursts",
        &[balancer(Kept, (2000, 3500), 10, 17_000)],
        12,
    ),
    scene(
        "tail-second",
        &[balancer(Kept, (1000, 1000), 1, 17_000)],
        12,
    ),
    scene(
        "pollers",
        &[
            balancer(Closed, (15, 35), 2, 1500),
            checker(8, Kept, 5000),
            checker(9, Closed, 1000),
        ],
        9,
    ),
    scene(
        "slow-answer",
        &[
            Traffic {
                wait: 4000,
                ..balancer(Kept, (100, 300), 1, 2000)
            },
            checker(9, Closed, 1000),
        ],
        12,
    ),
    Scene {
        via: Via::V4,
        ..scene("pool-direct", &[], 11)
    },
    Scene {
        via: Via::Haproxy,
        ..scene("pool-haproxy", &[], 11)
    },
    Scene {
        via: Via::Nginx,
        ..scene("pool-nginx", &[], 11)
    },
    Scene {
        via: Via::Envoy,
        ..scene("pool-envoy", &[], 11)
    },
];

/// What became of one.
struct Outcomes {
    report: Report,
    /// From the last request that counts to the end.
    after: Duration,
    sent: u64,
    dropped: u64,
}

/// Runs those whose name holds `filter`, all side by side, and prints them; how many ran and how many broke a promise.
pub(crate) fn run(filter: &str, dir: &Path) -> Result<(usize, usize)> {
    let mut chosen = Vec::new();
    for (scene, number) in SCENES.iter().zip(0u16..) {
        if !scene.name.contains(filter) {
            continue;
        }
        if let Some(program) = scene.via.program()
            && !proxy::is_there(program)
        {
            eprintln!("SKIPPED {}: {program} is not in the path", scene.name);
            continue;
        }
        let dir = dir.join(scene.name);
        std::fs::create_dir_all(dir.join("state/run/drainctl"))?;
        chosen.push((scene, 15_000 + number, dir));
    }
    let mut played = Vec::new();
    // A thousand connections at once take all of a small machine.
    let (pools, others): (Vec<_>, Vec<_>) = chosen.iter().partition(|(scene, ..)| scene.is_pool());
    thread::scope(|scope| {
        let threads: Vec<_> = others
            .iter()
            .map(|(scene, port, dir)| (*scene, scope.spawn(move || play(scene, *port, dir))))
            .collect();
        for (scene, thread) in threads {
            let gone = |_| Err(anyhow::anyhow!("it panicked"));
            played.push((scene, thread.join().unwrap_or_else(gone)));
        }
    });
    for (scene, port, dir) in pools {
        played.push((scene, play(scene, *port, dir)));
    }
    println!(
        "\n{:<14} {:>8} {:>8} {:>10} {:>8} {:>8} {:>8}",
        "drain", "took", "settle", "after last", "sent", "dropped", "arrived"
    );
    let (mut ran, mut broken) = (0, 0);
    for (scene, one) in played {
        let one = one.with_context(|| scene.name)?;
        let settle = settle(&one.report);
        println!(
            "{:<14} {:>6.2} s {:>6.2} s {:>8.2} s {:>8} {:>8} {:>8}",
            scene.name,
            one.report.took.as_secs_f64(),
            settle.as_secs_f64(),
            one.after.as_secs_f64(),
            one.sent,
            one.dropped,
            one.report.arrived_in_settle
        );
        ran += 1;
        // A machine that does much else needs longer for all of it.
        let late = one.after > scene.most + SLOW;
        if one.dropped > 0 || late || one.report.outcome != Outcome::Drained {
            broken += 1;
            println!(
                "BROKEN {}: {:?}, {:?}",
                scene.name, one.report.outcome, one.report.cut
            );
        }
        for note in &one.report.notes {
            println!("               {note}");
        }
    }
    Ok((ran, broken))
}

fn settle(report: &Report) -> Duration {
    let at = |index: usize| report.phases.get(index).map_or(report.took, |(_, at)| *at);
    at(2).saturating_sub(at(1))
}

/// Serves on a port until the input ends; what the lab starts as a process of its own.
pub(crate) fn serve(port: u16) -> Result<()> {
    server::serve(
        (Ipv4Addr::UNSPECIFIED, port).into(),
        Speech::Plain,
        false,
        &Arc::new(Book::default()),
    )?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn start_server(port: u16) -> Result<Child> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["--serve", &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = server.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    ensure!(line == "ready\n", "the server does not serve");
    Ok(server)
}

fn play(scene: &'static Scene, port: u16, dir: &Path) -> Result<Outcomes> {
    let mut server = start_server(port)?;
    let played = play_with(scene, port, dir, &mut server);
    // It may have been ended by the scene.
    let _ = server.kill();
    let _ = server.wait();
    played
}

fn play_with(scene: &'static Scene, port: u16, dir: &Path, server: &mut Child) -> Result<Outcomes> {
    let server_at = Upstream {
        port,
        tls: false,
        http2: false,
        reuses: true,
    };
    proxy::start(scene.via, &[server_at], dir)?;
    let target = scene.via.target(port);
    let limit = Instant::now() + COMES_UP;
    while TcpStream::connect(target).is_err() {
        ensure!(
            Instant::now() < limit,
            "{} does not come up",
            scene.via.name()
        );
        thread::sleep(Duration::from_millis(20));
    }
    let counts = Arc::new(Counts::default());
    let over = Arc::new(AtomicBool::new(false));
    let pool = if scene.is_pool() {
        open_pool(target, &counts)?
    } else {
        Vec::new()
    };
    let began = Instant::now()
        + if pool.is_empty() {
            LEAD
        } else {
            Duration::ZERO
        };
    let mut senders = Vec::new();
    for traffic in scene.traffic {
        let (counts, over) = (Arc::clone(&counts), Arc::clone(&over));
        senders.push(thread::spawn(move || {
            send(*traffic, target, began, &counts, &over);
        }));
    }
    thread::sleep(began.saturating_duration_since(Instant::now()));
    let report = drain(server.id(), dir);
    let ended = Instant::now();
    server.kill()?;
    over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender
            .join()
            .map_err(|_| anyhow::anyhow!("a sender panicked"))?;
    }
    drop(pool);
    let last = counts.last(began);
    Ok(Outcomes {
        report,
        after: ended.saturating_duration_since(last),
        sent: counts.sent.load(Ordering::Relaxed),
        dropped: counts.dropped.load(Ordering::Relaxed),
    })
}

/// A pool that agrees at once.
fn drain(pid: u32, dir: &Path) -> Report {
    let pool = PoolSpec {
        name: "mark".to_owned(),
        kind: "health-file".to_owned(),
        limit: Duration::from_secs(5),
        settings: serde_json::json!({ "path": dir.join("mark"), "leave": "create" }),
    };
    let order = Order {
        root: Root::host(),
        state: Root::at(dir.join("state")),
        target: Target::Process {
            pid,
            name: "server".to_owned(),
        },
        settings: Settings {
            pools: vec![pool],
            ..Settings::default()
        },
        notes: Vec::new(),
        as_hook: false,
        limit: Some(Duration::from_mins(1)),
    };
    engine::run(&order, channel(), &mut |_, _| {})
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    /// The end of the last request that counts, milliseconds after the drain's beginning.
    last: AtomicU64,
}

impl Counts {
    fn last(&self, began: Instant) -> Instant {
        began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    fn note(&self, began: Instant, fine: bool) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.dropped.fetch_add(u64::from(!fine), Ordering::Relaxed);
        let now = Instant::now().saturating_duration_since(began).as_millis();
        self.last
            .fetch_max(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn send(traffic: Traffic, target: SocketAddr, began: Instant, counts: &Counts, over: &AtomicBool) {
    let mut dice = Dice::new(u64::from(target.port()) + u64::from(traffic.peer));
    let real = traffic.tail != FOREVER;
    let end = began + Duration::from_millis(if real { traffic.tail } else { 300_000 });
    let idle = Mutex::new(Vec::new());
    let mut next = Instant::now();
    thread::scope(|scope| {
        while Instant::now() < end && (real || !over.load(Ordering::Relaxed)) {
            for _ in 0..traffic.at_once {
                // Requests of balancers differ, those of checks and of a lone client don't.
                let alike = traffic.gap.0 == traffic.gap.1;
                let body = if alike { 7 } else { dice.between(1, 200) };
                let (idle, counts) = (&idle, &counts);
                scope.spawn(move || {
                    let kept = lock(idle).pop();
                    let fine = ask(traffic, target, body, kept).map(|client| {
                        if traffic.way == Way::Kept {
                            lock(idle).push(client);
                        }
                    });
                    if real {
                        counts.note(began, fine.is_ok());
                    }
                });
            }
            let (least, most) = traffic.gap;
            next += Duration::from_millis(least + dice.between(0, most - least));
            while Instant::now() < next && (real || !over.load(Ordering::Relaxed)) {
                thread::sleep(
                    next.saturating_duration_since(Instant::now())
                        .min(Duration::from_millis(200)),
                );
            }
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request, on a kept connection if there is one.
fn ask(traffic: Traffic, target: SocketAddr, body: u64, kept: Option<Client>) -> Result<Client> {
    let mut client = match kept {
        Some(client) => client,
        None => Client::connect_from(Ipv4Addr::new(127, 0, 0, traffic.peer), target)?,
    };
    client.ask(&Plan::after(traffic.wait, 20), usize::try_from(body)?)?;
    client.answer()?;
    Ok(client)
}

/// Idle connections that have had an answer each, all at the same time so that a proxy opens one for each.
fn open_pool(target: SocketAddr, counts: &Counts) -> Result<Vec<Client>> {
    let began = Instant::now();
    let mut pool = (0..POOL)
        .map(|_| Client::connect(To::plain(target)))
        .collect::<Result<Vec<_>>>()?;
    for client in &mut pool {
        client.ask(&Plan::after(2000, 20), 0)?;
    }
    for client in &mut pool {
        client.answer()?;
        counts.note(began, true);
    }
    Ok(pool)
}
