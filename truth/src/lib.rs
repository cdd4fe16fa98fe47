//! The ground-truth lab.
//!
//! Servers that know which of their connections have a request in flight, clients that use them in every way that HTTP/1.1
//! allows, with and without a real proxy between, all in one network namespace. Beside them the product's own evidence
//! (`drainctl::evidence`) looks through the kernel every 50 ms. A look counts when the truth is the same before and after it.

mod book;
mod case;
mod client;
mod dice;
mod drains;
mod habits;
mod http2;
mod matrix;
mod namespace;
mod plan;
mod proxy;
mod server;
mod tls;
mod watcher;
mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drainctl::config::{PortSettings, WatchSettings};
use drainctl::evidence::Spoken;
use drainctl::evidence::probe::probe;
use drainctl::evidence::verdict::Terms;
use drainctl::evidence::watch::terms;
use drainctl::world::Deadline;

use crate::book::Book;
use crate::matrix::{Group, Label, Matrix, Sight};
use crate::proxy::{Upstream, Via};
use crate::watcher::Watcher;
use crate::workload::{WORKLOADS, Workload};

/// What to run.
#[derive(Debug, clap::Parser)]
#[command(about = "Compares drainctl's verdicts with what servers know")]
pub struct Options {
    /// Runs for half a minute, as in the tests.
    #[arg(long)]
    short: bool,
    /// Runs until so many looks, with the defaults and one request after another, found a request in flight.
    #[arg(long, default_value_t = 200_000)]
    looks: u64,
    /// Runs only the workloads whose name holds this.
    #[arg(long)]
    workload: Option<String>,
    /// Runs whole drains instead, those whose name holds this; all with an empty one.
    #[arg(long)]
    drains: Option<String>,
    /// Serves on this port until the input ends; what drains start as a process of its own.
    #[arg(long, hide = true)]
    serve: Option<u16>,
    /// Runs only on this way: direct, direct-v6, direct-mapped, haproxy, nginx, envoy.
    #[arg(long)]
    via: Option<String>,
}

/// The product looks as often.
const PERIOD: Duration = Duration::from_millis(50);
/// A server that is probed answers within this.
const LONGEST_PROBE: Duration = Duration::from_secs(10);
/// The kernel's ages count in ticks, of 10 ms at most (`CONFIG_HZ=100`), so a hold may end by so much later.
const TICK: Duration = Duration::from_millis(10);
/// How long a short run takes.
const SHORT: Duration = Duration::from_secs(30);

