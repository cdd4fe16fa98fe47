//! The cgroup filter, and whose cgroup a socket has.

use super::host::Cgroup;
use super::lab::{Pair, in_namespace, row, rows, skip, until_state};
use sockdiag::{Query, TcpState};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

#[test]
fn a_socket_has_the_cgroup_of_its_maker_and_an_accepted_one_that_of_its_listener() {
    in_namespace(|| {
        let cgroup = match Cgroup::new() {
            Ok(cgroup) => cgroup,
            Err(why) => {
                return skip(
                    "cgroup::a_socket_has_the_cgroup_of_its_maker",
                    &why.to_string(),
                );
            }
        };
        let id = cgroup.id().unwrap();
        let outside = Pair::new();
        cgroup.enter().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        cgroup.leave().unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let client_port = client.local_addr().unwrap().port();
        // Before accept and after it by a process that has left the cgroup.
        let waiting = row(address.port(), client_port).unwrap();
        let accepted = listener.accept().unwrap();
        let server = row(address.port(), client_port).unwrap();
        assert_eq!(waiting.cgroup, Some(id));
        assert_eq!(server.cgroup, Some(id));
        assert_ne!(
            row(client_port, address.port()).unwrap().cgroup,
            server.cgroup
        );

        let asked = |cgroups: &[u64], ports: &[u16]| {
            let query = Query {
                cgroups,
                ports,
                ..Query::default()
            };
            let mut states: Vec<_> = rows(&query).iter().map(|row| row.state).collect();
            states.sort();
            states
        };
        let both = [TcpState::Established, TcpState::Listen];
        assert_eq!(asked(&[id], &[]), both);
        assert_eq!(asked(&[u64::MAX, id, 3], &[1, address.port()]), both);
        assert_eq!(asked(&[id], &[outside.server_port(), client_port]), []);
        assert_eq!(asked(&[u64::MAX], &[]), []);
        let home = outside.server_row().cgroup.unwrap();
        assert_eq!(asked(&[home, id], &[]).len(), 6);

        // Nobody's any more, but for the filter by port.
        drop(accepted);
        drop(client);
        until_state(address.port(), client_port, TcpState::TimeWait);
        assert_eq!(asked(&[id], &[]), [TcpState::Listen]);
        assert_eq!(row(address.port(), client_port).unwrap().cgroup, None);
    });
}
