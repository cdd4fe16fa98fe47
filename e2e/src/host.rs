use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::{Cgroup, command_beside};
use crate::command::{both, output, poll};
use crate::journal::Journal;
use crate::net::Port;

/// How long a boot may take on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
/// How long a drain and a soft reboot may take.
const AGAIN_LIMIT: Duration = Duration::from_secs(90);
/// nspawn's exit code when the host asked for a reboot.
const REBOOT_CODE: i32 = 133;

/// A host with systemd as its first process, on a copy-on-write layer over the cached root file system.
#[derive(Debug)]
pub struct Host {
    /// Its name, as the programs and Consul say it.
    pub name: String,
    /// Where it is on the switch.
    pub port: Port,
    dir: PathBuf,
    cgroup: Cgroup,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    nspawn: Child,
    init: Pid,
}

/// How a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By poweroff or halt.
    Off,
    /// It asked to be started again.
    Reboot,
}

impl Host {
    /// Lays the host's files over `root`; [`Host::boot`] starts it.
    ///
    /// # Errors
    /// If the layer can't be mounted.
    pub fn new(name: &str, port: Port, root: &Path, dir: PathBuf, cgroup: Cgroup) -> Result<Self> {
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(dir.join(part))?;
        }
        // `volatile` leaves out syncs: the layer does not outlive the run.
        let layers = format!(
            "lowerdir={},upperdir={dir}/upper,workdir={dir}/work,volatile",
            root.display(),
            dir = dir.display()
        );
        let layers = std::ffi::CString::new(layers)?;
        mount(
            "overlay",
            dir.join("root"),
            "overlay",
            MountFlags::empty(),
            Some(layers.as_c_str()),
        )
        .context("mounting the host's layer")?;
        let host = Self {
            name: name.to_owned(),
            port,
            dir,
            cgroup,
            running: None,
        };
        // Its presence makes journald keep the journal over boots.
        fs::create_dir_all(host.path("/var/log/journal"))?;
        host.write("/etc/hostname", &format!("{name}\n"))?;
        host.write(
            "/etc/network/interfaces",
            &format!(
                "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\n address {}/24\n",
                host.port.address
            ),
        )?;
        Ok(host)
    }

    /// A path of the host, seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.join("root").join(inside.trim_start_matches('/'))
    }

    /// A path of the running host with all that is mounted there, seen from outside.
    ///
    /// # Errors
    /// If the host does not run.
    pub fn live_path(&self, inside: &str) -> Result<PathBuf> {
        let init = self.init()?.as_raw_nonzero();
        Ok(PathBuf::from(format!("/proc/{init}/root{inside}")))
    }

    /// Writes a file of the host, with the folders above it.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, inside: &str, text: &str) -> Result<()> {
        let path = self.path(inside);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Starts it and waits until systemd has started all it wants to.
    ///
    /// # Errors
    /// If it does not come up within a minute.
    pub fn boot(&mut self) -> Result<()> {
        self.start()?;
        let state = poll("systemd", BOOT_LIMIT, || {
            let state = self.try_exec(&["systemctl", "is-system-running", "--wait"])?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            Ok(matches!(state.as_str(), "running" | "degraded").then_some(state))
        })?;
        if state == "degraded" {
            bail!(
                "{}: {}",
                self.name,
                self.exec(&["systemctl", "--failed", "--no-legend"])?
            );
        }
        Ok(())
    }

    /// Starts it, and waits until a unit is active; its boot may go on for ever.
    ///
    /// # Errors
    /// If it does not come up within a minute.
    pub fn boot_until(&mut self, unit: &str) -> Result<()> {
        self.start()?;
        poll(unit, BOOT_LIMIT, || {
            let active = self.try_exec(&["systemctl", "is-active", unit])?;
            Ok(active.status.success().then_some(()))
        })
    }

    /// Starts it and waits for its first process.
    fn start(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.console())?;
        let root = self.path("/").display().to_string();
        let netns = format!("--network-namespace-path=/run/netns/{}", self.port.name);
        // The cgroup is the host's own already, and there is no machine manager to register with.
        let nspawn = [
            "systemd-nspawn",
            "--quiet",
            "-D",
            &root,
            "-M",
            &self.port.name,
            "--register=no",
            "--keep-unit",
        ];
        let how = [
            "--boot",
            "--console=pipe",
            "--link-journal=no",
            "--capability=CAP_NET_ADMIN",
            &netns,
        ];
        let mut nspawn = self
            .cgroup
            .command(&[nspawn.as_slice(), &how].concat())
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting systemd-nspawn")?;
        let init = poll(
            "the first process of the host",
            BOOT_LIMIT,
            || match nspawn.try_wait()? {
                Some(status) => Ok(Some(Err(anyhow!(
                    "nspawn ended: {status}; {}",
                    self.console_tail()
                )))),
                None => Ok(first_process(nspawn.id())?.map(Ok)),
            },
        );
        self.running = Some(Running {
            nspawn,
            init: init??,
        });
        Ok(())
    }

    /// Waits until it has come up again under the same first process: a soft reboot.
    ///
    /// # Errors
    /// If that does not come within a minute and a half.
    pub fn wait_again(&mut self) -> Result<()> {
        let count = |host: &Self| -> Result<String> {
            host.exec(&["systemctl", "show", "-P", "SoftRebootsCount"])
        };
        poll("the soft reboot", AGAIN_LIMIT, || {
            Ok((count(self)?.trim() == "1").then_some(()))
        })?;
        poll("systemd", BOOT_LIMIT, || {
            let state = self.try_exec(&["systemctl", "is-system-running", "--wait"])?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            Ok((state == "running").then_some(()))
        })
    }

    /// Runs a command inside, and returns its standard output.
    ///
    /// # Errors
    /// If it ends with anything but 0; the error holds what it printed.
    pub fn exec(&self, words: &[&str]) -> Result<String> {
        let output = self.try_exec(words)?;
        if !output.status.success() {
            bail!(
                "{} on {} ({}): {}",
                words.join(" "),
                self.name,
                output.status,
                both(&output)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command inside, whatever comes of it.
    ///
    /// # Errors
    /// If the host is not running.
    pub fn try_exec(&self, words: &[&str]) -> Result<Output> {
        output(&mut self.command(words)?)
    }

    /// A command that will run inside.
    ///
    /// # Errors
    /// If the host is not running.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        command_beside(self.init()?.as_raw_nonzero().get(), words)
    }

    /// Waits for the host's end.
    ///
    /// # Errors
    /// If it does not come within `limit`, or is no orderly one.
    pub fn wait_end(&mut self, limit: Duration) -> Result<Ended> {
        let Some(running) = &mut self.running else {
            bail!("{} is not running", self.name)
        };
        let ended = poll("the host's end", limit, || Ok(running.nspawn.try_wait()?));
        let status = ended.with_context(|| self.console_tail())?;
        self.running = None;
        match status.code() {
            Some(0) => Ok(Ended::Off),
            Some(REBOOT_CODE) => Ok(Ended::Reboot),
            _ => bail!("{} ended with {status}: {}", self.name, self.console_tail()),
        }
    }

    /// What its journal holds now, of all its boots.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn journal(&self) -> Result<Journal> {
        Journal::read(&self.path("/var/log/journal"))
    }

    /// Ends it without any order, its first process first: nspawn's death alone would leave it running.
    fn kill(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        // An error says that it is gone already.
        let _gone = kill_process(running.init, Signal::KILL);
        let _ended = running.nspawn.wait();
    }

    fn init(&self) -> Result<Pid> {
        let running = self
            .running
            .as_ref()
            .with_context(|| format!("{} is not running", self.name))?;
        Ok(running.init)
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    fn console_tail(&self) -> String {
        let text = fs::read(self.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        format!(
            "console of {}: {}",
            self.name,
            lines[lines.len().saturating_sub(10)..].join("\n")
        )
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        if let Err(error) = unmount(self.dir.join("root"), UnmountFlags::DETACH) {
            eprintln!("unmounting {}: {error}", self.name);
        }
        if let Err(error) = self.cgroup.remove() {
            eprintln!("{error:#}");
        }
    }
}

/// nspawn's child, once it is a systemd that answers.
fn first_process(nspawn: u32) -> Result<Option<Pid>> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children"))?;
    let child = children
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw);
    Ok(child.filter(|pid| {
        Path::new(&format!(
            "/proc/{}/root/run/systemd/private",
            pid.as_raw_nonzero()
        ))
        .exists()
    }))
}
