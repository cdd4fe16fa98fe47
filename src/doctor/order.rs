//! Does what the drain needs outlive it?

use std::collections::BTreeSet;

use super::Severity::{Error, Warning};
use super::{Facts, Finding};
use crate::config;
use crate::systemd::{HOLD, HOOK, find, hold, view};

const INSTALL: &str = "drainctl install";

/// A file of its own, which wins over every other.
const LAST_WORD: &str = "/etc/drainctl/conf.d/zz-units.toml";

/// Names the units that the config should name.
fn named(finding: Finding, units: &[&str]) -> Finding {
    finding
        .set(LAST_WORD, &[&format!("units = {units:?}")])
        .run(INSTALL)
}

/// Where no supervisord runs: what else may be what this host is there for.
fn by_what_listens(facts: &Facts, finding: Finding) -> Finding {
    if let Some(usual) = &facts.usual {
        return named(
            finding.run(format!("systemctl enable --now {usual}")),
            &[usual],
        );
    }
    let listens = |ports: &BTreeSet<u16>| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        ports.join(", ")
    };
    let finding = facts
        .serving
        .iter()
        .fold(finding, |finding, (unit, ports)| {
            finding.seen(unit, "listens on", listens(ports))
        });
    let units: Vec<&str> = facts.serving.keys().map(String::as_str).collect();
    match units.as_slice() {
        [] => finding.hand(
            "start the service of your programs, and run `drainctl doctor` again: it names what listens here",
        ),
        [one] => named(finding, &[one]),
        all => {
            let lines: Vec<String> = all
                .iter()
                .map(|unit| format!("`units = [{unit:?}]`"))
                .collect();
            finding.hand(format!(
                "write the one that serves the requests into {LAST_WORD}, {}; then `{INSTALL}`",
                lines.join(" or ")
            ))
        }
    }
}

/// Runs from a unit that no file describes.
fn transient(facts: &Facts, target: &str) -> Finding {
    let what = format!(
        "{target} is gone after the next boot: whatever runs supervisord then is not drained"
    );
    let finding = Finding::new(Warning, what).seen(target, "Transient", "yes");
    let Some(usual) = &facts.usual else {
        return finding.hand(format!(
            "keep it in a file: `systemctl cat {target}` shows what belongs into /etc/systemd/system/{target}, beside an [Install] section; \
             `systemctl stop {target}` drains it; then `systemctl daemon-reload && systemctl enable --now {target} && {INSTALL}`"
        ));
    };
    let named = facts.settings.units.iter().map(|unit| {
        if unit == target {
            usual.as_str()
        } else {
            unit.as_str()
        }
    });
    let named: Vec<&str> = named.collect();
    let finding = if named.is_empty() {
        finding
    } else {
        finding.set(LAST_WORD, &[&format!("units = {named:?}")])
    };
    // Its stop is drained, and its ports are free then.
    finding.run(format!(
        "systemctl stop {target} && systemctl enable --now {usual} && {INSTALL}"
    ))
}

pub(super) fn target(facts: &Facts) -> Vec<Finding> {
    let units: Vec<&str> = facts
        .supervisors
        .iter()
        .map(|found| found.unit.as_str())
        .collect();
    let by_config = |finding: Finding| {
        if units.is_empty() {
            by_what_listens(facts, finding)
        } else {
            named(finding, &units)
        }
    };
    let mut found = Vec::new();
    if let Some(why) = &facts.no_target {
        let what =
            "there is no unit to drain before, and requests in flight are cut at the next shutdown";
        found.push(by_config(Finding::new(Error, what).seen(
            config::MAIN,
            "",
            why,
        )));
    } else {
        // The config may leave one out on purpose, but not all.
        let idle = !facts.targets.iter().any(|target| facts.is_up(target));
        let severity = if idle { Error } else { Warning };
        for other in &facts.supervisors {
            if !facts.targets.contains(&other.unit) {
                let what = format!(
                    "{} runs supervisord and is not drained: its requests in flight are cut",
                    other.unit
                );
                let finding = Finding::new(severity, what).seen(&other.unit, "", &other.why);
                found.push(by_config(finding));
            }
        }
    }
    let passing = |unit: &&String| view::property(&facts.all, unit, "Transient") == "yes";
    let passing = facts.targets.iter().filter(passing);
    found.extend(passing.map(|target| transient(facts, target)));
    for target in &facts.targets {
        // What a shutdown does not stop (no `DefaultDependencies=`) runs until everything has stopped, and a restart is ordered as ever.
        let held = facts.order.outlive.contains(target)
            || !facts.order.may_stop.contains(target) && facts.lists(HOOK, "After", target);
        if !held && facts.get(HOOK, "LoadState") == "loaded" && !facts.order.circle.contains(target)
        {
            let what = format!(
                "{target} is stopped at the same moment as the drain begins, and its requests in flight are cut"
            );
            found.push(
                Finding::new(Error, what)
                    .unit(facts, HOOK, "After")
                    .run(INSTALL),
            );
        } else if held
            && facts.get(HOOK, "LoadState") == "loaded"
            && !facts.lists(HOOK, "After", target)
        {
            let what = format!(
                "the hook does not name {target}: its restart cuts its requests in flight, and a shutdown does so unless something else holds it"
            );
            found.push(
                Finding::new(Error, what)
                    .unit(facts, HOOK, "After")
                    .run(INSTALL),
            );
        }
    }
    found
}

