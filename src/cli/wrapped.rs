//! The two halves of a drain for one program: what `run` starts once there is something to do.

use std::io::Write as _;
use std::str::FromStr;
use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rejoin::{lock, one_by_one};
use super::run::Run;
use crate::config::{self, Faults, PoolSpec, Settings, SettleSettings};
use crate::drain::engine::{self, Order};
use crate::drain::{Target, ports, rejoin, target};
use crate::evidence::Listener;
use crate::evidence::spoken::Transport;
use crate::exit;
use crate::pools::KINDS;
use crate::receipts::{self, Lock, Store};
use crate::report::Sink;
use crate::supervisord::Supervisord;
use crate::systemd::{systemctl, view};
use crate::world::{Deadline, Root, proc};
use crate::wrap::unit;

/// The type of the pool that has services.
const CONSUL: &str = "consul";
/// A rejoin that failed is tried again after so long, and then after twice that, up to [`PATIENCE`].
const AGAIN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
/// A program that was started listens after so long at the earliest, as a rule; it is looked at so often, each time after twice as long.
const LISTENS: Duration = Duration::from_millis(250);
const LOOKS: u32 = 8;

/// PID 1 has this long to describe our unit.
const PID_1: Duration = Duration::from_secs(2);
/// supervisord has this long to say how long it waits.
const ANSWER: Duration = Duration::from_millis(500);
/// What a drain leaves a program of that time to end.
const OWN_END: Duration = Duration::from_secs(2);

/// What is to be done for the program whose process is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Leave its pools, wait for its requests.
    Drain(u32),
    /// Once it serves: find out what is spoken on its ports, and take it back.
    Start(u32),
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (part, pid) = text.split_once(':').unwrap_or_default();
        match (part, pid.parse()) {
            ("drain", Ok(pid)) => Ok(Self::Drain(pid)),
            ("start", Ok(pid)) => Ok(Self::Start(pid)),
            _ => Err("drain:PID or start:PID".to_owned()),
        }
    }
}

impl Part {
    /// Does it, with the state of the program `name` below `state`.
    ///
    /// # Errors
    /// The lock can't be had.
    pub(super) fn run(
        self,
        root: &Root,
        run: &Run,
        name: &str,
        state: &Root,
    ) -> anyhow::Result<u8> {
        match self {
            Self::Drain(pid) => drain(root, run, name, pid, state),
            Self::Start(pid) => {
                look_at_unit(root, run, name);
                let target = target(root, name, pid);
                let ours = (root.clone(), state.clone(), target.clone());
                let learns = std::thread::spawn(move || learn(&ours.0, &ours.1, &ours.2));
                let code = rejoin(root, run, name, &target, state);
                // It ends by itself, in a minute or two at the latest.
                let _ = learns.join();
                Ok(code)
            }
        }
    }
}

/// The settings of the program.
///
/// # Errors
/// Every fault of the file that `--config` names. One in the host's own config is no reason not to run.
pub(super) fn checked(root: &Root, run: &Run) -> Result<Settings, Faults> {
    settings(root, run).map(|(settings, _)| settings)
}

fn settings(root: &Root, run: &Run) -> Result<(Settings, Vec<String>), Faults> {
    let (mut settings, mut notes) = match &run.config {
        Some(file) => {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            (config::load_one(root, &file.to_string_lossy())?, Vec::new())
        }
        None => {
            let (mut settings, notes) = config::load_or_last_good(root);
            // They are of the whole host, and so is its check; only where its Consul agent is serves here too.
            settings.pools.retain(|pool| pool.kind == CONSUL);
            settings.stand_ins.clear();
            settings.rejoin.check = None;
            (settings, notes)
        }
    };
    if !run.service.is_empty() {
        let consul = settings.pools.iter().find(|pool| pool.kind == CONSUL);
        let services = services(consul.cloned(), &run.service);
        settings.pools.retain(|pool| pool.kind != CONSUL);
        settings.pools.extend(services);
    } else if run.config.is_none() {
        settings.pools.clear();
    }
    if let Some(url) = &run.check {
        settings.rejoin.check = Some(url.clone());
    }
    if let Some(deadline) = run.deadline {
        settings.deadline.restart = deadline;
    }
    if settings.pools.is_empty() {
        notes.push(
            "it is in no pool that was named (--service, --config): its requests are waited for, and new ones may come meanwhile"
                .to_owned(),
        );
        settings.settle = SettleSettings {
            min: Duration::ZERO,
            quiet: Duration::ZERO,
            max: Duration::ZERO,
        };
    }
    Ok((settings, notes))
}

/// The services of the local agent, reached as `consul` says.
fn services(consul: Option<PoolSpec>, services: &[String]) -> Option<PoolSpec> {
    let mut consul = consul.or_else(|| {
        let kind = KINDS.iter().find(|kind| kind.name == CONSUL)?;
        Some(PoolSpec {
            name: kind.name.to_owned(),
            kind: kind.name.to_owned(),
            limit: config::POOL_LIMIT,
            settings: config::read_alone("", None, kind.settings).ok()?,
        })
    })?;
    if let Value::Object(settings) = &mut consul.settings {
        settings.remove("scope");
        settings.insert("services".to_owned(), json!(services));
    }
    Some(consul)
}

