//! HAProxy: the requests that it has given to this host's servers (`scur`) or keeps queued for them (`qcur`), over its runtime socket.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Kind, Probe};
use crate::config::Section;
use crate::world::dial::Address;
use crate::world::{Deadline, Root};

/// HAProxy's line in the table of probes.
pub(super) const KIND: Kind = Kind {
    name: "haproxy",
    about: "the requests that HAProxy has given to this host's servers or queues for them",
    settings,
    build,
};

/// The most that is read of its answer, in bytes: a line a server.
const MOST: usize = 8 << 20;

#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    socket: String,
    servers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            socket: "/run/haproxy/admin.sock".to_owned(),
            servers: Vec::new(),
        }
    }
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if let Err(error) = Address::parse(&settings.socket) {
        section.fault("socket", error);
    }
    if settings.servers.is_empty() {
        section.fault(
            "servers",
            "must name this host's servers, like \"backend/server\"",
        );
    }
    for (index, server) in settings.servers.iter().enumerate() {
        if !server
            .split_once('/')
            .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
        {
            section.fault_item("servers", index, "must be \"backend/server\"");
        }
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> anyhow::Result<Box<dyn Probe>> {
    let settings = Settings::deserialize(settings)?;
    Ok(Box::new(Haproxy {
        socket: Address::parse(&settings.socket)?,
        servers: settings.servers,
    }))
}

struct Haproxy {
    socket: Address,
    servers: Vec<String>,
}

impl Probe for Haproxy {
    fn count(&self, root: &Root, deadline: Deadline) -> anyhow::Result<u64> {
        let answer = self
            .socket
            .ask(root, b"show stat\n", MOST, deadline)
            .with_context(|| self.socket.to_string())?;
        let text = String::from_utf8_lossy(&answer);
        sessions(&text, &self.servers).with_context(|| format!("{}: show stat", self.socket))
    }
}

/// `scur` and `qcur` of all `servers`, from the table that `show stat` prints.
fn sessions(text: &str, servers: &[String]) -> anyhow::Result<u64> {
    let mut lines = text.lines();
    let head = lines.next().and_then(|line| line.strip_prefix("# "));
    let columns: Vec<&str> = head.context("no table")?.split(',').collect();
    let column = |name: &str| {
        let at = columns.iter().position(|column| *column == name);
        at.with_context(|| format!("no column {name}"))
    };
    let (proxy, server) = (column("pxname")?, column("svname")?);
    let (current, queued) = (column("scur")?, column("qcur")?);
    // What may be quoted and hold a comma stands further right than these.
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let mut sum = 0u64;
    for wanted in servers {
        let is_it = |row: &&Vec<&str>| {
            let cell = |at: usize| row.get(at).copied().unwrap_or_default();
            wanted.split_once('/') == Some((cell(proxy), cell(server)))
        };
        let Some(row) = rows.iter().find(is_it) else {
            bail!("no server {wanted:?}");
        };
        for at in [current, queued] {
            let cell = row.get(at).copied().unwrap_or_default();
            let number: u64 = cell
                .parse()
                .with_context(|| format!("{wanted}: {} is {cell:?}", columns[at]))?;
            sum = sum.saturating_add(number);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_and_queued_is_added_up_for_each_server() {
        let text = "# pxname,svname,qcur,qmax,scur,smax\nweb,FRONTEND,,,9,9\nweb,a,1,1,2,5\nweb,b,0,0,4,5\nweb,BACKEND,1,1,6,9\n\n";
        let count = |servers: &[&str]| {
            let servers: Vec<String> = servers.iter().map(|name| (*name).to_owned()).collect();
            sessions(text, &servers)
        };
        assert_eq!(count(&["web/a"]).unwrap(), 3);
        assert_eq!(count(&["web/a", "web/b"]).unwrap(), 7);
        count(&["web/c"]).unwrap_err();
        count(&["web/FRONTEND"]).unwrap_err();
        sessions("Unknown command", &["web/a".to_owned()]).unwrap_err();
    }
}
