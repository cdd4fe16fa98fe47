//! The checked values that the rest of the program works with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::duration;
use super::network::{Ignore, Network};
use super::policy::{Policies, Policy};
use super::section::read_alone;
use crate::evidence::Rule;
use crate::fleet::FleetSpec;
use crate::pools::KINDS;

/// How long leaving a pool may take where its table does not say.
pub const POOL_LIMIT: Duration = Duration::from_secs(15);
/// How long a probe may take to answer where its table does not say.
pub(super) const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// The only pool where none is configured: a file that a balancer's check looks for.
const DEFAULT_POOL: &str = "health-file";

/// Stands in for any pool that can't be left, or does not do what it says, unless the config has its own way.
pub(super) const STAND_IN: &str = "firewall";

/// Everything that can be set, checked, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The units that must not be stopped before the drain is over; empty: found on the host as `install` finds them.
    pub units: Vec<String>,
    /// The most a drain may take, by cause.
    pub deadline: Deadlines,
    /// What outlives the drain besides the units above.
    pub hold: HoldSettings,
    /// When the arrivals after leaving are over.
    pub settle: SettleSettings,
    /// How connections are judged.
    pub watch: WatchSettings,
    /// When the host goes back.
    pub rejoin: RejoinSettings,
    /// Who has to stay.
    pub guard: GuardSettings,
    /// Who may be out at once; nothing where nobody is asked.
    pub fleet: Option<FleetSettings>,
    /// What is told of a drain that has ended.
    pub report: ReportSettings,
    /// The pools, in the order of their names; never empty.
    pub pools: Vec<PoolSpec>,
    /// Who leaves where one of them can't be left, in the order in which they are preferred.
    pub stand_ins: Vec<StandIn>,
    /// What is asked beside the sockets, in the order of their names.
    pub probes: Vec<ProbeSpec>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            units: Vec::new(),
            deadline: Deadlines::default(),
            hold: HoldSettings::default(),
            settle: SettleSettings::default(),
            watch: WatchSettings::default(),
            rejoin: RejoinSettings::default(),
            guard: GuardSettings::default(),
            fleet: None,
            report: ReportSettings::default(),
            pools: default_pools(),
            stand_ins: default_stand_ins(),
            probes: Vec::new(),
        }
    }
}

impl Settings {
    /// Whether the pools are those of a config, and not what there is without one: a file that perhaps nobody looks at.
    #[must_use]
    pub fn has_own_pools(&self) -> bool {
        self.pools != default_pools()
    }

    /// The pools and those that stand in for them.
    pub fn ways(&self) -> impl Iterator<Item = &PoolSpec> {
        let others = self.stand_ins.iter().map(|one| &one.pool);
        self.pools.iter().chain(others)
    }

    /// The pool or stand-in of that name.
    #[must_use]
    pub fn way(&self, name: &str) -> Option<&PoolSpec> {
        self.ways().find(|spec| spec.name == name)
    }

    /// A drain by hand is not refused, and waits for nobody.
    pub fn force(&mut self) {
        self.guard.by_hand = Policy::WARN;
        if let Some(fleet) = &mut self.fleet {
            fleet.policies.by_hand = Policy::WARN;
        }
    }
}

/// The pools where none is configured.
pub(super) fn default_pools() -> Vec<PoolSpec> {
    plain(DEFAULT_POOL).collect()
}

/// Who stands in for those.
pub(super) fn default_stand_ins() -> Vec<StandIn> {
    let stand_in = |pool| StandIn {
        pool,
        covers: Some(vec![DEFAULT_POOL.to_owned()]),
    };
    plain(STAND_IN).map(stand_in).collect()
}

/// The pool of the type `name` with its defaults.
pub(super) fn plain(name: &str) -> impl Iterator<Item = PoolSpec> {
    KINDS
        .iter()
        .filter(move |kind| kind.name == name)
        .filter_map(|kind| {
            Some(PoolSpec {
                name: kind.name.to_owned(),
                kind: kind.name.to_owned(),
                limit: POOL_LIMIT,
                settings: read_alone("", None, kind.settings).ok()?,
            })
        })
}

