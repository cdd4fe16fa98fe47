use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::cgroup::Cgroup;
use crate::enter::{Parts, run_dir};
use crate::host::Host;
use crate::net::Switch;

/// A host alone, without a registry: for what systemd does with its units.
#[derive(Debug)]
pub struct Bare {
    /// The host; not booted yet.
    pub host: Host,
    _switch: Switch,
}

impl Bare {
    /// Lays out a host with supervisord.
    ///
    /// # Errors
    /// If that fails.
    pub fn new(parts: &Parts) -> Result<Self> {
        static HOSTS: AtomicU32 = AtomicU32::new(1);
        let name = format!("b{}", HOSTS.fetch_add(1, Ordering::Relaxed));
        let run = run_dir().context("outside of the lab's namespaces")?;
        let run_name = run.file_name().unwrap_or_default().to_string_lossy();
        let switch = Switch::new(&name)?;
        let port = switch.bare_port("host", 11)?;
        let cgroup = Cgroup::create(&run_name, &port.name)?;
        let host = Host::new(&name, port, &parts.root, run.join(&name), cgroup)?;
        let consul = host.path("/etc/systemd/system/consul.service");
        symlink("/dev/null", consul).context("masking Consul")?;
        Ok(Self {
            host,
            _switch: switch,
        })
    }
}
