//! The files of the config: which, in which order, and whether they may be trusted.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::fault::{Fault, Nature};
use crate::world::Root;

/// The folder of the config.
const DIR: &str = "/etc/drainctl";
/// The config file. Read first; none is fine.
pub const MAIN: &str = "/etc/drainctl/drainctl.toml";
/// The folder of the drop-ins, read in byte order of their names. Only `*.toml` counts, hidden files don't.
pub const DROP_INS: &str = "/etc/drainctl/conf.d";
/// More drop-ins than this are a mistake of whatever writes them.
const MOST_DROP_INS: usize = 100;
/// A config larger than this is none.
const MOST: u64 = 1024 * 1024;

/// The text of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Where it stands on the host.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// All sources in the order in which later ones win, and what is wrong with the files themselves.
pub(super) fn find(root: &Root) -> (Vec<Source>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut paths = vec![MAIN.to_owned()];
    for dir in [DIR, DROP_INS] {
        match fs::metadata(root.path(dir)) {
            Ok(dir_is) if dir_is.is_dir() => faults.extend(distrust(dir, &dir_is)),
            Ok(_) => faults.push(fault(dir, "is not a folder; move it away")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => faults.push(fault(dir, format!("can't be looked at: {error}"))),
        }
    }
    match drop_ins(root) {
        Ok(found) => paths.extend(found),
        Err(error) => faults.push(fault(DROP_INS, format!("can't be read: {error}"))),
    }
    let mut sources = Vec::new();
    for path in paths {
        match read(root, &path) {
            Ok(Some((text, distrust))) => {
                sources.push(Source { path, text });
                faults.extend(distrust);
            }
            Ok(None) => {}
            Err(unreadable) => faults.push(unreadable),
        }
    }
    (sources, faults)
}

fn drop_ins(root: &Root) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root.path(DROP_INS)) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                // A file in its place has been complained about already.
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names: Vec<OsString> = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    if names.len() > MOST_DROP_INS {
        return Err(io::Error::other(format!(
            "more than {MOST_DROP_INS} files; put them together"
        )));
    }
    names.sort();
    Ok(names
        .iter()
        .map(|name| format!("{DROP_INS}/{}", name.to_string_lossy()))
        .collect())
}

/// The text of a file and why it must not be trusted, if so; `None` where no file is.
pub(super) fn read(root: &Root, path: &str) -> Result<Option<(String, Option<Fault>)>, Fault> {
    // NONBLOCK: opening a pipe must not wait for its writer. What is opened is what is judged, so that nothing can be swapped
    // in between; a symlink stands for its target.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let unreadable = |error: io::Error| fault(path, format!("can't be read: {error}"));
    let file = match rustix::fs::open(root.path(path), flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) if fs::symlink_metadata(root.path(path)).is_err() => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error.into())),
    };
    let is = file.metadata().map_err(unreadable)?;
    if !is.is_file() {
        return Err(fault(path, "is not a regular file; move it away"));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MOST {
        return Err(fault(path, "is larger than 1 MiB; this is no config"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some((text, distrust(path, &is)))),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..good]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            Err(Fault {
                line,
                ..fault(path, "is not UTF-8; save it as UTF-8")
            })
        }
    }
}

/// Why somebody else than the administrator may have written it.
fn distrust(path: &str, is: &fs::Metadata) -> Option<Fault> {
    // Not root: a trial run on one's own files, which are as good as who runs it.
    if rustix::process::geteuid().is_root() && is.uid() != 0 {
        let what = format!(
            "is owned by user {}, who could change it; run `chown root {path}`",
            is.uid()
        );
        return Some(fault(path, what));
    }
    let who = match is.mode() & 0o022 {
        0 => return None,
        0o020 => "its group",
        _ => "everybody",
    };
    Some(fault(
        path,
        format!("can be changed by {who}; run `chmod go-w {path}`"),
    ))
}

pub(super) fn fault(path: &str, what: impl Into<String>) -> Fault {
    Fault {
        path: path.to_owned(),
        line: 1,
        what: what.into(),
        nature: Nature::Value,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    struct Host {
        dir: tempfile::TempDir,
        root: Root,
    }

    fn host() -> Host {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        for folder in ["/etc", DIR, DROP_INS] {
            let folder = root.path(folder);
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        }
        Host { dir, root }
    }

    impl Host {
        fn write(&self, path: &str, text: &[u8]) {
            let path = self.root.path(path);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }

        fn said(&self) -> String {
            let (_, faults) = find(&self.root);
            let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
            said.join("\n")
        }
    }

    #[test]
    fn what_is_no_readable_file_is_said() {
        let host = host();
        host.write(
            &format!("{DROP_INS}/big.toml"),
            &vec![b'#'; 1024 * 1024 + 1],
        );
        host.write(&format!("{DROP_INS}/fits.toml"), &vec![b'#'; 1024 * 1024]);
        host.write(&format!("{DROP_INS}/latin1.toml"), b"# fine\n# caf\xe9\n");
        fs::create_dir(host.root.path(format!("{DROP_INS}/folder.toml"))).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            host.root.path(format!("{DROP_INS}/pipe.toml")),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        symlink("gone", host.root.path(format!("{DROP_INS}/dangling.toml"))).unwrap();
        insta::assert_snapshot!(host.said(), @r"
        /etc/drainctl/conf.d/big.toml:1: is larger than 1 MiB; this is no config
        /etc/drainctl/conf.d/dangling.toml:1: can't be read: No such file or directory (os error 2)
        /etc/drainctl/conf.d/folder.toml:1: is not a regular file; move it away
        /etc/drainctl/conf.d/latin1.toml:2: is not UTF-8; save it as UTF-8
        /etc/drainctl/conf.d/pipe.toml:1: is not a regular file; move it away
        ");
    }

    #[test]
    fn a_symlink_is_judged_by_its_target() {
        let host = host();
        let target = host.dir.path().join("target.toml");
        fs::write(&target, "units = []").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        symlink(&target, host.root.path(MAIN)).unwrap();
        assert_eq!(host.said(), "");
        assert_eq!(find(&host.root).0.len(), 1);
        fs::set_permissions(&target, Permissions::from_mode(0o620)).unwrap();
        assert_eq!(
            host.said(),
            "/etc/drainctl/drainctl.toml:1: can be changed by its group; run `chmod go-w /etc/drainctl/drainctl.toml`"
        );
    }

    #[test]
    fn root_trusts_only_its_own() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root to give a file away");
            return;
        }
        let host = host();
        host.write(MAIN, b"");
        chown(host.root.path(MAIN), Some(1234), None).unwrap();
        assert_eq!(
            host.said(),
            "/etc/drainctl/drainctl.toml:1: is owned by user 1234, who could change it; run `chown root /etc/drainctl/drainctl.toml`"
        );
    }
}