/// The most a whole drain may take, by cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// Poweroff, reboot, halt, kexec, soft-reboot, and whatever can't be told. More than zero, less than 30 min.
    #[serde(with = "duration")]
    pub shutdown: Duration,
    /// Restart or stop of a target unit or of the hook, and drains by hand. More than zero.
    #[serde(with = "duration")]
    pub restart: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            shutdown: Duration::from_mins(5),
            restart: Duration::from_mins(1),
        }
    }
}

/// What outlives the drain besides the units it is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldSettings {
    /// Whether that is everything that the boot of this host starts, whenever it was installed.
    pub everything: bool,
    /// Units that do in any case.
    pub keep: Vec<String>,
    /// Units that are not named for it, though the programs use them.
    pub except: Vec<String>,
}

impl Default for HoldSettings {
    fn default() -> Self {
        Self {
            everything: true,
            keep: Vec::new(),
            except: Vec::new(),
        }
    }
}

/// The end of the time in which traffic may still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettleSettings {
    /// The least it takes; not more than `max`.
    #[serde(with = "duration")]
    pub min: Duration,
    /// How long nothing new may have arrived where too little was seen to tell how often it does; not more than `max`.
    #[serde(with = "duration")]
    pub quiet: Duration,
    /// The most it takes: health checks never stop.
    #[serde(with = "duration")]
    pub max: Duration,
}

impl Default for SettleSettings {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(1),
            quiet: Duration::from_secs(4),
            max: Duration::from_secs(20),
        }
    }
}

/// How connections are judged.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchSettings {
    /// How long after its last sent byte an answer still counts as unfinished (streams pause between chunks).
    #[serde(with = "duration")]
    pub pause: Duration,
    /// How long after its last activity a connection that can't be told apart counts as busy.
    #[serde(with = "duration")]
    pub uncertain_hold: Duration,
    /// How long after its last payload a connection with streams counts as busy.
    #[serde(with = "duration")]
    pub stream_quiet: Duration,
    /// The most that streams are waited for, from the beginning of the drain.
    #[serde(with = "duration")]
    pub stream_deadline: Duration,
    /// Peers, and ports of ours, whose traffic never counts as arriving.
    pub ignore: Vec<Ignore>,
    /// What is set for single ports; read from tables of their own.
    #[serde(skip)]
    pub ports: BTreeMap<u16, PortSettings>,
}

impl WatchSettings {
    /// What is set for one port.
    #[must_use]
    pub fn port(&self, port: u16) -> PortSettings {
        self.ports.get(&port).copied().unwrap_or_default()
    }
}

/// What is set for one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortSettings {
    /// By which rule its connections are judged; by default what was found there decides.
    pub rule: Option<PortRule>,
    /// As in [`WatchSettings`], for this port alone.
    #[serde(deserialize_with = "given")]
    pub uncertain_hold: Option<Duration>,
    /// As in [`WatchSettings`], for this port alone.
    #[serde(deserialize_with = "given")]
    pub stream_deadline: Option<Duration>,
}

fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(from).map(Some)
}

/// The rules that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortRule {
    /// A request is answered before the next one comes.
    Requests,
    /// Busy while payload moves.
    Streams,
    /// Busy until it is closed.
    UntilClosed,
}

impl From<PortRule> for Rule {
    fn from(rule: PortRule) -> Self {
        match rule {
            PortRule::Requests => Self::Requests,
            PortRule::Streams => Self::Streams,
            PortRule::UntilClosed => Self::UntilClosed,
        }
    }
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(1),
            uncertain_hold: Duration::from_secs(10),
            stream_quiet: Duration::from_secs(10),
            stream_deadline: Duration::from_secs(30),
            ignore: Vec::new(),
            ports: BTreeMap::new(),
        }
    }
}

