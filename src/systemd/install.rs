//! What has to stand on a host for its drains, worked out from what was found: pure, so that it can be shown before it is done, and
//! so that a host on which all of it stands is left alone.

use std::path::Path;

use anyhow::{Context, bail};

use super::find::{self, Found};
use super::hold::{self, Holds, Newcomer};
use super::steps::{Act, Pid1, Step};
use super::survey::{BINARY, Facts, Installed, PROPERTIES, Request, full_name};
use super::units::{self, Held, Layout};
use super::{HOLD, HOLD_TIMER, HOOK, REJOIN};
use crate::config::{self, Settings};
use crate::paper::{self, PAPER};
use crate::receipts::{RUN_DIR, STATE_DIR};

/// What will be done.
#[derive(Debug)]
pub struct Plan {
    /// What was found, for people.
    pub found: Vec<String>,
    /// What is to be changed; empty when everything stands.
    pub steps: Vec<Step>,
    /// The units that are drained before they stop.
    pub targets: Vec<String>,
    /// The units that outlive the drain by name.
    pub outlive: Vec<String>,
    /// Whether everything else does, too.
    pub hold: bool,
    /// What outlives it, and no earlier install has named.
    pub new: Vec<Newcomer>,
}

/// What has to be changed. Pure.
///
/// # Errors
/// A unit that does not exist, with what was found instead; no unit at all; a config that says otherwise and is not ours to change; a
/// drain that runs.
pub fn plan(request: &Request, facts: &Facts) -> anyhow::Result<Plan> {
    let hook = state(facts, HOOK, "ActiveState");
    if hook == "deactivating" {
        bail!("a drain runs: wait for it, or end it with `drainctl skip` or `drainctl abort`");
    }
    let mut found = Vec::new();
    let targets = targets(request, facts, &mut found)?;
    if let Some(agent) = &facts.agent {
        found.push(format!("{}: {}", agent.unit, agent.why));
    }
    let all = hold::decide(facts, &targets, &resolve(facts, &request.keep)?);
    let new = all.new.clone();
    let holds = if request.settled { all.settled() } else { all };
    found.extend(
        new.iter()
            .map(|new| format!("{}: {}", new.held.unit, new.held.why)),
    );
    for unit in &facts.settings.hold.keep {
        if !facts.exists(&full_name(unit)) {
            found.push(format!(
                "{unit}: named in [hold] keep, and not on this host yet"
            ));
        }
    }
    found.extend(facts.remarks.iter().cloned());
    if !facts.configured {
        let pools = request.pools.iter();
        found.extend(pools.map(|pool| format!("[pool.{}]: {}", pool.name, pool.why)));
    }
    let outlive = holds.named.iter().map(|held| held.unit.clone()).collect();
    let hold = facts.settings.hold.everything;

    let mut steps = Vec::new();
    let binary = place(facts, &mut steps);
    configure(request, facts, &targets, &mut steps)?;
    write_paper(facts, &mut steps);
    remember(facts, &mut steps)?;
    let before = steps.len();
    let layout = Layout {
        binary,
        targets: targets.clone(),
        writable: writable(&facts.settings),
        firewall: facts.settings.ways().any(|pool| pool.kind == "firewall"),
        hold,
    };
    write(
        facts,
        &mut steps,
        &units::path(HOOK),
        units::hook(&layout),
        format!("its stop is the drain: before {}", targets.join(", ")),
    );
    write(
        facts,
        &mut steps,
        &units::path(REJOIN),
        units::rejoin(&layout),
        "takes the host back once its programs are up".to_owned(),
    );
    holding(facts, &holds, &mut steps);
    let changed = steps.len() > before;
    let mut both = vec![HOOK, REJOIN];
    both.extend(hold.then_some(HOLD_TIMER));
    if changed
        || both
            .iter()
            .any(|unit| state(facts, unit, "NeedDaemonReload") == "yes")
    {
        let why = "systemd reads units only when told to";
        steps.push(Step::new(Act::Tell("daemon-reload", Vec::new()), why));
    }
    if changed
        || both
            .iter()
            .any(|unit| state(facts, unit, "UnitFileState") != "enabled")
    {
        // Anew, since the names of the units that start the hook may have changed.
        let why = "started with the units above, also after a reboot";
        steps.push(Step::new(Act::Tell("reenable", both), why));
    }
    if hook != "active" {
        let why =
            "only what is active is stopped: without this the next shutdown would not be drained";
        steps.push(Step::new(Act::Tell("start", vec![HOOK]), why));
    }
    if hold {
        steps.extend(start_hold(facts));
    }
    Ok(Plan {
        found,
        steps,
        targets,
        outlive,
        hold,
        new,
    })
}

