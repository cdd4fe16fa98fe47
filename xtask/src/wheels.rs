use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::machine::run;
use crate::tools::cache;

/// Python's packages in the folder `name` of the cache, where the tests look for them: exactly these wheels, by their hashes.
///
/// # Errors
/// If they can't be had.
pub(crate) fn provide(name: &str, size: &str, wheels: &str) -> Result<PathBuf> {
    let cache = cache()?;
    let home = cache.join(name);
    // One download at a time; the lock goes with the process, so a dead one holds nobody up.
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    lock.lock()?;
    if home.exists() {
        return Ok(home);
    }
    eprintln!("downloading {name}, {size}");
    let partial = cache.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir(&partial)?;
    fs::write(partial.join("wheels.txt"), wheels)?;
    install(&partial).with_context(|| format!("installing {name}"))?;
    // Only what is whole gets the name.
    fs::rename(partial.join("root"), &home)?;
    fs::remove_dir_all(&partial).context("cleaning up")?;
    Ok(home)
}

fn install(partial: &Path) -> Result<()> {
    run(Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore"])
        .args(["--only-binary", ":all:", "--require-hashes"])
        .args(["--target", "root", "-r", "wheels.txt"])
        .current_dir(partial))
}
