//! How a drain ended.

use serde::{Deserialize, Serialize};

/// How a drain ended. Never better than what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing was in flight any more.
    Drained,
    /// The deadline came first; what was still in flight, or could not be seen, was cut.
    DeadlineHit,
    /// Somebody asked to go on at once.
    Skipped,
    /// Somebody asked to undo it; the host is back in its pools.
    Aborted,
    /// It did not begin: nobody else would have taken the traffic. Nothing was changed.
    Refused,
    /// There was nothing to wait for: the target is not running.
    NothingToDo,
    /// It has not ended yet; or it ended without a word: killed, or the power went.
    Unfinished,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Drained => "drained",
            Self::DeadlineHit => "deadline-hit",
            Self::Skipped => "skipped",
            Self::Aborted => "aborted",
            Self::Refused => "refused",
            Self::NothingToDo => "nothing-to-do",
            Self::Unfinished => "unfinished",
        })
    }
}

impl Outcome {
    /// Whether what follows ends the requests that are still in flight.
    #[must_use]
    pub fn cuts(self) -> bool {
        !matches!(self, Self::Aborted | Self::Refused | Self::NothingToDo)
    }

    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Drained,
        Self::DeadlineHit,
        Self::Skipped,
        Self::Aborted,
        Self::Refused,
        Self::NothingToDo,
        Self::Unfinished,
    ];
}

/// How many; an error, an interrupted dump or a missing permission is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Seen, all of them.
    Exactly(u64),
    /// Could not be seen. Counts as busy.
    Unknown,
}

impl Count {
    /// Whether it is known that there is none.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::Exactly(0)
    }

    /// As far as it is known; none where it is not.
    #[must_use]
    pub fn known(self) -> u64 {
        match self {
            Self::Exactly(n) => n,
            Self::Unknown => 0,
        }
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(n) => n.fmt(f),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