/// A boot that goes on must neither be waited for, nor make the hook wait.
fn start_hold(facts: &Facts) -> Option<Step> {
    let active = |unit| state(facts, unit, "ActiveState") == "active";
    let (how, why) = match (active(hold::BOOT[0]), active(HOLD_TIMER), active(HOLD)) {
        (_, _, true) | (false, true, _) => return None,
        (true, _, false) => (
            vec![HOLD_TIMER, HOLD],
            "everything else is held from now on",
        ),
        (false, false, false) => (
            vec!["--no-block", HOLD_TIMER],
            "everything else is held once the boot is over",
        ),
    };
    Some(Step::new(Act::Tell("start", how), why))
}

/// The files by which everything else outlives the drain; or none of them.
fn holding(facts: &Facts, holds: &Holds, steps: &mut Vec<Step>) {
    let list = |held: &[Held]| {
        let names: Vec<&str> = held.iter().map(|held| held.unit.as_str()).collect();
        names.join(", ")
    };
    let own = [(HOLD, units::hold()), (HOLD_TIMER, units::hold_timer())];
    if facts.settings.hold.everything {
        let [(hold, text), (timer, timing)] = own;
        let why = "what the boot starts is stopped after the drain, also what is installed later";
        write(facts, steps, &units::path(hold), text, why.to_owned());
        let why = "starts it once the boot is over";
        write(facts, steps, &units::path(timer), timing, why.to_owned());
    } else if own
        .iter()
        .any(|(unit, _)| facts.files.contains_key(&units::path(unit)))
    {
        let why = "[hold] everything = false";
        steps.push(Step::new(Act::Tell("disable", vec![HOLD_TIMER]), why));
        steps.push(Step::new(Act::Tell("stop", vec![HOLD_TIMER, HOLD]), why));
        for (unit, _) in own {
            let path = units::path(unit);
            if facts.files.contains_key(&path) {
                steps.push(Step::new(Act::Remove(path), why));
            }
        }
    }
    for (unit, held) in [(HOOK, &holds.named), (HOLD, &holds.beside)] {
        let path = units::order_path(unit);
        match units::order(held) {
            Some(text) => {
                let why = format!("must outlive the drain: {}", list(held));
                write(facts, steps, &path, text, why);
            }
            None if facts.files.contains_key(&path) => {
                steps.push(Step::new(Act::Remove(path), "nothing to keep any more"));
            }
            None => {}
        }
    }
}

/// The units to drain before: asked for, configured, found running, or known by name.
fn targets(
    request: &Request,
    facts: &Facts,
    found: &mut Vec<String>,
) -> anyhow::Result<Vec<String>> {
    found.extend(
        facts
            .supervisors
            .iter()
            .map(|Found { unit, why }| format!("{unit}: {why}")),
    );
    if !request.units.is_empty() {
        return resolve(facts, &request.units);
    }
    if !facts.settings.units.is_empty() {
        return resolve(facts, &facts.settings.units).context(config::MAIN);
    }
    if !facts.supervisors.is_empty() {
        return Ok(facts
            .supervisors
            .iter()
            .map(|found| found.unit.clone())
            .collect());
    }
    let mut usual: Vec<String> = find::USUAL
        .iter()
        .filter(|unit| state(facts, unit, "LoadState") == "loaded")
        .map(|unit| state(facts, unit, "Id").to_owned())
        .collect();
    usual.dedup();
    if usual.is_empty() {
        bail!(
            "no service runs supervisord, and there is neither {}; name the unit of your programs with --unit{}",
            find::USUAL.join(" nor "),
            facts
                .remarks
                .iter()
                .map(|remark| format!("\n{remark}"))
                .collect::<String>(),
        );
    }
    found.extend(
        usual
            .iter()
            .map(|unit| format!("{unit}: exists, though nothing runs in it now")),
    );
    Ok(usual)
}

