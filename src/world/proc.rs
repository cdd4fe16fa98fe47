//! Processes and control groups as the kernel shows them.
//!
//! A process that ended in the meantime is no error; a look that was forbidden always is, and is never an empty list.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Root;

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

/// The control group in which systemd keeps a process, as a path from the hierarchy's root; `None` when it is gone.
///
/// # Errors
/// What the system says.
pub fn control_group(root: &Root, pid: u32) -> io::Result<Option<String>> {
    let lines = unless_gone(read(root, pid, "cgroup"))?;
    Ok(lines.map(|lines| {
        let of = |hierarchy: &str| {
            lines.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (name, path) = rest.split_once(':')?;
                (name == hierarchy).then(|| path.to_owned())
            })
        };
        // A v1 host has everything at the root of v2, and a v2 container on a v1 host everything at the root of
        // `name=systemd`: the one that says more is the one that systemd uses.
        of("")
            .filter(|path| path != "/")
            .or_else(|| of("name=systemd"))
            .unwrap_or_else(|| "/".to_owned())
    }))
}

/// The processes in a control group of systemd (`ControlGroup=` of a unit) and below it; none when the group is gone.
///
/// # Errors
/// What the system says; `NotFound` when no hierarchy that systemd uses is mounted.
pub fn pids_of_cgroup(root: &Root, control_group: &str) -> io::Result<Vec<u32>> {
    let (v2, v1) = hierarchies(root)?;
    if v2.is_none() && v1.is_none() {
        return Err(io::Error::new(
            ErrorKind::NotFound,
            "no control group hierarchy is mounted",
        ));
    }
    let mut pids = Vec::new();
    // Hybrid hosts keep every process in both; pure v1 hosts only in the second, though v2 may be mounted.
    let dirs = [v2, v1].into_iter().flatten();
    let Some(top) = dirs
        .filter_map(|mount| mount.dir(control_group))
        .find(|dir| dir.exists())
    else {
        return Ok(pids);
    };
    walk(&top, &mut |dir| {
        let procs = match fs::read_to_string(dir.join("cgroup.procs")) {
            // A threaded group: its processes are listed by the group above, which is walked too.
            Err(error) if errno(&error) == Some(Errno::OPNOTSUPP) => return Ok(()),
            procs => unless_gone(procs)?.unwrap_or_default(),
        };
        // 0 stands for a process outside our own process id namespace.
        pids.extend(
            procs
                .lines()
                .filter_map(|line| line.parse::<u32>().ok())
                .filter(|&pid| pid != 0),
        );
        Ok(())
    })?;
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// The kernel's ids of a control group and of all below it, as sock_diag reports and filters them. Empty when this host has no
/// v2 group of that name: then sockets can't be told by control group.
///
/// # Errors
/// What the system says.
pub fn cgroup_ids(root: &Root, control_group: &str) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    let (Some(v2), _) = hierarchies(root)? else {
        return Ok(ids);
    };
    let Some(top) = v2.dir(control_group) else {
        return Ok(ids);
    };
    walk(&top, &mut |dir| {
        if let Some(meta) = unless_gone(fs::metadata(dir))? {
            ids.push(meta.ino());
        }
        Ok(())
    })?;
    Ok(ids)
}

/// The kernel's id of every control group, with its path from the hierarchy's root. Empty on a host without the v2 hierarchy.
///
/// # Errors
/// What the system says.
pub fn cgroups(root: &Root) -> io::Result<Vec<(u64, String)>> {
    let mut groups = Vec::new();
    let (Some(v2), _) = hierarchies(root)? else {
        return Ok(groups);
    };
    let top = v2.mount.clone();
    walk(&top, &mut |dir| {
        if let (Some(meta), Ok(below)) = (unless_gone(fs::metadata(dir))?, dir.strip_prefix(&top)) {
            let path = Path::new(&v2.top).join(below);
            groups.push((meta.ino(), path.to_string_lossy().into_owned()));
        }
        Ok(())
    })?;
    Ok(groups)
}

