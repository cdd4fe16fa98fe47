//! A mark of ours in a pool, of which nothing is written down here any more.

use super::super::Severity::Warning;
use super::super::places::has_receipt;
use super::super::{Facts, Finding};

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    if facts.draining {
        return Vec::new();
    }
    let pools = facts.settings.pools.iter().zip(&facts.around.closely);
    let found = pools.filter_map(|(pool, closely)| {
        let absent = &closely.as_ref()?.absent;
        let mark = absent.iter().find(|one| one.here && one.by_drainctl)?;
        if has_receipt(facts, &pool.name) {
            return None;
        }
        let what = format!(
            "a drain took this host out of {}, and its receipt is lost: nothing takes it back",
            pool.name
        );
        Some(
            Finding::new(Warning, what)
                .seen(&pool.name, "", &mark.why)
                // A drain takes the mark over with a new receipt.
                .run("drainctl drain; drainctl rejoin"),
        )
    });
    found.collect()
}
