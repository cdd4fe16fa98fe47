//! Judges one connection from what the kernel shows of it. Pure.
//!
//! The rules and the counts they rest on are in `docs/evidence.md`. Every age is in milliseconds, counted back from the look; the
//! kernel keeps them in ticks (4 ms at HZ=250), so two events in one tick have the same age: a tie.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one look shows of one connection, apart from its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where the connection is in its life.
    pub stage: Stage,
    /// Bytes received that the program has not read (`idiag_rqueue`); counts an unread FIN as one.
    pub unread: u32,
    /// Bytes not sent, or sent and not acknowledged (`idiag_wqueue`); counts our own FIN as one.
    pub unsent: u32,
    /// The ages, unless the kernel withheld them.
    pub ages: Option<Ages>,
    /// Payload bytes received over the connection's life (`tcpi_bytes_received`, Linux 4.1).
    pub received: u64,
    /// Payload bytes sent (`tcpi_bytes_sent`, Linux 4.19).
    pub sent: u64,
    /// Segments sent without payload: `tcpi_segs_out` − `tcpi_data_segs_out` (Linux 4.2, 4.6).
    pub pure_acks: u32,
}

/// Ages in milliseconds. The kernel starts all three when the connection is established.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Since payload was last received (`tcpi_last_data_recv`).
    pub received: u32,
    /// Since payload was last sent (`tcpi_last_data_sent`).
    pub sent: u32,
    /// Since an acknowledgement last arrived (`tcpi_last_ack_recv`).
    pub ack: u32,
}

/// Where a connection is in its life, as far as a request cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The handshake is not over (SYN_RECV): an arrival, but no request yet, and one that a port scan leaves for a minute.
    Opening,
    /// Both sides may send (ESTABLISHED).
    #[default]
    Open,
    /// The client has sent its FIN and may still read an answer (CLOSE_WAIT).
    HalfClosed,
    /// The program has closed; the kernel sends what is left (FIN_WAIT1, CLOSING, LAST_ACK).
    Closing,
    /// Everything was sent and acknowledged (FIN_WAIT2, TIME_WAIT, CLOSE).
    Closed,
}

/// What is known of the connection from looks before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Segments without payload that were sent since the look before the last payload arrived; unknown when there was no such
    /// look.
    pub pure_acks_since: Option<u32>,
    /// The longest pause, in milliseconds, between two bursts of the answer now being sent; zero when it came in one.
    pub longest_pause: u32,
}

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
    /// The last payload came in, and nothing went out since.
    Unanswered,
    /// An answer went out so recently that more of it may follow.
    Answering,
    /// It was opened a moment ago and has not carried a byte yet.
    Fresh,
    /// The kernel withheld its ages.
    Unseen,
}

/// Why a connection can't be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tie {
    /// Received and sent in one tick; what else is known speaks for a request.
    ProbablyBusy,
    /// Received and sent in one tick; what else is known speaks for an answer.
    ProbablyIdle,
}

/// How long things count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// How long after its last sent byte an answer counts as unfinished.
    pub pause: Duration,
    /// How long after its last activity a connection that is probably busy, but can't be told apart, counts as busy.
    pub uncertain: Duration,
}

/// The longest time for which the kernel delays an ACK (`TCP_DELACK_MAX`, include/net/tcp.h): until then, no ACK says nothing.
const LONGEST_DELAYED_ACK: u32 = 200;

/// Judges one connection. `pingpong` is the delayed-ACK mode of the socket (`/proc/net/tcp`, bit 0 of the column after the
/// timeouts), read only where a tie needs it.
#[must_use]
pub fn judge(seen: &Seen, history: &History, pingpong: Option<bool>, holds: &Holds) -> Verdict {
    // The FIN takes one number in the sequence space, so the kernel's subtraction counts it as a byte.
    let fin_received = u32::from(seen.stage == Stage::HalfClosed);
    let fin_sent = u32::from(seen.stage == Stage::Closing);
    match seen.stage {
        Stage::Opening | Stage::Closed => return Verdict::Idle,
        Stage::Closing => {
            // The program is done with it; only bytes of its answer are worth a wait.
            return if seen.unsent > fin_sent {
                Verdict::Busy(Why::Unsent)
            } else {
                Verdict::Idle
            };
        }
        Stage::Open | Stage::HalfClosed => {}
    }
    if seen.unread > fin_received {
        return Verdict::Busy(Why::Unread);
    }
    if seen.unsent > 0 {
        return Verdict::Busy(Why::Unsent);
    }
    let Some(ages) = seen.ages else {
        return Verdict::Busy(Why::Unseen);
    };
    if seen.received == 0 {
        // No request has begun. Proxies open connections ahead of use, so this can't count for long.
        let quiet = ages.received.min(ages.sent);
        return if within(quiet, holds.pause) {
            Verdict::Busy(Why::Fresh)
        } else {
            Verdict::Idle
        };
    }
    if ages.received < ages.sent {
        return Verdict::Busy(Why::Unanswered);
    }
    if ages.sent < ages.received || ages.ack < ages.received {
        return answered(&ages, history, holds);
    }
    judge_tie(&ages, history, pingpong, holds)
}

