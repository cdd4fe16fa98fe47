//! Would the hook run, and see what it has to?

use super::Severity::{Error, Warning};
use super::{Facts, Finding};
use crate::systemd::units::order_path;
use crate::systemd::{HOOK, REJOIN};

const INSTALL: &str = "drainctl install";
const NOT_DRAINED: &str = "nothing is drained at the next shutdown, and requests in flight are cut";

/// Nothing else can be said of a hook that is not there.
fn is_loaded(facts: &Facts) -> bool {
    facts.get(HOOK, "LoadState") == "loaded"
}

/// Drop-ins that are not ours.
pub(super) fn foreign<'a>(facts: &'a Facts, unit: &str) -> Vec<&'a str> {
    let own = order_path(unit);
    let all = facts.get(unit, "DropInPaths").split_whitespace();
    // An empty one, as a link to /dev/null is, keeps another away that is for all services.
    let is_empty = |path: &str| {
        let text = facts.around.drop_ins.get(path);
        text.is_some_and(|text| text.trim().is_empty())
    };
    all.filter(|path| *path != own && !is_empty(path)).collect()
}

/// What keeps a drop-in from our unit. One for all services, or for all of a prefix, stays as it is for the others.
pub(super) fn set_aside(unit: &str, path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    if folder.ends_with(&format!("/{unit}.d")) {
        return format!("mv {path} {path}.off && systemctl daemon-reload");
    }
    let own = format!("/etc/systemd/system/{unit}.d");
    format!("mkdir -p {own} && ln -sfn /dev/null {own}/{name} && systemctl daemon-reload")
}

/// What brings the hook's own lines back.
pub(super) fn restore(facts: &Facts, mut finding: Finding) -> Finding {
    for path in foreign(facts, HOOK) {
        finding = finding
            .seen(HOOK, "DropInPaths", path)
            .run(set_aside(HOOK, path));
    }
    if facts.changed.is_empty() && !finding.mend.is_empty() {
        return finding;
    }
    finding.run(INSTALL)
}

pub(super) fn loaded(facts: &Facts) -> Vec<Finding> {
    if is_loaded(facts) {
        return Vec::new();
    }
    let state = facts.get(HOOK, "LoadState");
    let is = if matches!(state, "bad-setting" | "error") {
        "can't be loaded"
    } else {
        "is not there"
    };
    let what = format!("the hook {is}: {NOT_DRAINED}");
    let finding = Finding::new(Error, what).unit(facts, HOOK, "LoadState");
    vec![match state {
        "masked" => finding.run(format!("systemctl unmask {HOOK}")).run(INSTALL),
        "not-found" => finding.run(INSTALL),
        _ => restore(facts, finding),
    }]
}

pub(super) fn stop(facts: &Facts) -> Vec<Finding> {
    if !is_loaded(facts) {
        return Vec::new();
    }
    let get = |key| facts.get(HOOK, key);
    let command = get("ExecStop");
    let mut found = Vec::new();
    let mut add = |what: &str, key: &str| {
        let finding = Finding::new(Error, what).unit(facts, HOOK, key);
        found.push(restore(facts, finding));
    };
    if !command.contains(" drain ") {
        add(
            &format!("the hook's stop is no drain: {NOT_DRAINED}"),
            "ExecStop",
        );
    } else if command.lines().count() != 1 {
        add(
            "the hook stops with several commands, and the first that fails skips the rest",
            "ExecStop",
        );
    }
    // What waits for a word of readiness, which never comes; the other types are started and remain as ours.
    if matches!(get("Type"), "notify" | "notify-reload" | "dbus") {
        add(
            &format!(
                "the hook's next start fails, and it is not active at a shutdown: {NOT_DRAINED}"
            ),
            "Type",
        );
    }
    if get("RemainAfterExit") != "yes" {
        add(
            "the hook drains the host right at boot, and not at a shutdown",
            "RemainAfterExit",
        );
    }
    if let Some((program, why)) = &facts.around.unrunnable {
        let what = format!("the hook's program can't be run: {NOT_DRAINED}");
        let finding = Finding::new(Error, what)
            .unit(facts, HOOK, "ExecStop")
            .seen(program, "", why);
        found.push(
            if facts.changed.is_empty() && foreign(facts, HOOK).is_empty() {
                finding.hand(format!(
                    "see what forbids it: `ls -l {program}`, `findmnt -T {program}`, the system's security modules"
                ))
            } else {
                restore(facts, finding)
            },
        );
    }
    found
}

pub(super) fn enabled(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (unit, what) in [
        (
            HOOK,
            "after the next boot the hook is not started, and the shutdown after it is not drained",
        ),
        (
            REJOIN,
            "after a drain nothing takes this host back into its pools",
        ),
    ] {
        // A unit that is masked is a finding of its own.
        let masked = facts.get(unit, "LoadState") == "masked";
        if is_loaded(facts) && !masked && facts.get(unit, "UnitFileState") != "enabled" {
            let finding = Finding::new(Error, what).unit(facts, unit, "UnitFileState");
            found.push(if facts.get(unit, "LoadState") == "loaded" {
                finding.run(format!("systemctl enable {unit}"))
            } else {
                finding.run(INSTALL)
            });
        }
    }
    found
}