/// The real names of units that have to exist.
fn resolve(facts: &Facts, names: &[String]) -> anyhow::Result<Vec<String>> {
    let mut units: Vec<String> = Vec::new();
    for name in names {
        let name = full_name(name);
        if state(facts, &name, "LoadState") != "loaded" {
            let found: Vec<String> = facts
                .supervisors
                .iter()
                .map(|found| format!("{} ({})", found.unit, found.why))
                .collect();
            let found = if found.is_empty() {
                "no supervisord runs in a service".to_owned()
            } else {
                format!("found: {}", found.join(", "))
            };
            bail!("there is no unit {name} on this host; {found}");
        }
        let id = state(facts, &name, "Id").to_owned();
        if !units.contains(&id) {
            units.push(id);
        }
    }
    Ok(units)
}

fn state<'a>(facts: &'a Facts, unit: &str, property: &str) -> &'a str {
    let unit = facts.units.get(unit);
    unit.and_then(|unit| unit.get(property))
        .map_or("", String::as_str)
}

/// Where the hook finds this program: where it lies, or in a copy.
fn place(facts: &Facts, steps: &mut Vec<Step>) -> String {
    /// Places that are there, and may be run from, until the very end of a shutdown.
    const LASTING: [&str; 5] = ["/usr/", "/opt/", "/bin/", "/sbin/", "/nix/"];
    if let Some(path) = facts.program.to_str()
        && LASTING.iter().any(|place| path.starts_with(place))
        && !path.contains("/target/")
    {
        return path.to_owned();
    }
    if !facts.copied {
        let why = format!(
            "{} may be gone or out of reach when the host stops",
            facts.program.display()
        );
        let from = facts.program.clone();
        let to = BINARY.to_owned();
        steps.push(Step::new(Act::Copy { from, to }, why));
    }
    BINARY.to_owned()
}

/// A config, where there is none; ours is written anew when other units are asked for, and the administrator's is left alone.
fn configure(
    request: &Request,
    facts: &Facts,
    targets: &[String],
    steps: &mut Vec<Step>,
) -> anyhow::Result<()> {
    let pool = facts.agent.as_ref().map(|agent| config::FoundPool {
        name: "consul".to_owned(),
        why: format!("{}: {}", agent.unit, agent.why),
        keys: vec![("address".to_owned(), find::AGENT.into())],
    });
    let text = config::template(&config::Found {
        units: targets.to_vec(),
        pools: pool.into_iter().chain(request.pools.clone()).collect(),
    });
    if !facts.configured {
        let why = "there is no config yet: what was found, everything else at its default";
        write(facts, steps, config::MAIN, text, why.to_owned());
        return Ok(());
    }
    if request.units.is_empty() || resolve(facts, &facts.settings.units)? == targets {
        return Ok(());
    }
    let main = facts.files.get(config::MAIN);
    if main.is_none() || main != facts.installed.config.as_ref() {
        let named = match facts.settings.units.join(", ") {
            none if none.is_empty() => "no units".to_owned(),
            units => units,
        };
        bail!(
            "the config names {named}, and is not ours to change: set units = {targets:?} in {}",
            config::MAIN
        );
    }
    write(
        facts,
        steps,
        config::MAIN,
        text,
        "other units were asked for".to_owned(),
    );
    Ok(())
}

/// Man pages and completions, where they are wanted; a file of that name that we did not put there is somebody else's.
fn write_paper(facts: &Facts, steps: &mut Vec<Step>) {
    for (path, text) in PAPER.iter().filter(|_| facts.paper_wanted) {
        let place = paper::place(path);
        let ours = facts.installed.paper.contains(&place);
        if ours || !facts.files.contains_key(&place) {
            let why = if place.contains("/man/") {
                "what `man` shows"
            } else {
                "completes on the command line"
            };
            write(facts, steps, &place, (*text).to_owned(), why.to_owned());
        }
    }
}

