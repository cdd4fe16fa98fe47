//! What a drain would see from where this runs: looked at beside the hook's sandbox and inside it, and then compared. Changes nothing.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::{self, PoolSpec, Settings};
use crate::drain::looker::Looker;
use crate::drain::machine::Depth;
use crate::drain::target::{Programs, assumed, unit_names};
use crate::evidence::probe::Kept;
use crate::pools;
use crate::receipts::{RUN_DIR, STATE_DIR};
use crate::systemd::{self, UnitState};
use crate::world::{Deadline, Root};

/// Each pool has this long, and PID 1.
const LIMIT: Duration = Duration::from_secs(5);

/// See the module. Every text says why something is not possible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sight {
    /// The config.
    pub config: Option<String>,
    /// systemd.
    pub systemd: Option<String>,
    /// The programs' names.
    pub names: Option<String>,
    /// The connections.
    pub blind: Option<String>,
    /// The programs that listen, with their ports.
    pub listeners: Vec<(String, u16)>,
    /// Whether nothing of the target listens, on a port or a Unix socket.
    pub silent: bool,
    /// Each pool that was asked.
    pub pools: Vec<(String, Option<String>)>,
    /// Writing receipts.
    pub state: Option<String>,
    /// Writing the running drain's state.
    pub run: Option<String>,
}

impl Sight {
    /// Looks.
    #[must_use]
    pub fn look(root: &Root) -> Self {
        let mut sight = Self::default();
        let settings = match config::load(root) {
            Ok(loaded) => loaded.settings,
            Err(faults) => {
                sight.config = Some(faults.to_string());
                config::load_or_last_good(root).0
            }
        };
        let names = unit_names(root, &settings.units);
        let units = match systemd::snapshot(&names, Deadline::after(LIMIT)) {
            Ok(snapshot) => snapshot.units,
            Err(error) => {
                sight.systemd = Some(error.to_string());
                assumed(root, &names)
            }
        };
        let units: Vec<UnitState> = units
            .into_iter()
            .filter(|unit| unit.load_state != "not-found")
            .collect();
        if let Err(error) = sight.watch(root, &settings, &units) {
            sight.blind = Some(format!("{error:#}"));
        }
        let ways: Vec<PoolSpec> = settings.ways().cloned().collect();
        let said = pools::ask(root, &ways, LIMIT).into_iter();
        sight.pools = said.map(|said| (said.name, said.error)).collect();
        sight.state = writable(root, STATE_DIR)
            .err()
            .map(|error| format!("{STATE_DIR}: {error}"));
        sight.run = writable(root, RUN_DIR)
            .err()
            .map(|error| format!("{RUN_DIR}: {error}"));
        sight
    }

    fn watch(
        &mut self,
        root: &Root,
        settings: &Settings,
        units: &[UnitState],
    ) -> anyhow::Result<()> {
        let programs = Programs::ask(root, units);
        if !programs.notes.is_empty() {
            self.names = Some(programs.notes.join("; "));
        }
        let looker = Looker::new(root, units, settings, Kept::read(root));
        let mut watch = looker.watch(Instant::now())?;
        watch.discover(&|pid| programs.name(root, pid))?;
        self.silent = watch.listeners().is_empty() && watch.locals().is_empty();
        let listeners = watch.listeners().iter();
        self.listeners = listeners
            .map(|listener| (listener.program.clone(), listener.local.port()))
            .collect();
        self.listeners.sort_unstable();
        self.listeners.dedup();
        watch.look(Depth::Whole)?;
        Ok(())
    }
}

/// Whether a folder takes a file and the disk takes its bytes: tried with a file that has no name, and so is gone with this call. A folder that is
/// not there yet is made when it is needed.
fn writable(root: &Root, dir: &str) -> io::Result<()> {
    let unnamed = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(unnamed)
        .mode(0o600)
        .open(root.path(dir));
    match file {
        Ok(mut file) => {
            file.write_all(&[0; 4096])?;
            file.sync_all()
        }
        // A file system without such files.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_takes_a_file_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        writable(&root, "/nowhere").unwrap();
        std::fs::create_dir(root.path("/state")).unwrap();
        writable(&root, "/state").unwrap();
        assert_eq!(std::fs::read_dir(root.path("/state")).unwrap().count(), 0);
        // Not a folder.
        std::fs::write(root.path("/file"), "").unwrap();
        assert!(writable(&root, "/file").is_err());
    }
}