/// Something went out after the last payload came in: it is either the whole answer, or a part of one.
fn answered(ages: &Ages, history: &History, holds: &Holds) -> Verdict {
    // An answer that came in bursts is expected to go on for twice its longest pause.
    let pause = holds
        .pause
        .max(2 * Duration::from_millis(history.longest_pause.into()));
    if within(ages.sent, pause) {
        Verdict::Busy(Why::Answering)
    } else {
        Verdict::Idle
    }
}

/// Payload came in and went out within one tick, and no ACK has arrived since: which was first?
fn judge_tie(ages: &Ages, history: &History, pingpong: Option<bool>, holds: &Holds) -> Verdict {
    let mature = ages.received > LONGEST_DELAYED_ACK;
    let tie = match (history.pure_acks_since, pingpong) {
        // A request without an answer is acknowledged by a segment of its own, at the latest by the delayed-ACK timer.
        (Some(0), _) if mature => return answered(ages, history, holds),
        // That timer also ends the pingpong mode, so the bit is off while a request waits for its answer.
        (Some(1..), Some(false)) => return Verdict::Busy(Why::Unanswered),
        (_, Some(true)) => Tie::ProbablyIdle,
        (_, Some(false) | None) => Tie::ProbablyBusy,
    };
    let hold = match tie {
        Tie::ProbablyIdle => holds.pause,
        Tie::ProbablyBusy => holds.uncertain,
    };
    if within(ages.received, hold) {
        Verdict::Uncertain(tie)
    } else {
        Verdict::Idle
    }
}

fn within(age: u32, hold: Duration) -> bool {
    Duration::from_millis(age.into()) < hold
}

impl Verdict {
    /// Whether the drain waits for it.
    #[must_use]
    pub fn holds(self) -> bool {
        self != Self::Idle
    }

