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
    /// Payload bytes sent (`tcpi_bytes_sent`, Linux 4.19; before that those acknowledged).
    pub sent: u64,
    /// Segments counted, if the kernel does (Linux 4.6).
    pub segments: Option<Segments>,
}

/// Segments of one connection, modulo 2¹⁶: 100 000 connections are remembered twice, and only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// Sent without payload: `tcpi_segs_out` − `tcpi_data_segs_out`; not the SYN-ACK.
    pub acks_sent: u16,
    /// Received without payload: `tcpi_segs_in` − `tcpi_data_segs_in`.
    pub acks_received: u16,
    /// Received with payload: `tcpi_data_segs_in`.
    pub payloads_received: u16,
}

impl Segments {
    /// So many that they decide nothing.
    const UNKNOWN: Self = Self {
        acks_sent: u16::MAX,
        acks_received: u16::MAX,
        payloads_received: u16::MAX,
    };

    /// What has been added since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            acks_sent: self.acks_sent.wrapping_sub(before.acks_sent),
            acks_received: self.acks_received.wrapping_sub(before.acks_received),
            payloads_received: self
                .payloads_received
                .wrapping_sub(before.payloads_received),
        }
    }
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

/// The delayed-ACK mode of a socket, in which it hopes to send the ACK with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pingpong {
    /// Only `/proc/net/tcp` shows it, and it was not read.
    #[default]
    Unread,
    /// It could not be read, or says nothing on this kernel.
    Unknown,
    /// Off.
    Off,
    /// On.
    On,
}

/// What is known of the connection from looks before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Segments since the look before the last payload arrived; unknown when there was no such look.
    pub since: Option<Segments>,
    /// The delayed-ACK mode since the last payload.
    pub pingpong: Pingpong,
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
    /// It is open, and nothing that the kernel keeps of it tells more: a Unix socket.
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
}

/// How long things count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// How long after its last sent byte an answer counts as unfinished.
    pub pause: Duration,
    /// How long after its last activity a connection that can't be told apart counts as busy.
    pub uncertain: Duration,
}

/// The longest time for which the kernel delays an ACK (`TCP_DELACK_MAX`, include/net/tcp.h): until then, no ACK says nothing.
pub(super) const LONGEST_DELAYED_ACK: u32 = 200;

