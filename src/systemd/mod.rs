//! systemd: what PID 1 says of the host (`view`; asked over `bus` or `systemctl`, for every unit over `loaded`), what it is told (`notify`).

mod bus;
#[cfg(test)]
pub(crate) mod fake;
pub mod find;
pub mod hold;
pub mod install;
mod loaded;
pub mod logind;
pub mod notify;
pub mod order;
pub mod steps;
pub mod survey;
pub mod systemctl;
pub mod uninstall;
pub mod units;
pub mod uses;
pub mod view;

use std::thread;
use std::time::Duration;

use crate::world::Deadline;

pub use notify::Notifier;
pub use view::{Job, Snapshot, UnitState};

/// The unit whose stop is the drain.
pub const HOOK: &str = "drain-connections.service";
/// How the units begin in which `doctor` tries the hook's sandbox out. They are gone a moment later, and no part of the host.
pub const TRIAL: &str = "drainctl-doctor-";
/// The unit that takes the host back.
pub const REJOIN: &str = "drain-connections-rejoin.service";

/// The unit by way of which everything else outlives the drain.
pub const HOLD: &str = "drain-connections-hold.service";
/// The unit that starts it, once the boot is over.
pub const HOLD_TIMER: &str = "drain-connections-hold.timer";

/// The most that the bus may take; a healthy one answers in a few milliseconds.
const BUS_LIMIT: Duration = Duration::from_secs(1);

/// systemd could not be asked, or did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither way leads to PID 1.
    #[error("systemd does not answer: {bus}; {systemctl}")]
    Silent {
        /// What happened on the system bus.
        bus: Box<Error>,
        /// What happened with `systemctl`.
        systemctl: Box<Error>,
    },
    /// The system bus failed.
    #[error("system bus: {0}")]
    Bus(#[from] zbus::Error),
    /// The system bus did not answer in time.
    #[error("system bus: no answer in time")]
    BusTimedOut,
    /// `systemctl` could not be run to its end.
    #[error(transparent)]
    Exec(#[from] crate::world::exec::ExecError),
    /// `systemctl` failed; what it was asked, and what it says.
    #[error("systemctl {asked}: {says}")]
    Refused {
        /// Its arguments.
        asked: String,
        /// What it wrote.
        says: String,
    },
    /// An answer that can't be understood.
    #[error("unexpected answer from systemd: {0}")]
    Answer(String),
    /// Not the name of a unit.
    #[error("{0:?} is not the name of a unit")]
    Name(String),
}

/// What PID 1 says of the host and of `units`, in one look: over the system bus, else over `systemctl`, which as root talks to PID 1
/// itself and so needs no bus.
///
/// # Errors
/// [`Error::Name`], or [`Error::Silent`] when neither way answers by `deadline`. Unknown counts as a shutdown.
pub fn snapshot(units: &[String], deadline: Deadline) -> Result<Snapshot, Error> {
    if let Some(name) = units.iter().find(|name| !view::is_unit_name(name)) {
        return Err(Error::Name(name.clone()));
    }
    // A bus that hangs must leave time for the second way.
    let limit = deadline.within(BUS_LIMIT.min(deadline.left() / 2));
    bus::snapshot(units, limit).or_else(|bus| {
        systemctl::snapshot(units, deadline).map_err(|systemctl| Error::Silent {
            bus: Box::new(bus),
            systemctl: Box::new(systemctl),
        })
    })
}

/// Whether each of the two ways to PID 1 answers by itself: the system bus, and `systemctl`, which as root talks to PID 1 without it. Why
/// not, for those that don't.
#[must_use]
pub fn ways(deadline: Deadline) -> (Option<Error>, Option<Error>) {
    thread::scope(|scope| {
        let bus = scope.spawn(|| bus::snapshot(&[], deadline).err());
        let systemctl = systemctl::snapshot(&[], deadline).err();
        (bus.join().unwrap_or_default(), systemctl)
    })
}

/// Whether this process was started by systemd to stop a service: only then is it told the service's result (systemd 232,
/// systemd.exec(5), `$SERVICE_RESULT`).
#[must_use]
pub fn runs_as_hook() -> bool {
    std::env::var_os("SERVICE_RESULT").is_some()
}
