//! Files → sources → one merged table → settings, with every fault of every file at once.
//!
//! [`load`] is for people: any fault is an error. [`load_or_last_good`] is for the drain, which happens whatever the config looks
//! like. Both read `/etc/drainctl/drainctl.toml` and then `/etc/drainctl/conf.d/*.toml` in byte order of their names; later files
//! win key by key.

mod check;
pub mod duration;
mod fault;
mod files;
mod fleet;
mod last_good;
mod merge;
mod network;
mod policy;
mod read;
mod section;
mod settings;
mod stand_in;
mod template;
mod typed;
mod words;

pub use fault::{Fault, Faults, Nature};
pub use files::{DROP_INS, MAIN, Source};
pub use last_good::{keep_last_good, load_or_last_good};
pub use network::{Ignore, Network};
pub use policy::{Policies, Policy};
pub use section::{Section, read_alone};
pub use settings::{
    Deadlines, FleetSettings, GuardSettings, POOL_LIMIT, PoolSpec, PortRule, PortSettings,
    ProbeSpec, RejoinSettings, ReportSettings, Settings, SettleSettings, StandIn, WatchSettings,
};
pub use template::{DEFAULTS, Found, FoundPool, template};

use crate::world::Root;

/// A config without faults.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// Where it says so; empty where no file is.
    pub sources: Vec<Source>,
}

/// The config of the host. No file at all is fine: every key has a default.
///
/// # Errors
/// Every fault of every file, and of what they name on this host.
pub fn load(root: &Root) -> Result<Loaded, Faults> {
    let (sources, file_faults) = files::find(root);
    let read = read::read(Some(root), &sources);
    let faults: Faults = file_faults.into_iter().chain(read.faults).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Loaded {
        settings: read.settings,
        sources,
    })
}

/// The config of one program: the file `path` and nothing else. No pool where it names none.
///
/// # Errors
/// It is not there, or every fault of it.
pub fn load_one(root: &Root, path: &str) -> Result<Settings, Faults> {
    let fail = |fault: Fault| -> Faults { [fault].into_iter().collect() };
    let (text, distrust) = match files::read(root, path).map_err(fail)? {
        Some(found) => found,
        None => return Err(fail(files::fault(path, "is not there"))),
    };
    let pools = toml::from_str::<toml::Table>(&text).is_ok_and(|table| {
        table
            .get("pool")
            .is_some_and(|pool| pool.as_table().is_some_and(|pools| !pools.is_empty()))
    });
    let sources = [Source {
        path: path.to_owned(),
        text,
    }];
    let read = read::read(Some(root), &sources);
    let faults: Faults = distrust.into_iter().chain(read.faults).collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut settings = read.settings;
    if !pools {
        settings.pools.clear();
    }
    Ok(settings)
}

/// What `sources` say, later ones winning. The host is not looked at: what was good once stays usable.
///
/// # Errors
/// Every fault of every source.
pub fn from_sources(sources: &[Source]) -> Result<Settings, Faults> {
    let read = read::read(None, sources);
    if !read.faults.is_empty() {
        return Err(read.faults.into_iter().collect());
    }
    Ok(read.settings)
}
