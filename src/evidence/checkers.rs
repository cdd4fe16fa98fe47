//! Who on this host asks programs for their health, and who passes requests on to them: a loopback peer is known by its process.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;

use crate::world::{Root, proc};

/// Agents that check and scrape and send nothing else, by the names of their processes (at most 15 bytes of them, as the kernel keeps).
const CHECKERS: &[&str] = &[
    "alloy",
    "blackbox_export",
    "collectd",
    "consul",
    "gatus",
    "grafana-agent",
    "heartbeat",
    "icinga2",
    "keepalived",
    "metricbeat",
    "monit",
    "netdata",
    "nrpe",
    "otelcol",
    "otelcol-contrib",
    "prometheus",
    "telegraf",
    "vmagent",
    "zabbix_agent2",
    "zabbix_agentd",
];

/// Proxies that send a program requests from its own host.
const PROXIES: &[&str] = &[
    "angie", "apache2", "caddy", "envoy", "h2o", "haproxy", "hitch", "httpd", "lighttpd", "nginx",
    "squid", "traefik", "varnishd",
];

/// The local peers that are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Control groups that hold checkers and nothing else.
    pub checkers: Vec<u64>,
    /// Where the proxies of this host listen, by control group; nowhere, if that can't be seen. A connection from this host may carry
    /// a request of their clients.
    pub proxies: Vec<BTreeSet<SocketAddr>>,
}

impl Local {
    /// Whether a proxy may send a request here whose own client nobody watches. `watched` are the sockets whose clients are: what
    /// came over one of those has been seen to come.
    #[must_use]
    pub fn has_unwatched_proxies(&self, watched: impl Fn(&SocketAddr) -> bool) -> bool {
        let covered = |listens: &BTreeSet<_>| !listens.is_empty() && listens.iter().all(&watched);
        !self.proxies.iter().all(covered)
    }
}

/// A process, for the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    name: String,
    group: String,
}

/// Finds them. `listening` are the listening sockets by their inodes; on those of `checker_ports` a checker listens, whatever its name. A
/// control group in `never` (the target's, our own) is none of a checker's: what it sends can't be told from others.
///
/// # Errors
/// What the system says of /proc.
pub fn find(
    root: &Root,
    listening: &HashMap<u64, SocketAddr>,
    checker_ports: &[u16],
    never: &HashSet<u64>,
) -> io::Result<Local> {
    let mut all = Vec::new();
    let ours = proc::net_namespace(root, std::process::id())?;
    for pid in proc::pids(root)? {
        // One that is gone meanwhile is nobody's peer.
        let (Some(name), Some(group), Some(parent)) = (
            proc::name(root, pid)?,
            proc::control_group(root, pid)?,
            proc::parent(root, pid)?,
        ) else {
            continue;
        };
        let told = |names: &[&str]| names.contains(&name.as_str());
        // One in a container has a loopback of its own.
        if (told(CHECKERS) || told(PROXIES)) && proc::net_namespace(root, pid)? != ours {
            continue;
        }
        all.push(Process {
            pid,
            parent,
            name,
            group,
        });
    }
    let listens = |process: &Process| {
        // Every open file of a process is read: only of those that may be an agent, or a proxy.
        let inodes = proc::socket_inodes(root, process.pid).unwrap_or_default();
        inodes
            .into_iter()
            .filter_map(|inode| listening.get(&inode).copied())
    };
    let is_agent = |process: &Process| {
        !checker_ports.is_empty()
            && listens(process).any(|local| checker_ports.contains(&local.port()))
    };
    let mut proxies: BTreeMap<&str, BTreeSet<SocketAddr>> = BTreeMap::new();
    for process in all
        .iter()
        .filter(|process| PROXIES.contains(&process.name.as_str()))
    {
        // Not each process of a proxy holds its listeners.
        let listens = listens(process);
        proxies.entry(&process.group).or_default().extend(listens);
    }
    let mut found = Local {
        proxies: proxies.into_values().collect(),
        ..Local::default()
    };
    for group in pure_groups(&all, is_agent) {
        let ids = proc::cgroup_ids(root, group)?;
        if !ids.iter().any(|id| never.contains(id)) {
            found.checkers.extend(ids);
        }
    }
    Ok(found)
}

/// The control groups in which every process is a checker or was started by one.
fn pure_groups(all: &[Process], listens: impl Fn(&Process) -> bool) -> Vec<&str> {
    let mut groups: BTreeMap<&str, Vec<&Process>> = BTreeMap::new();
    // Kernel threads, and hosts without groups of their own.
    for process in all.iter().filter(|process| process.group != "/") {
        groups.entry(&process.group).or_default().push(process);
    }
    let pure = |members: &[&Process]| {
        let pids = |is: &dyn Fn(&Process) -> bool| -> HashSet<u32> {
            let found = members.iter().filter(|each| is(each));
            found.map(|each| each.pid).collect()
        };
        let mut checker = pids(&|each| CHECKERS.contains(&each.name.as_str()));
        if checker.is_empty() && members.len() <= MOST_MEMBERS {
            checker = pids(&|each| listens(each));
        }
        let descends = |process: &&Process| {
            let mut pid = process.pid;
            for _ in 0..members.len() {
                if checker.contains(&pid) {
                    return true;
                }
                match members.iter().find(|each| each.pid == pid) {
                    Some(each) => pid = each.parent,
                    None => return false,
                }
            }
            checker.contains(&pid)
        };
        !checker.is_empty() && members.iter().all(descends)
    };
    groups
        .into_iter()
        .filter(|(_, members)| pure(members))
        .map(|(group, _)| group)
        .collect()
}

/// An agent's group is small; of larger ones not every process is asked what it listens on.
const MOST_MEMBERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, name: &str, group: &str) -> Process {
        Process {
            pid,
            parent,
            name: name.to_owned(),
            group: group.to_owned(),
        }
    }

    #[test]
    fn a_proxy_brings_nothing_unseen_where_all_its_own_clients_are_watched() {
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let unwatched = |proxies: &[&[u16]]| {
            let sockets = |ports: &&[u16]| ports.iter().map(|port| at(*port)).collect();
            let local = Local {
                proxies: proxies.iter().map(sockets).collect(),
                ..Local::default()
            };
            local.has_unwatched_proxies(|local| [at(80), at(443)].contains(local))
        };
        assert!(!unwatched(&[]));
        assert!(!unwatched(&[&[80], &[80, 443]]));
        assert!(unwatched(&[&[80, 8080]]));
        assert!(unwatched(&[&[80], &[8080]]));
        // One whose sockets could not be seen.
        assert!(unwatched(&[&[80], &[]]));
    }

    #[test]
    fn a_group_is_a_checkers_only_if_nobody_else_is_in_it() {
        let all = [
            process(2, 0, "consul", "/"),
            process(10, 1, "consul", "/system.slice/consul.service"),
            process(11, 10, "sh", "/system.slice/consul.service"),
            process(12, 11, "curl", "/system.slice/consul.service"),
            process(20, 1, "consul", "/user.slice/session-1.scope"),
            process(21, 1, "nginx", "/user.slice/session-1.scope"),
            process(30, 1, "agent.py", "/system.slice/agent.service"),
            process(40, 1, "nginx", "/system.slice/nginx.service"),
        ];
        let none = pure_groups(&all, |_| false);
        assert_eq!(none, ["/system.slice/consul.service"]);
        let by_port = pure_groups(&all, |process| process.pid == 30);
        assert_eq!(
            by_port,
            [
                "/system.slice/agent.service",
                "/system.slice/consul.service"
            ]
        );
    }
}
