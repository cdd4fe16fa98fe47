//! The whole story on one machine in seconds: two backends behind a balancer under load; one of them is drained and then ended, and
//! in a second act ended at once. The backends and the drain are processes of this program, balancer and load are its threads.

pub mod backend;
pub mod balancer;
pub mod draining;
pub mod load;
pub mod parts;
pub mod show;
pub mod wire;

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::drain::{Event, Outcome, Report};
use crate::{exit, report};
use balancer::Balancer;
use load::{Load, RATE, Tally};
use parts::{Folder, Part};
use show::Show;

/// What is shown on a terminal is as old as this at most.
const PACE: Duration = Duration::from_millis(100);

/// What both acts came to.
#[derive(Debug, Serialize)]
pub struct Acts {
    /// The backend was drained before it was ended.
    pub drained: Act,
    /// It was ended at once.
    pub killed: Act,
}

/// What one act came to.
#[derive(Debug, Serialize)]
pub struct Act {
    /// Requests sent through the balancer.
    pub requests: u64,
    /// Those not answered in full.
    pub failed: u64,
    /// What was wrong with them.
    pub faults: std::collections::BTreeMap<String, u64>,
    /// In flight on the backend when its stop began.
    pub in_flight: usize,
    /// From the beginning of its stop until it was gone.
    pub seconds: f64,
    /// What the drain reports.
    pub drain: Option<Report>,
}

impl Acts {
    /// Runs both. Load runs for `load` before and after each stop.
    ///
    /// # Errors
    /// A part can't be started, or broke.
    pub fn run(load: Duration, show: &Show) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        end_with_signals(folder.path(), show)?;
        show.plain(&format!(
            "Two backends behind a balancer, {RATE} requests a second: short ones, ones that\n\
             take 2 to 4 s, and streams. Connections are reused, nothing is retried.\n\n\
             Act 1: backend 1 is drained, then ended with SIGTERM"
        ));
        let drained = Act::run(folder.path(), Stop::Drain, load, show)?;
        show.plain("\nAct 2: backend 1 is ended with SIGTERM at once");
        let killed = Act::run(folder.path(), Stop::Kill, load, show)?;
        Ok(Self { drained, killed })
    }

    /// The exit code: whether the drain did what it is for.
    #[must_use]
    pub fn code(&self) -> u8 {
        let report = self.drained.drain.as_ref();
        let ended = report.is_some_and(|report| report.outcome == Outcome::Drained);
        if ended && self.drained.failed == 0 {
            exit::OK
        } else {
            exit::FAILED
        }
    }

    /// What was seen, for people, in lines of less than 80 columns.
    #[must_use]
    pub fn summary(&self) -> String {
        let row = |name: &str, act: &Act| {
            let (requests, failed, seconds) = (act.requests, act.failed, act.seconds);
            format!("{name:<22}{requests:>8}{failed:>10}{seconds:>12.1} s\n")
        };
        let (drained, killed) = (&self.drained, &self.killed);
        let did = match (self.code(), drained.failed) {
            (exit::OK, _) => "every one of them was answered in full",
            (_, 0) => "none of them failed, but the drain did not end well",
            _ => "but requests failed all the same",
        };
        format!(
            "                      requests    failed    stop took\n{}{}\n\
             Drained, backend 1 got no new requests, finished the {} it had, and was ended:\n\
             {did}. Killed, it took what was in flight on it\n\
             ({}) and what came until the balancer noticed: {} failed.",
            row("drained, then ended", drained),
            row("ended at once", killed),
            drained.in_flight,
            killed.in_flight,
            killed.failed,
        )
    }
}

/// How a backend is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Drain,
    Kill,
}

impl Act {
    fn run(folder: &Path, stop: Stop, length: Duration, show: &Show) -> anyhow::Result<Self> {
        // What the first act leaves behind is not found by the second.
        let folder = &folder.join(format!("{stop:?}"));
        let marker = folder.join("backend-1-drains");
        let (mut first, port) = start_backend(&marker)?;
        let (_second, other) = start_backend(&folder.join("backend-2-drains"))?;
        let members = [
            ("backend 1".to_owned(), port),
            ("backend 2".to_owned(), other),
        ];
        let balancer = Balancer::start(&members, show).context("start the balancer")?;
        let load = Load::start(balancer.address())?;
        let go_on = || {
            let end = Instant::now() + length;
            while Instant::now() < end {
                show.state(progress(&load.tally()));
                std::thread::sleep(PACE);
            }
        };
        go_on();
        let in_flight = balancer.in_flight(0);
        let began = Instant::now();
        let drain = match stop {
            Stop::Drain => Some(drain(first.pid(), &marker, folder, &load, show)?),
            Stop::Kill => None,
        };
        show.line(&format!(
            "SIGTERM to backend 1, {} requests in flight on it",
            balancer.in_flight(0)
        ));
        first.terminate().context("end backend 1")?;
        let seconds = began.elapsed().as_secs_f64();
        go_on();
        let tally = load.stop()?;
        show.line(&progress(&tally));
        Ok(Self {
            requests: tally.requests,
            failed: tally.failed(),
            faults: tally.faults,
            in_flight,
            seconds,
            drain,
        })
    }
}

fn progress(tally: &Tally) -> String {
    let (requests, failed) = (tally.requests, tally.failed());
    let faults: Vec<String> = tally
        .faults
        .iter()
        .map(|(fault, count)| format!("{count} {fault}"))
        .collect();
    let detail = if faults.is_empty() {
        String::new()
    } else {
        format!(" ({})", faults.join(", "))
    };
    format!("{requests} requests, {failed} failed{detail}")
}

fn start_backend(marker: &Path) -> anyhow::Result<(Part, u16)> {
    let mut part = Part::start(&[OsStr::new("backend"), marker.as_os_str()])?;
    let port = part.line()?.context("a backend ended at once")?;
    Ok((part, port.parse().context("a backend's port")?))
}

/// Drains the process `pid`, and shows what the drain tells.
fn drain(
    pid: u32,
    marker: &Path,
    folder: &Path,
    load: &Load,
    show: &Show,
) -> anyhow::Result<Report> {
    let pid = pid.to_string();
    let mut part = Part::start(&[
        OsStr::new("drain"),
        OsStr::new(&pid),
        marker.as_os_str(),
        folder.as_os_str(),
    ])?;
    while let Some(line) = part.line()? {
        let event: Event = serde_json::from_str(&line).context("understand the drain")?;
        for (_, text) in report::lines(&event) {
            show.line(&format!("drain: {text}"));
        }
        match event {
            Event::Looked(looked) => {
                let backend = report::in_flight(&looked);
                show.state(format!("{}; {backend}", progress(&load.tally())));
            }
            Event::Ended(report) => return Ok(*report),
            _ => {}
        }
    }
    anyhow::bail!("the drain ended without a report")
}

/// Ctrl-C and the like end the demo at once. Its parts end with it; its folder is removed here.
fn end_with_signals(folder: &Path, show: &Show) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (folder, show) = (folder.to_owned(), show.clone());
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            show.end();
            Folder::remove(&folder);
            std::process::exit(exit::SKIPPED.into());
        }
    });
    Ok(())
}
