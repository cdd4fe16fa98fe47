//! A network namespace of the lab's own.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set inside.
const INSIDE: &str = "TRUTH_INSIDE";

/// Runs this program again in a namespace of its own and says whether that went well; none inside. By way of `unshare`,
/// since a user namespace needs a process with one thread.
pub(crate) fn enter() -> Result<Option<bool>> {
    if std::env::var_os(INSIDE).is_none() {
        let mut command = Command::new("unshare");
        command.arg("--net");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.arg(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).env(INSIDE, "1");
        let status = command.status().context("starting unshare")?;
        return Ok(Some(status.success()));
    }
    // With the segments of an ordinary network: loopback's own would take most requests in one.
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up", "mtu", "1500"])
        .status();
    ensure!(up.context("starting ip")?.success(), "lo can't be set up");
    // A pool of a thousand has both of its ends here.
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit)?;
    Ok(None)
}
