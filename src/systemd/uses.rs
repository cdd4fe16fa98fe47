//! What a target's programs use on this host: the services at the other end of their sockets, and those that their arguments and
//! environment name.
//!
//! A connection that is short is seen only by chance, so several looks are made, and what an earlier install saw is remembered in the drop-in.

mod ends;
mod names;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sockdiag::{Query, Socket, States, TcpState};

use super::order::Units;
use super::view;
use crate::world::{Root, proc};
use ends::{Owner, Stage, Tcp, Unix};

/// The kernel answers in milliseconds, or something is wrong.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A service of this host that others use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The unit whose programs use it; `None`: whoever asks for names, or somebody unknown.
    pub by: Option<String>,
    /// The service.
    pub unit: String,
    /// How that is known, for people.
    pub why: String,
    /// Whether a connection was seen, and not only named.
    pub seen: bool,
}

/// The real names of units, each with its control group, as far as they have one.
pub(super) fn groups(names: impl Iterator<Item = String>, units: &Units) -> Vec<(String, String)> {
    let mut groups: Vec<(String, String)> = Vec::new();
    for name in names {
        let id = view::property(units, &name, "Id");
        let group = view::property(units, &name, "ControlGroup");
        if !group.is_empty() && !groups.iter().any(|(unit, _)| unit == id) {
            groups.push((id.to_owned(), group.to_owned()));
        }
    }
    groups
}

/// What the programs of `units`, each with its control group, use; looked at once, and again until `watch` is over.
///
/// # Errors
/// What the system says when something can't be seen.
pub(super) fn find(
    root: &Root,
    units: &[(String, String)],
    watch: Duration,
) -> anyhow::Result<Vec<Use>> {
    let end = Instant::now() + watch;
    let mut pids = Vec::new();
    for (unit, group) in units {
        let members = proc::pids_of_cgroup(root, group)
            .with_context(|| format!("read the control group of {unit}"))?;
        pids.extend(members.into_iter().map(|pid| (pid, unit.as_str())));
    }
    let mut found = Vec::new();
    if pids.is_empty() {
        return Ok(found);
    }
    let targets: Vec<&str> = units.iter().map(|(unit, _)| unit.as_str()).collect();
    let mut socket = Socket::open().context("open a sock_diag socket")?;
    loop {
        let sockets = look(root, &mut socket)?;
        merge(&mut found, ends::tcp(&sockets.tcp, &targets));
        merge(&mut found, ends::unix(&sockets.unix, &targets));
        if Instant::now() + PAUSE >= end {
            for (pid, unit) in pids {
                let said = texts(root, pid)?;
                let program = proc::name(root, pid)?.unwrap_or_default();
                merge(
                    &mut found,
                    names::find(&said, unit, &program, &sockets.tcp, &sockets.unix),
                );
            }
            merge(&mut found, ends::ended(&sockets.tcp, &targets));
            merge(&mut found, resolver(root, &sockets.tcp));
            return Ok(found);
        }
        thread::sleep(PAUSE);
    }
}

/// The services that listen on TCP for other hosts, each with its ports: one of them may be what this host is there for.
///
/// # Errors
/// What the system says when something can't be seen.
pub fn serving(root: &Root) -> anyhow::Result<BTreeMap<String, BTreeSet<u16>>> {
    let mut socket = Socket::open().context("open a sock_diag socket")?;
    let mut found: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for one in look(root, &mut socket)?.tcp {
        if one.stage == Stage::Listens
            && !one.local.ip().is_loopback()
            && let Some(owner) = one.owner
        {
            let ports = found.entry(owner.unit.clone()).or_default();
            ports.insert(one.local.port());
        }
    }
    Ok(found)
}

/// Each service once for each user; the surer reason counts.
fn merge(found: &mut Vec<Use>, more: Vec<Use>) {
    for new in more {
        let known = found.iter().any(|old| {
            old.unit == new.unit
                && (old.by == new.by || new.by.is_none())
                && (old.seen || !new.seen)
        });
        if !known {
            found.retain(|old| old.unit != new.unit || old.by != new.by);
            found.push(new);
        }
    }
}

