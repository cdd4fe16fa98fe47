use std::fs;

use anyhow::{Context, Result};

use crate::enter::Parts;
use crate::host::Host;

/// The unit whose stop is the drain.
pub const HOOK: &str = "drain-connections.service";

/// What an administrator does on a new host, and nothing else: the binary, and `drainctl install`.
///
/// # Errors
/// If that fails.
pub fn install(host: &Host, parts: &Parts) -> Result<()> {
    fs::copy(&parts.drainctl, host.path("/usr/bin/drainctl")).context("copying drainctl")?;
    host.exec(&["drainctl", "install"]).map(drop)
}
