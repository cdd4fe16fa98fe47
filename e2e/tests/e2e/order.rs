use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, ensure};
use e2e::bare::Bare;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::product::{self, HOOK};
use serde_json::Value;

use crate::Case;
use crate::drill::END_LIMIT;
use crate::kinds::{CIRCLE, ENABLED, KINDS, Kind, USES};

/// What `doctor` says of the order of a stop, against the journal of the stop that follows.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("the_predicted_order_is_the_one_that_comes", predicted),
    (
        "the_predicted_order_is_the_one_that_comes_with_systemd_257",
        |case, parts| predicted(case, &parts.newer()),
    ),
];

/// Boots side by side.
const SIDE_BY_SIDE: usize = 3;
/// systemd may break a circle at the drain itself, and then there is no drain: so many hosts are tried.
const TRIES: usize = 8;
/// The drain lasts long enough for everything that it does not hold to have begun to stop.
const SETTLE: &str = "[settle]\nmin = \"4s\"\nquiet = \"1s\"\n";

/// What the stops of hosts that drained showed: how many came late, early, are not told of, and could be either.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    hosts: usize,
    late: usize,
    early: usize,
    untold: usize,
    either: usize,
    /// Hosts whose drain was left out of the stop, to break a circle: of those it is only compared whether each stop was named at all.
    left_out: usize,
}

impl Shown {
    fn add(&mut self, other: Self) {
        self.hosts += other.hosts;
        self.late += other.late;
        self.early += other.early;
        self.untold += other.untold;
        self.either += other.either;
        self.left_out += other.left_out;
    }
}