/// Arguments and environment of a process.
fn texts(root: &Root, pid: u32) -> anyhow::Result<Vec<String>> {
    let mut texts = proc::arguments(root, pid)?;
    texts.extend(proc::environment(root, pid)?);
    Ok(texts)
}

/// All sockets of the host with their owners.
struct Sockets {
    tcp: Vec<Tcp>,
    unix: Vec<Unix>,
}

fn look(root: &Root, socket: &mut Socket) -> anyhow::Result<Sockets> {
    let deadline = Instant::now() + LONGEST_LOOK;
    let query = Query {
        info: false,
        ..Query::default()
    };
    let rows = socket
        .dump(&query, deadline, Vec::new, |rows, row| {
            rows.push((
                row.id.local(),
                row.id.remote(),
                row.state,
                row.inode,
                row.cgroup,
            ));
        })
        .context("list the TCP sockets")?;
    let states = States::of(&[TcpState::Established, TcpState::Listen]);
    let unix = socket
        .dump_unix(states, deadline, Vec::new, |rows, row| {
            let name = row.name.map(|name| name.to_vec());
            rows.push((row.inode, row.peer, row.state == TcpState::Listen, name));
        })
        .context("list the Unix sockets")?;
    let owners = owners(root)?;
    let groups = groups_of_services(root)?;
    let by_inode = |inode: u32| owners.get(&u64::from(inode)).cloned();
    let tcp = rows
        .into_iter()
        .map(|(local, remote, state, inode, group)| Tcp {
            local,
            remote,
            stage: match state {
                TcpState::Listen => Stage::Listens,
                TcpState::TimeWait => Stage::Ended,
                _ => Stage::Open,
            },
            // A socket that waits to be accepted, or was closed meanwhile, has no process: the control group stays.
            owner: by_inode(inode).or_else(|| groups.get(&group?).cloned()),
        });
    let unix = unix.into_iter().map(|(inode, peer, listens, name)| Unix {
        inode,
        peer,
        listens,
        name: name.map(|name| ends::shown(&name)),
        owner: by_inode(inode),
    });
    Ok(Sockets {
        tcp: tcp.collect(),
        unix: unix.collect(),
    })
}

/// The services that hold sockets, by inode.
fn owners(root: &Root) -> anyhow::Result<HashMap<u64, Rc<Owner>>> {
    let mut owners = HashMap::new();
    for pid in proc::pids(root)? {
        let group = proc::control_group(root, pid)?.unwrap_or_default();
        let (Some(unit), Some(program)) = (service(&group), proc::name(root, pid)?) else {
            continue;
        };
        let owner = Rc::new(Owner { unit, program });
        for inode in proc::socket_inodes(root, pid)? {
            owners.insert(inode, Rc::clone(&owner));
        }
    }
    Ok(owners)
}

/// Services by the kernel's id of their control groups.
fn groups_of_services(root: &Root) -> anyhow::Result<HashMap<u64, Rc<Owner>>> {
    let groups = proc::cgroups(root)?.into_iter();
    let owned = groups.filter_map(|(id, path)| {
        let unit = service(&path)?;
        let program = unit.clone();
        Some((id, Rc::new(Owner { unit, program })))
    });
    Ok(owned.collect())
}

/// The service of a control group; a user's own are stopped by the user's own manager.
fn service(group: &str) -> Option<String> {
    let unit = view::unit_of_control_group(group)?;
    let is_service = unit.ends_with(".service") && !unit.starts_with("user@");
    is_service.then(|| unit.to_owned())
}

/// Who answers for names, where that is somebody on this host.
fn resolver(root: &Root, tcp: &[Tcp]) -> Vec<Use> {
    let text = root.read("/etc/resolv.conf", 1 << 16).unwrap_or_default();
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next()? == "nameserver";
        let server: IpAddr = words.next()?.parse().ok()?;
        is_server.then_some(server)
    });
    let uses = servers.filter_map(|server| {
        let owner = ends::listener(tcp, (server, 53).into())?;
        Some(Use {
            by: None,
            unit: owner.unit.clone(),
            why: format!("answers for names: nameserver {server} of /etc/resolv.conf"),
            seen: true,
        })
    });
    uses.collect()
}
