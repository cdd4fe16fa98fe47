//! The cgroup filter, and whose cgroup a socket has.

use super::lab::{Pair, in_namespace, row, rows, skip, until_state};
use sockdiag::{Query, TcpState};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A cgroup (version 2) of this test's own, removed at the end.
struct Cgroup {
    path: PathBuf,
    /// Where this process was before.
    home: PathBuf,
}

impl Cgroup {
    fn new() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let (fields, kind) = line.split_once(" - ")?;
            kind.starts_with("cgroup2 ")
                .then(|| fields.split(' ').nth(4))?
        });
        let mount = PathBuf::from(mount.ok_or("no cgroup2 mount")?);
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let home = mount.join(own.ok_or("this process is in no cgroup of version 2")?);
        let path = home.join(format!("sockdiag-test-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, home })
    }

    /// The id that the kernel filters by.
    fn id(&self) -> u64 {
        fs::metadata(&self.path).unwrap().ino()
    }

    fn enter(&self) {
        fs::write(self.path.join("cgroup.procs"), "0").unwrap();
    }

    fn leave(&self) {
        fs::write(self.home.join("cgroup.procs"), "0").unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.leave();
        fs::remove_dir(&self.path).unwrap();
    }
}

#[test]
fn a_socket_has_the_cgroup_of_its_maker_and_an_accepted_one_that_of_its_listener() {
    in_namespace(|| {
        let cgroup = match Cgroup::new() {
            Ok(cgroup) => cgroup,
            Err(why) => return skip("cgroup", &why),
        };
        let outside = Pair::new();
        cgroup.enter();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        cgroup.leave();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let client_port = client.local_addr().unwrap().port();
        // Before accept and after it by a process that has left the cgroup.
        let waiting = row(address.port(), client_port).unwrap();
        let accepted = listener.accept().unwrap();
        let server = row(address.port(), client_port).unwrap();
        assert_eq!(waiting.cgroup, Some(cgroup.id()));
        assert_eq!(server.cgroup, Some(cgroup.id()));
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
        assert_eq!(asked(&[cgroup.id()], &[]), both);
        assert_eq!(
            asked(&[u64::MAX, cgroup.id(), 3], &[1, address.port()]),
            both
        );
        assert_eq!(
            asked(&[cgroup.id()], &[outside.server_port(), client_port]),
            []
        );
        assert_eq!(asked(&[u64::MAX], &[]), []);
        let home = outside.server_row().cgroup.unwrap();
        assert_eq!(asked(&[home, cgroup.id()], &[]).len(), 6);

        // Nobody's any more, but for the filter by port.
        drop(accepted);
        drop(client);
        until_state(address.port(), client_port, TcpState::TimeWait);
        assert_eq!(asked(&[cgroup.id()], &[]), [TcpState::Listen]);
        assert_eq!(row(address.port(), client_port).unwrap().cgroup, None);
    });
}
