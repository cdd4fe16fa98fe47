//! The last drains' reports, bounded in number and size.

use std::fs;

use anyhow::Context as _;
use serde_json::Value;

use super::STATE_DIR;
use crate::world::Root;

/// How many reports are kept.
const MOST: usize = 20;
const MOST_BYTES: u64 = 4 << 20;

fn names(root: &Root) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root.path(STATE_DIR).join("history"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.sort_unstable();
    names
}

/// Keeps `report` under `id`, which begins with a sortable time, and drops the oldest beyond the bound.
///
/// # Errors
/// It could not be written.
pub fn keep(root: &Root, id: &str, report: &Value) -> anyhow::Result<()> {
    let path = format!("{STATE_DIR}/history/{id}.json");
    root.replace(&path, &serde_json::to_vec(report)?, 0o600)
        .with_context(|| format!("write {path}"))?;
    let names = names(root);
    for name in names.iter().rev().skip(MOST) {
        root.remove(format!("{STATE_DIR}/history/{name}"))?;
    }
    Ok(())
}

/// The ids kept, oldest first.
#[must_use]
pub fn list(root: &Root) -> Vec<String> {
    names(root)
        .into_iter()
        .map(|name| name.trim_end_matches(".json").to_owned())
        .collect()
}

/// The newest report that can be read.
#[must_use]
pub fn last(root: &Root) -> Option<Value> {
    names(root).iter().rev().find_map(|name| {
        let text = root
            .read(format!("{STATE_DIR}/history/{name}"), MOST_BYTES)
            .ok()?;
        serde_json::from_str(&text).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        for n in 0..25 {
            keep(&root, &format!("2026-{n:02}"), &json!({ "n": n })).unwrap();
        }
        assert_eq!(list(&root).len(), MOST);
        assert_eq!(list(&root)[0], "2026-05");
        assert_eq!(last(&root), Some(json!({ "n": 24 })));
    }
}
