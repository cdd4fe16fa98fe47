//! Which process rehearses: a drain for real ends it, and does not wait for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FlockOperation, flock};

use super::RUN_DIR;
use crate::world::Root;

const NAME: &str = "rehearsal";
/// A process id and a line's end.
const MOST: u64 = 32;

/// This process rehearses, until dropped or until it ends, however it ends. The caller holds the lock.
#[derive(Debug)]
pub struct Rehearsal {
    root: Root,
    _held: File,
}

/// What is known of rehearsals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rehearsing {
    /// This process does.
    Process(u32),
    /// One was killed in the middle.
    Killed,
    /// Nobody.
    Nobody,
}

impl Rehearsal {
    /// Says so.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(root: &Root) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(root.path(path_in_root()))?;
        // Somebody who asks holds it for a moment.
        flock(&file, FlockOperation::LockExclusive)?;
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
        Ok(Self {
            root: root.clone(),
            _held: file,
        })
    }

    /// Who rehearses now.
    ///
    /// # Errors
    /// What the system says.
    pub fn now(root: &Root) -> io::Result<Rehearsing> {
        let path = root.path(path_in_root());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rehearsing::Nobody),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Rehearsing::Killed),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let text = root.read(path_in_root(), MOST)?;
                // Empty for a moment at its beginning.
                let pid = text.trim().parse().ok();
                Ok(pid.map_or(Rehearsing::Nobody, Rehearsing::Process))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes away what one that was killed left. The caller holds the lock.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget(root: &Root) -> io::Result<()> {
        root.remove(path_in_root()).map(drop)
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let _ = Self::forget(&self.root);
    }
}

fn path_in_root() -> String {
    format!("{RUN_DIR}/{NAME}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_while_it_lives_and_when_it_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        std::fs::create_dir_all(root.path(RUN_DIR)).unwrap();
        assert_eq!(Rehearsal::now(&root).unwrap(), Rehearsing::Nobody);
        let rehearsal = Rehearsal::begin(&root).unwrap();
        let me = Rehearsing::Process(std::process::id());
        assert_eq!(Rehearsal::now(&root).unwrap(), me);
        // Killed: the kernel lets the file go, and nobody removes it.
        let left = root.path(path_in_root());
        drop(rehearsal);
        assert_eq!(Rehearsal::now(&root).unwrap(), Rehearsing::Nobody);
        std::fs::write(left, "1\n").unwrap();
        assert_eq!(Rehearsal::now(&root).unwrap(), Rehearsing::Killed);
        Rehearsal::forget(&root).unwrap();
        assert_eq!(Rehearsal::now(&root).unwrap(), Rehearsing::Nobody);
    }
}
