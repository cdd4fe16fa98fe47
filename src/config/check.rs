//! What no single value can say: how they fit together, and what systemd allows.

use std::collections::BTreeSet;
use std::time::Duration;

use super::duration::Friendly;
use super::policy::Policies;
use super::section::Section;
use super::settings::{Deadlines, HoldSettings, RejoinSettings, ReportSettings, SettleSettings};

/// poweroff.target and reboot.target end everything 30 min after they began (`JobTimeoutSec=`), whatever still runs.
const CEILING: Duration = Duration::from_mins(30);
/// The kinds of units that hold processes.
const SUFFIXES: &[&str] = &[".service", ".scope", ".slice"];
/// The kinds of units that something can be ordered after, besides those.
const OTHERS: &[&str] = &[
    ".mount",
    ".socket",
    ".target",
    ".path",
    ".timer",
    ".swap",
    ".automount",
    ".device",
];

pub(super) fn units(section: &mut Section<'_>, units: &[String]) {
    list(section, "units", units, unit_fault);
}

pub(super) fn hold(section: &mut Section<'_>, values: &HoldSettings) {
    let fault = |unit: &str| match OTHERS.iter().find_map(|kind| unit.strip_suffix(kind)) {
        // Judged like a service of that name.
        Some(name) => unit_fault(&format!("{name}.service")),
        None => unit_fault(unit),
    };
    list(section, "keep", &values.keep, fault);
    list(section, "except", &values.except, fault);
    for (n, unit) in values.except.iter().enumerate() {
        if values.keep.contains(unit) {
            let what = format!("`{unit}` is also named in keep; remove one");
            section.fault_item("except", n, what);
        }
    }
}

/// Each unit on its own, and none twice.
fn list(
    section: &mut Section<'_>,
    key: &str,
    units: &[String],
    fault: impl Fn(&str) -> Option<String>,
) {
    let mut seen = BTreeSet::new();
    for (n, unit) in units.iter().enumerate() {
        if let Some(what) = fault(unit) {
            section.fault_item(key, n, what);
        } else if !seen.insert(unit) {
            section.fault_item(key, n, format!("`{unit}` is named twice; remove one"));
        }
    }
}

/// Why `unit` can't be the name of a unit with processes.
fn unit_fault(unit: &str) -> Option<String> {
    let shown = unit.escape_debug();
    if unit.is_empty() {
        return Some("must not be empty; write \"supervisor.service\"".to_owned());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if let Some(wrong) = unit.chars().find(|c| !allowed(*c)) {
        return Some(format!(
            "`{shown}` is not a unit: `{}` can't be part of its name",
            wrong.escape_debug()
        ));
    }
    if unit.len() > 255 {
        return Some("is longer than 255 characters, which no unit is".to_owned());
    }
    match SUFFIXES.iter().find_map(|suffix| unit.strip_suffix(suffix)) {
        Some("") => Some(format!("`{shown}` is not a unit: its name is missing")),
        Some(name) if name.ends_with('@') => Some(format!(
            "`{shown}` is a template; name its instances, like `{name}one.service`"
        )),
        Some(_) => None,
        None => Some(format!(
            "`{shown}` is not a unit with processes; did you mean `{unit}.service`?"
        )),
    }
}

pub(super) fn deadline(section: &mut Section<'_>, values: &Deadlines) {
    positive(section, "shutdown", values.shutdown);
    positive(section, "restart", values.restart);
    if values.shutdown >= CEILING {
        section.fault(
            "shutdown",
            format!(
                "{} is too long: systemd powers off by force 30m after the shutdown began; leave room for the programs' own stop",
                Friendly(values.shutdown)
            ),
        );
    }
}

pub(super) fn settle(section: &mut Section<'_>, values: &SettleSettings) {
    let max = Friendly(values.max);
    for (key, value) in [("min", values.min), ("quiet", values.quiet)] {
        let shown = Friendly(value);
        if value <= values.max {
            continue;
        }
        if section.has(key) {
            let what = format!("{shown} is longer than max ({max}); raise max or lower {key}");
            section.fault(key, what);
        } else if key == "min" {
            // The line to change is one that is there: `key` has its default. A default of `quiet` gives way.
            let what = format!("{max} is shorter than {key} ({shown}); raise max or lower {key}");
            section.fault("max", what);
        }
    }
}

/// The port that a table is named for.
pub(super) fn port(section: &mut Section<'_>, name: &str) -> Option<u16> {
    let port = name.parse().ok().filter(|port| *port > 0);
    if port.is_none() {
        section.fault(
            "",
            "is not named for a port; write it like [watch.ports.8443]",
        );
    }
    port
}

pub(super) fn rejoin(section: &mut Section<'_>, values: &RejoinSettings) {
    positive(section, "limit", values.limit);
    if let Some(check) = &values.check {
        let host = ["http://", "https://"]
            .iter()
            .find_map(|scheme| check.strip_prefix(scheme));
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
            section.fault(
                "check",
                "is not a URL; write it like \"http://127.0.0.1:8080/health\"",
            );
        }
    }
}

pub(super) fn report(section: &mut Section<'_>, values: &ReportSettings) {
    if let Some(file) = &values.metrics
        && !(file.starts_with('/') && file.ends_with(".prom"))
    {
        section.fault(
            "metrics",
            "must be an absolute path that ends with .prom, which is all that node_exporter reads; write it like \
             \"/var/lib/node_exporter/textfile/drainctl.prom\"",
        );
    }
}

pub(super) fn typed(
    section: &mut Section<'_>,
    what: &str,
    name: &str,
    limit: Duration,
    longest: Duration,
) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(allowed) {
        section.fault(
            "",
            format!("the name of a {what} is made of up to 64 letters, digits, `.`, `_` and `-`; rename it"),
        );
    }
    positive(section, "limit", limit);
    if section.has("limit") && limit > longest {
        section.fault(
            "limit",
            format!(
                "{} is longer than the deadline of the whole drain ({}); lower it",
                Friendly(limit),
                Friendly(longest)
            ),
        );
    }
}

/// What is waited for before a drain is not its time, but systemd's ceiling holds for both together.
pub(super) fn policies(section: &mut Section<'_>, policies: &Policies, deadline: &Deadlines) {
    for (key, policy) in [
        ("shutdown", policies.shutdown),
        ("restart", policies.restart),
    ] {
        if policy.refuse {
            let what =
                "can't be refused: systemd goes on in any case; write \"warn\" or \"wait 30s\"";
            section.fault(key, what);
        }
    }
    let whole = policies.shutdown.wait + deadline.shutdown;
    if whole >= CEILING {
        section.fault(
            "shutdown",
            format!(
                "{} and the deadline are {} together, but systemd powers off by force 30m after the shutdown began; lower one",
                Friendly(policies.shutdown.wait),
                Friendly(whole)
            ),
        );
    }
}

fn positive(section: &mut Section<'_>, key: &str, value: Duration) {
    if value.is_zero() {
        section.fault(key, "must be more than zero");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_told_from_what_is_none() {
        for unit in [
            "supervisor.service",
            "a@b.service",
            "x.slice",
            "run-u1.scope",
        ] {
            assert_eq!(unit_fault(unit), None);
        }
        for (unit, said) in [
            ("supervisor", "did you mean `supervisor.service`?"),
            ("", "must not be empty"),
            (".service", "its name is missing"),
            ("a@.service", "is a template"),
            ("a b.service", "` ` can't be part"),
            ("../a.service", "`/` can't be part"),
            ("a*.service", "`*` can't be part"),
        ] {
            assert!(unit_fault(unit).unwrap().contains(said), "{unit}");
        }
    }
}
