//! Is this the last healthy one behind a pool?

use super::super::Severity::Warning;
use super::super::{Facts, Finding};
use crate::pools::{Absent, Peers};

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let pools = facts.around.peers.iter().zip(&facts.around.closely);
    // Where nobody else was ever meant to serve, that is no news.
    let found = pools.filter_map(|(said, closely)| {
        let Some(Peers::Others {
            healthy: 0,
            known: 1..,
            of,
        }) = &said.peers
        else {
            return None;
        };
        let absent = &closely.as_ref()?.absent;
        let others: Vec<&Absent> = absent.iter().filter(|one| !one.here).collect();
        let what = format!(
            "this host is the last healthy one of {of} in {}: while it is down every request fails",
            said.name
        );
        let mut finding = Finding::new(Warning, what);
        for one in others {
            let how = if one.on_purpose { "taken out" } else { "fails" };
            finding = finding.seen(&one.name, how, &one.why);
        }
        Some(finding.hand("bring one of those back first"))
    });
    found.collect()
}
