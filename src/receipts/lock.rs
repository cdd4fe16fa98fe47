//! One drain or rejoin at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use rustix::fs::{FlockOperation, flock};

use super::RUN_DIR;
use crate::world::Root;

/// The lock, held until dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// What trying for the lock gave.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Ours(Lock),
    /// Another process has it.
    Taken,
}

impl Lock {
    /// Tries for the lock, without waiting.
    ///
    /// # Errors
    /// The lock file can't be made or opened.
    pub fn attempt(root: &Root) -> io::Result<Locked> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(root.path(RUN_DIR))?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(root.path(RUN_DIR).join("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Locked::Ours(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Locked::Taken),
            Err(error) => Err(error.into()),
        }
    }
}
