//! Which listening sockets are the target's: what it listens on is what it serves, and no port needs to be configured.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context as _;
use sockdiag::{Query, Socket, States, TcpState};

use super::checkers::{self, Local};
use crate::supervisord::SUPERVISORD;
use crate::text::one_line;
use crate::world::{Root, proc};

/// A program's name is no longer, in characters.
pub(super) const MOST_NAME: usize = 64;

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
            Members::Process(pid) => {
                let mut pids = proc::family(root, *pid).with_context(|| {
                    format!("read the descendants of {}, process {pid}", self.name)
                })?;
                // Its own keeper starts the drain; what we listen on is not the program's.
                pids.retain(|pid| *pid != std::process::id());
                Ok(pids)
            }
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
    /// By which process, as none will be called ever again: the boot, and when the youngest of those that hold the socket was started. A
    /// program that reads its config anew without a new process keeps it.
    pub process: Option<String>,
    /// Why it is watched.
    pub role: Role,
}

/// Why a [`Listener`] is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The target listens there.
    Own,
    /// It did, and has requests to finish: see [`closed`](super::closed).
    Closed,
    /// A proxy on this host listens there, which hands requests on to the target over a Unix socket.
    Front,
}

/// A Unix socket on which the target listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalListener {
    /// Its path; an abstract name begins with `@`.
    pub name: String,
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
    /// The Unix ones.
    pub locals: Vec<LocalListener>,
    /// The peers on this host that are told apart.
    pub local_peers: Local,
    /// The ports on which anybody on this host listens.
    pub taken: BTreeSet<u16>,
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
    let paths = proc::unix_listeners(root).context("list the listening Unix sockets")?;
    let inodes = rows.iter().map(|(_, inode, _)| *inode);
    let inodes = inodes.chain(paths.iter().map(|(inode, _)| *inode));

    let mut found = Found::default();
    let mut groups: HashMap<u64, &Unit> = HashMap::new();
    for unit in units {
        groups.extend(unit.groups(root)?.into_iter().map(|id| (id, unit)));
    }
    let holders = holders(root, units, &inodes.collect(), &mut found.notes)?;
    found.local_peers = peers_of(root, &rows, checker_ports, units, &groups);
    found.taken = rows.iter().map(|(local, _, _)| local.port()).collect();
    let mut listening: Vec<Vec<u32>> = Vec::new();
    for (local, inode, group) in rows {
        let unit = group
            .and_then(|id| groups.get(&id).copied())
            .or_else(|| first_unit(&holders, inode));
        let Some(unit) = unit else { continue };
        let listener = Listener {
            local,
            program: program(&holders, inode, unit, name),
            process: None,
            role: Role::Own,
        };
        // With SO_REUSEPORT each process has a socket of its own there.
        let known = found.listeners.iter().position(|one| *one == listener);
        let at = known.unwrap_or_else(|| {
            found.listeners.push(listener);
            listening.push(Vec::new());
            listening.len() - 1
        });
        let pids = holders.get(&inode).into_iter().flat_map(BTreeMap::keys);
        listening[at].extend(pids);
    }
    for (listener, pids) in found.listeners.iter_mut().zip(listening) {
        listener.process = incarnation(root, pids);
    }
    for (inode, path) in paths {
        let Some(unit) = first_unit(&holders, inode) else {
            continue;
        };
        let program = program(&holders, inode, unit, name);
        // Its own socket is for those who control it; no request comes that way.
        if program != SUPERVISORD {
            found.locals.push(LocalListener {
                name: path,
                program,
            });
        }
    }
    Ok(found)
}

/// What the program that holds a socket is called.
pub(super) fn program(
    holders: &Holders<'_>,
    inode: u64,
    unit: &Unit,
    name: &dyn Fn(u32) -> Option<String>,
) -> String {
    let pids = holders.get(&inode).into_iter().flatten();
    let mut names = pids.filter_map(|(pid, _)| name(*pid));
    let first = names.next();
    // supervisord holds its programs' FastCGI sockets beside them.
    let other = first.as_deref() == Some(SUPERVISORD);
    let named = if other {
        names.find(|name| name != SUPERVISORD)
    } else {
        None
    };
    let program = named.or(first).unwrap_or_else(|| unit.name.clone());
    // A process may call itself anything.
    one_line(&program, MOST_NAME)
}

/// See [`Listener::process`]; none where it can't be told.
pub(super) fn incarnation(root: &Root, pids: impl IntoIterator<Item = u32>) -> Option<String> {
    let started = |pid| proc::started(root, pid).ok().flatten();
    let youngest = pids.into_iter().filter_map(started).max()?;
    let boot = root.read("/proc/sys/kernel/random/boot_id", 64).ok()?;
    Some(format!("{}:{youngest}", boot.trim()))
}

