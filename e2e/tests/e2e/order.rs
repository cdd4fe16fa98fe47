use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail, ensure};
use e2e::bare::Bare;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::product::{self, HOOK};
use serde_json::Value;

use crate::Case;
use crate::drill::END_LIMIT;

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
/// The drain lasts long enough for everything that it does not hold to have begun to stop.
const SETTLE: &str = "[settle]\nmin = \"4s\"\nquiet = \"1s\"\n";
const NOT_EVERYTHING: &str = "[hold]\neverything = false\n";

/// A kind of host.
struct Kind {
    name: &'static str,
    /// Its config, beside the settle.
    config: &'static str,
    /// Unit files, by name; laid before it boots.
    units: &'static [(&'static str, &'static str)],
    /// Lines for a shell: before the install, after it.
    before: &'static str,
    after: &'static str,
    /// A unit that stops only after the drain, one that does not wait for it: named by hand, since a prediction and a measurement may be
    /// wrong in the same way.
    late: &'static [&'static str],
    early: &'static [&'static str],
    /// The check that must have a finding; none must where it is empty.
    finds: &'static [&'static str],
    /// Whether its boot never ends.
    boots_on: bool,
}

const PLAIN: Kind = Kind {
    name: "everything held",
    config: "",
    units: &[],
    before: "",
    after: "",
    late: &["supervisor.service", "other.service"],
    early: &[],
    finds: &[],
    boots_on: false,
};

/// A service that is started with the boot.
const ENABLED: &str =
    "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";

const KINDS: &[Kind] = &[
    PLAIN,
    Kind {
        name: "nothing held",
        config: NOT_EVERYTHING,
        early: &["other.service"],
        late: &["supervisor.service"],
        ..PLAIN
    },
    Kind {
        name: "a wrong name, everything held",
        after: "sed -i 's/supervisor[.]service/supervisord.service/' /etc/systemd/system/drain-connections.service; \
                systemctl daemon-reload",
        finds: &["order-target", "hook-restart", "hook-files"],
        ..PLAIN
    },
    Kind {
        name: "a wrong name, nothing held",
        config: NOT_EVERYTHING,
        after: "sed -i 's/supervisor[.]service/supervisord.service/' /etc/systemd/system/drain-connections.service; \
                systemctl daemon-reload",
        late: &[],
        early: &["supervisor.service", "other.service"],
        finds: &["order-target", "hook-restart"],
        ..PLAIN
    },
    Kind {
        name: "a unit of the boot after the drain",
        units: &[(
            "late.service",
            "[Unit]\nAfter=drain-connections.service\n[Service]\nExecStart=/bin/sleep infinity\n\
             [Install]\nWantedBy=multi-user.target\n",
        )],
        late: &["supervisor.service"],
        finds: &["order-circle"],
        ..PLAIN
    },
    Kind {
        name: "a target after the drain",
        config: NOT_EVERYTHING,
        units: &[(
            "supervisor.service.d/after.conf",
            "[Unit]\nAfter=drain-connections.service\n",
        )],
        late: &[],
        early: &["other.service"],
        finds: &["order-circle"],
        ..PLAIN
    },
    Kind {
        name: "installed and enabled after the install",
        after: "systemctl -q enable --now new.service",
        units: &[("new.service", ENABLED)],
        late: &["supervisor.service", "other.service", "new.service"],
        ..PLAIN
    },
    Kind {
        name: "started by hand after the install",
        after: "systemctl start new.service",
        units: &[("new.service", ENABLED)],
        early: &["new.service"],
        finds: &["order-beside"],
        ..PLAIN
    },
    Kind {
        name: "started by hand, and installed again",
        after: "systemctl start new.service; drainctl install",
        units: &[("new.service", ENABLED)],
        late: &["supervisor.service", "other.service", "new.service"],
        ..PLAIN
    },
    Kind {
        name: "used, and nothing else held",
        config: NOT_EVERYTHING,
        before: "systemctl start redis-server.service; supervisorctl start uses",
        late: &["supervisor.service", "redis-server.service"],
        early: &["other.service"],
        ..PLAIN
    },
    Kind {
        name: "used after the install only",
        config: NOT_EVERYTHING,
        after: "systemctl start redis-server.service; supervisorctl start uses",
        late: &["supervisor.service"],
        early: &["other.service", "redis-server.service"],
        finds: &["order-used"],
        ..PLAIN
    },
    Kind {
        name: "the hold stopped by hand",
        after: "systemctl stop drain-connections-hold.service",
        late: &["supervisor.service"],
        early: &["other.service"],
        finds: &["order-hold"],
        ..PLAIN
    },
    Kind {
        name: "asked for",
        config: NOT_EVERYTHING,
        after: "drainctl install --keep other",
        ..PLAIN
    },
    Kind {
        name: "named in the config, another excepted",
        config: "[hold]\neverything = false\nkeep = [\"other.service\"]\nexcept = [\"redis-server.service\"]\n",
        before: "systemctl start redis-server.service; supervisorctl start uses",
        early: &["redis-server.service"],
        ..PLAIN
    },
    Kind {
        name: "a boot that never ends",
        units: &[(
            "hangs.service",
            "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
        )],
        late: &["supervisor.service"],
        early: &["other.service"],
        finds: &["order-hold"],
        boots_on: true,
        ..PLAIN
    },
    Kind {
        name: "another target since the boot",
        after: "systemctl isolate multi-user.target",
        ..PLAIN
    },
    Kind {
        name: "many kinds of units, everything held",
        units: ZOO,
        before: ZOO_START,
        late: &[
            "supervisor.service",
            "other.service",
            "bound.service",
            "part.service",
            "after.service",
            "zoo-a.mount",
            "bare.service",
        ],
        ..PLAIN
    },
    Kind {
        name: "many kinds of units, nothing held",
        config: NOT_EVERYTHING,
        units: ZOO,
        before: ZOO_START,
        late: &["supervisor.service"],
        early: &[
            "other.service",
            "bound.service",
            "part.service",
            "bare.service",
            "after.service",
        ],
        ..PLAIN
    },
];

