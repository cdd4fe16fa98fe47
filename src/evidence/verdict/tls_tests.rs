//! Fresh connections over TLS.

use super::*;
use crate::evidence::spoken::{Flight, Handshake, Transport};

const FULL: Flight = Flight {
    first: 2900,
    last: 510,
    writes: 2,
};
const RESUMED: Flight = Flight {
    first: 220,
    last: 255,
    writes: 2,
};

fn port(newer: bool, asks_certificate: bool) -> Terms {
    Terms {
        spoken: Spoken {
            transport: Transport::Tls(Handshake {
                newer,
                asks_certificate,
                early_data: false,
                hybrid_keys: newer,
                full: FULL,
                resumed: Some(RESUMED),
            }),
            ..Spoken::PLAIN
        },
        ..tests::PLAIN
    }
}

/// A connection on which the server was last, `age` ago.
fn sent(age: u32, received: u64, sent: u64, segments: (u32, u32), largest: u32) -> Seen {
    Seen {
        ages: Some(Ages {
            received: age + 8,
            sent: age,
            ack: age,
        }),
        received,
        sent,
        shape: Some(Shape {
            sent,
            payloads_received: segments.0,
            payloads_sent: segments.1,
            largest_received: largest,
            mss: 1448,
        }),
        ..Seen::default()
    }
}

fn verdict(seen: &Seen, terms: &Terms) -> Verdict {
    judge(seen, &History::default(), terms)
}

const ASKED: Verdict = Verdict::Busy(Why::Unanswered);
const UNSURE: Verdict = Verdict::Uncertain(Tie::Handshake);

#[test]
fn a_first_request_is_busy_although_tickets_were_sent_after_it() {
    let port = port(true, false);
    // Hello, Finished, request; the full flight in three segments, the tickets in one.
    let full = sent(60_000, 300 + 80 + 150, 3410, (3, 4), 536);
    assert_eq!(verdict(&full, &port), ASKED);
    let resumed = sent(60_000, 560 + 80 + 150, 475, (3, 2), 560);
    assert_eq!(verdict(&resumed, &port), ASKED);
    // Without the probe it would be taken for answered.
    assert_eq!(verdict(&full, &tests::PLAIN), Verdict::Idle);
}

#[test]
fn an_answer_of_the_size_of_a_certificate_is_told_by_its_own_segment() {
    let port = port(true, false);
    // Resumed, and answered with as much as a full handshake has more.
    let answered = sent(60_000, 790, 475 + 2935, (3, 5), 560);
    assert_eq!(verdict(&answered, &port), Verdict::Idle);
}

#[test]
fn a_handshake_alone_holds_no_longer_than_the_pause_where_it_is_known_and_than_the_doubt_where_not()
{
    let port = port(true, false);
    let known = |age| sent(age, 600 + 80, 3410, (2, 4), 600);
    assert_eq!(verdict(&known(500), &port), Verdict::Busy(Why::Fresh));
    assert_eq!(verdict(&known(1000), &port), Verdict::Idle);
    let small = |age| sent(age, 300 + 80, 3410, (2, 4), 536);
    assert_eq!(verdict(&small(9000), &port), UNSURE);
    assert_eq!(verdict(&small(10_000), &port), Verdict::Idle);
    // A client that sends its CCS by itself.
    let apart = sent(1000, 600 + 80, 3410, (3, 4), 600);
    assert_eq!(verdict(&apart, &port), Verdict::Idle);
}

#[test]
fn without_tickets_the_client_is_last_and_that_is_no_request() {
    let mut port = port(true, false);
    if let Transport::Tls(handshake) = &mut port.spoken.transport {
        handshake.full.last = 0;
        handshake.full.writes = 1;
    }
    let last = |bytes, segments| Seen {
        ages: Some(Ages {
            received: 5000,
            sent: 5008,
            ack: 5000,
        }),
        ..sent(0, bytes, 2900, segments, 600)
    };
    assert_eq!(verdict(&last(680, (2, 3)), &port), Verdict::Idle);
    assert_eq!(verdict(&last(800, (3, 3)), &port), ASKED);
    // In one segment with the end of the handshake.
    assert_eq!(verdict(&last(900, (2, 3)), &port), ASKED);
}

#[test]
fn a_request_that_came_with_the_hello_is_told_by_the_end_of_early_data() {
    let mut port = port(true, false);
    if let Transport::Tls(handshake) = &mut port.spoken.transport {
        handshake.early_data = true;
    }
    // Hello, CCS and request in one segment; then EndOfEarlyData and Finished; the server's flight and its tickets.
    let early = sent(60_000, 700 + 26 + 58, 475, (2, 2), 700);
    assert_eq!(verdict(&early, &port), ASKED);
    let apart = sent(60_000, 560 + 300 + 26 + 58, 475, (3, 2), 560);
    assert_eq!(verdict(&apart, &port), ASKED);
    // Resumed, and nothing asked yet.
    let none = sent(1000, 560 + 6 + 74, 475, (2, 2), 560);
    assert_eq!(verdict(&none, &port), Verdict::Idle);
}

