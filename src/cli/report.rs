//! `report`: what the last drains waited for and cut.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::drain::Report as Story;
use crate::receipts::{self, Run};
use crate::world::Root;
use crate::{exit, report};

/// What a drain waited for, and what it cut: the last one, or the one that is named.
///
/// The last 32 are kept, also across reboots. Of one that was killed there is what was known up to two seconds before.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: drainctl report --list · drainctl report --html drain.html · drainctl report --json | jq .outcome"
)]
pub(super) struct Report {
    /// The drain, by its id or the beginning of one; the last where none is given
    id: Option<String>,
    /// Name all that are kept, the newest first
    #[arg(long, conflicts_with = "id")]
    list: bool,
    /// Write it as a page for a browser, which needs nothing else, with a timeline
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "json"])]
    html: Option<PathBuf>,
    /// Write the last drain and the totals of all as metrics, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "list", "json", "html"])]
    metrics: Option<PathBuf>,
    /// As JSON: the whole report, or with --list an array of all of them
    #[arg(long)]
    json: bool,
}

impl Report {
    /// Runs it.
    ///
    /// # Errors
    /// There is no such report, or it can't be read.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        let ids =
            receipts::list(root).context("see the reports (they are root's: run it with sudo)")?;
        if let Some(file) = &self.metrics {
            return receipts::write_metrics(root, &absolute(file)?).map(|()| exit::OK);
        }
        if self.list {
            return self.list(root, &ids);
        }
        let Some(id) = choose(&ids, self.id.as_deref())? else {
            say!("no drain has run yet; `drainctl rehearse` runs one that stops nothing");
            return Ok(exit::OK);
        };
        let story = receipts::read(root, id).context(
            "this report can't be had (it is root's; `drainctl report --list` names the others)",
        )?;
        if self.json {
            say!("{}", serde_json::to_string_pretty(&story)?);
            return Ok(exit::OK);
        }
        if let Some(file) = &self.html {
            let page = report::html::page(&story, runs(root, &story));
            let file = absolute(file)?;
            root.place(&file, page.as_bytes())
                .with_context(|| format!("write {file}"))?;
            say!("written to {file}: open it in a browser");
            return Ok(exit::OK);
        }
        for line in report::full::lines(&story, runs(root, &story)) {
            say!("{line}");
        }
        Ok(exit::OK)
    }

    fn list(&self, root: &Root, ids: &[String]) -> anyhow::Result<u8> {
        let mut stories = Vec::new();
        for id in ids {
            match receipts::read(root, id) {
                Ok(story) => stories.push(story),
                Err(error) => tell!("drainctl: {error:#}"),
            }
        }
        if self.json {
            say!("{}", serde_json::to_string_pretty(&stories)?);
            return Ok(exit::OK);
        }
        for line in report::full::list(&stories) {
            say!("{line}");
        }
        Ok(exit::OK)
    }
}

/// Under a root a path is the host's own, absolute one.
fn absolute(file: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(file).with_context(|| format!("find {}", file.display()))?;
    let text = path
        .to_str()
        .with_context(|| format!("{} is no text", file.display()))?;
    Ok(text.to_owned())
}

/// The id that is meant; none where there is no report at all.
///
/// # Errors
/// It names none, or several.
fn choose<'a>(ids: &'a [String], named: Option<&str>) -> anyhow::Result<Option<&'a String>> {
    let Some(named) = named else {
        return Ok(ids.last());
    };
    let exact = ids.iter().find(|id| *id == named);
    let mut begin = ids.iter().filter(|id| id.starts_with(named));
    match (exact, begin.next(), begin.next()) {
        (Some(id), _, _) | (None, Some(id), None) => Ok(Some(id)),
        (None, None, _) => bail!(
            "no report of a drain {named} is kept: `drainctl report --list` names those that are"
        ),
        (None, Some(_), Some(_)) => {
            bail!("several drains begin with {named}: `drainctl report --list` names them")
        }
    }
}

/// Whether the drain of an unfinished report goes on.
fn runs(root: &Root, story: &Story) -> bool {
    let run = Run::read(root).filter(|run| run.id == story.id && run.ended.is_none());
    run.is_some_and(|run| root.exists(format!("/proc/{}", run.pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_named_by_its_id_or_the_beginning_of_one() {
        let ids = ["20260101-1", "20260101-12", "20260202-3"].map(str::to_owned);
        let chosen = |named| choose(&ids, named).map(|id| id.cloned());
        assert_eq!(chosen(None).unwrap().as_deref(), Some("20260202-3"));
        assert_eq!(
            chosen(Some("20260101-1")).unwrap().as_deref(),
            Some("20260101-1")
        );
        assert_eq!(
            chosen(Some("202602")).unwrap().as_deref(),
            Some("20260202-3")
        );
        for (named, said) in [
            ("202601", "several"),
            ("../x", "no report"),
            ("2027", "--list"),
        ] {
            let error = chosen(Some(named)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(choose(&[], None).unwrap().is_none());
    }
}
