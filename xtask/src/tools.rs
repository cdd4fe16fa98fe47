use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Files that are made once and used by every later run: `$XDG_CACHE_HOME/drainctl`, or `~/.cache/drainctl`.
///
/// # Errors
/// If neither variable is set, or the folder can't be made.
pub(crate) fn cache() -> Result<PathBuf> {
    let var = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache")));
    let cache = base
        .context("neither XDG_CACHE_HOME nor HOME is set")?
        .join("drainctl");
    std::fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    Ok(cache)
}

/// cargo-deny, from the path or from the cache; while it is not there yet it is being built behind everything else.
#[derive(Debug)]
pub(crate) struct CargoDeny {
    binary: PathBuf,
    build: Option<Child>,
}

impl CargoDeny {
    /// Finds it, or begins to build it.
    ///
    /// # Errors
    /// If there is no cache, or the build can't be started.
    pub(crate) fn prepare() -> Result<Self> {
        let found = std::env::var_os("PATH").and_then(|path| {
            std::env::split_paths(&path)
                .map(|dir| dir.join("cargo-deny"))
                .find(|binary| binary.exists())
        });
        if let Some(binary) = found {
            return Ok(Self {
                binary,
                build: None,
            });
        }
        let root = cache()?.join("tools");
        let binary = root.join("bin/cargo-deny");
        if binary.exists() {
            return Ok(Self {
                binary,
                build: None,
            });
        }
        eprintln!(
            "building cargo-deny behind the other checks; the next run will find it in {}",
            root.display()
        );
        // The least of priorities: it takes minutes, and nothing waits for it until the end.
        let build = Command::new("nice")
            .args([
                "-n",
                "19",
                "cargo",
                "install",
                "--quiet",
                "cargo-deny",
                "--locked",
                "--root",
            ])
            .arg(&root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting cargo install")?;
        Ok(Self {
            binary,
            build: Some(build),
        })
    }

    /// The checks that need no network, once the program is there.
    ///
    /// # Errors
    /// If it could not be built.
    pub(crate) fn command(mut self) -> Result<Command> {
        if let Some(build) = &mut self.build {
            let status = build.wait()?;
            anyhow::ensure!(status.success(), "cargo install cargo-deny: {status}");
        }
        let mut command = Command::new(self.binary);
        command.args(["--all-features", "check", "bans", "licenses", "sources"]);
        Ok(command)
    }
}
