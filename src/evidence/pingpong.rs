//! The delayed-ACK mode of a socket, which only `/proc/net/tcp` shows. Costs a walk over every socket of the host, so it is
//! read only where a tie needs it.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::verdict::Pingpong;
use crate::world::Root;

/// The mode of each connection asked for, by its ends (ours, the peer's). One that is gone, or was passed over because
/// the table changed while it was read, stays [`Pingpong::Unread`].
///
/// # Errors
/// A table can't be read. Kernels without IPv6 have only the first.
pub fn read(
    root: &Root,
    wanted: &mut HashMap<(SocketAddr, SocketAddr), Pingpong>,
) -> io::Result<()> {
    let off = if one_answer_switches_it_on(root) {
        Pingpong::Off
    } else {
        Pingpong::Unknown
    };
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let file = match std::fs::File::open(root.path(table)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut reader = BufReader::with_capacity(64 << 10, file);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            if let Some((ends, bit)) = parse(&line)
                && let Some(slot) = wanted.get_mut(&ends)
            {
                *slot = if bit { Pingpong::On } else { off };
            }
            line.clear();
        }
    }
    Ok(())
}

/// Whether the mode is on after one answer; if not, off says nothing. `net.ipv4.tcp_pingpong_thresh` (Linux 6.7) is 1 by default;
/// before it was fixed: at 1 since Linux 6.0, at 3 in some older ones.
fn one_answer_switches_it_on(root: &Root) -> bool {
    if let Ok(text) = root.read("/proc/sys/net/ipv4/tcp_pingpong_thresh", 16) {
        return text.trim() == "1";
    }
    let release = root
        .read("/proc/sys/kernel/osrelease", 256)
        .unwrap_or_default();
    let major = release.split('.').next().and_then(|word| word.parse().ok());
    major.is_some_and(|major: u32| major >= 6)
}

/// One line: `sl local remote st tx:rx tr:when retrnsmt uid timeout inode refs pointer rto ato (quick<<1)|pingpong cwnd ssthresh`
/// (`get_tcp4_sock` in net/ipv4/tcp_ipv4.c). Lines of small sockets (TIME_WAIT) end before that column.
fn parse(line: &str) -> Option<((SocketAddr, SocketAddr), bool)> {
    let mut words = line.split_ascii_whitespace();
    let local = address(words.nth(1)?)?;
    let remote = address(words.next()?)?;
    // From `st` (index 3) to the column before the wanted one there are eleven.
    let mode: u32 = words.nth(11)?.parse().ok()?;
    Some(((local, remote), mode & 1 == 1))
}

/// `0100007F:1F90`: words in host order, the port as it is said.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0u8; 16];
    let words = ip.len() / 8;
    if !ip.is_ascii() || !matches!(words, 1 | 4) || ip.len() != words * 8 {
        return None;
    }
    for (word, chunk) in bytes.chunks_exact_mut(4).take(words).enumerate() {
        let value = u32::from_str_radix(&ip[word * 8..word * 8 + 8], 16).ok()?;
        chunk.copy_from_slice(&value.to_ne_bytes());
    }
    let ip = match (words, bytes) {
        (1, [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical(),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: &str = "   1: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 20 4 31 10 -1\n";
    const MAPPED: &str = "   2: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000200007F:C351 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0000000000000000 20 4 30 10 -1\n";
    const TIME_WAIT: &str = "   3: 0100007F:1F90 0200007F:C352 06 00000000:00000000 03:00000F8C 00000000     0        0 0 3 0000000000000000\n";

    #[test]
    fn the_bit_is_found_by_both_ends_also_for_mapped_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.replace(
            "/proc/net/tcp",
            format!("  sl  local_address …\n{V4}{TIME_WAIT}").as_bytes(),
            0o444,
        )
        .unwrap();
        root.replace("/proc/net/tcp6", MAPPED.as_bytes(), 0o444)
            .unwrap();
        root.replace("/proc/sys/kernel/osrelease", b"6.1.0-42-amd64\n", 0o444)
            .unwrap();
        let ends = |port: u16| {
            let local: SocketAddr = "127.0.0.1:8080".parse().unwrap();
            (local, SocketAddr::new("127.0.0.2".parse().unwrap(), port))
        };
        let mut wanted: HashMap<_, _> = [50_000, 50_001, 50_002]
            .map(|port| (ends(port), Pingpong::Unread))
            .into();
        read(&root, &mut wanted).unwrap();
        assert_eq!(wanted[&ends(50_000)], Pingpong::On);
        assert_eq!(wanted[&ends(50_001)], Pingpong::Off);
        assert_eq!(wanted[&ends(50_002)], Pingpong::Unread);
    }

    #[test]
    fn off_says_nothing_where_one_answer_does_not_switch_it_on() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let release = |text: &str| {
            root.replace("/proc/sys/kernel/osrelease", text.as_bytes(), 0o444)
                .unwrap();
            one_answer_switches_it_on(&root)
        };
        assert!(!one_answer_switches_it_on(&root));
        assert!(!release("5.15.0-1-generic"));
        assert!(release("6.1.0-42-amd64"));
        root.replace("/proc/sys/net/ipv4/tcp_pingpong_thresh", b"3\n", 0o444)
            .unwrap();
        assert!(!release("6.18.0"));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in ".*", cut in 0usize..200) {
            let _ = parse(&line);
            let _ = parse(V4.get(..cut.min(V4.len())).unwrap_or_default());
        }
    }
}