/// Runs the lab and prints the matrix; false when a promise was broken.
///
/// # Errors
/// The lab could not be built.
pub fn run(options: &Options) -> Result<bool> {
    if let Some(port) = options.serve {
        return drains::serve(port).map(|()| true);
    }
    if let Some(code) = namespace::enter()? {
        return Ok(code);
    }
    if let Some(filter) = &options.drains {
        let dir = tempfile::tempdir()?;
        return whole_drains(filter, dir.path());
    }
    let sites = sites(options)?;
    ensure!(!sites.is_empty(), "no such workload");
    let book = Arc::new(Book::default());
    let dir = tempfile::tempdir()?;
    serve(&sites, &book, dir.path())?;
    let terms = learn(&sites);
    let holds = WatchSettings::default();
    let mut watcher = Watcher::new(book, terms)?;
    for (port, (workload, via)) in &sites {
        workload.start(*via, *port);
    }
    let label = |port| match sites.get(&port) {
        Some((workload, via)) => Label {
            name: format!("{} {}", workload.name, via.name()),
            beyond: workload.beyond,
            requests: workload.is_requests(),
            first: !workload.speech.is_http2(),
            most: TICK
                + if workload.speech.is_http2() {
                    holds.stream_deadline
                } else {
                    holds.pause.max(holds.uncertain_hold)
                },
        },
        None => Label {
            name: port.to_string(),
            beyond: None,
            requests: true,
            first: true,
            most: Duration::ZERO,
        },
    };
    let mut matrix = Matrix::default();
    // What the promise is about, unless only other rows run.
    let promised = sites
        .values()
        .any(|(workload, _)| workload.beyond.is_none() && workload.is_requests());
    let counted = |matrix: &Matrix| {
        let looks = |group| matrix.looks(Sight::Known, group, label).0;
        match promised {
            true => looks(Group::Requests),
            false => looks(Group::Streams) + looks(Group::Beyond),
        }
    };
    let began = Instant::now();
    let mut rounds = 0u32;
    let mut next = began;
    while if options.short {
        began.elapsed() < SHORT
    } else {
        counted(&matrix) < options.looks
    } {
        watcher.look(&mut matrix)?;
        rounds += 1;
        next = (next + PERIOD).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let took = began.elapsed();
    println!("{}", matrix.table(label)?);
    println!("{}", matrix.totals(label));
    println!(
        "{rounds} rounds of looks, one every {:.0?}",
        took / rounds.max(1)
    );
    let mut broken = matrix.broken(label);
    let unseen = sites.keys().filter(|port| !matrix.has(**port));
    broken.extend(unseen.map(|port| format!("{}: nothing was ever seen there", label(*port).name)));
    for line in &broken {
        println!("BROKEN {line}");
    }
    // Two sights a site.
    let failed = broken.len();
    verdict((2 * sites.len()).saturating_sub(failed), failed);
    let mut fine = failed == 0;
    if options.short && options.workload.is_none() && options.via.is_none() {
        fine &= whole_drains("", dir.path())?;
    }
    Ok(fine)
}

fn whole_drains(filter: &str, dir: &Path) -> Result<bool> {
    let (ran, broken) = drains::run(filter, dir)?;
    ensure!(ran > 0, "no drain is named so");
    verdict(ran.saturating_sub(broken), broken);
    Ok(broken == 0)
}

/// In the words of libtest, which `cargo xtask test` counts.
fn verdict(passed: usize, failed: usize) {
    println!(
        "test result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out",
        if failed == 0 { "ok" } else { "FAILED" },
    );
}

type Sites = BTreeMap<u16, (&'static Workload, Via)>;

/// A port for each workload on each of its ways.
fn sites(options: &Options) -> Result<Sites> {
    let mut sites = Sites::new();
    let mut missing = BTreeSet::new();
    for workload in WORKLOADS {
        if options
            .workload
            .as_ref()
            .is_some_and(|name| !workload.name.contains(name.as_str()))
        {
            continue;
        }
        for via in workload.via {
            if options.via.as_ref().is_some_and(|name| name != via.name()) {
                continue;
            }
            if let Some(program) = via.program()
                && !proxy::is_there(program)
            {
                missing.insert(program);
                continue;
            }
            let port = 10_000 + u16::try_from(sites.len())?;
            sites.insert(port, (workload, *via));
        }
    }
    for program in missing {
        eprintln!(
            "SKIPPED rows behind {program}: not in the path; `cargo xtask test` as root provides one"
        );
    }
    Ok(sites)
}

/// Starts the servers and the proxies.
fn serve(sites: &Sites, book: &Arc<Book>, dir: &Path) -> Result<()> {
    let mut proxied: BTreeMap<Via, Vec<Upstream>> = BTreeMap::new();
    for (port, (workload, via)) in sites {
        server::serve(via.listen(*port), workload.speech, workload.keepalive, book)?;
        proxied.entry(*via).or_default().push(Upstream {
            port: *port,
            tls: workload.speech.is_tls(),
            http2: workload.speech.is_http2(),
            reuses: workload.reuses,
        });
    }
    for (via, upstreams) in &proxied {
        proxy::start(*via, upstreams, dir).with_context(|| format!("start {}", via.name()))?;
    }
    Ok(())
}

/// By what each port is judged: probed as an installed host does, all at once.
fn learn(sites: &Sites) -> HashMap<u16, Terms> {
    let probes: Vec<_> = sites
        .iter()
        .map(|(port, (workload, via))| {
            let (port, address, probed) = (*port, via.listen(*port), workload.probed);
            let found = thread::spawn(move || match probed {
                true => probe(address, Deadline::after(LONGEST_PROBE)),
                false => Spoken::default(),
            });
            (port, found)
        })
        .collect();
    let mut settings = WatchSettings::default();
    for (port, (workload, _)) in sites {
        let rule = workload.rule;
        let port_settings = PortSettings {
            rule,
            ..PortSettings::default()
        };
        settings.ports.insert(*port, port_settings);
    }
    probes
        .into_iter()
        .map(|(port, found)| {
            (
                port,
                terms(&settings, port, found.join().unwrap_or_default()),
            )
        })
        .collect()
}
