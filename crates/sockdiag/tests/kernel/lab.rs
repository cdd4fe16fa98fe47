//! A network namespace for each test, and rows that outlive the dump.

use super::host::{loopback_up, self_in_namespace};
use sockdiag::{Query, Row, Shutdown, Socket, SocketId, TcpState};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "SOCKDIAG_TEST_INSIDE";

/// Runs `body` in a network namespace of its own with loopback up, in a process of its own.
pub(crate) fn in_namespace<F: FnOnce()>(body: F) {
    if std::env::var_os(INSIDE).is_some() {
        loopback_up().unwrap();
        return body();
    }
    // The closure's name holds that of the test: `kernel::states::the_test::{{closure}}`.
    let name = std::any::type_name::<F>();
    let test = name.trim_start_matches("kernel::");
    let test = test.trim_end_matches("::{{closure}}");
    let Some(mut command) = self_in_namespace().unwrap() else {
        return skip(test, "no network namespace can be made (unshare --net)");
    };
    let inside = command
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&inside.stdout),
        String::from_utf8_lossy(&inside.stderr),
    );
    for line in err.lines().filter(|line| line.starts_with("SKIPPED ")) {
        say(line);
    }
    assert!(inside.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "test name is wrong: {out}");
}

/// Says that a test can't run here; the prefix is counted.
pub(crate) fn skip(test: &str, why: &str) {
    say(&format!("SKIPPED {test}: {why}"));
}

/// Writes a line past the capture of the test harness.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// A row that outlives the dump.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: SocketId,
    pub(crate) state: TcpState,
    pub(crate) rqueue: u32,
    pub(crate) wqueue: u32,
    pub(crate) inode: u32,
    pub(crate) cgroup: Option<u64>,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) info: Option<Vec<u8>>,
}

impl From<&Row<'_>> for Seen {
    fn from(row: &Row<'_>) -> Self {
        Self {
            id: row.id,
            state: row.state,
            rqueue: row.rqueue,
            wqueue: row.wqueue,
            inode: row.inode,
            cgroup: row.cgroup,
            shutdown: row.shutdown,
            info: row.info.map(|info| info.bytes().to_vec()),
        }
    }
}

impl Seen {
    pub(crate) fn info(&self) -> sockdiag::Info<'_> {
        sockdiag::Info::new(self.info.as_deref().unwrap())
    }
}

/// Soon enough for a hanging test to fail, late enough for a busy machine.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub(crate) fn rows(query: &Query<'_>) -> Vec<Seen> {
    let mut socket = Socket::open().unwrap();
    let dump = socket.dump(query, soon(), Vec::new, |list, row| list.push(row.into()));
    dump.unwrap()
}

/// The one row with this local and this remote port.
pub(crate) fn row(local: u16, remote: u16) -> Option<Seen> {
    let query = Query {
        ports: &[local],
        ..Query::default()
    };
    let mut rows = rows(&query);
    rows.retain(|row| row.id.remote().port() == remote);
    assert!(rows.len() <= 1, "{rows:?}");
    rows.pop()
}

/// Looks again until `find` finds something.
pub(crate) fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = soon();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::yield_now();
    }
}

/// Waits until the socket with these ports is in `state`.
pub(crate) fn until_state(local: u16, remote: u16, state: TcpState) -> Seen {
    until(&format!("{state:?}"), || {
        row(local, remote).filter(|row| row.state == state)
    })
}

/// An established connection over loopback.
pub(crate) struct Pair {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    pub(crate) listener: TcpListener,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::over((Ipv4Addr::LOCALHOST, 0).into(), Ipv4Addr::LOCALHOST.into())
    }

    /// Listens on `bind`, connects to its port at `to`.
    pub(crate) fn over(bind: SocketAddr, to: std::net::IpAddr) -> Self {
        let listener = TcpListener::bind(bind).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((to, port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        Self {
            client,
            server,
            listener,
        }
    }

    pub(crate) fn server_port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(crate) fn client_port(&self) -> u16 {
        self.client.local_addr().unwrap().port()
    }

    /// The server's end.
    pub(crate) fn server_row(&self) -> Seen {
        row(self.server_port(), self.client_port()).unwrap()
    }

    /// The client's end.
    pub(crate) fn client_row(&self) -> Seen {
        row(self.client_port(), self.server_port()).unwrap()
    }
}

/// Writes until neither the peer's window nor the own buffer takes any more.
pub(crate) fn fill(stream: &TcpStream) {
    let mut stream = stream;
    stream.set_nonblocking(true).unwrap();
    let bytes = [0; 65536];
    let (port, peer) = (
        stream.local_addr().unwrap().port(),
        stream.peer_addr().unwrap().port(),
    );
    // More may fit once segments have been acknowledged: full is when unsent bytes stay.
    until("a full send buffer", || {
        while stream.write(&bytes).is_ok() {}
        let row = row(port, peer).unwrap();
        (row.info().notsent_bytes() > Some(0)).then_some(())
    });
}