/// The inodes of the sockets that a process has open; empty when it is gone.
///
/// # Errors
/// What the system says; `PermissionDenied` without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
pub fn socket_inodes(root: &Root, pid: u32) -> io::Result<Vec<u64>> {
    let dir = root.path(format!("/proc/{pid}/fd"));
    let Some(entries) = unless_gone(fs::read_dir(dir))? else {
        return Ok(Vec::new());
    };
    let mut inodes = Vec::new();
    for entry in entries {
        let Some(entry) = unless_gone(entry)? else {
            break;
        };
        // Closed between the listing and the look: not open any more.
        if let Some(target) = unless_gone(fs::read_link(entry.path()))?
            && let Some(inode) = bracketed(target.as_os_str(), "socket:[")
        {
            inodes.push(inode);
        }
    }
    Ok(inodes)
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

/// The inodes of the sockets that listen on a TCP port, on any address, in our own network namespace.
///
/// # Errors
/// What the system says.
pub fn listeners(root: &Root, port: u16) -> io::Result<Vec<u64>> {
    let port = format!(":{port:04X}");
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // Without IPv6 there is no second table.
        let Some(file) = unless_gone(File::open(root.path(table)))? else {
            continue;
        };
        for line in BufReader::new(file).lines() {
            let line = line?;
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields[..]
                && local.ends_with(&port)
                && let Ok(inode) = inode.parse()
            {
                inodes.push(inode);
            }
        }
    }
    Ok(inodes)
}

/// A Unix socket that listens: its inode, and where. A 0 byte in an abstract name is written as `@`, as the kernel's table does.
pub type UnixListening = (u64, String);

/// The Unix sockets that listen for connections, in our own network namespace.
///
/// # Errors
/// What the system says.
pub fn unix_listeners(root: &Root) -> io::Result<Vec<UnixListening>> {
    /// `__SO_ACCEPTCON`, as the table prints it.
    const LISTENS: &str = "00010000";
    let mut listeners = Vec::new();
    let table = File::open(root.path("/proc/net/unix"))?;
    for line in BufReader::new(table).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let mut fields = line.split_ascii_whitespace();
        // A path may hold spaces: it is all that follows the inode.
        let (Some(flags), Some(inode)) = (fields.nth(3), fields.nth(2)) else {
            continue;
        };
        if flags == LISTENS
            && let Some(at) = line.split_once(&format!(" {inode} "))
            && let Ok(inode) = inode.parse()
        {
            listeners.push((inode, at.1.to_owned()));
        }
    }
    Ok(listeners)
}

/// The path at which a Unix socket can be reached by now: HAProxy binds `PATH.PID.tmp` and renames it, and the kernel remembers the first name.
#[must_use]
pub fn settled(path: &str) -> &str {
    let bare = path.strip_suffix(".tmp").and_then(|rest| {
        let (bare, pid) = rest.rsplit_once('.')?;
        pid.bytes().all(|b| b.is_ascii_digit()).then_some(bare)
    });
    bare.unwrap_or(path)
}

