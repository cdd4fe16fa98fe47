//! The last drains' reports, bounded in number and size, and what all of them came to.

use std::collections::BTreeMap;
use std::{fs, io};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::STATE_DIR;
use crate::drain::{Outcome, Report};
use crate::world::Root;

/// How many reports are kept.
pub const MOST_REPORTS: usize = 32;
/// A report is no larger, in bytes.
pub const MOST_BYTES: usize = 512 << 10;
/// So many files at most are removed at once: each is a write to the disk, and a drain is ending.
const MOST_REMOVED: usize = 64;
/// Beside the reports.
const TOTALS: &str = "/var/lib/drainctl/totals.json";
const MOST_TOTALS: u64 = 64 << 10;

/// What all drains of this host came to, those whose reports are gone included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many ended so, by the outcome's name.
    pub drains: BTreeMap<String, u64>,
    /// Requests that were still in flight at their end, as far as they could be seen.
    pub cut: u64,
    /// The newest drain that is counted in, so that none is twice.
    last: Option<String>,
}

impl Totals {
    /// What is kept; nothing where there is none or it can't be understood: it only counts.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let text = root.read(TOTALS, MOST_TOTALS).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn count(root: &Root, report: &Report) -> anyhow::Result<()> {
        let mut totals = Self::read(root);
        if totals.last.as_ref() == Some(&report.id) {
            return Ok(());
        }
        *totals.drains.entry(report.outcome.to_string()).or_default() += 1;
        totals.cut += report.requests_cut().known();
        totals.last = Some(report.id.clone());
        root.replace(TOTALS, &serde_json::to_vec(&totals)?, 0o600)
            .with_context(|| format!("write {TOTALS}"))
    }
}

fn folder() -> String {
    format!("{STATE_DIR}/history")
}

fn path(id: &str) -> String {
    format!("{}/{id}.json", folder())
}

/// The names of the reports, oldest first, and of what a crash left between.
fn names(root: &Root) -> io::Result<(Vec<String>, Vec<String>)> {
    let entries = match fs::read_dir(root.path(folder())) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(error),
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let (mut reports, others): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with(".json"));
    reports.sort_unstable();
    let left = others.into_iter().filter(|name| name.ends_with(".tmp"));
    Ok((reports, left.collect()))
}

/// Keeps the report of a drain that has ended, or what is known of one that has not, and drops the oldest beyond the bound. The id
/// begins with a sortable time. The caller holds the lock.
///
/// # Errors
/// It could not be written.
pub fn keep(root: &Root, report: &Report) -> anyhow::Result<()> {
    let path = path(&report.id);
    let mut bytes = serde_json::to_vec(report)?;
    if bytes.len() > MOST_BYTES {
        bytes = serde_json::to_vec(&report.clone().shortened())?;
    }
    if bytes.len() > MOST_BYTES {
        bail!(
            "the report has {} bytes, more than {MOST_BYTES}",
            bytes.len()
        );
    }
    root.replace(&path, &bytes, 0o600)
        .with_context(|| format!("write {path}"))?;
    let (reports, left) = names(root)?;
    // The clock may have been set back since the others were written.
    let others = reports.iter().rev().filter(|name| !path.ends_with(*name));
    let old = others.skip(MOST_REPORTS - 1);
    for name in old.chain(&left).take(MOST_REMOVED) {
        root.remove(format!("{}/{name}", folder()))?;
    }
    if report.outcome != Outcome::Unfinished {
        Totals::count(root, report)?;
    }
    Ok(())
}

/// The ids kept, oldest first.
///
/// # Errors
/// They can't be seen.
pub fn list(root: &Root) -> io::Result<Vec<String>> {
    let (reports, _) = names(root)?;
    Ok(reports
        .into_iter()
        .map(|name| name.trim_end_matches(".json").to_owned())
        .collect())
}

/// The report of the drain `id`, one of [`list`].
///
/// # Errors
/// It can't be read, or not be understood.
pub fn read(root: &Root, id: &str) -> anyhow::Result<Report> {
    let path = path(id);
    let text = root
        .read(&path, MOST_BYTES as u64)
        .with_context(|| format!("read {path}"))?;
    serde_json::from_str(&text).with_context(|| format!("understand {path}"))
}

