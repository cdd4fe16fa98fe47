use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::command::{command, run};

/// systemd's message for "begins to stop".
const STOPPING: &str = "de5b426a63be47a7b6ac3eaac82e2f6f";
/// systemd's message for "has stopped".
const STOPPED: &str = "9d1aaa27d60140bd96365438aad20286";
/// A host's journal in the order of time.
#[derive(Debug)]
pub struct Journal {
    entries: Vec<Entry>,
}

/// One entry.
#[derive(Debug)]
pub struct Entry {
    /// When it was written, by the clock that all hosts share.
    pub at: SystemTime,
    fields: Map<String, Value>,
}

impl Journal {
    /// Reads a journal directory.
    ///
    /// # Errors
    /// If journalctl fails, or prints what is no journal.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut journalctl = command(&["journalctl", "--quiet", "--all", "-o", "json", "-D"]);
        let text = run(journalctl.arg(dir))?;
        let entries = text.lines().map(|line| {
            let fields: Map<String, Value> = serde_json::from_str(line)?;
            let micros = fields
                .get("__REALTIME_TIMESTAMP")
                .and_then(Value::as_str)
                .context("an entry without time")?;
            Ok(Entry {
                at: SystemTime::UNIX_EPOCH + Duration::from_micros(micros.parse()?),
                fields,
            })
        });
        Ok(Self {
            entries: entries.collect::<Result<_>>()?,
        })
    }

    /// The entries of `after` and later.
    pub fn since(self, after: SystemTime) -> Self {
        Self {
            entries: self
                .entries
                .into_iter()
                .filter(|entry| entry.at >= after)
                .collect(),
        }
    }

    /// All that the unit's processes wrote, and systemd about it.
    pub fn of_unit<'a>(&'a self, unit: &'a str) -> impl DoubleEndedIterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| {
            [entry.field("UNIT"), entry.field("_SYSTEMD_UNIT")].contains(&Some(unit))
        })
    }

    /// When systemd last began to stop the unit.
    ///
    /// # Errors
    /// If it never did.
    pub fn stopping(&self, unit: &str) -> Result<SystemTime> {
        self.message(unit, STOPPING)
    }

    /// When the unit last had stopped.
    ///
    /// # Errors
    /// If it never did.
    pub fn stopped(&self, unit: &str) -> Result<SystemTime> {
        self.message(unit, STOPPED)
    }

    /// Every unit that systemd stopped, with the moment at which that began; where only the end is told, that.
    pub fn stops(&self) -> BTreeMap<String, SystemTime> {
        let mut stops = BTreeMap::new();
        for entry in &self.entries {
            if let Some(STOPPING | STOPPED) = entry.field("MESSAGE_ID")
                && entry.field("JOB_TYPE").is_none_or(|kind| kind == "stop")
                && let Some(unit) = entry.field("UNIT")
            {
                stops.entry(unit.to_owned()).or_insert(entry.at);
            }
        }
        stops
    }

    /// The exit code of the unit's last command that ended with anything but 0.
    pub fn exit_status<'a>(&'a self, unit: &'a str) -> Option<&'a str> {
        self.of_unit(unit)
            .rev()
            .find_map(|entry| entry.field("EXIT_STATUS"))
    }

    /// The last lines about a unit, for a message.
    pub fn tail(&self, unit: &str, lines: usize) -> String {
        let mut last: Vec<_> = self
            .of_unit(unit)
            .rev()
            .take(lines)
            .map(Entry::line)
            .collect();
        last.reverse();
        last.join("\n")
    }

    /// The one entry about a drain, as `journalctl -u drain-connections` finds it.
    ///
    /// # Errors
    /// If there is not exactly one.
    pub fn drain(&self, id: &str) -> Result<&Entry> {
        let found: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.field("DRAINCTL_ID") == Some(id))
            .collect();
        ensure!(found.len() == 1, "{} entries about drain {id}", found.len());
        ensure!(
            found[0].field("OBJECT_SYSTEMD_UNIT") == Some("drain-connections.service")
                && found[0].field("_UID") == Some("0"),
            "not found by its unit: {:?}",
            found[0]
        );
        Ok(found[0])
    }

    fn message(&self, unit: &str, id: &str) -> Result<SystemTime> {
        let found = self
            .of_unit(unit)
            .rev()
            .find(|entry| entry.field("MESSAGE_ID") == Some(id));
        Ok(found
            .with_context(|| format!("{unit}: no message {id} in the journal"))?
            .at)
    }
}

impl Entry {
    /// A field's text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// The message, or nothing if it is no text.
    pub fn message(&self) -> &str {
        self.field("MESSAGE").unwrap_or_default()
    }

    fn line(&self) -> String {
        let who = self.field("SYSLOG_IDENTIFIER").unwrap_or("-");
        format!(
            "{} {who}: {}",
            jiff::Timestamp::try_from(self.at)
                .map_or_else(|_| "-".to_owned(), |at| format!("{at:.3}")),
            self.message()
        )
    }
}
