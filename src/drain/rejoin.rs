//! Takes the host back: exactly what the receipts say, and only once what was up before is up again.

use std::collections::BTreeSet;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use super::target::{self, Programs, Target, watched};
use crate::config::{self, Settings};
use crate::evidence::listeners;
use crate::pools::{self, Context, Health, Membership, Rejoined};
use crate::receipts::{Book, Receipt, Store, TargetMark};
use crate::systemd::{self, UnitState};
use crate::world::http::{Client, Endpoint, Tls};
use crate::world::{Deadline, Root};

/// What is waited for is looked at this often.
pub const PACE: Duration = Duration::from_millis(250);
/// One look at the programs, one call to a pool.
pub const CALL: Duration = Duration::from_secs(5);
/// Once every program runs, the ports that the drain saw may take this long to listen again. After that they are taken for
/// gone with a change of the config: what counts then are the pool's own checks. A supervisord that does not answer has as long.
const PORTS: Duration = Duration::from_secs(120);
/// A pool's answer may come so much later than its deadline.
const LATE: Duration = Duration::from_millis(500);

/// Waits until the target is well again; the pools' own checks are for [`ready`]. `say` hears what is waited for, each time that changes.
///
/// # Errors
/// It was not well within `settings.rejoin.limit`; what was missing.
pub fn await_health(
    root: &Root,
    target: &Target,
    settings: &Settings,
    book: &Book,
    limit: Deadline,
    mut say: impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut said = String::new();
    let mut since = Since::default();
    loop {
        let missing = missing(
            (root, target),
            settings,
            book,
            &mut since,
            limit.within(CALL),
        );
        let missing = missing.unwrap_or_else(|error| format!("{error:#}"));
        if missing.is_empty() {
            return Ok(());
        }
        if limit.passed() {
            bail!("not well within {:?}: {missing}", settings.rejoin.limit);
        }
        if missing != said {
            say(&missing);
            said = missing;
        }
        std::thread::sleep(PACE);
    }
}

/// Since when something is so that may stay so.
#[derive(Default)]
struct Since {
    /// Every program runs.
    running: Option<Instant>,
    /// The units are up, and a supervisord among them does not answer.
    unanswered: Option<Instant>,
}

/// What is missing, for people; nothing when all is well.
fn missing(
    (root, target): (&Root, &Target),
    settings: &Settings,
    book: &Book,
    since: &mut Since,
    deadline: Deadline,
) -> anyhow::Result<String> {
    let programs = match target {
        Target::Units(configured) => {
            programs_missing(root, configured, &book.target, since, deadline)?
        }
        Target::Process { pid, name } if target::process(root, *pid, name).is_empty() => {
            format!("{name} is not running")
        }
        Target::Process { .. } => String::new(),
    };
    if !programs.is_empty() {
        since.running = None;
        return Ok(programs);
    }
    let since = since.running.get_or_insert_with(Instant::now);
    let ports = ports_missing(root, target, &book.target, deadline)?;
    if !ports.is_empty() && since.elapsed() < PORTS {
        return Ok(ports);
    }
    if let Some(url) = &settings.rejoin.check {
        let says = check(url, deadline)?;
        if !says.is_empty() {
            return Ok(says);
        }
    }
    Ok(String::new())
}

fn programs_missing(
    root: &Root,
    configured: &[String],
    mark: &TargetMark,
    since: &mut Since,
    deadline: Deadline,
) -> anyhow::Result<String> {
    let (units, marked) = counted(root, configured, mark, deadline)?;
    if let Some(down) = units.iter().find(|unit| is_down(unit)) {
        since.unanswered = None;
        return Ok(format!("{} is {}", down.id, down.active_state));
    }
    let programs = Programs::ask(root, &units);
    if let Some(note) = programs.notes.first()
        && (!marked || !mark.programs.is_empty())
    {
        let unanswered = since.unanswered.get_or_insert_with(Instant::now);
        // One that will never answer: its ports, and the pools' own checks, tell.
        if programs.may_answer && unanswered.elapsed() < PORTS {
            return Ok(note.clone());
        }
    } else {
        since.unanswered = None;
    }
    let nothing = TargetMark::default();
    Ok(programs
        .missing(if marked { mark } else { &nothing })
        .join(", "))
}