#[test]
fn another_size_than_the_measured_ones_is_held_in_doubt() {
    let port = port(true, false);
    let other = |age| sent(age, 790, 1800, (3, 3), 560);
    assert_eq!(verdict(&other(9000), &port), UNSURE);
    assert_eq!(verdict(&other(10_000), &port), Verdict::Idle);
    let large = sent(2000, 790, 8000, (3, 8), 560);
    assert_eq!(verdict(&large, &port), Verdict::Idle);
}

#[test]
fn with_a_client_s_certificate_small_requests_are_in_doubt() {
    let port = port(true, true);
    let seen = |age, segments| sent(age, 300 + 900 + 150, 2900 + 1200, segments, 900);
    assert_eq!(verdict(&seen(9000, (3, 6)), &port), UNSURE);
    assert_eq!(verdict(&seen(10_000, (3, 6)), &port), Verdict::Idle);
}

#[test]
fn the_last_word_of_an_older_handshake_is_the_server_s() {
    let port = port(false, false);
    // Sent after a request: an answer, whatever its size.
    assert_eq!(
        verdict(&sent(1000, 800, 1800, (3, 3), 560), &port),
        Verdict::Idle
    );
    // Resumed, the client is last.
    let resumed = |segments, bytes| Seen {
        ages: Some(Ages {
            received: 5000,
            sent: 5008,
            ack: 5000,
        }),
        ..sent(0, bytes, 475, segments, 600)
    };
    assert_eq!(verdict(&resumed((2, 2), 651), &port), Verdict::Idle);
    assert_eq!(verdict(&resumed((3, 2), 800), &port), ASKED);
}

#[test]
fn a_tie_after_a_full_older_handshake_is_decided_by_its_size() {
    let port = port(false, false);
    let tie = |age, received, sent_bytes, segments| Seen {
        ages: Some(Ages {
            received: age,
            sent: age,
            ack: age,
        }),
        segments: Some(Segments::UNKNOWN),
        ..sent(0, received, sent_bytes, segments, 536)
    };
    let with = |seen: &Seen, pingpong| {
        let history = History {
            pingpong,
            ..History::default()
        };
        judge(seen, &history, &port)
    };
    // Hello, key exchange and Finished, a request in three segments, all within a tick of the server's Finished.
    let asked = tie(60_000, 300 + 126 + 3000, 3410, (5, 4));
    assert_eq!(with(&asked, Pingpong::On), ASKED);
    assert_eq!(with(&asked, Pingpong::Unknown), ASKED);
    // The mode decides where it can.
    let undecided = Verdict::Uncertain(Tie::Undecided);
    assert_eq!(with(&asked, Pingpong::Unread), undecided);
    // Nothing but the handshake.
    let hello = |age| Seen {
        shape: Some(Shape {
            largest_received: 900,
            ..tie(0, 0, 3410, (2, 4)).shape.unwrap()
        }),
        ..tie(age, 900 + 93, 3410, (2, 4))
    };
    let fresh = Verdict::Busy(Why::Fresh);
    assert_eq!(with(&hello(500), Pingpong::On), fresh);
    assert_eq!(with(&hello(1000), Pingpong::On), Verdict::Idle);
    // An answer after the handshake.
    let answered = |age| tie(age, 300 + 126 + 3000, 3410 + 300, (5, 5));
    let doubt = Verdict::Uncertain(Tie::ProbablyIdle);
    assert_eq!(with(&answered(9000), Pingpong::On), doubt);
    assert_eq!(with(&answered(10_000), Pingpong::On), Verdict::Idle);
}

#[test]
fn a_port_that_was_never_probed_may_speak_tls() {
    let unknown = Terms {
        spoken: Spoken::default(),
        ..tests::PLAIN
    };
    let first = |age| sent(age, 530, 3410, (3, 4), 536);
    assert_eq!(verdict(&first(9000), &unknown), UNSURE);
    assert_eq!(verdict(&first(10_000), &unknown), Verdict::Idle);
    // A request in one segment, and its answer: no handshake.
    assert_eq!(
        verdict(&sent(1000, 530, 3410, (1, 3), 536), &unknown),
        Verdict::Idle
    );
}

#[test]
fn queues_are_busy_over_tls_too() {
    let port = port(true, false);
    let seen = sent(60_000, 680, 3410, (2, 4), 600);
    let unread = Seen { unread: 1, ..seen };
    assert_eq!(verdict(&unread, &port), Verdict::Busy(Why::Unread));
    let unsent = Seen { unsent: 1, ..seen };
    assert_eq!(verdict(&unsent, &port), Verdict::Busy(Why::Unsent));
}
