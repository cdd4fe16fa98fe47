//! Words to systemd while the drain runs: how it stands, and that it needs more time.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The socket that systemd gave us, or none.
///
/// Nothing here fails: a drain that can't tell how it stands is still a drain.
#[derive(Debug)]
pub struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// The one of `$NOTIFY_SOCKET`; one that says nothing to anybody when systemd did not start us.
    #[must_use]
    pub fn from_env() -> Self {
        Self(env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok()))
    }

    /// One that says nothing to anybody.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Tells `status` (`systemctl status` shows it), and asks that the stop time out no sooner than `extend` from now. Returns whether
    /// systemd was told.
    ///
    /// Both go in one datagram, so that none is lost alone; without waiting, since a full queue of a busy PID 1 must not stall the drain.
    pub fn tell(&self, status: &str, extend: Duration) -> bool {
        let Some(socket) = &self.0 else {
            return false;
        };
        // A line break would start another assignment.
        let status = status.replace(['\n', '\r'], " ");
        let text = format!(
            "STATUS={status}\nEXTEND_TIMEOUT_USEC={}\n",
            extend.as_micros()
        );
        socket.send(text.as_bytes()).is_ok()
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        // vsock, for virtual machines that have no other way.
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn status_and_extension_come_in_one_datagram_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("drainctl-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, env) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&abstract_name).unwrap(),
                format!("@{name}").into(),
            ),
        ] {
            let notifier = Notifier(Some(connect(&env).unwrap()));
            assert!(notifier.tell("3 in flight\nREADY=1", Duration::from_secs(20)));
            assert_eq!(
                heard(&socket),
                "STATUS=3 in flight READY=1\nEXTEND_TIMEOUT_USEC=20000000\n"
            );
        }
    }

    #[test]
    fn a_full_queue_or_a_vanished_systemd_stalls_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier(Some(connect(path.as_os_str()).unwrap()));
        // Far more than any queue holds; the test would hang here if a send waited.
        let told = (0..100_000).take_while(|_| notifier.tell("x", Duration::ZERO));
        assert!(told.count() < 100_000);
        drop(socket);
        assert!(!notifier.tell("x", Duration::ZERO));
        assert!(!Notifier::none().tell("x", Duration::ZERO));
    }

    #[test]
    fn addresses_that_are_no_unix_socket_are_left_alone() {
        assert!(connect(OsStr::new("vsock:2:1234")).is_err());
        assert!(connect(OsStr::new("")).is_err());
    }
}