/// The units that have to be up, and whether they are those that the drain noted. A drain that was killed between its first receipt and its
/// first look has noted nothing, and what is not there any more, or stopped for good since the config names others, is not waited for: all of the
/// target as it is now counts then.
fn counted(
    root: &Root,
    configured: &[String],
    mark: &TargetMark,
    deadline: Deadline,
) -> anyhow::Result<(Vec<UnitState>, bool)> {
    if mark.units.is_empty() {
        let names = target::unit_names(root, configured);
        return Ok((systemd::snapshot(&names, deadline)?.units, false));
    }
    let marked = systemd::snapshot(&mark.units, deadline)?.units;
    if marked.iter().all(is_up) {
        return Ok((marked, true));
    }
    // Read anew: whoever waits here began before the config was changed. A host that is to be searched says nothing of what is meant to run.
    let named =
        config::load(root).map_or_else(|_| configured.to_vec(), |loaded| loaded.settings.units);
    if named.is_empty() {
        return Ok((marked, true));
    }
    let now = systemd::snapshot(&named, deadline)?.units;
    Ok(if are_replaced(&marked, &now) {
        (now, false)
    } else {
        (marked, true)
    })
}

fn is_up(unit: &UnitState) -> bool {
    unit.active_state == "active"
}

/// Whether others run in the place of units that were drained: one of those is not up, and is not among `now`, which all are.
fn are_replaced(marked: &[UnitState], now: &[UnitState]) -> bool {
    let is_named = |unit: &UnitState| now.iter().any(|other| other.id == unit.id);
    marked.iter().any(|unit| !is_up(unit) && !is_named(unit)) && now.iter().all(is_up)
}

/// Whether it is there and not up. One that was uninstalled is not missed.
fn is_down(unit: &UnitState) -> bool {
    unit.load_state != "not-found" && unit.active_state != "active"
}

fn ports_missing(
    root: &Root,
    target: &Target,
    mark: &TargetMark,
    deadline: Deadline,
) -> anyhow::Result<String> {
    let units = match target {
        Target::Units(_) if mark.ports.is_empty() && mark.sockets.is_empty() => {
            return Ok(String::new());
        }
        Target::Units(configured) => counted(root, configured, mark, deadline)?.0,
        Target::Process { pid, name } => target::process(root, *pid, name),
    };
    let mut socket = sockdiag::Socket::open().context("open a sock_diag socket")?;
    let units = watched(&units);
    let found = listeners::find(root, &mut socket, &units, &[], deadline.instant(), &|_| {
        None
    })?;
    let nothing_noted = mark.ports.is_empty() && mark.sockets.is_empty();
    if nothing_noted && found.listeners.is_empty() && found.locals.is_empty() {
        // A process whose drain was killed before its first look.
        return Ok("it listens nowhere yet".to_owned());
    }
    let listening: BTreeSet<u16> = found.listeners.iter().map(|l| l.local.port()).collect();
    let ports = mark.ports.iter().filter(|port| !listening.contains(port));
    let there = |path: &&String| found.locals.iter().any(|local| local.name == **path);
    let sockets = mark.sockets.iter().filter(|path| !there(path));
    let mut missing: BTreeSet<String> = ports.map(|port| format!("port {port}")).collect();
    missing.extend(sockets.cloned());
    if missing.is_empty() {
        return Ok(String::new());
    }
    let missing: Vec<String> = missing.into_iter().collect();
    Ok(format!("nothing listens on {} yet", missing.join(", ")))
}

/// What the check says; nothing when it passes.
fn check(url: &str, deadline: Deadline) -> anyhow::Result<String> {
    let (server, path) = Endpoint::split(url)?;
    let client = Client::new(&server, &Tls::default())?;
    let answer = client
        .request("GET", path, &[], None, deadline)
        .with_context(|| url.to_owned())?;
    let fine = (200..300).contains(&answer.status);
    Ok(if fine {
        String::new()
    } else {
        format!("{url} answers {}", answer.status)
    })
}

/// The receipts whose pools' own checks pass by now, asked side by side; and what keeps the others, by name.
pub fn ready(
    root: &Root,
    receipts: Vec<Receipt>,
    deadline: Deadline,
) -> (Vec<Receipt>, Vec<(String, String)>) {
    let (mut ready, mut waiting) = (Vec::new(), Vec::new());
    let asked = receipts.into_iter().map(|receipt| (receipt, deadline));
    each(
        root,
        asked.collect(),
        health,
        |receipt, health| match health {
            Ok(Health::Passing) => ready.push(receipt),
            Ok(Health::Failing(why)) => waiting.push((receipt.pool.name, why)),
            Err(error) => waiting.push((receipt.pool.name, format!("{error:#}"))),
        },
    );
    // Answers come in any order; what is said must not change with it.
    waiting.sort_unstable();
    (ready, waiting)
}

fn health(root: &Root, receipt: &Receipt, deadline: Deadline) -> anyhow::Result<Health> {
    let cx = Context {
        deadline,
        root: root.clone(),
    };
    let pool = pools::build(&receipt.pool)?;
    Ok(pool.health(&cx, &receipt.before)?)
}

