//! Units whose start stops the hook, or that the hook's start stops.

use super::super::Severity::Warning;
use super::super::{Facts, Finding};
use crate::systemd::{HOOK, view};

/// What every unit conflicts with that a shutdown stops.
const SHUTDOWN: &str = "shutdown.target";

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let of = |key: &'static str| {
        let names = view::property(&facts.all, HOOK, key).split_whitespace();
        names.map(move |name| (name, key))
    };
    let others = of("Conflicts").chain(of("ConflictedBy"));
    let others = others.filter(|(name, _)| *name != SHUTDOWN);
    let finding = |(name, key): (&str, &str)| {
        let what = format!(
            "the hook and {name} can't run side by side: the start of the one stops the other, and what shuts down without the hook is not drained"
        );
        Finding::new(Warning, what)
            .seen(HOOK, key, name)
            .hand(format!(
                "take the other's name out of Conflicts= (`systemctl cat {HOOK} {name}`), then `systemctl daemon-reload`"
            ))
    };
    others.map(finding).collect()
}
