//! The places that send this host traffic, behind one trait and one table.

mod absent;
mod ask;
mod aws_target_group;
mod command;
mod consul;
mod envoy;
mod error;
mod files;
mod firewall;
mod haproxy;
mod health_file;
mod http;
mod look;
mod mark;
mod peers;
mod table;

pub use absent::{Absent, Closely, closely};
pub use ask::{Said, ask};
pub use error::{PoolError, PoolErrorKind};
pub(crate) use files::{check_secret as check_secret_file, read_secret};
pub use look::{Find, Looked, look};
pub(crate) use mark::one_line;
pub use peers::{Peers, PeersSaid, peers};
pub use table::{KINDS, Kind, build};

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::world::{Deadline, Root};

/// A place that sends this host traffic.
///
/// Every call ends by its deadline, may be repeated without harm, and tells secrets to nobody.
pub trait Pool: Send + Sync {
    /// Reads, without changing anything, what [`Pool::rejoin`] would have to restore.
    ///
    /// The answer goes into the receipt and must be enough for a later version of this program.
    ///
    /// # Errors
    /// Any [`PoolErrorKind`]; nothing was changed.
    fn prepare(&self, cx: &Context) -> Result<Value, PoolError>;

    /// Asks for no new traffic. Where `before` says that somebody else already took the host out, it changes nothing.
    ///
    /// # Errors
    /// Any [`PoolErrorKind`]; whether something was changed is unknown then, and the receipt stays.
    fn leave(&self, cx: &Context, before: &Value) -> Result<(), PoolError>;

    /// What the pool itself says now. Never inferred from what we asked for.
    ///
    /// # Errors
    /// Any [`PoolErrorKind`]: unknown is not out.
    fn status(&self, cx: &Context) -> Result<Membership, PoolError>;

    /// Whether the pool's own checks of this host's programs pass, leaving aside what we set: the moment to rejoin.
    ///
    /// # Errors
    /// Any [`PoolErrorKind`].
    fn health(&self, cx: &Context, before: &Value) -> Result<Health, PoolError>;

    /// Undoes exactly what `before` says this program changed, even if the config has changed since. Never touches what
    /// somebody else set in the meantime.
    ///
    /// # Errors
    /// Any [`PoolErrorKind`]; the receipt stays.
    fn rejoin(&self, cx: &Context, before: &Value) -> Result<Rejoined, PoolError>;

    /// Where it has to know what the target listens on, and its settings don't say: the place for those ports.
    fn wanted_ports(&mut self) -> Option<&mut BTreeSet<u16>> {
        None
    }

    /// Whether leaving it turns new traffic away, instead of having it sent elsewhere: as a stand-in it comes last then, when what is in flight is
    /// done. What arrives until then is served.
    fn refuses(&self) -> bool {
        false
    }

    /// How many others the pool would still send traffic once this host has left, by what it knows now. Reads only.
    ///
    /// # Errors
    /// Any [`PoolErrorKind`]: unknown is not none.
    fn peers(&self, _cx: &Context) -> Result<Peers, PoolError> {
        Ok(Peers::Untold)
    }

    /// Everybody who is registered there for what this host serves and is sent nothing, as far as the pool tells. Reads only.
    ///
    /// # Errors
    /// Any [`PoolErrorKind`].
    fn absent(&self, _cx: &Context) -> Result<Vec<Absent>, PoolError> {
        Ok(Vec::new())
    }

    /// What leave and rejoin need and this host may not do there, for people; empty where nothing is missing, or the pool can't
    /// tell. Reads only.
    ///
    /// # Errors
    /// Any [`PoolErrorKind`].
    fn missing_rights(&self, _cx: &Context) -> Result<Vec<String>, PoolError> {
        Ok(Vec::new())
    }
}

/// What every call is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// When the call must have ended.
    pub deadline: Deadline,
    /// The file system it sees.
    pub root: Root,
}

/// What a pool says of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Membership {
    /// It sends traffic.
    In,
    /// It was told to stop and has not done so yet.
    Leaving,
    /// It sends no new traffic.
    Out,
    /// It does not know this host.
    NotMember,
}

/// What a pool's own checks say of this host's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All that the pool checks is well, or it checks nothing.
    Passing,
    /// What is not well, for people.
    Failing(String),
}

/// What a rejoin did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejoined {
    /// What stood before the drain stands again.
    Restored,
    /// Somebody else's mark stands there; it was left alone. The text names it.
    LeftAlone(String),
}
