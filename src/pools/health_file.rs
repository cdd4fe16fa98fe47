//! A file that a balancer's health check looks for.
//!
//! Either its presence says that the host is well, and leaving takes it away, or its presence says that the host drains, and
//! leaving creates it. Nothing but this one regular file is touched; a symbolic link in its place is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mark::{self, one_line};
use super::{Context, Health, Kind, Membership, Pool, PoolError, PoolErrorKind, Rejoined};
use crate::config::Section;

/// The health file's line in the table of pools.
pub(super) const KIND: Kind = Kind {
    name: "health-file",
    about: "removes or creates the file that a balancer's health check looks for",
    settings,
    build,
    find: None,
};

/// What stands for "drains" when nothing is configured. Gone at a reboot, so a crash never leaves a host out.
const DEFAULT: &str = "/run/drainctl/draining";
/// The largest file that is kept to be restored, in bytes.
const LARGEST: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Leave {
    /// The file says "well"; leaving takes it away.
    Remove,
    /// The file says "drains"; leaving puts it there.
    Create,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    path: Option<PathBuf>,
    leave: Option<Leave>,
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let mut settings: Settings = section.read()?;
    match &settings.path {
        Some(path) if !path.is_absolute() || path.file_name().is_none() => {
            section.fault("path", "must be the absolute path of a file");
        }
        None if settings.leave == Some(Leave::Remove) => {
            section.fault("path", "has to name the file to remove");
        }
        _ => {}
    }
    let file = HealthFile::new(settings);
    settings = Settings {
        path: Some(file.path),
        leave: Some(file.leave),
    };
    section.keep(&settings)
}

fn build(settings: &Value) -> Result<Box<dyn Pool>, PoolError> {
    let settings = Settings::deserialize(settings)
        .map_err(|error| PoolError::new(PoolErrorKind::Local, error))?;
    Ok(Box::new(HealthFile::new(settings)))
}

struct HealthFile {
    path: PathBuf,
    leave: Leave,
}

/// What a receipt keeps.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Before {
    /// The file to be removed; none when the host was already out.
    Remove { stood: Option<Kept> },
    /// The content that we create it with, and the first line of somebody else's that was already there.
    Create { mark: String, stood: Option<String> },
}

/// A file, as it is to be restored.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    content: Content,
    /// Permission bits, 0–0o7777.
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Bytes(Vec<u8>),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Content {}

impl HealthFile {
    fn new(settings: Settings) -> Self {
        let leave = match (&settings.path, settings.leave) {
            (_, Some(leave)) => leave,
            (Some(_), None) => Leave::Remove,
            (None, None) => Leave::Create,
        };
        Self {
            path: settings.path.unwrap_or_else(|| DEFAULT.into()),
            leave,
        }
    }

    fn local(&self, what: impl std::fmt::Display) -> PoolError {
        let error = anyhow!("{}: {what}", self.path.display());
        PoolError::new(PoolErrorKind::Local, error)
    }

    fn before(&self, before: &Value) -> Result<Before, PoolError> {
        Before::deserialize(before).map_err(|error| self.local(format!("receipt: {error}")))
    }

    /// Writes the file in one step, complete from the first moment, unless something is there by then.
    fn create(&self, cx: &Context, file: &Kept) -> Result<(), PoolError> {
        let path = cx.root.path(&self.path);
        match create(&path, file) {
            // Somebody was faster; what they put there is theirs.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(|error| self.local(error)),
        }
    }

    fn kept(&self, cx: &Context) -> Result<Option<Kept>, PoolError> {
        read(&cx.root.path(&self.path)).map_err(|error| self.local(error))
    }

    fn remove(&self, cx: &Context) -> Result<(), PoolError> {
        cx.root
            .remove(&self.path)
            .map(drop)
            .map_err(|error| self.local(error))
    }
}