/// Judges one connection.
#[must_use]
pub fn judge(seen: &Seen, history: &History, holds: &Holds) -> Verdict {
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
    if ages.received < ages.sent || seen.sent == 0 {
        return Verdict::Busy(Why::Unanswered);
    }
    if ages.sent < ages.received {
        return answered(&ages, history, holds);
    }
    judge_tie(seen, &ages, history, holds)
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

/// Payload came in and went out within one tick: which was first?
fn judge_tie(seen: &Seen, ages: &Ages, history: &History, holds: &Holds) -> Verdict {
    let mature = ages.received > LONGEST_DELAYED_ACK;
    let acks_sent = match (history.since, seen.segments) {
        (Some(since), _) => Some(since.acks_sent),
        // The kernel acknowledges the very first payload of a connection at once.
        (None, Some(segments)) => Some(segments.acks_sent.saturating_sub(1)),
        (None, None) => None,
    };
    // A request without an answer is acknowledged by a segment of its own, at the latest by the delayed-ACK timer.
    if acks_sent == Some(0) && mature {
        return answered(ages, history, holds);
    }
    let since = history.since.unwrap_or(Segments::UNKNOWN);
    let tie = match history.pingpong {
        // A FIN counts among the segments and switches the mode on, so neither says anything.
        _ if seen.stage == Stage::HalfClosed => Tie::ProbablyBusy,
        // All that was sent is acknowledged. An answer is by a segment without payload, unless a request brought the ACK.
        _ if since.acks_received == 0 => return Verdict::Busy(Why::Unanswered),
        Pingpong::Unread => return Verdict::Uncertain(Tie::Undecided),
        // The peer acknowledged the answer by itself. A request that it sent twice would have switched the mode off.
        Pingpong::On if ages.ack < ages.received => return answered(ages, history, holds),
        // A payload sent within the tick switches the mode on, and only the delayed-ACK timer of a later request off again.
        Pingpong::Off => return Verdict::Busy(Why::Unanswered),
        // That timer is the only way in which a request of one segment is acknowledged in that mode.
        Pingpong::On if since.payloads_received == 1 && mature => {
            return answered(ages, history, holds);
        }
        Pingpong::On => Tie::ProbablyIdle,
        Pingpong::Unknown => Tie::ProbablyBusy,
    };
    if within(ages.received, holds.uncertain) {
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
            Self::Busy(Why::Unanswered) => "request not answered",
            Self::Busy(Why::Answering) => "answer just sent, may go on",
            Self::Busy(Why::Fresh) => "just opened",
            Self::Busy(Why::Unseen) => "can't be seen",
            Self::Busy(Why::Open) => "open, and can't be told apart from idle",
            Self::Uncertain(Tie::ProbablyBusy) => "uncertain, probably a request",
            Self::Uncertain(Tie::Undecided) => "uncertain",
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

    const UNKNOWN: History = History {
        since: None,
        pingpong: Pingpong::Unknown,
        longest_pause: 0,
    };

    fn alone(seen: &Seen) -> Verdict {
        judge(seen, &UNKNOWN, &HOLDS)
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
            judge(&open(9_000, 1500, 1500), &history, &HOLDS),
            Verdict::Busy(Why::Answering)
        );
        assert_eq!(
            judge(&open(9_000, 1600, 1600), &history, &HOLDS),
            Verdict::Idle
        );
    }

    const fn segments(acks_sent: u16, acks_received: u16, payloads_received: u16) -> Segments {
        Segments {
            acks_sent,
            acks_received,
            payloads_received,
        }
    }

    fn tie(age: u32, since: Option<Segments>, pingpong: Pingpong) -> Verdict {
        let seen = Seen {
            segments: Some(segments(9, 9, 9)),
            ..open(age, age, age)
        };
        let history = History {
            since,
            pingpong,
            longest_pause: 0,
        };
        judge(&seen, &history, &HOLDS)
    }

    const PROBABLY_BUSY: Verdict = Verdict::Uncertain(Tie::ProbablyBusy);
    const PROBABLY_IDLE: Verdict = Verdict::Uncertain(Tie::ProbablyIdle);

    #[test]
    fn a_tie_without_history_is_decided_by_the_bit_only_when_it_is_off() {
        assert_eq!(
            tie(60_000, None, Pingpong::Off),
            Verdict::Busy(Why::Unanswered)
        );
        assert_eq!(tie(5000, None, Pingpong::On), PROBABLY_IDLE);
        assert_eq!(tie(5000, None, Pingpong::Unknown), PROBABLY_BUSY);
        // However old it is: off would say that it is busy.
        let unread = tie(60_000, None, Pingpong::Unread);
        assert!(unread.is_undecided());
        assert_eq!(tie(10_000, None, Pingpong::On), Verdict::Idle);
        assert_eq!(tie(10_000, None, Pingpong::Unknown), Verdict::Idle);
    }

    #[test]
    fn a_connection_that_never_sent_a_second_ack_has_answered() {
        let seen = Seen {
            segments: Some(segments(1, 9, 9)),
            ..open(5000, 5000, 5000)
        };
        assert_eq!(alone(&seen), Verdict::Idle);
        let young = Seen {
            ages: open(100, 100, 100).ages,
            ..seen
        };
        assert_eq!(alone(&young), PROBABLY_BUSY);
        let uncounted = Seen {
            segments: None,
            ..seen
        };
        assert_eq!(alone(&uncounted), PROBABLY_BUSY);
    }

    #[test]
    fn a_tie_with_history_is_decided_by_acks() {
        // No ACK sent: the answer carried it, once the delayed ACK would have gone out.
        assert_eq!(
            tie(5000, Some(segments(0, 2, 2)), Pingpong::Unknown),
            Verdict::Idle
        );
        assert_eq!(
            tie(100, Some(segments(0, 2, 2)), Pingpong::Unknown),
            PROBABLY_BUSY
        );
        // No ACK received: the request brought it.
        assert_eq!(
            tie(60_000, Some(segments(1, 0, 2)), Pingpong::On),
            Verdict::Busy(Why::Unanswered)
        );
        // A request of one segment in the bit's mode.
        assert_eq!(
            tie(5000, Some(segments(1, 1, 1)), Pingpong::On),
            Verdict::Idle
        );
        assert_eq!(
            tie(100, Some(segments(1, 1, 1)), Pingpong::On),
            PROBABLY_IDLE
        );
        // Of several.
        assert_eq!(
            tie(5000, Some(segments(1, 1, 2)), Pingpong::On),
            PROBABLY_IDLE
        );
        assert_eq!(
            tie(60_000, Some(segments(1, 1, 2)), Pingpong::Off),
            Verdict::Busy(Why::Unanswered)
        );
    }

    #[test]
    fn an_ack_after_a_tie_is_an_answer_s_unless_the_request_came_twice() {
        let judge_with = |age, pingpong| {
            let history = History {
                pingpong,
                ..UNKNOWN
            };
            let seen = Seen {
                segments: Some(segments(9, 9, 9)),
                ..open(age, age, age - 8)
            };
            judge(&seen, &history, &HOLDS)
        };
        assert_eq!(judge_with(5000, Pingpong::On), Verdict::Idle);
        assert_eq!(
            judge_with(60_000, Pingpong::Off),
            Verdict::Busy(Why::Unanswered)
        );
        assert_eq!(judge_with(5000, Pingpong::Unknown), PROBABLY_BUSY);
        assert!(judge_with(60_000, Pingpong::Unread).is_undecided());
    }

    #[test]
    fn without_a_byte_sent_nothing_was_answered() {
        let seen = Seen {
            sent: 0,
            ..open(60_000, 60_000, 60_000)
        };
        assert_eq!(alone(&seen), Verdict::Busy(Why::Unanswered));
    }

    #[test]
    fn a_fin_makes_acks_and_the_bit_say_nothing() {
        let seen = Seen {
            stage: Stage::HalfClosed,
            segments: Some(segments(2, 2, 1)),
            ..open(5000, 5000, 4960)
        };
        let history = History {
            since: Some(segments(1, 1, 1)),
            pingpong: Pingpong::On,
            longest_pause: 0,
        };
        assert_eq!(judge(&seen, &history, &HOLDS), PROBABLY_BUSY);
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
            received in 0u32..4_000_000, later in 1u32..1000, ack in any::<u32>(), acks in any::<Option<u16>>(), mode in 0usize..4,
        ) {
            let pingpong = [Pingpong::Unread, Pingpong::Unknown, Pingpong::Off, Pingpong::On][mode];
            let history = History { since: acks.map(|n| segments(n, n, n)), pingpong, longest_pause: 0 };
            let verdict = judge(&open(received, received + later, ack), &history, &HOLDS);
            prop_assert_eq!(verdict, Verdict::Busy(Why::Unanswered));
        }
    }
}