/// The process whose descendants are the program: its keeper, to which fall those that outlive their own parent; a supervisord itself,
/// since it names its programs.
fn target(root: &Root, name: &str, pid: u32) -> Target {
    let keeper = std::os::unix::process::parent_id();
    let is_supervisord = matches!(Supervisord::of(root, pid), Ok(Some(_)));
    Target::Process {
        pid: if is_supervisord { pid } else { keeper },
        name: name.to_owned(),
    }
}

/// How long the supervisord that runs us waits before it kills; none without one, or where it does not say.
fn patience(root: &Root) -> Option<Duration> {
    let program = std::env::var("SUPERVISOR_PROCESS_NAME").ok()?;
    let group = std::env::var("SUPERVISOR_GROUP_NAME").ok()?;
    let program = if group == program {
        program
    } else {
        format!("{group}:{program}")
    };
    let keeper = std::os::unix::process::parent_id();
    let above = proc::parent(root, keeper).ok()??;
    let server = Supervisord::of(root, above).ok()??;
    let stops = server.stops(root, Deadline::after(ANSWER)).ok()?;
    let ours = stops.into_iter().find(|stop| stop.program == program)?;
    Some(ours.limit)
}

fn drain(root: &Root, run: &Run, name: &str, pid: u32, state: &Root) -> anyhow::Result<u8> {
    // A rejoin that was killed for it may have it for a moment still.
    let _lock: Lock = lock(state)?;
    let (settings, mut notes) = settings(root, run)?;
    let mut limit = settings.deadline.restart;
    if let Some(patience) = patience(root).filter(|patience| *patience < limit + OWN_END) {
        limit = limit.min(patience.saturating_sub(OWN_END).max(OWN_END));
        notes.push(format!(
            "supervisord kills {name} after {} s (stopwaitsecs): the drain has {} s",
            patience.as_secs(),
            limit.as_secs()
        ));
    }
    let order = Order {
        root: root.clone(),
        state: state.clone(),
        target: target(root, name, pid),
        settings,
        notes,
        as_hook: false,
        limit: Some(limit),
    };
    let (tell, inbox) = channel();
    super::drain::hear_signals(true, tell.clone())?;
    let mut sink = Sink::choose(false, false);
    let report = engine::run(&order, (tell, inbox), &mut |at, event| sink.take(at, event));
    Ok(report.exit)
}

/// Says what is wrong with the unit of systemd that the keeper is the main process of.
fn look_at_unit(root: &Root, run: &Run, name: &str) {
    let keeper = std::os::unix::process::parent_id();
    // Only then did systemd start it, and not what it started.
    if !matches!(proc::parent(root, keeper), Ok(Some(1))) {
        return;
    }
    let group = proc::control_group(root, keeper).ok().flatten();
    let Some(unit) = group.as_deref().and_then(view::unit_of_control_group) else {
        return;
    };
    let limit = settings(root, run).map_or(Duration::ZERO, |(s, _)| s.deadline.restart);
    let deadline = Deadline::after(PID_1);
    let known = systemctl::show(&[unit.to_owned()], &unit::PROPERTIES, deadline);
    for fault in known
        .iter()
        .flatten()
        .flat_map(|known| unit::faults(known, keeper, limit))
    {
        say(name, &fault);
    }
}

/// Finds out what is spoken on the program's ports once it listens, for its drain to know. At each start, which may be one with another
/// config. What remains unknown may be TLS to the drain, and takes longer.
fn learn(root: &Root, state: &Root, target: &Target) {
    let Target::Process { pid, name } = target else {
        return;
    };
    let began = Instant::now();
    let mut pause = LISTENS;
    for _ in 0..LOOKS {
        sleep(pause);
        pause *= 2;
        let units = target::process(root, *pid, name);
        let known = ports::learn_of(root, state, &units, began.elapsed());
        if known.is_ok_and(|(listeners, kept)| {
            let unknown = |one: &Listener| kept.of(one).transport == Transport::Unknown;
            !listeners.is_empty() && !listeners.iter().any(unknown)
        }) {
            return;
        }
    }
}

/// Tries until it is done: the keeper ends it when there is nothing to rejoin any more.
fn rejoin(root: &Root, run: &Run, name: &str, target: &Target, state: &Root) -> u8 {
    let mut pause = AGAIN;
    let mut said = String::new();
    loop {
        match rejoin_once(root, run, target, name, state) {
            Ok(exit::OK) => return exit::OK,
            Ok(_) => {}
            Err(error) => {
                let error = format!("{error:#}");
                if error != said {
                    say(name, &format!("not rejoined yet: {error}"));
                    said = error;
                }
            }
        }
        sleep(pause);
        pause = (pause * 2).min(PATIENCE);
    }
}

fn rejoin_once(
    root: &Root,
    run: &Run,
    target: &Target,
    name: &str,
    state: &Root,
) -> anyhow::Result<u8> {
    let Some(book) = Store::open(state)?.book() else {
        return Ok(exit::OK);
    };
    let last = receipts::Run::read(state).map(|run| run.id);
    let (settings, _) = settings(root, run)?;
    let limit = Deadline::after(settings.rejoin.limit);
    rejoin::await_health(root, target, &settings, &book, limit, |missing| {
        say(name, &format!("waits to rejoin: {missing}"));
    })?;
    one_by_one(root, state, limit, last.as_ref(), |line| say(name, line))
}

/// A line, in one piece: the program writes to the same place.
fn say(name: &str, what: &str) {
    let _ = std::io::stderr().write_all(format!("drainctl: {name}: {what}\n").as_bytes());
}
