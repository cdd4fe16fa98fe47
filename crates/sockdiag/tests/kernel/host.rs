//! What the tests and the benchmark need of the host: a network namespace and a cgroup.

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Starts this program again in a network namespace of its own, or nothing where none can be made. By way of `unshare`,
/// since a user namespace needs a process with one thread.
pub(crate) fn self_in_namespace() -> io::Result<Option<Command>> {
    let mut options = vec!["--net"];
    if !rustix::process::geteuid().is_root() {
        options.extend(["--user", "--map-root-user"]);
    }
    let tried = Command::new("unshare")
        .args(&options)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let mut command = Command::new("unshare");
    command.args(options).arg(std::env::current_exe()?);
    Ok(Some(command))
}

/// Sets `lo`, interface 1 of every namespace, up (`RTM_NEWLINK`).
pub(crate) fn loopback_up() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 5;
    const IFF_UP: u32 = 1;
    let mut message = 32u32.to_ne_bytes().to_vec();
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 12]);
    for word in [1, IFF_UP, IFF_UP] {
        message.extend(word.to_ne_bytes());
    }
    // Protocol 0 is NETLINK_ROUTE.
    let route = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    sendto(
        &route,
        &message,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let mut answer = [0; 256];
    recv(&route, &mut answer, RecvFlags::empty())?;
    match answer[16..20] {
        [0, 0, 0, 0] => Ok(()),
        _ => Err(io::Error::other("lo can't be set up")),
    }
}

/// A cgroup (version 2) of this process's own, removed at the end.
pub(crate) struct Cgroup {
    path: PathBuf,
    /// Where this process was before.
    home: PathBuf,
}

impl Cgroup {
    pub(crate) fn new() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mount = mounts.lines().find_map(|line| {
            let (fields, kind) = line.split_once(" - ")?;
            kind.starts_with("cgroup2 ")
                .then(|| fields.split(' ').nth(4))?
        });
        let mount = PathBuf::from(mount.ok_or(io::Error::other("no cgroup2 mount"))?);
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let home = mount.join(own.ok_or(io::Error::other("not in a cgroup of version 2"))?);
        let path = home.join(format!("sockdiag-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self { path, home })
    }

    /// The id that the kernel filters by.
    pub(crate) fn id(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.path)?.ino())
    }

    pub(crate) fn enter(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), "0")
    }

    pub(crate) fn leave(&self) -> io::Result<()> {
        fs::write(self.home.join("cgroup.procs"), "0")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let gone = self.leave().and_then(|()| fs::remove_dir(&self.path));
        if let Err(error) = gone {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}
