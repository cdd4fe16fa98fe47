//! May this host do in its pools what leave and rejoin need?

use super::super::Severity::Error;
use super::super::{Facts, Finding};
use crate::config;

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let pools = facts.settings.pools.iter().zip(&facts.around.closely);
    let lacking = pools.filter_map(|(pool, closely)| {
        let missing = &closely.as_ref()?.missing_rights;
        (!missing.is_empty()).then_some((pool, missing))
    });
    let finding = |(pool, missing): (&config::PoolSpec, &Vec<String>)| {
        let what = format!(
            "{} can be asked and not told: it refuses when this host leaves, traffic goes on and is cut",
            pool.name
        );
        let mut finding = Finding::new(Error, what);
        for right in missing {
            finding = finding.seen(&pool.name, "missing right", right);
        }
        finding.hand(format!(
            "grant {} to what [pool.{}] in {} uses",
            missing.join(", "),
            pool.name,
            config::MAIN
        ))
    };
    lacking.map(finding).collect()
}
