//! Which listening sockets are the target's: what it listens on is what it serves, and no port needs to be configured.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context as _;
use sockdiag::{Query, Socket, States, TcpState};

use crate::text::one_line;
use crate::world::{Root, proc};

/// A program's name is no longer, in characters.
const MOST_NAME: usize = 64;

/// A part of the target whose sockets are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name, for people.
    pub name: String,
    /// Its processes.
    pub members: Members,
}

/// Which processes belong to a [`Unit`]; looked up again at each discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// Those in this control group, as systemd names it, and below.
    ControlGroup(String),
    /// This one and its descendants.
    Process(u32),
}

impl Unit {
    /// The kernel's ids of its control groups, by which the sockets that it created are known; none for a process.
    fn groups(&self, root: &Root) -> anyhow::Result<Vec<u64>> {
        match &self.members {
            Members::ControlGroup(group) => proc::cgroup_ids(root, group)
                .with_context(|| format!("read the control group {group} of {}", self.name)),
            Members::Process(_) => Ok(Vec::new()),
        }
    }

    fn pids(&self, root: &Root) -> anyhow::Result<Vec<u32>> {
        match &self.members {
            Members::ControlGroup(group) => proc::pids_of_cgroup(root, group)
                .with_context(|| format!("read the control group {group} of {}", self.name)),
            Members::Process(pid) => proc::family(root, *pid)
                .with_context(|| format!("read the descendants of {}, process {pid}", self.name)),
        }
    }
}

/// A listening socket of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub local: SocketAddr,
    /// The program that listens, for people.
    pub program: String,
}

impl Listener {
    /// Whether a connection to `local` was accepted here.
    #[must_use]
    pub fn takes(&self, local: SocketAddr) -> bool {
        self.local.port() == local.port()
            && (self.local.ip().is_unspecified() || self.local.ip() == local.ip())
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The listening sockets.
    pub listeners: Vec<Listener>,
    /// Control groups of the local health checkers.
    pub checkers: Vec<u64>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// Finds the listening sockets of `units`: by the control group that created them, and, where the unit has none, the listener was
/// inherited (socket activation) or the host has no control groups of version 2, by who holds them. `name` tells a process's program.
/// `checker_ports` are the ports on which local health checkers, as a registry's agent, listen themselves.
///
/// # Errors
/// Something could not be seen: nothing is known then.
pub fn find(
    root: &Root,
    socket: &mut Socket,
    units: &[Unit],
    checker_ports: &[u16],
    deadline: Instant,
    name: &dyn Fn(u32) -> Option<String>,
) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut groups: HashMap<u64, &Unit> = HashMap::new();
    let mut holders: HashMap<u64, (u32, &Unit)> = HashMap::new();
    let ours =
        proc::net_namespace(root, std::process::id()).context("read our own network namespace")?;
    let mut elsewhere = HashSet::new();
    for unit in units {
        groups.extend(unit.groups(root)?.into_iter().map(|id| (id, unit)));
        for pid in unit.pids(root)? {
            let space = proc::net_namespace(root, pid).with_context(|| {
                format!(
                    "read the network namespace of process {pid} of {}",
                    unit.name
                )
            })?;
            if space.is_some() && space != ours && elsewhere.insert(space) {
                found.notes.push(format!(
                    "process {pid} of {} has a network of its own: its connections can't be seen, and nobody waits for them",
                    unit.name
                ));
                continue;
            }
            let inodes = proc::socket_inodes(root, pid).with_context(|| {
                format!("read the open files of process {pid} of {}", unit.name)
            })?;
            holders.extend(inodes.into_iter().map(|inode| (inode, (pid, unit))));
        }
    }
    let query = Query {
        states: States::of(&[TcpState::Listen]),
        info: false,
        ..Query::default()
    };
    let rows = socket
        .dump(&query, deadline, Vec::new, |rows, row| {
            rows.push((row.id.local(), u64::from(row.inode), row.cgroup));
        })
        .context("list the listening sockets")?;
    for (local, inode, group) in rows {
        // An agent inside a target unit shares its control group with the programs, and 1 is the root: neither tells it apart.
        if let Some(group) = group
            && checker_ports.contains(&local.port())
            && !groups.contains_key(&group)
            && group > 1
        {
            found.checkers.push(group);
        }
        let holder = holders.get(&inode);
        let unit = group
            .and_then(|id| groups.get(&id).copied())
            .or(holder.map(|(_, unit)| *unit));
        let Some(unit) = unit else { continue };
        let program = holder
            .and_then(|(pid, _)| name(*pid))
            .unwrap_or_else(|| unit.name.clone());
        // A process may call itself anything.
        let program = one_line(&program, MOST_NAME);
        let listener = Listener { local, program };
        if !found.listeners.contains(&listener) {
            found.listeners.push(listener);
        }
    }
    Ok(found)
}
