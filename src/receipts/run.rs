//! The state of the running drain, for those who join it, watch it, or take it over.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::drain::{Cause, Outcome};
use crate::world::Root;

const PATH: &str = "/run/drainctl/drain.json";
const MOST_BYTES: u64 = 64 << 10;

/// One drain, as the run folder shows it. Written at its start, at each phase, and at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The drain's id.
    pub id: String,
    /// The process that runs it.
    pub pid: u32,
    /// Why it runs.
    pub cause: Cause,
    /// When it began, on the clock of [`boot_clock`].
    pub began: Duration,
    /// The most it may take.
    pub limit: Duration,
    /// The units that it drains, once they are known.
    #[serde(default)]
    pub units: Vec<String>,
    /// What it is doing.
    pub phase: String,
    /// How it ended, once it has, with its exit code.
    pub ended: Option<(Outcome, u8)>,
}

impl Run {
    /// Takes over the drain that was killed before its end, if its time is not over; begins one otherwise. Whether it was taken
    /// over. The caller holds the lock, so nobody else runs one.
    #[must_use]
    pub fn begin_or_resume(root: &Root) -> (Self, bool) {
        let pid = std::process::id();
        if let Some(run) = Self::read(root)
            && run.ended.is_none()
            && boot_clock() < run.began + run.limit
        {
            return (Self { pid, ..run }, true);
        }
        let run = Self {
            id: format!(
                "{}-{pid}",
                jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3f")
            ),
            pid,
            cause: Cause::Unknown,
            began: boot_clock(),
            limit: Duration::ZERO,
            units: Vec::new(),
            phase: String::new(),
            ended: None,
        };
        (run, false)
    }

    /// What is written now; nothing where it can't be understood, since it only helps.
    #[must_use]
    pub fn read(root: &Root) -> Option<Self> {
        serde_json::from_str(&root.read(PATH, MOST_BYTES).ok()?).ok()
    }

    /// Takes it away, however it stands: whoever waited for it runs a drain of its own.
    ///
    /// # Errors
    /// What the system says.
    pub fn withdraw(root: &Root) -> std::io::Result<()> {
        root.remove(PATH).map(drop)
    }

    /// Removes what a drain that was killed left: nobody is to take it over any more.
    ///
    /// # Errors
    /// What the system says.
    pub fn forget(root: &Root) -> std::io::Result<()> {
        if Self::read(root).is_some_and(|run| run.ended.is_none()) {
            root.remove(PATH)?;
        }
        Ok(())
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, root: &Root) -> std::io::Result<()> {
        root.replace(PATH, &serde_json::to_vec(self)?, 0o644)
    }
}

/// The time since boot, suspended time included: comparable between processes, unlike the monotonic clock's `Instant`.
#[must_use]
pub fn boot_clock() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
