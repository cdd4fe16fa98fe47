//! Processes as the kernel shows them; `cgroups` has their control groups, `sockets` what they listen on.
//!
//! A process that ended in the meantime is no error; a look that was forbidden always is, and is never an empty list.

mod cgroups;
mod sockets;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::Errno;

use super::Root;

pub use cgroups::{cgroup_ids, cgroups, control_group, pids_of_cgroup};
pub use sockets::{
    UnixListening, addresses, listeners, listens, local_ports, settled, socket_inodes,
    unix_listeners,
};

/// The most that one file of /proc may hold, in bytes. A command line is at most a quarter of the stack limit of 8 MiB.
const MOST: u64 = 4 << 20;

/// The ids of all processes, in no order.
///
/// # Errors
/// What the system says when /proc can't be listed.
pub fn pids(root: &Root) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir(root.path("/proc"))? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// The parent of a process; `None` when the process is gone.
///
/// # Errors
/// What the system says; `InvalidData` when the line has no parent.
pub fn parent(root: &Root, pid: u32) -> io::Result<Option<u32>> {
    let Some(stat) = unless_gone(read(root, pid, "stat"))? else {
        return Ok(None);
    };
    // The name stands in brackets and may itself hold spaces and brackets: the fields start after the last one.
    stat.rsplit_once(')')
        .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(1)?.parse().ok())
        .map(Some)
        .ok_or_else(|| malformed("no parent in stat"))
}

/// When a process was started, in ticks of the kernel's clock since the boot (`starttime`, proc(5)); `None` when it is gone.
///
/// # Errors
/// What the system says; `InvalidData` when the line does not say.
pub fn started(root: &Root, pid: u32) -> io::Result<Option<u64>> {
    let Some(stat) = unless_gone(read(root, pid, "stat"))? else {
        return Ok(None);
    };
    // The 22nd field; the first behind the name is the third.
    stat.rsplit_once(')')
        .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(19)?.parse().ok())
        .map(Some)
        .ok_or_else(|| malformed("no start in stat"))
}

/// A process and all its descendants, as they are now; empty when it is gone. Descendants whose own parent has ended are not found:
/// they belong to init, or to the nearest subreaper above.
///
/// # Errors
/// What the system says.
pub fn family(root: &Root, pid: u32) -> io::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut there = false;
    for other in pids(root)? {
        if let Some(parent) = parent(root, other)? {
            there |= other == pid;
            children.entry(parent).or_default().push(other);
        }
    }
    let mut family = Vec::from_iter(there.then_some(pid));
    let mut next = 0;
    while let Some(member) = family.get(next) {
        family.extend(children.remove(member).unwrap_or_default());
        next += 1;
    }
    Ok(family)
}

/// The short name of a process, at most 15 bytes; `None` when it is gone.
///
/// # Errors
/// What the system says.
pub fn name(root: &Root, pid: u32) -> io::Result<Option<String>> {
    let name = unless_gone(read(root, pid, "comm"))?;
    Ok(name.map(|name| name.trim_end().to_owned()))
}

