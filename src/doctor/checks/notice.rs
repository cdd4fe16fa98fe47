//! Does the cloud wait for the drain?

use super::super::Severity::Warning;
use super::super::limits::LAST_WORD;
use super::super::{Facts, Finding};
use crate::config;
use crate::report::age;

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let deadline = facts.settings.deadline.shutdown;
    let Some(cloud) = &facts.around.cloud else {
        return Vec::new();
    };
    let Some(always) = cloud.always.filter(|always| *always <= deadline) else {
        return Vec::new();
    };
    let what = format!(
        "{} takes a host away {} after it told it to stop, but the drain may take {}: what is left is cut",
        cloud.name,
        age(always),
        age(deadline)
    );
    // The programs' own end comes after the drain.
    let needed = always.as_secs() * 2 / 3;
    let finding = Finding::new(Warning, what)
        .seen(config::MAIN, "deadline.shutdown", age(deadline))
        .seen(super::super::around::DMI, "", &cloud.seen)
        .set(
            LAST_WORD,
            &["[deadline]", &format!("shutdown = \"{needed}s\"")],
        );
    vec![finding]
}
