//! Files under a root, so that a test can hand the program a directory instead of the host.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The directory that stands for `/`.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// The host's own file system.
    #[must_use]
    pub fn host() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A file system below `dir`.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// Where the absolute path `path` of the host lies under this root.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The whole file as text, refused when it is larger than `most` bytes: a device or a runaway file must not fill the memory.
    ///
    /// # Errors
    /// What the system says; `InvalidData` when the file is larger than `most` or is not UTF-8.
    pub fn read(&self, path: impl AsRef<Path>, most: u64) -> io::Result<String> {
        let mut text = String::new();
        let read = File::open(self.path(path))?
            .take(most + 1)
            .read_to_string(&mut text)?;
        if read as u64 > most {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("larger than {most} bytes"),
            ));
        }
        Ok(text)
    }

    /// Replaces the file in one step: after a crash either the old or the new content is there, whole, and on disk.
    ///
    /// # Errors
    /// What the system says; the old file is untouched then.
    pub fn replace(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> io::Result<()> {
        let path = self.path(path);
        let dir = path
            .parent()
            .ok_or_else(|| io::Error::other("has no folder"))?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)?;
        let mut name = path
            .file_name()
            .ok_or_else(|| io::Error::other("has no name"))?
            .to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = dir.join(name);
        let written = (|| {
            // A leftover of a killed run with the same process id is ours to replace; a link that somebody laid there is not followed.
            let _ = fs::remove_file(&temporary);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&temporary)?;
            // Whatever the umask is.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        // The rename itself is only on disk once the folder is.
        File::open(dir)?.sync_all()
    }

    /// Writes a file that others are to read, where somebody wants it: in one step, but never a folder for it, which would hide a slip
    /// in its name. What is no regular file (a terminal, a pipe) is written to as it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn place(&self, path: impl AsRef<Path>, content: &[u8]) -> io::Result<()> {
        let host = self.path(&path);
        match fs::metadata(&host) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => {
                return OpenOptions::new()
                    .write(true)
                    .open(&host)?
                    .write_all(content);
            }
            _ => {}
        }
        let dir = host.parent().filter(|dir| !dir.as_os_str().is_empty());
        fs::metadata(dir.unwrap_or(Path::new(".")))?;
        self.replace(path, content, 0o644)
    }

    /// Removes the file; one that is not there is fine.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        let path = self.path(path);
        match fs::remove_file(&path) {
            Ok(()) => {
                if let Some(dir) = path.parent() {
                    File::open(dir)?.sync_all()?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether something is there.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_leaves_one_whole_file_and_removing_twice_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.replace("/var/lib/x/a", b"one", 0o600).unwrap();
        root.replace("/var/lib/x/a", b"two", 0o600).unwrap();
        assert_eq!(root.read("/var/lib/x/a", 3).unwrap(), "two");
        assert_eq!(fs::read_dir(root.path("/var/lib/x")).unwrap().count(), 1);
        assert!(root.remove("/var/lib/x/a").unwrap());
        assert!(!root.remove("/var/lib/x/a").unwrap());
    }

    #[test]
    fn a_file_larger_than_its_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        root.replace("/a", b"1234", 0o600).unwrap();
        assert_eq!(
            root.read("/a", 3).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