/// The newest report of a drain that has ended, with what all of them came to, as metrics in `file`: in one step, and readable by all.
///
/// # Errors
/// It could not be written.
pub fn write_metrics(root: &Root, file: &str) -> anyhow::Result<()> {
    let ids = list(root).unwrap_or_default();
    let ended = |id: &String| read(root, id).ok().filter(Report::is_finished);
    let last = ids.iter().rev().find_map(ended);
    let text = crate::report::metrics::text(last.as_ref(), &Totals::read(root));
    root.place(file, text.as_bytes())
        .with_context(|| format!("write {file}"))
}

/// The newest report that can be read.
#[must_use]
pub fn last(root: &Root) -> Option<Report> {
    let ids = list(root).unwrap_or_default();
    ids.iter().rev().find_map(|id| read(root, id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::sample;

    #[test]
    fn the_newest_are_kept_and_what_a_crash_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let left = format!("{}/2026-00.json.77.tmp", folder());
        root.replace(&left, b"{", 0o600).unwrap();
        for n in 0..40 {
            let report = Report {
                id: format!("2026-{n:02}"),
                ..sample()
            };
            keep(&root, &report).unwrap();
        }
        let ids = list(&root).unwrap();
        assert_eq!((ids.len(), ids[0].as_str()), (MOST_REPORTS, "2026-08"));
        assert_eq!(last(&root).unwrap().id, "2026-39");
        assert!(!root.exists(left));
        let totals = Totals::read(&root);
        assert_eq!(totals.drains["deadline-hit"], 40);
        assert_eq!(totals.cut, 40 * 2);
    }

    #[test]
    fn a_clock_set_back_costs_no_report() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        for n in 0..=MOST_REPORTS {
            let id = if n == MOST_REPORTS {
                "1970".to_owned()
            } else {
                format!("2026-{n:02}")
            };
            keep(&root, &Report { id, ..sample() }).unwrap();
        }
        let ids = list(&root).unwrap();
        assert_eq!((ids.len(), ids[0].as_str()), (MOST_REPORTS, "1970"));
    }

    #[test]
    fn what_has_piled_up_is_removed_little_by_little() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        std::fs::create_dir_all(root.path(folder())).unwrap();
        for n in 0..3 * MOST_REMOVED {
            std::fs::write(root.path(path(&format!("2025-{n:04}"))), "{}").unwrap();
        }
        keep(&root, &sample()).unwrap();
        let left = 2 * MOST_REMOVED + 1;
        assert_eq!(list(&root).unwrap().len(), left);
        for _ in 0..2 {
            keep(&root, &sample()).unwrap();
        }
        assert_eq!(list(&root).unwrap().len(), MOST_REPORTS);
    }

    #[test]
    fn a_report_is_counted_once_and_a_draft_never() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let draft = Report {
            outcome: Outcome::Unfinished,
            ..sample()
        };
        keep(&root, &draft).unwrap();
        assert_eq!(Totals::read(&root), Totals::default());
        keep(&root, &sample()).unwrap();
        keep(&root, &sample()).unwrap();
        assert_eq!(Totals::read(&root).drains["deadline-hit"], 1);
    }

    #[test]
    fn the_largest_report_is_kept_within_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let report = crate::report::sample::largest();
        keep(&root, &report).unwrap();
        let kept = read(&root, &report.id).unwrap();
        assert_eq!(kept, report, "nothing had to be left out");
    }

    #[test]
    fn one_that_can_not_be_understood_does_not_hide_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        keep(&root, &sample()).unwrap();
        root.replace(path("9999"), b"{", 0o600).unwrap();
        assert_eq!(last(&root), Some(sample()));
        assert!(read(&root, "9999").is_err());
    }

    #[test]
    fn a_report_of_the_first_format_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let mut old = serde_json::to_value(sample()).unwrap();
        let fields = old.as_object_mut().unwrap();
        for new in ["curve", "waited", "waited_more"] {
            fields.remove(new);
        }
        root.replace(path("old"), old.to_string().as_bytes(), 0o600)
            .unwrap();
        assert_eq!(last(&root).unwrap().cut, sample().cut);
    }
}
