//! Will the drain learn why it runs? The cause decides its deadline; unknown counts as a poweroff.

use super::super::Severity::{Info, Warning};
use super::super::hook::restore;
use super::super::{Facts, Finding};
use crate::systemd::HOOK;

const BUS: &str = "dbus.service";
const COST: &str =
    "the drain can't learn why it runs: a restart by hand is waited for as long as a poweroff";

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let answers = &facts.around.answers;
    let mut found = Vec::new();
    if let (Some(bus), Some(own)) = (&answers.bus, &answers.own) {
        found.push(
            Finding::new(Warning, COST)
                .seen(BUS, "", bus)
                .seen("systemctl", "", own)
                .run("systemctl restart dbus.socket"),
        );
    } else if let Some(bus) = &answers.bus {
        let what = "the system bus does not answer; the drain asks systemd without it then, which takes a moment longer";
        found.push(
            Finding::new(Info, what)
                .seen(BUS, "", bus)
                .run("systemctl start dbus.socket dbus.service")
                // It does not come back by itself (systemd 257), and a shutdown for later is then one at once.
                .run("systemctl try-restart systemd-logind.service"),
        );
    } else if facts.get(HOOK, "LoadState") == "loaded" && facts.order.may_stop.contains(BUS) {
        let (severity, what) = match &answers.own {
            None => (
                Info,
                "dbus.service may be stopped as the drain begins; it asks systemd without it then, which takes a moment longer",
            ),
            Some(_) => (Warning, COST),
        };
        let finding = Finding::new(severity, what).unit(facts, HOOK, "After");
        found.push(restore(facts, finding));
    }
    found
}