/// The arguments of a process, its program first; empty when it is gone, a zombie or a kernel thread.
///
/// # Errors
/// What the system says.
pub fn arguments(root: &Root, pid: u32) -> io::Result<Vec<String>> {
    let line = unless_gone(read(root, pid, "cmdline"))?.unwrap_or_default();
    Ok(line
        .trim_end_matches('\0')
        .split('\0')
        .filter(|_| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// The environment that a process was started with, `NAME=value` each; empty when it is gone. It may hold secrets.
///
/// # Errors
/// What the system says; `PermissionDenied` without CAP_SYS_PTRACE.
pub fn environment(root: &Root, pid: u32) -> io::Result<Vec<String>> {
    let text = unless_gone(read(root, pid, "environ"))?.unwrap_or_default();
    let lines = text.split('\0').filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// Whether a process was started with the variable `name` set to `value`; `false` when it is gone.
///
/// # Errors
/// What the system says; `PermissionDenied` for another user's process.
pub fn has_variable(root: &Root, pid: u32, name: &str, value: &str) -> io::Result<bool> {
    let path = root.path(format!("/proc/{pid}/environ"));
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    let Some(_) = unless_gone(read)? else {
        return Ok(false);
    };
    let wanted = format!("{name}={value}");
    Ok(bytes
        .split(|byte| *byte == 0)
        .any(|variable| variable == wanted.as_bytes()))
}

/// The folder in which a process works, as its own mount namespace names it; `None` when it is gone.
///
/// # Errors
/// What the system says.
pub fn working_dir(root: &Root, pid: u32) -> io::Result<Option<PathBuf>> {
    unless_gone(fs::read_link(root.path(format!("/proc/{pid}/cwd"))))
}

/// The inode of a process's network namespace; `None` when it is gone.
///
/// # Errors
/// What the system says; `InvalidData` when the link names no namespace.
pub fn net_namespace(root: &Root, pid: u32) -> io::Result<Option<u64>> {
    namespace(root, &pid.to_string(), "net")
}

/// Whether a process lives in our own process id namespace, and not in a container; `false` when it is gone.
///
/// # Errors
/// What the system says; `InvalidData` when the link names no namespace.
pub fn is_of_this_host(root: &Root, pid: u32) -> io::Result<bool> {
    let own = namespace(root, "self", "pid")?;
    Ok(own.is_some() && own == namespace(root, &pid.to_string(), "pid")?)
}

fn namespace(root: &Root, process: &str, kind: &str) -> io::Result<Option<u64>> {
    let link = fs::read_link(root.path(format!("/proc/{process}/ns/{kind}")));
    let Some(link) = unless_gone(link)? else {
        return Ok(None);
    };
    bracketed(link.as_os_str(), &format!("{kind}:["))
        .map(Some)
        .ok_or_else(|| malformed("not a namespace"))
}

/// One small file of a process; bytes that are not UTF-8 are replaced.
fn read(root: &Root, pid: u32, file: &str) -> io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(root.path(format!("/proc/{pid}/{file}")))?
        .take(MOST)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `None` for what ended between two looks: the process (ENOENT, ESRCH) or the control group (ENODEV).
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == ErrorKind::NotFound
                || matches!(errno(&error), Some(Errno::SRCH | Errno::NODEV)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// The number in `prefix` + number + `]`.
fn bracketed(link: &OsStr, prefix: &str) -> Option<u64> {
    let digits = link
        .as_bytes()
        .strip_prefix(prefix.as_bytes())?
        .strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    pub(super) fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        for (path, text) in files {
            root.replace(path, text.as_bytes(), 0o644).unwrap();
        }
        (dir, root)
    }

    #[test]
    fn we_see_ourselves() {
        let root = Root::host();
        let me = std::process::id();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = listeners(&root, listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(inode.len(), 1);
        assert!(socket_inodes(&root, me).unwrap().contains(&inode[0]));
        assert!(pids(&root).unwrap().contains(&me));
        assert!(!arguments(&root, me).unwrap().is_empty());
        assert_eq!(
            parent(&root, me).unwrap(),
            Some(std::os::unix::process::parent_id())
        );
        let born = |pid| started(&root, pid).unwrap();
        assert!(born(me) >= born(std::os::unix::process::parent_id()));
        assert!(born(me) > born(1));
        assert!(net_namespace(&root, me).unwrap().unwrap() > 0);
        assert!(is_of_this_host(&root, me).unwrap());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let listeners = unix_listeners(&root).unwrap();
        let there = listeners
            .iter()
            .filter(|(_, at)| at == path.to_str().unwrap());
        assert_eq!(there.count(), 1);
    }

    #[test]
    fn a_process_that_is_gone_is_no_error() {
        let (_dir, root) = tree(&[("/proc/self/mountinfo", "")]);
        assert_eq!(parent(&root, 7).unwrap(), None);
        assert_eq!(started(&root, 7).unwrap(), None);
        assert_eq!(name(&root, 7).unwrap(), None);
        assert_eq!(control_group(&root, 7).unwrap(), None);
        assert!(arguments(&root, 7).unwrap().is_empty());
        assert!(socket_inodes(&root, 7).unwrap().is_empty());
    }

    #[test]
    fn the_parent_is_found_behind_an_ugly_name() {
        let (_dir, root) = tree(&[("/proc/7/stat", "7 (a) S 1 (b) ) S 3 7 7 0 -1")]);
        assert_eq!(parent(&root, 7).unwrap(), Some(3));
    }

    #[test]
    fn a_family_is_the_process_and_all_below_it() {
        let (_dir, root) = tree(&[
            ("/proc/7/stat", "7 (a) S 1 7 7 0 -1"),
            ("/proc/8/stat", "8 (b) S 7 7 7 0 -1"),
            ("/proc/3/stat", "3 (c) S 8 7 7 0 -1"),
            ("/proc/9/stat", "9 (d) S 1 9 9 0 -1"),
        ]);
        assert_eq!(family(&root, 7).unwrap(), [7, 8, 3]);
        assert_eq!(family(&root, 9).unwrap(), [9]);
        assert!(family(&root, 10).unwrap().is_empty());
    }
}
