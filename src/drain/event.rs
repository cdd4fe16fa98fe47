//! What happened in a drain: the only language that reports understand.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::curve::Curve;
use super::outcome::Count;
use super::waits::Wait;
use super::{Cause, Outcome};
use crate::evidence::Verdict;
use crate::pools::PoolErrorKind;
use crate::probes::Counted;
use crate::text::one_line;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The drain began.
    Began {
        /// Its id.
        id: String,
        /// Why.
        cause: Cause,
        /// The most it may take.
        limit: Duration,
        /// It takes over a drain that was killed.
        resumed: bool,
    },
    /// Something an operator should know.
    Note {
        /// A sentence.
        text: String,
    },
    /// What is watched.
    Found {
        /// The target units.
        units: Vec<String>,
        /// The programs that listen, each with its ports.
        listeners: Vec<(String, u16)>,
        /// The programs that listen on Unix sockets, each with the path.
        #[serde(default)]
        sockets: Vec<(String, String)>,
    },
    /// A step of leaving a pool.
    Pool {
        /// The pool's name.
        pool: String,
        /// What happened.
        step: PoolStep,
    },
    /// A phase began.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// Somebody gave it more time.
    Extended {
        /// So much more.
        by: Duration,
        /// The most it may take now.
        limit: Duration,
    },
    /// All watched connections were looked at.
    Looked(Looked),
    /// A look failed; what is in flight is unknown.
    Blind {
        /// Why.
        error: String,
    },
    /// It is over.
    Ended(Box<Report>),
}

/// What is shown of an end that is no address, in characters; the kernel allows 108 bytes (`UNIX_PATH_MAX`).
const MOST_END: usize = 120;
/// A sentence that an event carries is no longer, in characters.
const MOST_TEXT: usize = 500;

impl Event {
    /// The same, with what servers and other programs said made fit to be shown.
    #[must_use]
    pub fn plain(mut self) -> Self {
        match &mut self {
            Self::Note { text } | Self::Blind { error: text } => *text = one_line(text, MOST_TEXT),
            Self::Pool {
                step: PoolStep::Retrying { error, .. } | PoolStep::Failed { error },
                ..
            } => *error = one_line(error, MOST_TEXT),
            _ => {}
        }
        self
    }
}

/// A step of leaving a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum PoolStep {
    /// The receipt is on disk.
    Receipt,
    /// The pool was asked and agreed.
    Asked,
    /// The pool itself says that this host is out.
    Out,
    /// The pool does not know this host: nothing to leave.
    NotMember,
    /// A call failed; it is tried again.
    Retrying {
        /// What kind of failure.
        kind: PoolErrorKind,
        /// What went wrong.
        error: String,
    },
    /// It was not left within its limit.
    Failed {
        /// What went wrong last.
        error: String,
    },
    /// It was rejoined.
    Rejoined,
}

/// What a drain is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing is changed yet: others are waited for.
    Queueing,
    /// Asking the pools for no new traffic.
    Leaving,
    /// Waiting until nothing new arrives.
    Settling,
    /// Waiting until nothing is in flight.
    Waiting,
    /// Done.
    Ended,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Queueing => "queueing",
            Self::Leaving => "leaving",
            Self::Settling => "settling",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
        })
    }
}

/// What a look at all connections showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Connections that hold the drain, uncertain ones included.
    pub busy: u64,
    /// Those of `busy` that can't be told apart.
    pub uncertain: u64,
    /// Connections with nothing in flight.
    pub idle: u64,
    /// Connections and requests new since the look before.
    pub arrived: u64,
    /// `busy` by program, in the order of their names.
    pub programs: Vec<(String, u64)>,
    /// The busy ones, oldest request first, at most [`Looked::MOST_HELD`].
    pub held: Vec<Held>,
    /// Why what a probe counts is unknown; each stands in `busy` as one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
    /// The longest that a probe has counted anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probed: Option<Duration>,
    /// Streams that go on, and are not waited for any longer since their own deadline has passed.
    #[serde(default)]
    pub overdue: u64,
    /// These, at most [`Looked::MOST_HELD`].
    #[serde(default)]
    pub given_up: Vec<Held>,
}

impl Looked {
    /// How many busy connections are named one by one.
    pub const MOST_HELD: usize = 256;

