use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};

use crate::cgroup;

/// Names run directories and cgroups, to find those of dead runs.
const PREFIX: &str = "drainctl-lab-";
/// Set inside the namespaces; holds the run's directory.
const INSIDE: &str = "LAB_RUN_DIR";

/// What the lab is made of; `cargo xtask test` provides both.
#[derive(Clone, Debug)]
pub struct Parts {
    /// `LAB_ROOT`: a root file system with systemd, supervisor, gunicorn and Consul. It is only read.
    pub root: PathBuf,
    /// `LAB_ROOT_TRIXIE`: the same with a newer systemd.
    pub newer: PathBuf,
    /// `LAB_DRAINCTL`: the binary under test.
    pub drainctl: PathBuf,
}

impl Parts {
    /// The same parts, with hosts of the newer systemd.
    #[must_use]
    pub fn newer(&self) -> Self {
        Self {
            root: self.newer.clone(),
            ..self.clone()
        }
    }

    /// Where the parts are, by the environment.
    ///
    /// # Errors
    /// Says in one line what is missing.
    pub fn from_env() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root for namespaces and booted hosts".to_owned());
        }
        let path = |name: &str| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.exists())
                .ok_or(format!("{name} names nothing; run `cargo xtask test`"))
        };
        Ok(Self {
            root: path("LAB_ROOT")?,
            newer: path("LAB_ROOT_TRIXIE")?,
            drainctl: path("LAB_DRAINCTL")?,
        })
    }
}

/// Inside the namespaces: the directory of this run, else none.
pub fn run_dir() -> Option<PathBuf> {
    env::var_os(INSIDE).map(PathBuf::from)
}

/// Runs this program again as the first process of new PID and mount namespaces.
///
/// When that process ends or is killed, or this one is, the kernel kills everything that was started inside; mounts and
/// network namespaces go with it. Run directories and cgroups are removed here, those of dead runs too.
///
/// # Errors
/// If the run directory or the namespaces can't be made.
pub fn again_inside() -> Result<ExitCode> {
    remove_dead_runs()?;
    let dir = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
    let lock = File::create(dir.path().join("lock"))?;
    lock.lock()?;
    let status = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--mount-proc",
            "--",
        ])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, dir.path())
        .status()
        .context("starting unshare")?;
    remove_run(dir.path())?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Inside: an empty /run, so that network namespaces and nspawn's files are this run's own.
///
/// # Errors
/// If it can't be mounted.
pub fn private_run() -> Result<()> {
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).context("mounting /run")
}

/// Removes what runs left whose process is gone: nobody holds their lock.
fn remove_dead_runs() -> Result<()> {
    for entry in fs::read_dir(env::temp_dir())? {
        let path = entry?.path();
        let ours = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let Ok(lock) = File::open(path.join("lock")) else {
            continue;
        };
        if ours && !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            remove_run(&path)?;
        }
    }
    Ok(())
}

fn remove_run(dir: &Path) -> Result<()> {
    if let Some(name) = dir.file_name() {
        cgroup::remove_run(&name.to_string_lossy())?;
    }
    fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))
}