/// Whether a process called `name` listens on a TCP port.
///
/// # Errors
/// What the system says.
pub fn listens(root: &Root, port: u16, name: &str) -> io::Result<bool> {
    let listening = listeners(root, port)?;
    if listening.is_empty() {
        return Ok(false);
    }
    for pid in pids(root)? {
        if self::name(root, pid)?.as_deref() == Some(name)
            && socket_inodes(root, pid)?
                .iter()
                .any(|inode| listening.contains(inode))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The ports that the kernel gives to those who connect without choosing one, in our own network namespace (`net.ipv4.ip_local_port_range`,
/// IPv6 too).
///
/// # Errors
/// What the system says; `InvalidData` when there are no two ports.
pub fn local_ports(root: &Root) -> io::Result<RangeInclusive<u16>> {
    let text = root.read("/proc/sys/net/ipv4/ip_local_port_range", MOST)?;
    let ports: Option<Vec<u16>> = text
        .split_ascii_whitespace()
        .map(|port| port.parse().ok())
        .collect();
    match ports.as_deref() {
        Some(&[low, high]) => Ok(low..=high),
        _ => Err(malformed("no range of ports")),
    }
}

/// The addresses of this host in our own network namespace, those of its loopback too.
///
/// # Errors
/// What the system says.
pub fn addresses(root: &Root) -> io::Result<BTreeSet<IpAddr>> {
    let mut found = BTreeSet::new();
    // A leaf of the trie, and below it what it is.
    let mut leaf = None;
    for line in root.read("/proc/net/fib_trie", MOST)?.lines() {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<IpAddr>().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(leaf);
        }
    }
    let v6 = match root.read("/proc/net/if_inet6", MOST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        table => table?,
    };
    for line in v6.lines() {
        let digits = line.split(' ').next().unwrap_or_default();
        let address = u128::from_str_radix(digits, 16);
        found.extend(address.ok().map(|bits| IpAddr::V6(bits.into())));
    }
    Ok(found)
}

/// Where a hierarchy is mounted, and which of its groups is the mount's root.
struct Hierarchy {
    mount: PathBuf,
    top: String,
}

impl Hierarchy {
    /// The folder of a control group; `None` when it lies outside what is mounted.
    fn dir(&self, control_group: &str) -> Option<PathBuf> {
        let below = Path::new(control_group).strip_prefix(&self.top).ok()?;
        // A path that climbs would name another group.
        let plain = below
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        plain.then(|| self.mount.join(below))
    }
}

/// The v2 hierarchy and the v1 hierarchy of systemd, as far as they are mounted.
fn hierarchies(root: &Root) -> io::Result<(Option<Hierarchy>, Option<Hierarchy>)> {
    let (mut v2, mut v1) = (None, None);
    for line in root.read("/proc/self/mountinfo", MOST)?.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        let ([_, _, _, top, mount, ..], [kind, _, options, ..]) = (&before[..], &after[..]) else {
            continue;
        };
        let slot = match *kind {
            "cgroup2" => &mut v2,
            "cgroup" if options.split(',').any(|o| o == "name=systemd") => &mut v1,
            _ => continue,
        };
        slot.get_or_insert_with(|| Hierarchy {
            mount: root.path(mount),
            top: (*top).to_owned(),
        });
    }
    Ok((v2, v1))
}

/// Calls `visit` for a folder and all folders below it. Folders that vanish on the way are left out.
fn walk(top: &Path, visit: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut ahead = vec![top.to_owned()];
    while let Some(dir) = ahead.pop() {
        let Some(entries) = unless_gone(fs::read_dir(&dir))? else {
            continue;
        };
        visit(&dir)?;
        for entry in entries {
            let Some(entry) = unless_gone(entry)? else {
                break;
            };
            if unless_gone(entry.file_type())?.is_some_and(|kind| kind.is_dir()) {
                ahead.push(entry.path());
            }
        }
    }
    Ok(())
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
    use std::os::unix::fs::symlink;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        for (path, text) in files {
            root.replace(path, text.as_bytes(), 0o644).unwrap();
        }
        (dir, root)
    }

    #[test]
    fn a_socket_is_known_by_the_name_it_has_now() {
        for (bound, now) in [
            ("/run/haproxy/admin.sock.123.tmp", "/run/haproxy/admin.sock"),
            ("/run/haproxy/admin.sock", "/run/haproxy/admin.sock"),
            ("/run/a.b.tmp", "/run/a.b.tmp"),
        ] {
            assert_eq!(settled(bound), now);
        }
    }

    #[test]
    fn a_host_has_the_addresses_that_its_kernel_calls_local() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.5\n        /32 host LOCAL\n\
                    \x20    |-- 10.0.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        root.replace("/proc/net/fib_trie", trie.as_bytes(), 0o644)
            .unwrap();
        let v6 = "fd000000000000000000000000000005 02 40 00 80     eth0\n";
        root.replace("/proc/net/if_inet6", v6.as_bytes(), 0o644)
            .unwrap();
        let found = addresses(&root).unwrap();
        let wanted = ["10.0.0.5", "127.0.0.1", "fd00::5"].map(|ip| ip.parse().unwrap());
        assert_eq!(found, wanted.into());
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
    fn unix_listeners_are_told_from_other_unix_sockets() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/a b.sock\n\
            0000000000000000: 00000002 00000000 00010000 0005 01    99 @abstract\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 12346 /run/a b.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12347\n";
        let (_dir, root) = tree(&[("/proc/net/unix", table)]);
        let want = [
            (12345, "/run/a b.sock".to_owned()),
            (99, "@abstract".to_owned()),
        ];
        assert_eq!(unix_listeners(&root).unwrap(), want);
    }

    #[test]
    fn a_process_that_is_gone_is_no_error() {
        let (_dir, root) = tree(&[("/proc/self/mountinfo", "")]);
        assert_eq!(parent(&root, 7).unwrap(), None);
        assert_eq!(name(&root, 7).unwrap(), None);
        assert_eq!(control_group(&root, 7).unwrap(), None);
        assert!(arguments(&root, 7).unwrap().is_empty());
        assert!(socket_inodes(&root, 7).unwrap().is_empty());
    }

    #[test]
    fn a_forbidden_look_is_an_error_and_not_an_empty_list() {
        let (_dir, root) = tree(&[("/proc/7/fd", "a file where a folder should be")]);
        assert!(socket_inodes(&root, 7).is_err());
    }

    #[test]
    fn only_sockets_among_the_open_files_count() {
        let (_dir, root) = tree(&[("/proc/7/fd/.keep", "")]);
        for (fd, target) in [(0, "/dev/null"), (1, "socket:[42]"), (2, "pipe:[9]")] {
            symlink(target, root.path(format!("/proc/7/fd/{fd}"))).unwrap();
        }
        fs::remove_file(root.path("/proc/7/fd/.keep")).unwrap();
        assert_eq!(socket_inodes(&root, 7).unwrap(), [42]);
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

    #[test]
    fn the_hierarchy_that_systemd_uses_names_the_group() {
        for (lines, path) in [
            ("0::/system.slice/a.service\n", "/system.slice/a.service"),
            ("1:name=systemd:/a.service\n0::/\n", "/a.service"),
            ("9:name=systemd:/\n0::/a.service\n", "/a.service"),
            ("9:name=systemd:/a:b.service\n8:pids:/x\n", "/a:b.service"),
            ("0::/\n", "/"),
        ] {
            let (_dir, root) = tree(&[("/proc/7/cgroup", lines)]);
            assert_eq!(control_group(&root, 7).unwrap().unwrap(), path);
        }
    }

    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn processes_of_a_group_include_those_below_it() {
        let (_dir, root) = tree(&[
            ("/proc/self/mountinfo", V2),
            ("/sys/fs/cgroup/a.service/cgroup.procs", "10\n0\n"),
            ("/sys/fs/cgroup/a.service/sub/deep/cgroup.procs", "9\n10\n"),
            ("/sys/fs/cgroup/a.service/sub/cgroup.procs", ""),
            ("/sys/fs/cgroup/b.service/cgroup.procs", "11\n"),
        ]);
        assert_eq!(pids_of_cgroup(&root, "/a.service").unwrap(), [9, 10]);
        assert_eq!(cgroup_ids(&root, "/a.service").unwrap().len(), 3);
        assert!(pids_of_cgroup(&root, "/gone.service").unwrap().is_empty());
        assert!(cgroup_ids(&root, "/gone.service").unwrap().is_empty());
        assert!(
            pids_of_cgroup(&root, "/a.service/../b.service")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_v1_host_has_processes_but_no_ids() {
        let (_dir, root) = tree(&[
            ("/proc/self/mountinfo", HYBRID),
            ("/sys/fs/cgroup/unified/cgroup.procs", "1\n"),
            ("/sys/fs/cgroup/systemd/a.service/cgroup.procs", "10\n"),
        ]);
        assert_eq!(pids_of_cgroup(&root, "/a.service").unwrap(), [10]);
        assert!(cgroup_ids(&root, "/a.service").unwrap().is_empty());
    }

    #[test]
    fn without_any_hierarchy_the_processes_are_unknown_and_not_none() {
        let (_dir, root) = tree(&[("/proc/self/mountinfo", "")]);
        assert!(pids_of_cgroup(&root, "/a.service").is_err());
    }
}
