//! Files that the settings of pools name.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt as _};
use std::path::Path;

use anyhow::anyhow;

use super::{Context, PoolError, PoolErrorKind};
use crate::config::Section;

/// The largest secret that is read, in bytes.
const LARGEST: u64 = 4096;

/// Says what is wrong with the file that `key` names.
pub(super) fn check(section: &mut Section<'_>, key: &str, file: &Path) {
    look(section, key, file);
}

/// As [`check`], for a file with a secret in it.
pub(crate) fn check_secret(section: &mut Section<'_>, key: &str, file: &Path) {
    let Some(meta) = look(section, key, file) else {
        return;
    };
    let what = if !meta.is_file() {
        "is no file"
    } else if meta.mode() & 0o004 != 0 {
        "can be read by every user; `chmod 600` it"
    } else if meta.len() == 0 {
        "is empty"
    } else {
        return;
    };
    section.environment(key, what);
}

/// Opens it: to be there is not to be readable.
fn look(section: &mut Section<'_>, key: &str, file: &Path) -> Option<Metadata> {
    if !file.is_absolute() {
        section.fault(key, "must be an absolute path");
        return None;
    }
    // A pipe would wait for somebody who writes to it.
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(section.root()?.path(file));
    match opened.and_then(|file| file.metadata()) {
        Ok(meta) => Some(meta),
        Err(error) => {
            section.environment(key, error);
            None
        }
    }
}

/// What is in `file`, without the space around it. Read for each operation: tokens are rotated, also between leave and rejoin.
///
/// # Errors
/// [`PoolErrorKind::Local`] for a file that can't be read, and for one with nothing in it.
pub(crate) fn read_secret(cx: &Context, file: &Path) -> Result<String, PoolError> {
    let failed = |what: &dyn std::fmt::Display| {
        PoolError::new(PoolErrorKind::Local, anyhow!("{}: {what}", file.display()))
    };
    let text = cx
        .root
        .read(file, LARGEST)
        .map_err(|error| failed(&error))?;
    match text.trim() {
        "" => Err(failed(&"nothing in it")),
        text => Ok(text.to_owned()),
    }
}
