use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{command, poll};

/// Killed processes are gone within this.
const GONE: Duration = Duration::from_secs(20);

/// A host's own cgroup. Without one, hosts on one machine would meet in the same system.slice and end each other's units.
#[derive(Debug)]
pub struct Cgroup {
    /// Its directory in each hierarchy that systemd uses: version 2, and `name=systemd` on hybrid machines.
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes a cgroup below that of the run.
    ///
    /// # Errors
    /// If there is no cgroup version 2, or no right to it.
    pub fn create(run: &str, name: &str) -> Result<Self> {
        let dirs: Vec<_> = hierarchies()?
            .into_iter()
            .map(|top| top.join(run).join(name))
            .collect();
        for dir in &dirs {
            fs::create_dir_all(dir).with_context(|| format!("making cgroup {}", dir.display()))?;
        }
        Ok(Self { dirs })
    }

    /// A command that moves into this cgroup before it becomes `words`.
    pub fn command(&self, words: &[&str]) -> Command {
        moved(&self.dirs, words)
    }

    /// Removes the cgroup; no process may be left in it.
    ///
    /// # Errors
    /// If one is.
    pub fn remove(&self) -> Result<()> {
        self.dirs.iter().try_for_each(|dir| remove_tree(dir))
    }
}

/// A command that runs where process `pid` runs: in its cgroup and in all its namespaces.
///
/// # Errors
/// If the process is gone.
pub fn command_beside(pid: i32, words: &[&str]) -> Result<Command> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mut dirs = Vec::new();
    for top in hierarchies()? {
        let marker = if v2(&top)? { "0::/" } else { "name=systemd:/" };
        let path = own
            .lines()
            .find_map(|line| line.split_once(marker))
            .map_or("", |(_, path)| path);
        dirs.push(top.join(path));
    }
    let pid = pid.to_string();
    let enter = ["nsenter", "-t", &pid, "-a", "--"];
    let mut command = moved(&dirs, &[&enter, words].concat());
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8");
    Ok(command)
}

/// Removes the cgroups of a whole run.
pub(crate) fn remove_run(run: &str) -> Result<()> {
    hierarchies()?
        .iter()
        .try_for_each(|top| remove_tree(&top.join(run)))
}

fn moved(dirs: &[PathBuf], words: &[&str]) -> Command {
    const SCRIPT: &str =
        r#"while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; exec "$@""#;
    let files: Vec<_> = dirs
        .iter()
        .map(|dir| dir.join("cgroup.procs").display().to_string())
        .collect();
    let mut all = vec!["sh", "-c", SCRIPT, "sh"];
    all.extend(files.iter().map(String::as_str));
    all.push("--");
    all.extend(words);
    command(&all)
}

/// The mount points of the hierarchies in which systemd keeps units.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let tops = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_, top, kind, options) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        (kind == "cgroup2" || kind == "cgroup" && options.contains("name=systemd"))
            .then(|| PathBuf::from(top))
    });
    Ok(tops.collect())
}

fn v2(top: &Path) -> Result<bool> {
    Ok(top.join("cgroup.controllers").try_exists()?)
}

fn remove_tree(dir: &Path) -> Result<()> {
    if !dir.try_exists()? {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    // A process that was killed is in its cgroup until it is gone for good.
    poll(&format!("removing cgroup {}", dir.display()), GONE, || {
        Ok(fs::remove_dir(dir).map(Some)?)
    })
}
