use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::enter::Parts;
use crate::host::Host;

/// The unit whose stop is the drain.
pub const HOOK: &str = "drain-connections.service";
/// The unit that takes the host back.
pub const REJOIN: &str = "drain-connections-rejoin.service";
/// The administrator's settings.
pub const CONFIG: &str = "/etc/drainctl/drainctl.toml";
/// What rejoin has to undo.
pub const RECEIPTS: &str = "/var/lib/drainctl/receipts.json";
/// A folder with one report a drain; the names sort by time.
const HISTORY: &str = "/var/lib/drainctl/history";
/// The state of the running drain.
const RUN: &str = "/run/drainctl/drain.json";

/// What an administrator does on a new host, and nothing else: the binary, and `drainctl install`.
///
/// # Errors
/// If that fails.
pub fn install(host: &Host, parts: &Parts) -> Result<String> {
    copy(host, parts)?;
    host.exec(&["drainctl", "install"])
}

/// Only the binary.
///
/// # Errors
/// If it can't be copied.
pub fn copy(host: &Host, parts: &Parts) -> Result<()> {
    let copied = fs::copy(&parts.drainctl, host.path("/usr/bin/drainctl"));
    copied.map(drop).context("copying drainctl")
}

/// The story of a drain, as the product keeps it.
#[derive(Debug)]
pub struct Report(Value);

impl Report {
    /// All reports of a host, oldest first; also after its end.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn all(host: &Host) -> Result<Vec<Self>> {
        let dir = host.path(HISTORY);
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut names: Vec<_> = fs::read_dir(&dir)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        // A drain that is killed may leave a file that it was writing.
        names.retain(|name: &std::path::PathBuf| name.extension().is_some_and(|end| end == "json"));
        names.sort();
        names
            .iter()
            .map(|path| Ok(Self(serde_json::from_slice(&fs::read(path)?)?)))
            .collect()
    }

    /// The newest.
    ///
    /// # Errors
    /// If there is none.
    pub fn last(host: &Host) -> Result<Self> {
        Self::all(host)?
            .pop()
            .with_context(|| format!("{} has no report in {HISTORY}", host.name))
    }

    /// A field that is text: `id`, `outcome`, `cause`.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// The exit code.
    pub fn exit(&self) -> Option<u64> {
        self.0["exit"].as_u64()
    }

    /// How long it took.
    ///
    /// # Errors
    /// If the report does not say.
    pub fn took(&self) -> Result<Duration> {
        duration(&self.0["took"])
    }

    /// How long it settled: from the phase of that name to the next.
    ///
    /// # Errors
    /// If the report does not say.
    pub fn settle(&self) -> Result<Duration> {
        let phases = self.0["phases"].as_array().context("no phases")?;
        let at = phases
            .iter()
            .position(|phase| phase[0] == "settling")
            .context("no settling in the phases")?;
        let next = phases.get(at + 1).context("settling never ended")?;
        Ok(duration(&next[1])?.saturating_sub(duration(&phases[at][1])?))
    }

    /// Why a pool could not be left.
    pub fn pool_error(&self, pool: &str) -> Option<&str> {
        let pools = self.0["pools"].as_array()?;
        pools.iter().find(|each| each["name"] == pool)?["error"].as_str()
    }

    /// The programs of the connections that were cut, with the age of their requests, for one peer.
    ///
    /// # Errors
    /// If the report can't be understood.
    pub fn cut(&self, peer: &str) -> Result<Vec<(String, Duration)>> {
        let peer: IpAddr = peer.parse()?;
        let mut found = Vec::new();
        for held in self.0["cut"]
            .as_array()
            .context("no list of what was cut")?
        {
            let from: std::net::SocketAddr = held["peer"].as_str().unwrap_or_default().parse()?;
            if from.ip().to_canonical() == peer {
                let program = held["program"].as_str().unwrap_or_default();
                found.push((program.to_owned(), duration(&held["age"])?));
            }
        }
        Ok(found)
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The drain that runs on a host now, or ran last since its boot.
#[derive(Debug)]
pub struct Running {
    /// The drain's id.
    pub id: String,
    /// Its process, as the host numbers it.
    pub pid: u64,
    /// `leaving`, `settling`, `waiting` or `ended`.
    pub phase: String,
}

impl Running {
    /// Reads it; nothing if no drain ran since the host's boot.
    ///
    /// # Errors
    /// If the host does not run, or its file can't be understood.
    pub fn read(host: &Host) -> Result<Option<Self>> {
        let path = host.live_path(RUN)?;
        if !path.exists() {
            return Ok(None);
        }
        let run: Value = serde_json::from_slice(&fs::read(path)?)?;
        let text = |field: &str| run[field].as_str().unwrap_or_default().to_owned();
        Ok(Some(Self {
            id: text("id"),
            pid: run["pid"].as_u64().context("no process")?,
            phase: text("phase"),
        }))
    }
}

/// A duration as serde writes it.
fn duration(value: &Value) -> Result<Duration> {
    match (value["secs"].as_u64(), value["nanos"].as_u64()) {
        (Some(secs), Some(nanos)) => Ok(Duration::from_secs(secs) + Duration::from_nanos(nanos)),
        _ => bail!("{value} is no duration"),
    }
}
