//! Proxies that read the registry's catalog without its health go on sending to a host in maintenance.

use super::super::Severity::Warning;
use super::super::{Facts, Finding};

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let consul = facts
        .settings
        .pools
        .iter()
        .any(|pool| pool.kind == "consul");
    let readers = facts.around.readers.iter().filter(|_| consul);
    let finding = |(pid, file): &(u32, String)| {
        let what = "linkerd reads Consul's catalog without its health: it goes on sending to hosts in maintenance, and what it sends is cut";
        Finding::new(Warning, what)
            .seen(format!("process {pid}"), "", "linkerd")
            .seen(file, "io.l5d.consul", "without useHealthCheck")
            .hand(format!(
                "add `useHealthCheck: true` below `kind: io.l5d.consul` in {file}, and restart it; the same for those on other hosts"
            ))
    };
    readers.map(finding).collect()
}
