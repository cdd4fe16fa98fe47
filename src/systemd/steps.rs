//! What `install` and `uninstall` change on the host: planned as a list, so that it can be shown first, then done one by one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::order::{ENDS, Units};
use super::{Error, HOOK, loaded, systemctl};
use crate::receipts::{RECEIPTS, STATE_DIR};
use crate::world::Root;

/// PID 1 as `install` needs it: told by `systemctl`, or by a test.
pub trait Pid1 {
    /// Properties of units, in that order; see [`systemctl::show`].
    ///
    /// # Errors
    /// Any [`Error`].
    fn show(
        &self,
        units: &[String],
        properties: &[&str],
    ) -> Result<Vec<BTreeMap<String, String>>, Error>;

    /// Properties of every unit that is loaded, by their real names; see [`systemctl::show_all`].
    ///
    /// # Errors
    /// Any [`Error`].
    fn all(&self, properties: &[&str]) -> Result<Units, Error>;

    /// Runs `systemctl` with these arguments.
    ///
    /// # Errors
    /// Any [`Error`].
    fn tell(&self, arguments: &[&str]) -> Result<(), Error>;
}

/// The one of this host.
#[derive(Debug)]
pub struct Systemctl;

/// A start waits for what it is ordered after, which may be slow while the host boots.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(90);

/// What the bus may take: a part of a second where it answers at all, but a busy host is no broken one.
const BUS: std::time::Duration = std::time::Duration::from_secs(5);

impl Pid1 for Systemctl {
    fn show(
        &self,
        units: &[String],
        properties: &[&str],
    ) -> Result<Vec<BTreeMap<String, String>>, Error> {
        systemctl::show(units, properties, crate::world::Deadline::after(LIMIT))
    }

    fn all(&self, properties: &[&str]) -> Result<Units, Error> {
        let deadline = crate::world::Deadline::after(LIMIT);
        let also = [HOOK, ENDS[0], ENDS[1]];
        loaded::all(&also, properties, deadline.within(BUS))
            .or_else(|_| systemctl::show_all(&also, properties, deadline))
    }

    fn tell(&self, arguments: &[&str]) -> Result<(), Error> {
        systemctl::run(arguments, crate::world::Deadline::after(LIMIT)).map(drop)
    }
}

/// One change, and why it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is changed.
    pub act: Act,
    /// Why, for people.
    pub why: String,
}

/// A change of the host. Paths are the host's, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Copies this program's file.
    Copy {
        /// The running program.
        from: PathBuf,
        /// Where it goes.
        to: String,
    },
    /// Writes a file, in one step.
    Write {
        /// The file.
        path: String,
        /// Its text.
        text: String,
        /// Its permissions.
        mode: u32,
    },
    /// Removes a file.
    Remove(String),
    /// Removes a folder with everything in it.
    RemoveAll(String),
    /// Removes a folder unless something is in it.
    RemoveEmpty(String),
    /// Runs `systemctl`.
    Tell(&'static str, Vec<&'static str>),
    /// Takes the host back into the pools it was taken out of.
    Rejoin,
}

impl Step {
    /// A step with its reason.
    pub fn new(act: Act, why: impl Into<String>) -> Self {
        Self {
            act,
            why: why.into(),
        }
    }
}

/// The step, without its reason: a verb in a column of its own, and what it is done to.
impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Copy { to, .. } => write!(f, "copy    {to}"),
            Self::Write { path, .. } => write!(f, "write   {path}"),
            Self::Remove(path) | Self::RemoveAll(path) | Self::RemoveEmpty(path) => {
                write!(f, "remove  {path}")
            }
            Self::Tell(verb, units) => {
                write!(f, "run     systemctl {verb}")?;
                units.iter().try_for_each(|unit| write!(f, " {unit}"))
            }
            Self::Rejoin => f.write_str("rejoin"),
        }
    }
}

/// Where steps are done, and how.
pub struct Hands<'a> {
    /// The file system.
    pub root: &'a Root,
    /// systemd.
    pub pid1: &'a dyn Pid1,
    /// Undoes the receipts.
    pub rejoin: &'a dyn Fn() -> anyhow::Result<()>,
}

impl Hands<'_> {
    /// Says each step, and does it unless `dry`.
    ///
    /// # Errors
    /// The first step that fails, named; those before it stay done.
    pub fn perform(&self, steps: &[Step], dry: bool, out: &mut dyn Write) -> anyhow::Result<()> {
        for Step { act, why } in steps {
            writeln!(out, "{act}\n          {why}")?;
            if !dry {
                self.act(act).with_context(|| {
                    act.to_string()
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" ")
                })?;
            }
        }
        Ok(())
    }

    fn act(&self, act: &Act) -> anyhow::Result<()> {
        match act {
            Act::Copy { from, to } => {
                let program = fs::read(from).with_context(|| from.display().to_string())?;
                self.root.replace(to, &program, 0o755)?;
            }
            Act::Write { path, text, mode } => self.root.replace(path, text.as_bytes(), *mode)?,
            Act::Remove(path) => {
                self.root.remove(path)?;
            }
            // Between the rejoin and here systemd may have stopped the hook: what that drain left must not be forgotten.
            Act::RemoveAll(path) if path == STATE_DIR && self.root.exists(RECEIPTS) => {
                bail!("a drain ran in the meantime: run this again")
            }
            Act::RemoveAll(path) => gone(fs::remove_dir_all(self.root.path(path)))?,
            Act::RemoveEmpty(path) => match fs::remove_dir(self.root.path(path)) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                result => gone(result)?,
            },
            Act::Tell(verb, units) => {
                let arguments: Vec<&str> = [verb].into_iter().chain(units).copied().collect();
                self.pid1.tell(&arguments)?;
            }
            Act::Rejoin => (self.rejoin)()?,
        }
        Ok(())
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
