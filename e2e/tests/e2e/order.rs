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
/// The check that names a circle.
const CIRCLE: &str = "order-circle";
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
    /// The units of which nobody can say it, beside those of a circle: some versions stop them, and others don't.
    either: &'static [&'static str],
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
    either: &[],
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
        finds: &[CIRCLE],
        ..PLAIN
    },
    Kind {
        name: "a target after the drain",
        config: NOT_EVERYTHING,
        units: &[(
            "supervisor.service.d/after.conf",
            "[Unit]\nAfter=drain-connections.service\n",
        )],
        late: &["dbus.service"],
        early: &["other.service"],
        finds: &[CIRCLE],
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
        either: &["spread.service"],
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
        either: &["spread.service"],
        ..PLAIN
    },
    Kind {
        name: "some held by way of slices, instances and sockets",
        config: "[hold]\neverything = false\nkeep = [\"sliced.service\", \"many@one.service\", \"answers.service\"]\n",
        units: WAYS,
        before: WAYS_START,
        late: &[
            "supervisor.service",
            "sliced.service",
            "ways.slice",
            "below.service",
            "many@one.service",
            "system-many.slice",
            "answers.service",
            "answers.socket",
        ],
        early: &[
            "other.service",
            "many@two.service",
            "free.service",
            "under.service",
            "passes.service",
            "upholds.service",
            "upheld.service",
        ],
        either: &["passed.service"],
        ..PLAIN
    },
    Kind {
        name: "some held that are free of the usual orders, or keep others up",
        config: "[hold]\neverything = false\nkeep = [\"free.service\", \"passes.service\", \"upholds.service\"]\n",
        units: WAYS,
        before: WAYS_START,
        late: &[
            "supervisor.service",
            "free.service",
            "under.service",
            "passes.service",
            "upholds.service",
        ],
        early: &[
            "other.service",
            "sliced.service",
            "below.service",
            "many@one.service",
            "answers.service",
            "upheld.service",
        ],
        either: &["passed.service"],
        ..PLAIN
    },
    Kind {
        name: "all of these held",
        units: WAYS,
        before: WAYS_START,
        late: &[
            "supervisor.service",
            "sliced.service",
            "below.service",
            "many@one.service",
            "many@two.service",
            "answers.service",
            "free.service",
            "under.service",
            "passes.service",
            "upholds.service",
            "upheld.service",
        ],
        either: &["passed.service"],
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

/// Units that are held by way of others: a slice, an instance's slice, a socket; and those whose stop other units decide about.
const WAYS: &[(&str, &str)] = &[
    ("ways.slice", "[Unit]\nAfter=below.service\n"),
    (
        "sliced.service",
        "[Service]\nSlice=ways.slice\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    ("below.service", ENABLED),
    (
        "many@.service",
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "answers.socket",
        "[Socket]\nListenStream=/run/answers\n[Install]\nWantedBy=sockets.target\n",
    ),
    (
        "answers.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    ),
    (
        "free.service",
        "[Unit]\nDefaultDependencies=no\nConflicts=shutdown.target\nAfter=under.service\n[Service]\nExecStart=/bin/sleep infinity\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    ("under.service", ENABLED),
    (
        "passes.service",
        "[Unit]\nPropagatesStopTo=passed.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "passed.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "upholds.service",
        "[Unit]\nUpholds=upheld.service\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "upheld.service",
        "[Service]\nExecStart=/bin/sleep infinity\n",
    ),
];
/// The service is started by its socket.
const WAYS_START: &str = "systemctl -q enable --now below under sliced many@one many@two answers.socket free passes passed upholds; \
                          python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/answers\")'; \
                          until systemctl -q is-active answers upheld; do sleep 0.1; done";

/// Keeps a connection to Redis.
pub(crate) const USES: &str =
    "import redis, time\nr = redis.Redis()\nwhile True:\n    r.ping()\n    time.sleep(0.5)\n";

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
