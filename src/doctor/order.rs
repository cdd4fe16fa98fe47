//! Does what the drain needs outlive it?

use super::Severity::{Error, Warning};
use super::{Facts, Finding};
use crate::config;
use crate::systemd::HOOK;

const INSTALL: &str = "drainctl install";

/// A file of its own, which wins over every other.
const LAST_WORD: &str = "/etc/drainctl/conf.d/zz-units.toml";

/// Services that take the network down with them when they stop.
const NETWORKS: [&str; 6] = [
    "NetworkManager.service",
    "networking.service",
    "network.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "wpa_supplicant.service",
];

pub(super) fn target(facts: &Facts) -> Vec<Finding> {
    let units: Vec<String> = facts
        .supervisors
        .iter()
        .map(|found| found.unit.clone())
        .collect();
    let by_config = |finding: Finding| {
        if units.is_empty() {
            finding.run("drainctl install --unit NAME.service")
        } else {
            finding
                .set(LAST_WORD, &[&format!("units = {units:?}")])
                .run(INSTALL)
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
    for target in &facts.targets {
        let held = facts.order.outlive.contains(target)
            || !facts.is_up(target) && facts.lists(HOOK, "After", target);
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
        }
    }
    found
}

pub(super) fn outside(facts: &Facts) -> Vec<Finding> {
    let finding = |why: &String| {
        Finding::new(Error, "programs run outside any service: systemd kills them at the very end, whatever they are doing")
            .seen("supervisord", "", why)
            .hand("stop it, and start it as a service: `systemctl enable --now supervisor.service`")
    };
    facts.outside.iter().map(finding).collect()
}

pub(super) fn circle(facts: &Facts) -> Vec<Finding> {
    let agent = facts.agent.iter().map(|agent| &agent.unit);
    let needed = facts.targets.iter().chain(agent);
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
    needed
        .filter(|unit| facts.order.circle.contains(*unit))
        .map(finding)
        .collect()
}

pub(super) fn registry(facts: &Facts) -> Vec<Finding> {
    let asks = facts
        .settings
        .pools
        .iter()
        .any(|pool| pool.kind == "consul");
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
    let unheld = NETWORKS
        .iter()
        .filter(|unit| facts.order.may_stop.contains(**unit));
    let finding = |unit: &&str| {
        let what = format!("{unit} may be stopped while the drain runs, and the network with it");
        Finding::new(Warning, what)
            .unit(facts, HOOK, "After")
            .run(keep(facts, unit))
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
            .run(keep(facts, unit))
    };
    unheld.map(finding).collect()
}

/// Keeps `unit` besides those that are kept already.
fn keep(facts: &Facts, unit: &str) -> String {
    let all = facts.kept.iter().map(String::as_str).chain([unit]);
    let options: Vec<String> = all.map(|unit| format!("--keep '{unit}'")).collect();
    format!("{INSTALL} {}", options.join(" "))
}