/// Who holds which of the sockets `wanted`: processes of the units, in the order of their ids.
pub(super) type Holders<'a> = HashMap<u64, BTreeMap<u32, &'a Unit>>;

pub(super) fn first_unit<'a>(holders: &Holders<'a>, inode: u64) -> Option<&'a Unit> {
    holders.get(&inode)?.values().next().copied()
}

pub(super) fn holders<'a>(
    root: &Root,
    units: &'a [Unit],
    wanted: &HashSet<u64>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Holders<'a>> {
    let ours =
        proc::net_namespace(root, std::process::id()).context("read our own network namespace")?;
    let mut elsewhere = HashSet::new();
    let mut holders = Holders::new();
    for unit in units {
        for pid in unit.pids(root)? {
            let space = proc::net_namespace(root, pid).with_context(|| {
                format!(
                    "read the network namespace of process {pid} of {}",
                    unit.name
                )
            })?;
            if space.is_some() && space != ours && elsewhere.insert(space) {
                notes.push(format!(
                    "process {pid} of {} has a network of its own: its connections can't be seen, and nobody waits for them",
                    unit.name
                ));
                continue;
            }
            let inodes = proc::socket_inodes(root, pid).with_context(|| {
                format!("read the open files of process {pid} of {}", unit.name)
            })?;
            for inode in inodes.into_iter().filter(|inode| wanted.contains(inode)) {
                holders.entry(inode).or_default().insert(pid, unit);
            }
        }
    }
    Ok(holders)
}

/// The peers on this host, told apart by their processes. Those of the control groups that hold the target or this process are not: who
/// shares one with the programs can't be told from them.
fn peers_of(
    root: &Root,
    listening: &[(SocketAddr, u64, Option<u64>)],
    checker_ports: &[u16],
    units: &[Unit],
    groups: &HashMap<u64, &Unit>,
) -> Local {
    let mut never: HashSet<u64> = groups.keys().copied().collect();
    let pids = units
        .iter()
        .flat_map(|unit| unit.pids(root).unwrap_or_default());
    let pids: BTreeSet<u32> = pids.chain([std::process::id()]).collect();
    never.extend(pids.into_iter().flat_map(|pid| own_groups(root, pid)));
    let listening = listening
        .iter()
        .map(|(local, inode, _)| (*inode, *local))
        .collect();
    // Whom nobody could look for is no checker.
    checkers::find(root, &listening, checker_ports, &never).unwrap_or_default()
}

/// The kernel's ids of the control group of a process, and of those below it.
fn own_groups(root: &Root, pid: u32) -> HashSet<u64> {
    let group = proc::control_group(root, pid).ok().flatten();
    let ids = group.and_then(|group| proc::cgroup_ids(root, &group).ok());
    ids.unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;

    /// Two processes, one started after the other, with a socket each on one port.
    const WORKERS: &str = "import os,socket,sys,time
def listen(port):
    s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)
    s.bind(('127.0.0.1',port)); s.listen(); return s
first=listen(0); port=first.getsockname()[1]
time.sleep(.1)
if os.fork()==0:
    first.close(); second=listen(port)
    print(port,os.getpid(),flush=True)
sys.stdin.read()";

    struct Workers(Child);

    impl Drop for Workers {
        fn drop(&mut self) {
            // Both wait for the end of their input.
            drop(self.0.stdin.take());
            let _ = self.0.wait();
        }
    }

    #[test]
    fn processes_that_share_a_port_are_one_listener_as_young_as_the_youngest() {
        let python = Command::new("python3")
            .args(["-c", WORKERS])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = python else {
            eprintln!("SKIPPED processes_that_share_a_port_are_one_listener: needs python3");
            return;
        };
        let mut said = String::new();
        let mut says = BufReader::new(child.stdout.take().unwrap());
        let workers = Workers(child);
        says.read_line(&mut said).unwrap();
        let (port, second) = said.trim().split_once(' ').unwrap();
        let unit = Unit {
            name: "web.service".to_owned(),
            members: Members::Process(workers.0.id()),
        };
        let (root, soon) = (Root::host(), Instant::now() + Duration::from_secs(10));
        let mut socket = Socket::open().unwrap();
        let found = find(&root, &mut socket, &[unit], &[], soon, &|_| None).unwrap();
        let [listener] = found.listeners.as_slice() else {
            panic!("{:?}", found.listeners);
        };
        assert_eq!(listener.local.port().to_string(), port);
        let of = |pid: u32| incarnation(&root, [pid]);
        assert_eq!(listener.process, of(second.parse().unwrap()));
        assert_ne!(listener.process, of(workers.0.id()));
    }
}
