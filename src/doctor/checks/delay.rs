//! Who holds up a shutdown before it begins.

use std::time::Duration;

use super::super::Severity::{Info, Warning};
use super::super::{Facts, Finding};
use crate::report::age;

/// Distributions let updates be finished for so long; what is longer is somebody's own idea.
const USUAL: Duration = Duration::from_secs(30);

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let Some(login) = &facts.around.login else {
        return Vec::new();
    };
    let held = |mode: &str| {
        let of_mode = login.inhibitors.iter().filter(|one| one.mode == mode);
        of_mode.collect::<Vec<_>>()
    };
    let mut found = Vec::new();
    let delaying = held("delay");
    if login.delay_max > USUAL && !delaying.is_empty() {
        let what = format!(
            "a shutdown begins up to {} after it was asked for: until then this host is sent traffic as ever, and a cloud's notice runs",
            age(login.delay_max)
        );
        let mut finding =
            Finding::new(Warning, what).seen("logind", "InhibitDelayMaxSec", age(login.delay_max));
        for one in delaying {
            finding = finding.seen(&one.who, "", format!("process {}: {}", one.pid, one.why));
        }
        found.push(
            finding
                .set(
                    "/etc/systemd/logind.conf.d/zz-delay.conf",
                    &["[Login]", "InhibitDelayMaxSec=5s"],
                )
                .run("systemctl reload-or-restart systemd-logind.service"),
        );
    }
    for one in held("block") {
        let what = format!(
            "{} blocks a shutdown by those who are not root, until it is done",
            one.who
        );
        found.push(
            Finding::new(Info, what)
                .seen(&one.who, "", format!("process {}: {}", one.pid, one.why))
                .hand(format!(
                    "wait for it, or end process {}; `systemctl poweroff -i` passes over it",
                    one.pid
                )),
        );
    }
    found
}