pub(super) fn active(facts: &Facts) -> Vec<Finding> {
    // Where no target runs there is nothing to drain, and the hook is started together with it.
    let needed = facts.targets.iter().any(|target| facts.is_up(target));
    if !is_loaded(facts) || !needed || facts.get(HOOK, "ActiveState") == "active" {
        return Vec::new();
    }
    let finding = Finding::new(
        Error,
        format!("the hook is not active, and only what is active is stopped: {NOT_DRAINED}"),
    );
    vec![
        finding
            .unit(facts, HOOK, "ActiveState")
            .run(format!("systemctl start {HOOK}")),
    ]
}

pub(super) fn wanted(facts: &Facts) -> Vec<Finding> {
    let missing = |target: &&String| {
        is_loaded(facts)
            && facts.get(HOOK, "UnitFileState") == "enabled"
            && !facts.lists(HOOK, "WantedBy", target)
    };
    let lacking = facts.targets.iter().filter(missing);
    let finding = |target: &String| {
        let what = format!(
            "once {target} is stopped and started by hand, the hook is not started with it, and the next shutdown is not drained"
        );
        Finding::new(Warning, what)
            .unit(facts, HOOK, "WantedBy")
            .run(INSTALL)
            .run(format!("systemctl reenable {HOOK}"))
    };
    lacking.map(finding).collect()
}

pub(super) fn restart(facts: &Facts) -> Vec<Finding> {
    let missing = |target: &&String| is_loaded(facts) && !facts.lists(HOOK, "PartOf", target);
    let finding = |target: &String| {
        let what = format!("a restart or stop of {target} by hand is not drained");
        Finding::new(Warning, what)
            .unit(facts, HOOK, "PartOf")
            .run(INSTALL)
    };
    facts.targets.iter().filter(missing).map(finding).collect()
}

pub(super) fn sandbox(facts: &Facts) -> Vec<Finding> {
    if !is_loaded(facts) {
        return Vec::new();
    }
    let get = |key| facts.get(HOOK, key);
    let mut found = Vec::new();
    let mut add = |what: &str, key: &str| {
        let finding = Finding::new(Error, what).unit(facts, HOOK, key);
        found.push(restore(facts, finding));
    };
    let has = |name: &str| facts.lists(HOOK, "CapabilityBoundingSet", name);
    if !has("cap_sys_ptrace") || !has("cap_dac_read_search") {
        add(
            "the hook may not see the connections of other users' programs, and waits until its deadline for what it can't see",
            "CapabilityBoundingSet",
        );
    }
    let families: Vec<&str> = get("RestrictAddressFamilies").split_whitespace().collect();
    let denied = families.first().is_some_and(|first| first.starts_with('~'));
    let names = |family: &str| {
        families
            .iter()
            .any(|one| one.trim_start_matches('~') == family)
    };
    let closed = ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]
        .into_iter()
        .any(|family| names(family) == denied);
    if !families.is_empty() && closed {
        add(
            "the hook may not use the sockets with which it asks the kernel, systemd and the pools",
            "RestrictAddressFamilies",
        );
    }
    for (key, bad, what) in [
        (
            "PrivateNetwork",
            "yes",
            "the hook has a network of its own: it sees no connection, and reaches no pool",
        ),
        (
            "PrivateUsers",
            "yes",
            "the hook has users of its own: it can't tell whose connections it sees",
        ),
        (
            "DynamicUser",
            "yes",
            "the hook does not run as root: it can't tell whose connections it sees",
        ),
        (
            "ProcSubset",
            "pid",
            "the hook can't read the kernel's tables of connections",
        ),
    ] {
        if get(key) == bad {
            add(what, key);
        }
    }
    found
}

pub(super) fn files(facts: &Facts) -> Vec<Finding> {
    if !is_loaded(facts) || facts.changed.is_empty() {
        return Vec::new();
    }
    let what = "our own files are not as `drainctl install` writes them for this host: what was tested is not what would run";
    let mut finding = Finding::new(Warning, what);
    for path in &facts.changed {
        finding = finding.seen(path, "", "differs, is missing, or is not needed any more");
    }
    vec![finding.run(INSTALL)]
}

pub(super) fn reload(facts: &Facts) -> Vec<Finding> {
    let stale: Vec<&String> = facts
        .units
        .keys()
        .filter(|unit| facts.get(unit, "NeedDaemonReload") == "yes")
        .collect();
    if stale.is_empty() {
        return Vec::new();
    }
    let what = "unit files were changed and not read since: this report and the next shutdown go by what stood in them before";
    let mut finding = Finding::new(Warning, what);
    for unit in stale {
        finding = finding.unit(facts, unit, "NeedDaemonReload");
    }
    vec![finding.run("systemctl daemon-reload")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_of_all_services_is_kept_from_ours_alone() {
        let own = format!("/run/systemd/system/{HOOK}.d/a.conf");
        assert_eq!(
            set_aside(HOOK, &own),
            format!("mv {own} {own}.off && systemctl daemon-reload")
        );
        for folder in ["service.d", "drain-.service.d"] {
            let mend = set_aside(HOOK, &format!("/etc/systemd/system/{folder}/a.conf"));
            let line = format!("ln -sfn /dev/null /etc/systemd/system/{HOOK}.d/a.conf");
            assert!(mend.contains(&line) && !mend.contains("mv "), "{mend}");
        }
    }
}
