//! What is done where a drain should not begin yet: go on, wait, refuse.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration::{self, Friendly};
use crate::drain::Cause;

/// What is done where a drain should not begin yet. Written `"warn"`, `"wait 30s"`, `"refuse"` or `"wait 30s, refuse"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Policy {
    /// So long it is waited for.
    pub wait: Duration,
    /// Whether the drain is refused after that. Otherwise it goes on, and says so.
    pub refuse: bool,
}

impl Policy {
    /// Goes on at once.
    pub const WARN: Self = Self {
        wait: Duration::ZERO,
        refuse: false,
    };
    /// Refuses at once.
    pub const REFUSE: Self = Self {
        wait: Duration::ZERO,
        refuse: true,
    };

    /// Waits for `wait` and goes on.
    #[must_use]
    pub const fn wait(wait: Duration) -> Self {
        Self {
            wait,
            refuse: false,
        }
    }

    /// Whether the drain may have to wait for an answer.
    #[must_use]
    pub fn holds(self) -> bool {
        self != Self::WARN
    }
}

impl TryFrom<String> for Policy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let how = || {
            format!(
                "`{}` is not one of \"warn\", \"refuse\", \"wait 30s\" and \"wait 30s, refuse\"",
                text.escape_debug()
            )
        };
        let mut words = text.split(',').map(str::trim);
        let first = words.next().unwrap_or_default();
        let refuse = match words.next() {
            None => first == "refuse",
            Some("refuse") if first.starts_with("wait") => true,
            Some(_) => return Err(how()),
        };
        if words.next().is_some() {
            return Err(how());
        }
        let wait = match first {
            "warn" | "refuse" => Duration::ZERO,
            _ => {
                let wait = first.strip_prefix("wait ").ok_or_else(how)?;
                duration::parse(wait.trim_start())?
            }
        };
        Ok(Self { wait, refuse })
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.wait.is_zero(), self.refuse) {
            (true, false) => f.write_str("warn"),
            (true, true) => f.write_str("refuse"),
            (false, false) => write!(f, "wait {}", Friendly(self.wait)),
            (false, true) => write!(f, "wait {}, refuse", Friendly(self.wait)),
        }
    }
}

/// A policy for each kind of cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// Poweroff, reboot and the like. They can't be refused.
    pub shutdown: Policy,
    /// A restart or stop of a target unit or of the hook. systemd does it in any case.
    pub restart: Policy,
    /// `drain` and `rehearse` by hand.
    pub by_hand: Policy,
}

impl Policies {
    /// That for `cause`.
    #[must_use]
    pub fn of(&self, cause: Cause) -> Policy {
        match cause {
            Cause::ByHand => self.by_hand,
            cause if cause.is_shutdown() => self.shutdown,
            _ => self.restart,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_and_written_the_same() {
        for text in ["warn", "refuse", "wait 30s", "wait 1m 30s, refuse"] {
            let policy = Policy::try_from(text.to_owned()).unwrap();
            assert_eq!(policy.to_string(), text);
        }
        for text in [
            "",
            "wait",
            "wait 30",
            "wait 30s, warn",
            "refuse, refuse",
            "wait 1s, refuse, x",
            "Warn",
        ] {
            assert!(Policy::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn each_cause_has_its_policy() {
        let policies = Policies {
            shutdown: Policy::WARN,
            restart: Policy::wait(Duration::from_secs(1)),
            by_hand: Policy::REFUSE,
        };
        assert_eq!(policies.of(Cause::Unknown), policies.shutdown);
        assert_eq!(policies.of(Cause::Reboot), policies.shutdown);
        assert_eq!(policies.of(Cause::HookStop), policies.restart);
        assert_eq!(policies.of(Cause::ByHand), policies.by_hand);
    }
}
