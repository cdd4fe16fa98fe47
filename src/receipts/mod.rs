//! What must survive a crash or a reboot: the lock, the receipts, the last good settings, the history.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::PoolSpec;

/// Survives a reboot: receipts, last good settings, history.
pub const STATE_DIR: &str = "/var/lib/drainctl";
/// Gone at a reboot: the lock, the state of the running drain.
pub const RUN_DIR: &str = "/run/drainctl";

/// What stood in one pool before this program changed it. On disk before the change is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The pool as it was configured then, so that rejoin reaches the same place.
    pub pool: PoolSpec,
    /// When it was written.
    pub written: Timestamp,
    /// What the pool's `prepare` answered.
    pub before: Value,
}
