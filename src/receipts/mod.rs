//! What must survive a crash or a reboot: the receipts, the lock, the state of the running drain, the history.

mod history;
mod lock;
mod rehearsal;
mod run;
mod store;

pub use history::{MOST_BYTES, MOST_REPORTS, Totals, keep, last, list, read, write_metrics};
pub use lock::{Lock, Locked};
pub use rehearsal::{Rehearsal, Rehearsing};
pub use run::{Run, boot_clock};
pub use store::{Book, Receipt, Slot, Store, TargetMark};

/// Survives a reboot: receipts, last good settings, history.
pub const STATE_DIR: &str = "/var/lib/drainctl";
/// Gone at a reboot: the lock, the state of the running drain.
pub const RUN_DIR: &str = "/run/drainctl";
/// The receipts not used yet; the rejoin unit starts only where it exists.
pub const RECEIPTS: &str = "/var/lib/drainctl/receipts.json";