pub(super) fn outside(facts: &Facts) -> Vec<Finding> {
    let finding = |one: &find::Outside| {
        Finding::new(Error, "programs run outside any service: systemd kills them at the very end, whatever they are doing")
            .seen("supervisord", "", &one.why)
            .hand(format!(
                "`kill {}` ends it, and its programs with it: do so when nothing is in flight. Then start what it ran from a service{}",
                one.pid, facts.usual.as_ref().map_or_else(String::new, |usual| format!(
                    ": add it to the configuration of {usual}, and `systemctl enable --now {usual}`"
                ))
            ))
    };
    facts.outside.iter().map(finding).collect()
}

pub(super) fn circle(facts: &Facts) -> Vec<Finding> {
    let agent = facts.agent.iter().map(|agent| &agent.unit);
    let needed = facts.targets.iter().chain(agent);
    let mut found = by_hold(facts);
    let finding = |unit: &String| {
        let what = format!(
            "{unit} is ordered before and after the drain; systemd drops one of the two, nobody knows which"
        );
        Finding::new(Error, what)
            .unit(facts, unit, "After")
            .hand(format!(
                "take {HOOK}, or what is itself ordered after it, out of After= of {unit} (`systemctl cat {unit}`), and out of Before= of \
                 the drop-ins of {HOOK} (`systemctl cat {HOOK}`); then `systemctl daemon-reload`"
            ))
    };
    let needed = needed.filter(|unit| facts.order.circle.contains(*unit));
    found.extend(needed.map(finding));
    found
}

/// What turns the hold into a circle: ordered after the drain, and before the end of the boot.
fn by_hold(facts: &Facts) -> Vec<Finding> {
    if !facts.order.circle.contains(HOLD) {
        return Vec::new();
    }
    let after = |unit: &str| view::property(&facts.all, unit, "After").to_owned();
    let turns = |unit: &&String| {
        let after = after(unit);
        let mut names = after.split_whitespace();
        unit.as_str() != HOLD && names.any(|name| name == HOOK || name == HOLD)
    };
    let finding = |unit: &String| {
        let what = format!(
            "{unit} is started before the end of the boot and ordered after the drain, which everything else has to outlive: systemd drops one \
             of these orders, nobody knows which"
        );
        Finding::new(Error, what)
            .seen(unit, "After", after(unit))
            .hand(format!(
                "take {HOOK} and {HOLD} out of After= of {unit} (`systemctl cat {unit}`), or out of Before= of their own drop-ins; then \
                 `systemctl daemon-reload`"
            ))
    };
    facts
        .order
        .circle
        .iter()
        .filter(turns)
        .map(finding)
        .collect()
}

pub(super) fn registry(facts: &Facts) -> Vec<Finding> {
    let asks = facts.settings.ways().any(|pool| pool.kind == "consul");
    let finding = |agent: &crate::systemd::find::Found| {
        let what = format!(
            "{} is stopped as the drain begins: the host can't leave Consul, traffic goes on and is cut",
            agent.unit
        );
        Finding::new(Error, what)
            .seen(&agent.unit, "", &agent.why)
            .unit(facts, HOOK, "After")
            .run(INSTALL)
    };
    let unheld = |agent: &&crate::systemd::find::Found| {
        asks && facts.get(HOOK, "LoadState") == "loaded"
            // Under supervisord it lives as long as the programs do.
            && !facts.targets.contains(&agent.unit)
            && !facts.order.outlive.contains(&agent.unit)
            && !facts.order.circle.contains(&agent.unit)
    };
    facts.agent.iter().filter(unheld).map(finding).collect()
}

pub(super) fn network(facts: &Facts) -> Vec<Finding> {
    let unheld = hold::NETWORKS
        .iter()
        .filter(|unit| facts.order.may_stop.contains(**unit));
    let finding = |unit: &&str| {
        let what = format!("{unit} may be stopped while the drain runs, and the network with it");
        Finding::new(Warning, what)
            .unit(facts, HOOK, "After")
            .run(INSTALL)
    };
    unheld.map(finding).collect()
}

pub(super) fn mounts(facts: &Facts) -> Vec<Finding> {
    let unheld = facts
        .remote_mounts
        .iter()
        .filter(|unit| facts.order.may_stop.contains(*unit));
    let finding = |unit: &String| {
        let what = format!(
            "{unit} may be unmounted while the drain runs: requests that read or write there fail"
        );
        Finding::new(Warning, what)
            .unit(facts, HOOK, "After")
            .run(INSTALL)
    };
    unheld.map(finding).collect()
}