/// Units that reach each other's stop in every way that systemd knows.
const ZOO: &[(&str, &str)] = &[
    (
        "after.service",
        "[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "bound.service",
        "[Unit]\nBindsTo=other.service\nAfter=other.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "part.service",
        "[Unit]\nDefaultDependencies=no\nPartOf=other.service\nBefore=multi-user.target\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "spread.service",
        "[Unit]\nDefaultDependencies=no\nStopPropagatedFrom=other.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "bare.service",
        "[Unit]\nDefaultDependencies=no\nConflicts=shutdown.target\n[Service]\nExecStart=/bin/sleep infinity\n",
    ),
    (
        "stays.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=sysinit.target\n",
    ),
    (
        "ticks.timer",
        "[Timer]\nOnCalendar=yearly\nUnit=other.service\n[Install]\nWantedBy=timers.target\n",
    ),
    (
        "many@.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\nDefaultInstance=one\n",
    ),
    (
        "zoo-a.mount",
        "[Mount]\nWhat=tmpfs\nType=tmpfs\nWhere=/zoo/a\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "answers.socket",
        "[Socket]\nListenStream=/run/answers\n[Install]\nWantedBy=sockets.target\n",
    ),
    (
        "answers.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    ),
];
const ZOO_START: &str = "systemctl -q enable --now after bound part spread stays ticks.timer many@one zoo-a.mount answers.socket; \
                         systemctl start bare answers";

/// Keeps a connection to Redis.
pub(crate) const USES: &str =
    "import redis, time\nr = redis.Redis()\nwhile True:\n    r.ping()\n    time.sleep(0.5)\n";

fn predicted(case: &str, parts: &Parts) -> Result<()> {
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    let figures = Mutex::new([0_usize; 3]);
    let work = || -> Result<()> {
        while let Some(kind) = KINDS.get(next.fetch_add(1, Ordering::Relaxed)) {
            match examined(parts, kind) {
                Ok(seen) => {
                    let mut figures = figures.lock().map_err(|_| anyhow!("a host panicked"))?;
                    for (sum, one) in figures.iter_mut().zip(seen) {
                        *sum += one;
                    }
                }
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
    let [late, early, unsure] = figures.into_inner().unwrap_or_default();
    figures::note(
        case,
        &format!(
            "{} hosts; of the units in their journals {late} outlived the drain and {early} did not, all as predicted; {unsure} could not be told",
            KINDS.len()
        ),
    );
    Ok(())
}

/// Boots, installs, asks, powers off, and compares: how many stopped late, early, and either way.
fn examined(parts: &Parts, kind: &Kind) -> Result<[usize; 3]> {
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

fn compare(host: &Host, report: &Value, kind: &Kind, asked: SystemTime) -> Result<[usize; 3]> {
    let journal = host.journal()?.since(asked);
    let stops = journal.stops();
    let circle = list(&report["unsure"]).next().is_some();
    let Ok(over) = journal.stopped(HOOK) else {
        // The stop that was left out to break the circle is the drain itself.
        ensure!(circle, "the hook was never stopped");
        return Ok([0, 0, stops.len()]);
    };
    let set =
        |key: &str| -> BTreeSet<&str> { list(&report[key]).filter_map(Value::as_str).collect() };
    let (outlive, may_stop, unsure) = (set("outlive"), set("may_stop"), set("unsure"));
    let (mut late, mut early, mut either) = (0, 0, 0);
    for (unit, at) in &stops {
        let unit = unit.as_str();
        let is_late = *at >= over;
        if unit == HOOK {
            continue;
        }
        if unsure.contains(unit) {
            either += 1;
        } else if outlive.contains(unit) {
            ensure!(
                is_late,
                "{unit} was said to outlive the drain, and was stopped while it ran"
            );
            late += 1;
        } else if may_stop.contains(unit) {
            ensure!(!is_late, "{unit} outlived the drain, and was not said to");
            early += 1;
        } else {
            bail!("{unit} was stopped, and nothing was said of it");
        }
    }
    for unit in kind.late {
        let at = stops
            .get(*unit)
            .with_context(|| format!("{unit} was never stopped"))?;
        ensure!(
            unsure.contains(unit) || *at >= over,
            "{unit} did not outlive the drain"
        );
    }
    for unit in kind
        .early
        .iter()
        .copied()
        .chain(may_stop.difference(&unsure).copied())
    {
        // Of what is no service not every stop is told.
        if unit.ends_with(".service") {
            let at = stops
                .get(unit)
                .with_context(|| format!("{unit} was never stopped"))?;
            ensure!(*at < over, "{unit} outlived the drain");
        }
    }
    ensure!(late > 0, "nothing outlived the drain");
    Ok([late, early, either])
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
