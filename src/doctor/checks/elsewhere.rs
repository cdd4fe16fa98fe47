//! Programs of supervisord that left its unit: by a session of `su` or `sudo`, or a scope.

use super::super::Severity::Error;
use super::super::{Facts, Finding};

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let finding = |(unit, program, group): &(String, String, String)| {
        let place = group.rsplit('/').next().unwrap_or_default();
        let what = format!(
            "{program} answers requests from {place}, outside of {unit}: the drain does not see them, and systemd stops it as the drain begins"
        );
        Finding::new(Error, what)
            .seen(program, "control group", group)
            .unit(facts, unit, "ControlGroup")
            .hand(format!(
                "let supervisord start it itself: `user=` in [program:{program}] in place of `su`, `sudo` or `runuser` in its command, and no \
                 `systemd-run`; then `supervisorctl update`"
            ))
    };
    facts.elsewhere.iter().map(finding).collect()
}
