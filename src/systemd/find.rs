//! Which units matter on this host: found by the processes that run, not by guessed names.

use std::io;

use super::view::unit_of_control_group;
use crate::supervisord;
use crate::world::{Root, proc};

/// Where a Consul agent listens unless it is told otherwise.
pub const AGENT: &str = "http://127.0.0.1:8500";

/// The names that packages give to supervisord's unit: looked at where it does not run.
pub const USUAL: [&str; 2] = ["supervisor.service", "supervisord.service"];

/// A unit, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub unit: String,
    /// How, for people.
    pub why: String,
}

/// A supervisord that no service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Its process.
    pub pid: u32,
    /// What that means, for people.
    pub why: String,
}

/// The services that run supervisord, in the order of their names, and what else runs it, for people: systemd stops nothing else in order.
///
/// # Errors
/// What the system says when /proc can't be read.
pub fn supervisors(root: &Root) -> io::Result<(Vec<Found>, Vec<Outside>)> {
    let mut found: Vec<Found> = Vec::new();
    let mut outside = Vec::new();
    let mut pids = proc::pids(root)?;
    pids.sort_unstable();
    for pid in pids {
        if supervisord::options(&proc::arguments(root, pid)?).is_none()
            || !proc::is_of_this_host(root, pid)?
        {
            continue;
        }
        match service(root, pid)? {
            Some(unit) if found.iter().any(|other| other.unit == unit) => {}
            Some(unit) => found.push(Found {
                unit,
                why: format!("supervisord is its process {pid}"),
            }),
            None => outside.push(Outside {
                pid,
                why: format!(
                    "supervisord (process {pid}) runs outside any service: systemd does not stop it in order, so nothing is drained for it"
                ),
            }),
        }
    }
    found.sort_by(|a, b| a.unit.cmp(&b.unit));
    Ok((found, outside))
}

/// The service of the Consul agent that listens at `address` on this host; an error text, for people, where the agent runs in no service.
/// `None` when none listens here.
///
/// # Errors
/// What the system says when /proc can't be read.
pub fn agent(root: &Root, address: &str) -> io::Result<Option<Result<Found, String>>> {
    let inodes = match address.strip_prefix("unix://") {
        Some(path) => proc::unix_listeners(root)?
            .into_iter()
            .filter_map(|(inode, at)| (at == path).then_some(inode))
            .collect(),
        None => match port(address) {
            Some(port) => proc::listeners(root, port)?,
            None => Vec::new(),
        },
    };
    if inodes.is_empty() {
        return Ok(None);
    }
    for pid in proc::pids(root)? {
        let open = proc::socket_inodes(root, pid)?;
        // A port alone proves nothing: somebody else may have taken it, or proxy it.
        if !open.iter().any(|inode| inodes.contains(inode))
            || proc::name(root, pid)?.as_deref() != Some("consul")
        {
            continue;
        }
        return Ok(Some(match service(root, pid)? {
            Some(unit) => Ok(Found {
                unit,
                why: format!("its process {pid} is the Consul agent at {address}"),
            }),
            None => Err(format!(
                "the Consul agent at {address} (process {pid}) runs outside any service: nothing keeps it until the drain is over"
            )),
        }));
    }
    Ok(None)
}

/// The service that a process belongs to.
fn service(root: &Root, pid: u32) -> io::Result<Option<String>> {
    let group = proc::control_group(root, pid)?.unwrap_or_default();
    Ok(unit_of_control_group(&group)
        .filter(|unit| unit.ends_with(".service"))
        // A user's programs are stopped by the user's own manager.
        .filter(|unit| !unit.starts_with("user@"))
        .map(str::to_owned))
}

fn port(address: &str) -> Option<u16> {
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split('/').next()?;
    match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse().ok(),
        _ if scheme == "https" => Some(443),
        _ => Some(80),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{host, process};
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn supervisord_is_found_in_whatever_unit_runs_it() {
        let (_dir, root) = host();
        let line = "/usr/bin/python3 /usr/bin/supervisord -n";
        process(&root, 10, line, "/system.slice/shop.service", &[]);
        process(&root, 11, line, "/system.slice/shop.service", &[]);
        process(&root, 12, line, "/system.slice/another.service/sub", &[]);
        process(
            &root,
            13,
            line,
            "/user.slice/user-0.slice/session-1.scope",
            &[],
        );
        process(
            &root,
            14,
            "vi /etc/supervisord",
            "/system.slice/no.service",
            &[],
        );
        // In a container of its own: not for us to drain.
        process(&root, 15, line, "/machine.slice/box.service", &[]);
        fs::remove_file(root.path("/proc/15/ns/pid")).unwrap();
        symlink("pid:[2]", root.path("/proc/15/ns/pid")).unwrap();
        let (found, outside) = supervisors(&root).unwrap();
        let units: Vec<&str> = found.iter().map(|found| found.unit.as_str()).collect();
        assert_eq!(units, ["another.service", "shop.service"]);
        assert_eq!(found[1].why, "supervisord is its process 10");
        assert_eq!(outside.len(), 1);
        assert_eq!(outside[0].pid, 13);
    }

    #[test]
    fn the_agent_is_the_consul_that_listens_and_not_who_talks_to_it() {
        let (_dir, root) = host();
        process(
            &root,
            20,
            "/usr/sbin/haproxy",
            "/system.slice/haproxy.service",
            &[501],
        );
        assert_eq!(agent(&root, AGENT).unwrap(), None);
        process(
            &root,
            21,
            "/opt/consul agent",
            "/system.slice/registry.service",
            &[500, 600],
        );
        for address in [AGENT, "http://localhost:8500/", "unix:///run/consul.sock"] {
            let found = agent(&root, address).unwrap().unwrap().unwrap();
            assert_eq!(found.unit, "registry.service", "{address}");
        }
        assert_eq!(agent(&root, "http://10.0.0.1").unwrap(), None);
        assert_eq!(agent(&root, "unix:///run/other.sock").unwrap(), None);
    }

    #[test]
    fn an_agent_outside_any_service_is_said() {
        let (_dir, root) = host();
        process(
            &root,
            21,
            "consul agent",
            "/system.slice/docker-0a.scope",
            &[500],
        );
        let text = agent(&root, AGENT).unwrap().unwrap().unwrap_err();
        assert!(text.contains("process 21"), "{text}");
    }
}
