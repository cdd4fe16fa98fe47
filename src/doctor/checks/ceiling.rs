//! How long systemd lets everything else take to stop.

use super::super::Severity::Info;
use super::super::limits::SHIPPED;
use super::super::{Facts, Finding};
use crate::report::age;

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let limit = facts.around.manager_span("DefaultTimeoutStopUSec");
    let Some(limit) = limit.filter(|limit| *limit < SHIPPED) else {
        return Vec::new();
    };
    let what = format!(
        "every unit without a limit of its own is killed {} after its stop began: once the drain is over, what still writes may lose it",
        age(limit)
    );
    let finding = Finding::new(Info, what)
        .seen("systemd", "DefaultTimeoutStopSec", age(limit))
        .set(
            "/etc/systemd/system.conf.d/zz-stop.conf",
            &["[Manager]", "DefaultTimeoutStopSec=90s"],
        )
        .run("systemctl daemon-reexec");
    vec![finding]
}