impl Pool for HealthFile {
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError> {
        let stood = self.kept(cx)?;
        let before = match self.leave {
            Leave::Remove => Before::Remove { stood },
            Leave::Create => {
                let text = |kept: Kept| one_line(&String::from_utf8_lossy(kept.content.bytes()));
                let stood = stood.map(text);
                let ours = stood.clone().filter(|text| mark::is_ours(text));
                Before::Create {
                    stood: stood.filter(|_| ours.is_none()),
                    mark: ours.unwrap_or_else(mark::new),
                }
            }
        };
        serde_json::to_value(before).map_err(|error| self.local(error))
    }

    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError> {
        match self.before(before)? {
            Before::Remove { stood: Some(_) } => self.remove(cx),
            Before::Create { mark, stood: None } => {
                if let Some(dir) = cx.root.path(&self.path).parent() {
                    fs::create_dir_all(dir).map_err(|error| self.local(error))?;
                }
                let marked = Kept {
                    content: Content::Text(format!("{mark}\n")),
                    mode: 0o644,
                    uid: rustix::process::geteuid().as_raw(),
                    gid: rustix::process::getegid().as_raw(),
                };
                self.create(cx, &marked)
            }
            Before::Remove { stood: None } | Before::Create { stood: Some(_), .. } => Ok(()),
        }
    }

    fn status(&self, cx: &Context) -> Result<Membership, PoolError> {
        let there = match fs::symlink_metadata(cx.root.path(&self.path)) {
            Ok(meta) if meta.is_file() => true,
            Ok(_) => return Err(self.local("not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(self.local(error)),
        };
        Ok(if there == (self.leave == Leave::Remove) {
            Membership::In
        } else {
            Membership::Out
        })
    }

    fn health(&self, _cx: &Context, _before: &Value) -> Result<Health, PoolError> {
        Ok(Health::Passing)
    }

    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError> {
        let stands = self.kept(cx)?;
        match (self.before(before)?, stands) {
            (Before::Remove { stood: Some(stood) }, None) => {
                self.create(cx, &stood)?;
                Ok(Rejoined::Restored)
            }
            (Before::Remove { stood: Some(stood) }, Some(stands)) if stood != stands => {
                let what = format!("{} was written anew", self.path.display());
                Ok(Rejoined::LeftAlone(what))
            }
            (Before::Remove { stood: None }, None) => {
                let what = format!("{} was not there before", self.path.display());
                Ok(Rejoined::LeftAlone(what))
            }
            (Before::Create { mark, .. }, Some(stands)) => {
                let text = one_line(&String::from_utf8_lossy(stands.content.bytes()));
                if text == mark {
                    self.remove(cx)?;
                    return Ok(Rejoined::Restored);
                }
                Ok(Rejoined::LeftAlone(text))
            }
            (Before::Remove { .. }, Some(_)) | (Before::Create { .. }, None) => {
                Ok(Rejoined::Restored)
            }
        }
    }
}

/// The file at `path`, if there is one.
fn read(path: &Path) -> io::Result<Option<Kept>> {
    // Neither through a link nor into a pipe, which would wait for a writer.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = match OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(io::Error::other("a symbolic link; name the file itself"));
        }
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("larger than {LARGEST} bytes")));
    }
    Ok(Some(Kept {
        content: String::from_utf8(content)
            .map_or_else(|error| Content::Bytes(error.into_bytes()), Content::Text),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    }))
}

/// Puts `kept` at `path`, whole and on disk, in one step.
///
/// # Errors
/// `AlreadyExists` when something is there, which stays as it is.
fn create(path: &Path, kept: &Kept) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("not the path of a file"));
    };
    let temporary = dir.join(format!(".{}.drainctl", name.display()));
    // What a killed run left is ours to remove; anything put there since makes `create_new` fail.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = (|| {
        file.write_all(kept.content.bytes())?;
        let meta = file.metadata()?;
        if (meta.uid(), meta.gid()) != (kept.uid, kept.gid) {
            fchown(&file, Some(kept.uid), Some(kept.gid))?;
        }
        // After the owner, whose change clears the set-id bits.
        file.set_permissions(fs::Permissions::from_mode(kept.mode))?;
        file.sync_all()?;
        // A rename would replace what somebody else has put there; a link does not.
        fs::hard_link(&temporary, path)
    })();
    let removed = fs::remove_file(&temporary);
    written?;
    removed?;
    File::open(dir)?.sync_all()
}