/// When the host goes back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RejoinSettings {
    /// A URL that must answer 2xx first.
    pub check: Option<String>,
    /// How long one run of `rejoin` waits for the programs before it fails, and is started again by systemd. More than zero.
    #[serde(with = "duration")]
    pub limit: Duration,
}

impl Default for RejoinSettings {
    fn default() -> Self {
        Self {
            check: None,
            limit: Duration::from_mins(5),
        }
    }
}

/// Who has to stay in the pools while this host is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardSettings {
    /// So many others have to be healthy; with 0 nobody is asked.
    pub others: u64,
    /// Where they are not, at a shutdown.
    pub shutdown: Policy,
    /// At a restart or stop of a target unit.
    pub restart: Policy,
    /// At `drain` and `rehearse` by hand.
    pub by_hand: Policy,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            others: 1,
            shutdown: Policy::WARN,
            restart: Policy::WARN,
            by_hand: Policy::REFUSE,
        }
    }
}

impl GuardSettings {
    /// What is done, by cause.
    #[must_use]
    pub fn policies(&self) -> Policies {
        Policies {
            shutdown: self.shutdown,
            restart: self.restart,
            by_hand: self.by_hand,
        }
    }
}

/// What is told of a drain that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportSettings {
    /// A file that each drain writes at its end, for node_exporter's textfile collector.
    pub metrics: Option<String>,
}

/// Who may be out at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetSettings {
    /// Where the slots are.
    pub spec: FleetSpec,
    /// What is done where none is free.
    pub policies: Policies,
}

/// One pool as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Its name in the config: up to 64 letters, digits, `.`, `_` and `-`, not beginning with `.`.
    pub name: String,
    /// Its type, one of the table's.
    pub kind: String,
    /// How long leaving it may take, retries and verification included. More than zero.
    pub limit: Duration,
    /// The type's own settings, checked. What a receipt keeps; never a secret.
    pub settings: Value,
}

/// One probe as the config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Its name in the config, as a pool's.
    pub name: String,
    /// Its type, one of the table's.
    pub kind: String,
    /// How long it may take to answer; then it is unknown. More than zero.
    pub limit: Duration,
    /// The type's own settings, checked.
    pub settings: Value,
}

impl Ignore {
    /// Whether traffic of this peer to this port of ours is meant.
    #[must_use]
    pub fn covers(&self, peer: std::net::IpAddr, port: u16) -> bool {
        match self {
            Self::Peers(network) => network.contains(peer),
            Self::Port(ours) => *ours == port,
        }
    }
}

/// A pool that is left only where another one can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The pool.
    pub pool: PoolSpec,
    /// The names of those it stands in for; `None`: all.
    pub covers: Option<Vec<String>>,
}

impl StandIn {
    /// It stands in for whichever can't be left.
    pub(super) fn for_all(pool: PoolSpec) -> Self {
        Self { pool, covers: None }
    }
}

impl Network {
    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr;
        let (ours, theirs, width) = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u128::from(a.to_bits()), u128::from(b.to_bits()), 32)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            _ => return false,
        };
        let beyond = u32::from(width - self.prefix.min(width));
        ours.checked_shr(beyond) == theirs.checked_shr(beyond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_prefix() {
        let network = |text: &str, prefix| Network {
            address: text.parse().unwrap(),
            prefix,
        };
        let contains = |network: Network, text: &str| network.contains(text.parse().unwrap());
        assert!(contains(network("10.1.0.0", 16), "10.1.255.255"));
        assert!(!contains(network("10.1.0.0", 16), "10.2.0.0"));
        assert!(contains(network("0.0.0.0", 0), "10.2.0.0"));
        assert!(contains(network("::", 0), "fe80::1"));
        assert!(!contains(network("0.0.0.0", 0), "fe80::1"));
        assert!(contains(network("10.0.0.1", 32), "10.0.0.1"));
    }
}
