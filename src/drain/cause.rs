//! Why a drain runs.

use serde::{Deserialize, Serialize};

/// Why a drain runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The machine powers off.
    Poweroff,
    /// The machine restarts.
    Reboot,
    /// The machine halts.
    Halt,
    /// The machine starts another kernel.
    Kexec,
    /// User space restarts, the kernel stays (systemd 254).
    SoftReboot,
    /// The machine goes to rescue or emergency mode, or the manager exits (containers).
    OtherShutdown,
    /// A target unit restarts.
    Restart,
    /// A target unit stops.
    Stop,
    /// A target unit's main process had died, and systemd starts it again.
    CrashRestart,
    /// Only the hook itself is stopped or restarted.
    HookStop,
    /// Somebody ran `drainctl drain`.
    ByHand,
    /// PID 1 could not be asked. Counts as a poweroff.
    Unknown,
}
