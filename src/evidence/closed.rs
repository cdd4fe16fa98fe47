//! Ports that the target has closed while it still serves: a graceful stop that began before the drain lets go of the listener first, and finishes
//! its requests then.
//!
//! The kernel does not remember which side opened a connection. A process that opens one gets its port from the kernel, out of a known
//! range: a connection of the target on any other port, on which nobody listens, was accepted there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Instant;

use anyhow::Context as _;
use sockdiag::{Query, Socket, States, TcpState};

use super::listeners::{Listener, Role, Unit, first_unit, holders, program};
use super::probe::Kept;
use crate::world::{Root, proc};

/// Servers listen on few ports; who holds connections on more has chosen the ports of those that it opens itself.
const MOST: usize = 16;
/// Below are the ports of system services (`IPPORT_RESERVED`, netinet/in.h): the other end of a connection there is a server.
const RESERVED: u16 = 1024;
/// A filter in the kernel has room for so many gaps between ports; beyond it the rows are sorted out here.
const MOST_GAPS: usize = 4096;

/// What the target listened on before, told by the connections that are left. `taken` are the ports on which anybody listens, `kept` tells
/// ports on which the target is known to have listened whatever their number.
///
/// # Errors
/// Something could not be seen.
pub fn find(
    root: &Root,
    socket: &mut Socket,
    units: &[Unit],
    taken: &BTreeSet<u16>,
    kept: &Kept,
    deadline: Instant,
    name: &dyn Fn(u32) -> Option<String>,
) -> anyhow::Result<Vec<Listener>> {
    let given = proc::local_ports(root).context("read net.ipv4.ip_local_port_range")?;
    let known: BTreeSet<u16> = kept.ports().iter().map(|port| port.port).collect();
    let served = |port: &u16| !taken.contains(port) && may_serve(*port, &given, &known);
    let ports: Vec<u16> = if taken.len() + known.len() < MOST_GAPS {
        (1..=u16::MAX).filter(served).collect()
    } else {
        Vec::new()
    };
    let query = Query {
        states: States::of(&[TcpState::Established, TcpState::CloseWait]),
        ports: &ports,
        info: false,
        ..Query::default()
    };
    let rows = socket
        .dump(&query, deadline, Vec::new, |rows, row| {
            let (local, peer) = (row.id.local(), row.id.remote());
            if served(&local.port()) && peer.port() >= RESERVED {
                rows.push((local, u64::from(row.inode)));
            }
        })
        .context("look for connections where nobody listens")?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = rows.iter().map(|(_, inode)| *inode).collect();
    // Who has a network of its own was named with the listeners.
    let holders = holders(root, units, &wanted, &mut Vec::new())?;
    let mut found: Vec<Listener> = Vec::new();
    for (local, inode) in rows {
        let Some(unit) = first_unit(&holders, inode) else {
            continue;
        };
        if !found.iter().any(|one| one.local == local) {
            found.push(Listener {
                local,
                program: program(&holders, inode, unit, name),
                process: None,
                role: Role::Closed,
            });
        }
    }
    let number = |one: &Listener| SocketAddr::port(&one.local);
    if found.iter().map(number).collect::<BTreeSet<u16>>().len() > MOST {
        found.retain(|one| known.contains(&one.local.port()));
    }
    Ok(found)
}

/// Whether a connection on `port` may have been accepted there. `given` are the ports that the kernel gives to those who connect.
fn may_serve(port: u16, given: &RangeInclusive<u16>, known: &BTreeSet<u16>) -> bool {
    !given.contains(&port) || known.contains(&port)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpStream;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::evidence::{Members, Spoken};

    /// Serves one connection, having closed its listener.
    const SERVER: &str = "import socket,sys
s=socket.create_server(('127.0.0.1',0))
print(s.getsockname()[1],flush=True)
c,_=s.accept(); s.close(); print(flush=True); c.recv(9); c.recv(9)";

    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_connection_whose_listener_is_closed_is_found_on_a_known_port() {
        let python = Command::new("python3")
            .args(["-c", SERVER])
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = python else {
            eprintln!("SKIPPED a_connection_whose_listener_is_closed_is_found: needs python3");
            return;
        };
        let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
        let server = Server(child);
        let port: u16 = says.next().unwrap().unwrap().parse().unwrap();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        says.next();
        let unit = Unit {
            name: "web.service".to_owned(),
            members: Members::Process(server.0.id()),
        };
        let mut socket = Socket::open().unwrap();
        let mut found = |kept: &Kept| {
            let deadline = Instant::now() + Duration::from_secs(10);
            let units = std::slice::from_ref(&unit);
            let taken = BTreeSet::new();
            find(
                &Root::host(),
                &mut socket,
                units,
                &taken,
                kept,
                deadline,
                &|_| None,
            )
            .unwrap()
        };
        let listener = Listener {
            local: SocketAddr::from(([127, 0, 0, 1], port)),
            program: "web.service".to_owned(),
            process: None,
            role: Role::Closed,
        };
        let mut kept = Kept::default();
        kept.put(&listener, Spoken::PLAIN);
        assert_eq!(found(&kept), [listener]);
        assert_eq!(
            found(&Kept::default()),
            [],
            "the kernel gives out such ports"
        );
    }

    #[test]
    fn what_a_process_connects_itself_is_not_served() {
        let (given, known) = (32768..=60999, BTreeSet::from([40000]));
        assert!(may_serve(8080, &given, &known));
        assert!(may_serve(61000, &given, &known));
        assert!(may_serve(40000, &given, &known));
        assert!(!may_serve(40001, &given, &known));
    }
}
