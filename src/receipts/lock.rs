//! One drain or rejoin at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};

use rustix::fs::{FlockOperation, flock, statfs};

use super::RUN_DIR;
use crate::world::Root;

/// The file system that /run is on (`TMPFS_MAGIC`, linux/magic.h).
const TMPFS: i64 = 0x0102_1994;
/// A host with more locks than fit in here is not to be judged.
const MOST_LOCKS: u64 = 4 << 20;

/// The lock, held until dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(File);

/// What trying for the lock gave.
#[derive(Debug)]
pub enum Locked {
    /// It is ours.
    Ours(Lock),
    /// Another process has it.
    Taken,
}

impl Lock {
    /// Whether nobody has it, as the kernel tells everybody in `/proc/locks`; `false` where that can't be seen.
    #[must_use]
    pub fn is_free(root: &Root) -> bool {
        let path = root.path(RUN_DIR).join("lock");
        let (Ok(file), Ok(system)) = (std::fs::metadata(&path), statfs(&path)) else {
            return false;
        };
        let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        let whole = format!("{major:02x}:{minor:02x}:{}", file.ino());
        let inode = format!(":{}", file.ino());
        // A layered file system tells another device than the one that the kernel locks: any lock on that inode counts then.
        let simple = system.f_type == TMPFS;
        let is_it = |field: &str| {
            if simple {
                field == whole
            } else {
                field.ends_with(&inode)
            }
        };
        root.read("/proc/locks", MOST_LOCKS)
            .is_ok_and(|locks| !locks.split_ascii_whitespace().any(is_it))
    }

    /// The number of the open file that is the lock.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Tries for the lock, without waiting.
    ///
    /// # Errors
    /// The lock file can't be made or opened.
    pub fn attempt(root: &Root) -> io::Result<Locked> {
        let file = open(root)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Locked::Ours(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Locked::Taken),
            Err(error) => Err(error.into()),
        }
    }
}

/// The file that is locked. A file system that takes no new file must not cost a drain: then it is the folder, or the one above.
fn open(root: &Root) -> io::Result<File> {
    let dir = root.path(RUN_DIR);
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&dir);
    let file = made.and_then(|()| {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join("lock"))
    });
    let Err(error) = file else { return file };
    let above = dir.parent().unwrap_or(&dir);
    let instead = [&*dir.join("lock"), &*dir, above];
    let there = instead.iter().find_map(|path| File::open(path).ok());
    there.ok_or_else(|| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_file_can_be_made_there_is_one_lock_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        // Something in the way refuses root too, as a full or read-only file system does.
        std::fs::create_dir_all(root.path("/run")).unwrap();
        std::fs::write(root.path(RUN_DIR), "").unwrap();
        let first = Lock::attempt(&root).unwrap();
        assert!(matches!(first, Locked::Ours(_)));
        assert!(matches!(Lock::attempt(&root).unwrap(), Locked::Taken));
        drop(first);
        assert!(matches!(Lock::attempt(&root).unwrap(), Locked::Ours(_)));
    }
}