    /// Whether the pingpong bit could change it.
    #[must_use]
    pub fn is_tie(self) -> bool {
        matches!(self, Self::Uncertain(_))
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Busy(Why::Unaccepted) => "not yet accepted by the program",
            Self::Busy(Why::Unread) => "request unread by the program",
            Self::Busy(Why::Unsent) => "answer not yet taken by the peer",
            Self::Busy(Why::Unanswered) => "request not answered",
            Self::Busy(Why::Answering) => "answer just sent, may go on",
            Self::Busy(Why::Fresh) => "just opened",
            Self::Busy(Why::Unseen) => "can't be seen",
            Self::Uncertain(Tie::ProbablyBusy) => "uncertain, probably a request",
            Self::Uncertain(Tie::ProbablyIdle) => "uncertain, probably answered",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOLDS: Holds = Holds {
        pause: Duration::from_secs(1),
        uncertain: Duration::from_secs(10),
    };

    fn open(received: u32, sent: u32, ack: u32) -> Seen {
        Seen {
            ages: Some(Ages {
                received,
                sent,
                ack,
            }),
            received: 100,
            sent: 100,
            ..Seen::default()
        }
    }

    fn alone(seen: &Seen) -> Verdict {
        judge(seen, &History::default(), None, &HOLDS)
    }

    #[test]
    fn bytes_in_a_queue_are_busy_whatever_the_ages_say() {
        let idle = open(60_000, 50_000, 50_000);
        assert_eq!(alone(&idle), Verdict::Idle);
        assert_eq!(
            alone(&Seen { unread: 1, ..idle }),
            Verdict::Busy(Why::Unread)
        );
        assert_eq!(
            alone(&Seen { unsent: 1, ..idle }),
            Verdict::Busy(Why::Unsent)
        );
    }

    #[test]
    fn received_later_than_sent_is_busy_for_ever() {
        assert_eq!(
            alone(&open(3_600_000, 3_600_004, 3_600_000)),
            Verdict::Busy(Why::Unanswered)
        );
    }

    #[test]
    fn sent_later_than_received_is_busy_while_younger_than_the_pause() {
        assert_eq!(
            alone(&open(30_000, 999, 999)),
            Verdict::Busy(Why::Answering)
        );
        assert_eq!(alone(&open(30_000, 1000, 1000)), Verdict::Idle);
    }

    #[test]
    fn an_answer_in_bursts_is_given_twice_its_longest_pause() {
        let history = History {
            longest_pause: 800,
            ..History::default()
        };
        assert_eq!(
            judge(&open(9_000, 1500, 1500), &history, None, &HOLDS),
            Verdict::Busy(Why::Answering)
        );
        assert_eq!(
            judge(&open(9_000, 1600, 1600), &history, None, &HOLDS),
            Verdict::Idle
        );
    }

    #[test]
    fn one_tick_with_a_later_ack_is_answered() {
        assert_eq!(alone(&open(5000, 5000, 4960)), Verdict::Idle);
    }

    #[test]
    fn ties_are_broken_by_pure_acks_and_the_pingpong_bit() {
        let judge_with = |pure, pingpong, age| {
            let history = History {
                pure_acks_since: pure,
                longest_pause: 0,
            };
            judge(&open(age, age, age), &history, pingpong, &HOLDS)
        };
        let busy = Verdict::Uncertain(Tie::ProbablyBusy);
        let idle = Verdict::Uncertain(Tie::ProbablyIdle);
        // No look before the last activity: the bit alone does not decide.
        assert_eq!(judge_with(None, Some(false), 5000), busy);
        assert_eq!(judge_with(None, None, 5000), busy);
        assert_eq!(judge_with(None, Some(true), 500), idle);
        assert_eq!(judge_with(None, Some(true), 5000), Verdict::Idle);
        assert_eq!(judge_with(None, Some(false), 10_000), Verdict::Idle);
        // Looked at before: no pure ACK says answered, once the delayed ACK would have gone out.
        assert_eq!(judge_with(Some(0), Some(false), 100), busy);
        assert_eq!(judge_with(Some(0), Some(false), 5000), Verdict::Idle);
        assert_eq!(
            judge_with(Some(1), Some(false), 60_000),
            Verdict::Busy(Why::Unanswered)
        );
        assert_eq!(judge_with(Some(1), Some(true), 500), idle);
    }

    #[test]
    fn a_connection_without_a_byte_holds_no_longer_than_the_pause() {
        let fresh = Seen {
            received: 0,
            sent: 0,
            ..open(10, 10, 10)
        };
        assert_eq!(alone(&fresh), Verdict::Busy(Why::Fresh));
        assert_eq!(
            alone(&Seen {
                received: 0,
                sent: 0,
                ..open(5000, 5000, 5000)
            }),
            Verdict::Idle
        );
    }

    #[test]
    fn a_half_closed_client_still_gets_its_answer_and_its_fin_is_not_a_byte() {
        let asked = Seen {
            stage: Stage::HalfClosed,
            unread: 1,
            ..open(5000, 9000, 5000)
        };
        assert_eq!(alone(&asked), Verdict::Busy(Why::Unanswered));
        let answered = Seen {
            stage: Stage::HalfClosed,
            unread: 1,
            ..open(9000, 5000, 5000)
        };
        assert_eq!(alone(&answered), Verdict::Idle);
        assert_eq!(
            alone(&Seen {
                unread: 2,
                ..answered
            }),
            Verdict::Busy(Why::Unread)
        );
    }

    #[test]
    fn a_closing_connection_is_busy_only_with_bytes_of_its_answer() {
        let fin_only = Seen {
            stage: Stage::Closing,
            unsent: 1,
            ..open(9000, 5000, 5000)
        };
        assert_eq!(alone(&fin_only), Verdict::Idle);
        assert_eq!(
            alone(&Seen {
                unsent: 2,
                ..fin_only
            }),
            Verdict::Busy(Why::Unsent)
        );
        assert_eq!(
            alone(&Seen {
                stage: Stage::Closed,
                unsent: 9,
                ..fin_only
            }),
            Verdict::Idle
        );
    }

    #[test]
    fn withheld_ages_are_never_idle() {
        assert_eq!(
            alone(&Seen {
                ages: None,
                ..open(0, 0, 0)
            }),
            Verdict::Busy(Why::Unseen)
        );
    }

    proptest! {
        #[test]
        fn a_request_without_an_answer_is_never_idle(
            received in 0u32..4_000_000, later in 1u32..1000, ack in any::<u32>(), pure in any::<Option<u32>>(), pingpong in any::<Option<bool>>(),
        ) {
            let history = History { pure_acks_since: pure, longest_pause: 0 };
            let verdict = judge(&open(received, received + later, ack), &history, pingpong, &HOLDS);
            prop_assert_eq!(verdict, Verdict::Busy(Why::Unanswered));
        }
    }
}
