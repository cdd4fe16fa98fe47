//! Judges one connection from what the kernel shows of it. Pure.
//!
//! The rules and the counts they rest on are in `docs/evidence.md`. The kernel keeps ages in ticks (4 ms at HZ=250), so two events
//! in one tick have the same age: a tie. A file a rule: `requests`, with `tls` for connections that have seen little more than a
//! handshake, `http2`, `streams`.

mod http2;
mod requests;
mod seen;
mod streams;
mod tls;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use requests::LONGEST_DELAYED_ACK;
pub use seen::{Ages, Flow, History, Last, Pingpong, Seen, Segments, Shape, Stage};

use super::spoken::Spoken;

/// Is a request in flight?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Yes.
    Busy(Why),
    /// No.
    Idle,
    /// It can't be told apart; counts as busy until its hold is over.
    Uncertain(Tie),
    /// It goes on, and is not waited for any longer: streams have a deadline of their own.
    Overdue,
}

/// Why a connection is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It waits in the accept queue.
    Unaccepted,
    /// Bytes lie unread.
    Unread,
    /// Bytes of the answer are not sent, or not acknowledged.
    Unsent,
    /// Bytes of the answer are sent again and again, and the peer acknowledges nothing: it may be gone.
    PeerSilent,
    /// The last payload came in, and nothing went out since.
    Unanswered,
    /// An answer went out so recently that more of it may follow.
    Answering,
    /// It was opened a moment ago and has not carried a byte yet.
    Fresh,
    /// The kernel withheld its ages.
    Unseen,
    /// It carries streams, and payload has moved lately.
    Streaming,
    /// It is open, and nothing that is known of it tells more: a Unix socket, a port that is judged so.
    Open,
}

/// Why a connection can't be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tie {
    /// Received and sent in one tick; what else is known speaks for a request.
    ProbablyBusy,
    /// Received and sent in one tick; what else is known speaks for an answer.
    ProbablyIdle,
    /// Received and sent in one tick, and the delayed-ACK mode is still to be read.
    Undecided,
    /// Little more than a TLS handshake was sent: it may be that, or a short answer.
    Handshake,
}

/// How long things count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// How long after its last sent byte an answer counts as unfinished.
    pub pause: Duration,
    /// How long after its last activity a connection that can't be told apart counts as busy.
    pub uncertain: Duration,
    /// How long after its last payload a connection with streams counts as busy.
    pub stream_quiet: Duration,
}

/// By which rule a port is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A request is answered before the next one comes: HTTP/1.1.
    #[default]
    Requests,
    /// Busy while payload moves: WebSocket, server-sent events.
    Streams,
    /// Busy until it is closed.
    UntilClosed,
    /// Requests and streams on one connection.
    Http2,
}

/// What a connection is judged by, the same for all of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long things count.
    pub holds: Holds,
    /// The rule.
    pub rule: Rule,
    /// What is spoken there, as far as it is known.
    pub spoken: Spoken,
    /// Whether the streams' own deadline has passed.
    pub streams_over: bool,
}

/// Judges one connection.
#[must_use]
pub fn judge(seen: &Seen, history: &History, terms: &Terms) -> Verdict {
    match terms.rule {
        Rule::Requests => requests_over_tls(seen, history, terms),
        Rule::Streams => streams::judge(seen, terms),
        Rule::UntilClosed => streams::judge_until_closed(seen, terms),
        Rule::Http2 => http2::judge(
            requests_over_tls(seen, history, terms),
            seen,
            history,
            terms,
        ),
    }
}

/// The rule `requests`, and what a handshake changes in it.
fn requests_over_tls(seen: &Seen, history: &History, terms: &Terms) -> Verdict {
    let verdict = requests::judge(seen, history, &terms.holds);
    match tls::amend(verdict, seen, terms) {
        // The delayed-ACK mode may still decide it, however old it is.
        undecided @ Verdict::Uncertain(Tie::Undecided) => undecided,
        doubt @ Verdict::Uncertain(_) => hold(doubt, seen, terms.holds.uncertain),
        verdict => verdict,
    }
}

/// The verdict, or idle where nothing has moved for `time`.
fn hold(verdict: Verdict, seen: &Seen, time: Duration) -> Verdict {
    match seen.ages {
        Some(ages) if !within(ages.received.min(ages.sent), time) => Verdict::Idle,
        _ => verdict,
    }
}

/// Timeouts in a row after which a peer counts as silent: with the kernel's shortest (`TCP_RTO_MIN`, 200 ms, doubled each time), three
/// seconds.
const SILENT: u8 = 4;

/// The verdict on a connection whose send queue is not empty.
fn unsent(seen: &Seen) -> Verdict {
    Verdict::Busy(if seen.retransmits < SILENT {
        Why::Unsent
    } else {
        Why::PeerSilent
    })
}

fn within(age: u32, hold: Duration) -> bool {
    Duration::from_millis(age.into()) < hold
}

impl Verdict {
    /// Whether the drain waits for it.
    #[must_use]
    pub fn holds(self) -> bool {
        matches!(self, Self::Busy(_) | Self::Uncertain(_))
    }

    /// Whether it can't be told apart.
    #[must_use]
    pub fn is_tie(self) -> bool {
        matches!(self, Self::Uncertain(_))
    }

    /// Whether the delayed-ACK mode is needed to decide it.
    #[must_use]
    pub fn is_undecided(self) -> bool {
        self == Self::Uncertain(Tie::Undecided)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Busy(Why::Unaccepted) => "not yet accepted by the program",
            Self::Busy(Why::Unread) => "request unread by the program",
            Self::Busy(Why::Unsent) => "answer not yet taken by the peer",
            Self::Busy(Why::PeerSilent) => "answer not acknowledged, the peer may be gone",
            Self::Busy(Why::Unanswered) => "request not answered",
            Self::Busy(Why::Answering) => "answer just sent, may go on",
            Self::Busy(Why::Fresh) => "just opened",
            Self::Busy(Why::Unseen) => "can't be seen",
            Self::Busy(Why::Streaming) => "stream with recent payload",
            Self::Busy(Why::Open) => "open, and can't be told apart from idle",
            Self::Overdue => "stream past its own deadline",
            Self::Uncertain(Tie::ProbablyBusy) => "uncertain, probably a request",
            Self::Uncertain(Tie::Undecided) => "uncertain",
            Self::Uncertain(Tie::Handshake) => "uncertain, a TLS handshake or more",
            Self::Uncertain(Tie::ProbablyIdle) => "uncertain, probably answered",
        })
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
