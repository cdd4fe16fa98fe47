//! The sockets that processes hold, and those that listen, in our own network namespace.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{MOST, bracketed, malformed, name, pids, unless_gone};
use crate::world::Root;

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
/// IPv6 too); any, where the kernel does not say.
///
/// # Errors
/// What the system says; `InvalidData` when there are no two ports.
pub fn local_ports(root: &Root) -> io::Result<RangeInclusive<u16>> {
    let text = unless_gone(root.read("/proc/sys/net/ipv4/ip_local_port_range", MOST))?;
    let Some(text) = text else {
        return Ok(0..=u16::MAX);
    };
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::tests::tree;
    use super::*;

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
    fn a_kernel_that_does_not_say_may_give_any_port() {
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        let (_dir, root) = tree(&[(range, "32768\t60999\n")]);
        assert_eq!(local_ports(&root).unwrap(), 32768..=60999);
        root.remove(range).unwrap();
        assert_eq!(local_ports(&root).unwrap(), 0..=u16::MAX);
        root.replace(range, b"none", 0o644).unwrap();
        assert!(local_ports(&root).is_err());
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
}
