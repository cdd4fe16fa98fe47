//! The checked values that the rest of the program works with.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that can be set, checked, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The units that must not be stopped before the drain is over; empty: found on the host as `install` finds them.
    pub units: Vec<String>,
    /// The most a drain may take, by cause.
    pub deadline: Deadlines,
    /// When the arrivals after leaving are over.
    pub settle: SettleSettings,
    /// How connections are judged.
    pub watch: WatchSettings,
    /// When the host goes back.
    pub rejoin: RejoinSettings,
    /// The pools, in the order of their names.
    pub pools: Vec<PoolSpec>,
}

/// The most a whole drain may take, by cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Poweroff, reboot, halt, kexec, soft-reboot, and whatever can't be told.
    pub shutdown: Duration,
    /// Restart or stop of a target unit or of the hook, and drains by hand.
    pub restart: Duration,
}

/// The end of the time in which traffic may still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettleSettings {
    /// The least it takes.
    pub min: Duration,
    /// How long nothing new may have arrived.
    pub quiet: Duration,
    /// The most it takes: health checks never stop.
    pub max: Duration,
}

/// How connections are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// How long after its last sent byte an answer still counts as unfinished (streams pause between chunks).
    pub pause: Duration,
    /// How long after its last activity a connection that can't be told apart counts as busy.
    pub uncertain_hold: Duration,
    /// Peers whose traffic never counts as arriving.
    pub ignore: Vec<Network>,
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its address; bits beyond the prefix are zero.
    pub address: std::net::IpAddr,
    /// Bits that count, 0–32 or 0–128.
    pub prefix: u8,
}

/// When the host goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejoinSettings {
    /// A URL that must answer 2xx first.
    pub check: Option<String>,
    /// How long one run of `rejoin` waits for the programs before it fails, and is started again by systemd.
    pub limit: Duration,
}

/// One pool as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Its name in the config.
    pub name: String,
    /// Its type, one of the table's.
    pub kind: String,
    /// How long leaving it may take, retries and verification included.
    pub limit: Duration,
    /// The type's own settings, checked. What a receipt keeps; never a secret.
    pub settings: Value,
}
