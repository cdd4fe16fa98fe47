//! Targets of which nothing listens: a drain has nothing to wait for there.

use super::super::Severity::Info;
use super::super::{Facts, Finding};

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let up = facts.targets.iter().filter(|target| facts.is_up(target));
    let up: Vec<&str> = up.map(String::as_str).collect();
    if !facts.around.sight.silent || up.is_empty() || !facts.elsewhere.is_empty() {
        return Vec::new();
    }
    let what = format!(
        "nothing of {} listens on any port or socket: a drain has nothing to wait for, whoever else answers requests here",
        up.join(", ")
    );
    let finding = up.iter().fold(Finding::new(Info, what), |finding, unit| {
        finding.unit(facts, unit, "ControlGroup")
    });
    vec![finding.hand(
        "see whether the programs run (`supervisorctl status`), and what listens instead (`ss -ltnp`): its unit is drained once `units` of \
         /etc/drainctl/drainctl.toml names it too, and `drainctl install` has run",
    )]
}