/// Uses these receipts side by side: no pool waits for another one. Each is gone from the disk once its pool has this host back; one that failed
/// stays. `heard` is told the pool's name with what came of it.
pub fn undo(
    root: &Root,
    store: &Store,
    receipts: Vec<Receipt>,
    deadline: Deadline,
    mut heard: impl FnMut(&str, anyhow::Result<Rejoined>),
) {
    let limited = receipts.into_iter().map(|receipt| {
        let limit = deadline.within(receipt.pool.limit);
        (receipt, limit)
    });
    each(root, limited.collect(), undo_one, |receipt, result| {
        let used = result.and_then(|rejoined| store.used(&receipt.pool).map(|()| rejoined));
        heard(&receipt.pool.name, used);
    });
    if let Err(error) = store.drop_empty() {
        heard("receipts", Err(error));
    }
}

/// Does `work` for each receipt on a thread of its own, and hears of each by its deadline or soon after.
fn each<T: Send + 'static>(
    root: &Root,
    receipts: Vec<(Receipt, Deadline)>,
    work: fn(&Root, &Receipt, Deadline) -> anyhow::Result<T>,
    mut heard: impl FnMut(Receipt, anyhow::Result<T>),
) {
    let Some(last) = receipts.iter().map(|(_, deadline)| *deadline).max() else {
        return;
    };
    let (tell, answers) = channel();
    for (at, (receipt, deadline)) in receipts.iter().cloned().enumerate() {
        let (tell, root) = (tell.clone(), root.clone());
        std::thread::spawn(move || tell.send((at, work(&root, &receipt, deadline))));
    }
    drop(tell);
    let mut waiting: Vec<Option<Receipt>> =
        receipts.into_iter().map(|(one, _)| Some(one)).collect();
    let end = last.instant() + LATE;
    while let Ok((at, answer)) = answers.recv_timeout(end.saturating_duration_since(Instant::now()))
    {
        if let Some(receipt) = waiting[at].take() {
            heard(receipt, answer);
        }
    }
    for receipt in waiting.into_iter().flatten() {
        heard(receipt, Err(anyhow!("no answer in time")));
    }
}

fn undo_one(root: &Root, receipt: &Receipt, deadline: Deadline) -> anyhow::Result<Rejoined> {
    let pool = pools::build(&receipt.pool)?;
    let cx = || Context {
        deadline: deadline.within(CALL),
        root: root.clone(),
    };
    let rejoined = loop {
        match pool.rejoin(&cx(), &receipt.before) {
            Ok(rejoined) => break rejoined,
            Err(error) if deadline.left() < PACE => return Err(error.into()),
            Err(_) => std::thread::sleep(PACE),
        }
    };
    if let Rejoined::LeftAlone(_) = rejoined {
        return Ok(rejoined);
    }
    loop {
        match pool.status(&cx()) {
            Ok(Membership::In | Membership::NotMember) => return Ok(rejoined),
            Ok(Membership::Leaving | Membership::Out) if deadline.left() < PACE => {
                bail!("it was asked to take this host back, but does not send traffic yet")
            }
            Err(error) if deadline.left() < PACE => return Err(error.into()),
            _ => std::thread::sleep(PACE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_given_up_only_where_others_are_named_and_run() {
        let unit = |id: &str, state: &str| UnitState {
            id: id.to_owned(),
            active_state: state.to_owned(),
            ..UnitState::default()
        };
        let old = [unit("old.service", "inactive")];
        assert!(are_replaced(&old, &[unit("new.service", "active")]));
        // It starts by and by, or nobody can be sure that it will not.
        assert!(!are_replaced(&old, &[unit("new.service", "activating")]));
        assert!(!are_replaced(&old, &old));
        let both = [
            unit("new.service", "active"),
            unit("old.service", "inactive"),
        ];
        assert!(!are_replaced(&old, &both));
        // What is up is waited for no longer than any other.
        let up = [unit("old.service", "active")];
        assert!(!are_replaced(&up, &[unit("new.service", "active")]));
    }

    #[test]
    fn a_unit_that_was_uninstalled_is_not_missed() {
        let unit = |load_state: &str, active_state: &str| UnitState {
            load_state: load_state.to_owned(),
            active_state: active_state.to_owned(),
            ..UnitState::default()
        };
        assert!(is_down(&unit("loaded", "inactive")));
        assert!(is_down(&unit("loaded", "activating")));
        assert!(!is_down(&unit("loaded", "active")));
        assert!(!is_down(&unit("not-found", "inactive")));
    }
}