/// What these steps put on the host, besides what an earlier run did.
fn remember(facts: &Facts, steps: &mut Vec<Step>) -> anyhow::Result<()> {
    let mut installed = facts.installed.clone();
    for step in &*steps {
        match &step.act {
            Act::Copy { to, .. } => installed.binary = Some(to.clone()),
            Act::Write { path, text, .. } if path == config::MAIN => {
                installed.config = Some(text.clone());
            }
            Act::Write { path, .. } if !installed.paper.contains(path) => {
                installed.paper.push(path.clone());
            }
            _ => {}
        }
    }
    if installed.paper.len() > facts.installed.paper.len() {
        installed.folders.extend(facts.missing_folders.clone());
    }
    if installed != facts.installed {
        let act = Act::Write {
            path: Installed::path(),
            text: serde_json::to_string_pretty(&installed)?,
            mode: 0o600,
        };
        steps.push(Step::new(act, "tells `uninstall` what was not here before"));
    }
    Ok(())
}

/// A file, unless it stands as it should.
fn write(facts: &Facts, steps: &mut Vec<Step>, path: &str, text: String, why: String) {
    if facts.files.get(path) != Some(&text) {
        let act = Act::Write {
            path: path.to_owned(),
            text,
            mode: 0o644,
        };
        steps.push(Step::new(act, why));
    }
}

/// The folders of health files and metrics that lie outside our own: the sandbox makes everything else read-only.
fn writable(settings: &Settings) -> Vec<String> {
    let health_files = settings
        .ways()
        .filter(|pool| pool.kind == "health-file")
        .filter_map(|pool| pool.settings.get("path")?.as_str());
    let mut folders: Vec<String> = health_files
        .chain(settings.report.metrics.as_deref())
        .filter_map(|path| Path::new(path).parent())
        .filter(|folder| !folder.starts_with(RUN_DIR) && !folder.starts_with(STATE_DIR))
        .filter_map(|folder| folder.to_str().map(str::to_owned))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    folders
}

/// What holds now, asked from systemd itself; else what does not.
///
/// # Errors
/// Every fault at once, and systemd when it does not answer.
pub fn verify(pid1: &dyn Pid1, plan: &Plan) -> anyhow::Result<Vec<String>> {
    let shown = pid1.show(&[HOOK.to_owned()], &PROPERTIES)?;
    let hook = shown.into_iter().next().unwrap_or_default();
    let get = |key| hook.get(key).map_or("", String::as_str);
    let lists = |key, unit: &str| get(key).split_whitespace().any(|name| name == unit);
    let mut faults = Vec::new();
    for (key, expected) in [
        ("LoadState", "loaded"),
        ("ActiveState", "active"),
        ("UnitFileState", "enabled"),
    ] {
        if get(key) != expected {
            faults.push(format!("{key} is {:?} instead of {expected}", get(key)));
        }
    }
    if !get("ExecStop").contains(" drain ") || get("ExecStop").lines().count() != 1 {
        faults.push("ExecStop is not the drain alone: does a drop-in change it?".to_owned());
    }
    for unit in plan.targets.iter().chain(&plan.outlive) {
        if !lists("After", unit) {
            faults.push(format!("not ordered after {unit}"));
        }
    }
    for unit in &plan.targets {
        if !lists("PartOf", unit) {
            faults.push(format!("a stop of {unit} does not reach it"));
        }
    }
    if !faults.is_empty() {
        bail!("{HOOK}: {}", faults.join("; "));
    }
    let mut holds = vec![format!(
        "{HOOK} is active, and is stopped before {}",
        plan.targets.join(", ")
    )];
    if !plan.outlive.is_empty() {
        holds.push(format!(
            "{} lives until the drain is over",
            plan.outlive.join(", ")
        ));
    }
    if plan.hold {
        let shown = pid1.show(&[HOLD.to_owned()], &PROPERTIES)?;
        let active = shown.first().and_then(|unit| unit.get("ActiveState"));
        holds.push(match active.map(String::as_str) {
            Some("active") => "everything else that the boot starts lives as long".to_owned(),
            _ => "everything else does once the boot is over".to_owned(),
        });
    }
    Ok(holds)
}
