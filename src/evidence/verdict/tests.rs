//! The rules, one by one.

use super::*;
use proptest::prelude::*;

const HOLDS: Holds = Holds {
    pause: Duration::from_secs(1),
    uncertain: Duration::from_secs(10),
    stream_quiet: Duration::from_secs(10),
};

/// Of a port with plain HTTP/1.1.
pub(super) const PLAIN: Terms = Terms {
    holds: HOLDS,
    rule: Rule::Requests,
    spoken: Spoken::PLAIN,
    streams_over: false,
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
    flow: None,
};

fn alone(seen: &Seen) -> Verdict {
    judge(seen, &UNKNOWN, &PLAIN)
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
fn a_peer_that_acknowledges_nothing_is_named_and_waited_for() {
    let sent = |retransmits| Seen {
        unsent: 100,
        retransmits,
        ..open(60_000, 50_000, 59_000)
    };
    assert_eq!(alone(&sent(3)), Verdict::Busy(Why::Unsent));
    assert_eq!(alone(&sent(4)), Verdict::Busy(Why::PeerSilent));
    let closing = Seen {
        stage: Stage::Closing,
        ..sent(4)
    };
    assert_eq!(alone(&closing), Verdict::Busy(Why::PeerSilent));
    // Nothing but our own FIN: the answer was taken.
    let fin = Seen {
        unsent: 1,
        ..closing
    };
    assert_eq!(alone(&fin), Verdict::Idle);
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
        judge(&open(9_000, 1500, 1500), &history, &PLAIN),
        Verdict::Busy(Why::Answering)
    );
    assert_eq!(
        judge(&open(9_000, 1600, 1600), &history, &PLAIN),
        Verdict::Idle
    );
    // But no longer than anything is held in doubt.
    let long = History {
        longest_pause: 8000,
        ..History::default()
    };
    let last = |age| judge(&open(30_000, age, age), &long, &PLAIN);
    assert_eq!(last(9_999), Verdict::Busy(Why::Answering));
    assert_eq!(last(10_000), Verdict::Idle);
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
        ..History::default()
    };
    judge(&seen, &history, &PLAIN)
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
        judge(&seen, &history, &PLAIN)
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
fn what_the_peer_says_when_it_is_asked_whether_it_is_there_is_no_answer_s_ack() {
    let acknowledged = |after: u32| {
        let history = History {
            pingpong: Pingpong::On,
            ..UNKNOWN
        };
        let seen = Seen {
            segments: Some(segments(9, 9, 9)),
            ..open(5000, 5000, 5000 - after)
        };
        judge(&seen, &history, &PLAIN)
    };
    assert_eq!(acknowledged(500), Verdict::Idle);
    // The shortest idle time of TCP's keepalive, less a tick.
    assert_eq!(acknowledged(996), PROBABLY_IDLE);
    assert_eq!(acknowledged(4996), PROBABLY_IDLE);
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
        ..History::default()
    };
    assert_eq!(judge(&seen, &history, &PLAIN), PROBABLY_BUSY);
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
        let history = History { since: acks.map(|n| segments(n, n, n)), pingpong, ..History::default() };
        let verdict = judge(&open(received, received + later, ack), &history, &PLAIN);
        prop_assert_eq!(verdict, Verdict::Busy(Why::Unanswered));
    }
}
