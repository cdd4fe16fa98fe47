//! `systemctl`: the second way to ask PID 1, and the one way to tell it something.

use std::collections::BTreeMap;
use std::thread;

use super::Error;
use super::TRIAL;
use super::order::Units;
use super::view::{self, Snapshot};
use crate::world::{Deadline, exec};

/// So many ask PID 1 at a time where there is much to ask: with more it takes no less time (266 units).
const SIDE_BY_SIDE: usize = 4;

/// Properties of `units`, in that order; a unit that does not exist has `LoadState=not-found`.
///
/// # Errors
/// [`Error::Name`], [`Error::Exec`], [`Error::Refused`] or [`Error::Answer`].
pub fn show(
    units: &[String],
    properties: &[&str],
    deadline: Deadline,
) -> Result<Vec<BTreeMap<String, String>>, Error> {
    if let Some(name) = units.iter().find(|name| !view::is_unit_name(name)) {
        return Err(Error::Name(name.clone()));
    }
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = format!("--property={}", properties.join(","));
    let mut arguments = vec!["show", &wanted, "--"];
    arguments.extend(units.iter().map(String::as_str));
    let blocks = view::blocks(&run(&arguments, deadline)?);
    if blocks.len() == units.len() {
        Ok(blocks)
    } else {
        Err(Error::Answer(format!(
            "{} units for {} names",
            blocks.len(),
            units.len()
        )))
    }
}

/// Properties of every active unit, and of `units`, by their real names.
///
/// # Errors
/// As [`show`].
pub fn show_all(units: &[&str], properties: &[&str], deadline: Deadline) -> Result<Units, Error> {
    if let Some(name) = units.iter().find(|name| !view::is_unit_name(name)) {
        return Err(Error::Name((*name).to_owned()));
    }
    let listed = run(
        &["list-units", "--plain", "--no-legend", "--full"],
        deadline,
    )?;
    let active = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !name.starts_with(TRIAL));
    let names: Vec<&str> = active.chain(units.iter().copied()).collect();
    let wanted = format!("--property={}", properties.join(","));
    // `systemctl` asks for one unit after another, and on a busy host waits its turn for each.
    let shown = thread::scope(|scope| {
        let parts = names.chunks(names.len().div_ceil(SIDE_BY_SIDE).max(1));
        let asked: Vec<_> = parts
            .map(|names| {
                let arguments = [&["show", &wanted, "--"], names].concat();
                scope.spawn(move || run(&arguments, deadline))
            })
            .collect();
        let gone = |_| Err(Error::Answer("a thread ended".to_owned()));
        let answers = asked
            .into_iter()
            .map(|part| part.join().unwrap_or_else(gone));
        answers.collect::<Result<Vec<String>, Error>>()
    })?;
    let blocks = shown.iter().flat_map(|text| view::blocks(text));
    Ok(blocks
        .filter_map(|unit| Some((unit.get("Id")?.clone(), unit)))
        .collect())
}

/// Properties of the manager itself.
///
/// # Errors
/// [`Error::Exec`] or [`Error::Refused`].
pub fn manager(properties: &[&str], deadline: Deadline) -> Result<BTreeMap<String, String>, Error> {
    let wanted = format!("--property={}", properties.join(","));
    let blocks = view::blocks(&run(&["show", &wanted], deadline)?);
    Ok(blocks.into_iter().next().unwrap_or_default())
}

/// Cancels these jobs, one after the other.
///
/// # Errors
/// [`Error::Exec`] or [`Error::Refused`].
pub fn cancel(jobs: &[u32], deadline: Deadline) -> Result<(), Error> {
    for job in jobs {
        run(&["cancel", &job.to_string()], deadline)?;
    }
    Ok(())
}

/// Has a unit started as soon as it can be, without waiting for that.
///
/// # Errors
/// [`Error::Exec`] or [`Error::Refused`].
pub fn start_later(unit: &str, deadline: Deadline) -> Result<(), Error> {
    run(&["start", "--no-block", unit], deadline).map(drop)
}

/// The same look as over the bus.
pub(super) fn snapshot(units: &[String], deadline: Deadline) -> Result<Snapshot, Error> {
    let manager = view::blocks(&run(&["show", "--property=SystemState"], deadline)?);
    let system_state = manager
        .into_iter()
        .find_map(|mut block| block.remove("SystemState"))
        .ok_or_else(|| Error::Answer("no SystemState".to_owned()))?;
    let jobs = run(&["list-jobs", "--no-legend", "--plain", "--full"], deadline)?;
    let found = show(units, &view::PROPERTIES, deadline)?;
    let units = units
        .iter()
        .zip(&found)
        .map(|(name, properties)| {
            view::unit_state(name, properties)
                .ok_or_else(|| Error::Answer(format!("no state of {name}")))
        })
        .collect::<Result<_, _>>()?;
    Ok(Snapshot {
        system_state,
        jobs: view::jobs(&jobs),
        units,
    })
}

/// Runs `systemctl` with `arguments` and returns what it wrote.
///
/// # Errors
/// [`Error::Exec`]; [`Error::Refused`] with its message when it fails.
pub fn run(arguments: &[&str], deadline: Deadline) -> Result<String, Error> {
    let argv: Vec<&str> = ["systemctl", "--no-pager"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let output = exec::run(&argv, None, deadline)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let says = String::from_utf8_lossy(&output.stderr);
    Err(Error::Refused {
        asked: arguments.join(" "),
        says: match says.trim() {
            "" => output.status.to_string(),
            text => text.replace('\n', "; "),
        },
    })
}
