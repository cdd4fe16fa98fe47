//! What a crash of supervisord costs.

use std::time::Duration;

use super::super::Severity::Warning;
use super::super::{Facts, Finding};
use crate::report::age;

/// Debian's unit waits 50 s; what is much longer is an outage that nobody meant.
const LONG: Duration = Duration::from_mins(5);

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let own = facts.supervisors.iter().map(|found| &found.unit);
    let up = own.filter(|unit| facts.is_up(unit));
    up.filter_map(|unit| judge(facts, unit)).collect()
}

fn judge(facts: &Facts, unit: &str) -> Option<Finding> {
    let file = format!("/etc/systemd/system/{unit}.d/zz-restart.conf");
    let reload = "systemctl daemon-reload";
    if facts.get(unit, "Restart") == "no" {
        let what = format!(
            "a crash of supervisord is not mended: systemd does not start {unit} again, and nothing looks after its programs any more"
        );
        let lines = ["[Service]", "Restart=on-failure", "RestartSec=5s"];
        let finding = Finding::new(Warning, what).unit(facts, unit, "Restart");
        return Some(finding.set(file, &lines).run(reload));
    }
    let pause = facts
        .span(unit, "RestartUSec")
        .filter(|pause| *pause > LONG)?;
    let what = format!(
        "a crash of supervisord is mended only after {}: until then nothing looks after its programs",
        age(pause)
    );
    let finding = Finding::new(Warning, what).unit(facts, unit, "RestartUSec");
    Some(
        finding
            .set(file, &["[Service]", "RestartSec=5s"])
            .run(reload),
    )
}