    /// The age of the oldest request in flight.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.held.first().map(|held| held.age).max(self.probed)
    }

    /// Adds what the probes count.
    pub fn add(&mut self, counted: Vec<Counted>) {
        for Counted { name, count, age } in counted {
            let program = format!("probe {name}");
            let count = match count {
                Ok(0) => continue,
                Ok(count) => count,
                Err(error) => {
                    self.unknown.push(format!("{program}: {error}"));
                    1
                }
            };
            self.busy = self.busy.saturating_add(count);
            self.probed = self.probed.max(Some(age));
            let at = self.programs.partition_point(|(name, _)| *name < program);
            self.programs.insert(at, (program, count));
        }
    }
}

/// A connection that holds the drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The program that listens.
    pub program: String,
    /// The client's side.
    pub peer: End,
    /// Our side.
    pub local: End,
    /// Since the request began.
    pub age: Duration,
    /// Payload bytes received over the connection's life.
    pub received: u64,
    /// Payload bytes sent over the connection's life.
    pub sent: u64,
    /// Why it holds.
    pub verdict: Verdict,
}

/// One end of a connection. As text: `10.0.0.7:51234`, or as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum End {
    /// Of a TCP connection.
    Tcp(SocketAddr),
    /// Of a Unix socket: its path, or the process that holds it.
    Unix(String),
}

impl From<String> for End {
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Unix(text), Self::Tcp)
    }
}

impl From<End> for String {
    fn from(end: End) -> Self {
        end.to_string()
    }
}

impl From<SocketAddr> for End {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(text) => one_line(text, MOST_END).fmt(f),
        }
    }
}

/// The story of one drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The format's version.
    pub version: u32,
    /// The drain's id.
    pub id: String,
    /// The host's name.
    #[serde(default)]
    pub host: String,
    /// Why it ran.
    pub cause: Cause,
    /// When it began.
    pub began: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// The most it might have taken.
    pub limit: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code.
    pub exit: u8,
    /// The phases with the time since the beginning at which they began.
    pub phases: Vec<(Phase, Duration)>,
    /// The target units.
    pub units: Vec<String>,
    /// The pools.
    pub pools: Vec<PoolReport>,
    /// Connections and requests that arrived after the pools were left.
    pub arrived_in_settle: u64,
    /// The most that were in flight at once.
    pub most_in_flight: u64,
    /// When the last request was seen in flight, since the beginning.
    pub last_busy: Option<Duration>,
    /// In flight at the end.
    pub in_flight: Count,
    /// What was in flight at the end, one by one, as far as they are named.
    pub cut: Vec<Held>,
    /// What was in flight over the time, by program.
    #[serde(default)]
    pub curve: Curve,
    /// The requests that were waited for, longest first, at most [`MOST_WAITS`](super::waits::MOST_WAITS).
    #[serde(default)]
    pub waited: Vec<Wait>,
    /// How many others were followed one by one.
    #[serde(default)]
    pub waited_more: u64,
    /// What an operator should know.
    pub notes: Vec<String>,
}

impl Report {
    /// With fewer things named one by one; every number stays.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        const NAMED: usize = 32;
        let dropped = self.waited.len().saturating_sub(NAMED);
        self.waited_more += u64::try_from(dropped).unwrap_or(u64::MAX);
        self.waited.truncate(NAMED);
        self.cut.truncate(NAMED);
        self.notes.truncate(NAMED);
        self
    }

    /// Whether something follows that ends what is in flight: not where the drain was undone, or never began.
    #[must_use]
    pub fn cuts(&self) -> bool {
        self.is_finished() && self.outcome.cuts()
    }

    /// How many requests were cut.
    #[must_use]
    pub fn requests_cut(&self) -> Count {
        if self.outcome.cuts() {
            self.in_flight
        } else {
            Count::Exactly(0)
        }
    }

    /// Whether it is known how the drain ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.outcome != Outcome::Unfinished
    }
}

/// What became of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// Its name in the config.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// When it was asked to send nothing more, since the beginning.
    pub asked: Option<Duration>,
    /// When it said so itself, since the beginning.
    pub out: Option<Duration>,
    /// Why it could not be left.
    pub error: Option<String>,
}