fn predicted(case: &str, parts: &Parts) -> Result<()> {
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    let sum = Mutex::new(Shown::default());
    let work = || -> Result<()> {
        while let Some(kind) = KINDS.get(next.fetch_add(1, Ordering::Relaxed)) {
            match tried(parts, kind) {
                Ok(shown) => sum
                    .lock()
                    .map_err(|_| anyhow!("a host panicked"))?
                    .add(shown),
                Err(error) => faults
                    .lock()
                    .map_err(|_| anyhow!("a host panicked"))?
                    .push(format!("{}: {error:#}", kind.name)),
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Result<()>>| {
            worker.join().map_err(|_| anyhow!("a host panicked"))?
        };
        workers.into_iter().try_for_each(join)
    })?;
    let faults = faults.into_inner().unwrap_or_default();
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    let shown = sum.into_inner().unwrap_or_default();
    figures::note(
        case,
        &format!(
            "{} of {} hosts; {} units outlived the drain and {} did not, all as predicted; {} were named as units that may do either; of {} more the journal \
             does not tell; {} times systemd broke a circle at the drain itself, and another host was tried",
            shown.hosts,
            KINDS.len(),
            shown.late,
            shown.early,
            shown.either,
            shown.untold,
            shown.left_out,
        ),
    );
    Ok(())
}

/// Until a host has drained.
fn tried(parts: &Parts, kind: &Kind) -> Result<Shown> {
    let mut shown = Shown::default();
    for _ in 0..TRIES {
        match examined(parts, kind)? {
            Some(more) => {
                shown.add(more);
                return Ok(shown);
            }
            None => shown.left_out += 1,
        }
    }
    Ok(shown)
}

/// Boots, installs, asks, powers off, and compares; nothing where the drain was left out.
fn examined(parts: &Parts, kind: &Kind) -> Result<Option<Shown>> {
    let mut bare = Bare::new(parts)?;
    let host = &mut bare.host;
    lay(host, kind)?;
    if kind.boots_on {
        host.boot_until("supervisor.service")?;
    } else {
        host.boot()?;
    }
    product::copy(host, parts)?;
    shell(host, kind.before)?;
    let installed = host.exec(&["drainctl", "install"])?;
    shell(host, kind.after)?;
    let report = examine(host)?;
    let checks: BTreeSet<&str> = list(&report["findings"])
        .filter_map(|finding| finding["check"].as_str())
        // True of these hosts: supervisord runs no program there.
        .filter(|check| *check != "port-none")
        .collect();
    for check in kind.finds {
        ensure!(
            checks.contains(check),
            "{check} says nothing: {report:#}\n{installed}"
        );
    }
    ensure!(
        !kind.finds.is_empty() || checks.is_empty(),
        "findings on a sound host: {:#}\n{installed}",
        report["findings"]
    );
    let asked = SystemTime::now();
    host.exec(&["systemctl", "poweroff"])?;
    ensure!(host.wait_end(END_LIMIT)? == Ended::Off, "no poweroff");
    compare(host, &report, kind, asked)
}

fn compare(host: &Host, report: &Value, kind: &Kind, asked: SystemTime) -> Result<Option<Shown>> {
    let journal = host.journal()?.since(asked);
    let stops = journal.stops();
    let set =
        |key: &str| -> BTreeSet<&str> { list(&report[key]).filter_map(Value::as_str).collect() };
    let (outlive, may_stop, unsure) = (set("outlive"), set("may_stop"), set("unsure"));
    let circle = kind.finds.contains(&CIRCLE);
    for unit in &unsure {
        // Those mounts come and go with the service that they are for.
        let known = kind.either.contains(unit) || unit.starts_with("run-credentials-");
        ensure!(circle || known, "{unit} is said to be unsure, and is not");
    }
    for unit in stops.keys().map(String::as_str) {
        ensure!(
            unit == HOOK || outlive.contains(unit) || may_stop.contains(unit),
            "{unit} was stopped, and nothing was said of it"
        );
    }
    let Ok(over) = journal.stopped(HOOK) else {
        // Nothing can outlive a drain that was left out.
        ensure!(circle, "the hook was never stopped");
        return Ok(None);
    };
    let mut shown = Shown {
        hosts: 1,
        either: unsure.len(),
        ..Shown::default()
    };
    let told = |unit: &str, shown: &mut Shown| {
        let at = stops.get(unit);
        // Of what is no service not every stop is told, and what only some versions stop is left to the end on the others.
        ensure!(
            at.is_some() || !unit.ends_with(".service") || kind.either.contains(&unit),
            "{unit} was never stopped"
        );
        shown.untold += usize::from(at.is_none());
        Ok(at.map(|at| *at >= over))
    };
    for unit in outlive.difference(&unsure) {
        if let Some(late) = told(unit, &mut shown)? {
            ensure!(
                late,
                "{unit} was said to outlive the drain, and was stopped while it ran"
            );
            shown.late += 1;
        }
    }
    for unit in may_stop.difference(&unsure) {
        if let Some(late) = told(unit, &mut shown)? {
            ensure!(!late, "{unit} outlived the drain, and was not said to");
            shown.early += 1;
        }
    }
    for (units, set, said) in [
        (kind.late, &outlive, "does not outlive the drain"),
        (kind.early, &may_stop, "outlives the drain"),
    ] {
        for unit in units {
            ensure!(
                set.contains(unit) && !unsure.contains(unit) && stops.contains_key(*unit),
                "{unit} {said}"
            );
        }
    }
    ensure!(shown.late > 0, "nothing outlived the drain");
    Ok(Some(shown))
}

fn lay(host: &Host, kind: &Kind) -> Result<()> {
    host.write(
        "/etc/drainctl/conf.d/lab.toml",
        &format!("{SETTLE}{}", kind.config),
    )?;
    host.write("/opt/lab/uses.py", USES)?;
    host.write(
        "/etc/supervisor/conf.d/uses.conf",
        "[program:uses]\ncommand=/usr/bin/python3 /opt/lab/uses.py\nautostart=false\n",
    )?;
    let units = kind.units.iter().copied();
    for (name, text) in units.chain([("other.service", ENABLED)]) {
        host.write(&format!("/etc/systemd/system/{name}"), text)?;
        // What is only started, or enabled later, is not enabled here.
        if text.contains("WantedBy=multi-user.target")
            && kind.after.is_empty()
            && kind.before.is_empty()
            || name == "other.service"
        {
            let wants = host.path("/etc/systemd/system/multi-user.target.wants");
            fs::create_dir_all(&wants)?;
            symlink(format!("/etc/systemd/system/{name}"), wants.join(name))?;
        }
    }
    Ok(())
}

fn shell(host: &Host, lines: &str) -> Result<()> {
    host.exec(&["sh", "-ec", lines]).map(drop)
}

fn examine(host: &Host) -> Result<Value> {
    let output = host.try_exec(&["drainctl", "doctor", "--json"])?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
