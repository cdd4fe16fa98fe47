//! What is known of a program before it runs: what people call it, where its receipts lie, and what of an earlier run is left.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

use super::guard;
use crate::receipts::{Lock, Locked, RUN_DIR, Run, STATE_DIR, boot_clock};
use crate::world::Root;

/// Names the run that began last, until it has ended in order.
const RUNNING: &str = "running";
/// A run's name is no longer.
const MOST: u64 = 4096;
/// The lock of the program's keeper; its drains and rejoins have one of their own.
const KEPT: &str = "/kept";

/// The name of a program: the one given, what supervisord calls it, or that of its file. Fit for a file's name.
#[must_use]
pub fn name(given: Option<&str>, command: &[OsString]) -> String {
    let of_file = || {
        let file = command.first().map(Path::new).and_then(Path::file_name);
        file.map(|file| file.to_string_lossy().into_owned())
    };
    let name = given
        .map(str::to_owned)
        .or_else(under_supervisord)
        .or_else(of_file)
        .unwrap_or_default();
    let name: String = name
        .chars()
        .map(|c| match c {
            '.' | '_' | '-' => c,
            c if c.is_ascii_alphanumeric() => c,
            _ => '-',
        })
        .take(100)
        .collect();
    if name.trim_start_matches('.').is_empty() {
        "program".to_owned()
    } else {
        name
    }
}

/// supervisord tells its programs who they are (supervisor's manual, "Subprocess Environment").
fn under_supervisord() -> Option<String> {
    let program = env::var("SUPERVISOR_PROCESS_NAME").ok()?;
    match env::var("SUPERVISOR_GROUP_NAME") {
        Ok(group) if group != program => Some(format!("{group}-{program}")),
        _ => Some(program),
    }
}

/// The folder for the state of the program `name`, made where it is missing: below `given`, or the first usual place that may be
/// written to.
///
/// # Errors
/// There is none; what to do.
pub fn state(given: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let places: Vec<PathBuf> = match given {
        Some(given) => vec![std::path::absolute(given)?],
        None => usual_places(),
    };
    for place in &places {
        let dir = place.join(name);
        if make(&dir).is_ok() {
            return Ok(dir);
        }
    }
    let places: Vec<_> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    anyhow::bail!(
        "no folder for its receipts can be written to ({}): name one with --state",
        places.join(", ")
    )
}

/// Those of root survive a reboot, as the mark of a pool does. Others have them where people keep theirs.
fn usual_places() -> Vec<PathBuf> {
    if geteuid().is_root() {
        return vec![Path::new(STATE_DIR).join("run")];
    }
    let var = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute())
    };
    let homes = [
        var("XDG_STATE_HOME"),
        var("HOME").map(|home| home.join(".local/state")),
        var("XDG_RUNTIME_DIR"),
    ];
    let mut places: Vec<PathBuf> = homes
        .into_iter()
        .flatten()
        .map(|dir| dir.join("drainctl"))
        .collect();
    places.push(env::temp_dir().join(format!("drainctl-{}", geteuid().as_raw())));
    places
}

/// Makes the folder, which must be ours alone: in a shared place somebody else may have made it before us.
fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let ours = |dir: &Path| -> io::Result<bool> {
        let is = fs::symlink_metadata(dir)?;
        Ok(is.is_dir() && is.uid() == geteuid().as_raw() && is.mode() & 0o022 == 0)
    };
    if !ours(dir)? || !dir.parent().map_or(Ok(true), ours)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(access(dir, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// The state of one program, and the right to keep it.
#[derive(Debug)]
pub struct Held {
    root: Root,
    /// The name of this run.
    pub run: String,
    lock: Lock,
}

impl Held {
    /// Takes the program `name` whose state lies in `dir`, and ends what is left of a run whose keeper was killed.
    ///
    /// # Errors
    /// Another keeper has a program of that name; or what the system says.
    pub fn take(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let root = Root::at(dir);
        let Locked::Ours(lock) = Lock::attempt(&Root::at(root.path(KEPT)))? else {
            anyhow::bail!(
                "a program called {name} is run already ({}): give this one a name of its own with --name",
                dir.display()
            );
        };
        if let Ok(before) = root.read(running(), MOST) {
            guard::end_leftovers(&Root::host(), &before);
        }
        // A drain of ours that was killed is over: what it had to leave, the next rejoin takes back.
        Run::withdraw(&root)?;
        let run = run_name(name);
        root.replace(running(), run.as_bytes(), 0o600)?;
        Ok(Self { root, run, lock })
    }

    /// The number of the file that stands for the right.
    #[must_use]
    pub fn number(&self) -> std::os::fd::RawFd {
        self.lock.number()
    }

    /// The run ends in order: nothing of it is left to be ended.
    pub fn release(self) {
        // The next one would look for processes that are not there.
        let _ = self.root.remove(running());
    }
}

fn running() -> String {
    format!("{RUN_DIR}/{RUNNING}")
}

/// A name that no other run on this host has.
#[must_use]
pub fn run_name(name: &str) -> String {
    format!("{name}-{}-{}", std::process::id(), boot_clock().as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_files() {
        let of = |given: &str| name(Some(given), &[]);
        assert_eq!(of("shop:web_01"), "shop-web_01");
        assert_eq!(of("../../etc"), "..-..-etc");
        assert_eq!(of(".."), "program");
        assert_eq!(of(""), "program");
        let command = ["/usr/bin/node".into(), "app.js".into()];
        assert_eq!(name(None, &command), "node");
    }

    #[test]
    fn a_program_has_one_keeper_and_others_of_another_name_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let one = state(Some(dir.path()), "one").unwrap();
        let held = Held::take(&one, "one").unwrap();
        let error = Held::take(&one, "one").unwrap_err().to_string();
        assert!(error.contains("--name"), "{error}");
        let two = state(Some(dir.path()), "two").unwrap();
        Held::take(&two, "two").unwrap().release();
        held.release();
        assert!(Held::take(&one, "one").is_ok());
    }

    #[test]
    fn a_folder_that_somebody_else_may_write_to_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = state(Some(dir.path()), "one").unwrap_err().to_string();
        assert!(error.contains("--state"), "{error}");
    }
}
