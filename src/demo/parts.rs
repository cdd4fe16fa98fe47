//! The processes that the demo starts, and its folder: neither outlives it.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// This program once more, as another part of the demo.
#[derive(Debug)]
pub struct Part {
    child: Child,
    lines: io::Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts `drainctl demo` with `arguments`.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(arguments: &[&OsStr]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program's file")?;
        let mut child = Command::new(program)
            .arg("demo")
            .args(arguments)
            // Its end tells the part that the demo is gone, however that ended.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the demo; it ends its parts itself.
            .process_group(0)
            .spawn()
            .context("start a part of the demo")?;
        let out = child.stdout.take().context("its output is not ours")?;
        Ok(Self {
            child,
            lines: BufReader::new(out).lines(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints; `None` once it has ended.
    ///
    /// # Errors
    /// What the system says.
    pub fn line(&mut self) -> io::Result<Option<String>> {
        self.lines.next().transpose()
    }

    /// Sends SIGTERM and waits until it is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn terminate(&mut self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.child.wait().map(drop)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // One that has been waited for is not signalled again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a part: ends the process once the demo has ended.
pub fn end_with_parent() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(crate::exit::FAILED.into());
    });
}

/// A folder of the demo's own; removed with all that is in it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it, where temporary files belong.
    ///
    /// # Errors
    /// It can't be made, or something bears its name.
    pub fn make() -> anyhow::Result<Self> {
        let now = jiff::Timestamp::now().as_nanosecond();
        let name = format!("drainctl-demo-{}-{now}", std::process::id());
        // A health file is named by an absolute path.
        let path = std::path::absolute(std::env::temp_dir())?.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("make the folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it.
    pub fn remove(path: &Path) {
        let _ = std::fs::remove_dir_all(path);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        Self::remove(&self.0);
    }
}
