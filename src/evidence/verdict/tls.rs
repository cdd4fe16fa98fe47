//! The first request on a fresh TLS connection.
//!
//! After its handshake a server of TLS 1.3 sends session tickets, often when the first request is there already; a client of a
//! resumed TLS 1.2 session sends its own end of the handshake last. So what came last says nothing as long as the server has sent no
//! more than its handshake. How much that is was measured by a probe.

use super::{Seen, Shape, Stage, Terms, Tie, Verdict, Why, hold};
use crate::evidence::spoken::{Flight, Handshake, Transport};

/// Clients with less to negotiate (no ALPN, a shorter hash) get so many bytes less than the probe did.
const LESS: u64 = 192;
/// And clients with more (a server name, another curve) so many more.
const MORE: u64 = 200;
/// The first flight alone varies less upwards.
const MORE_AT_FIRST: u64 = 64;
/// A key share of X25519MLKEM768 in place of X25519, from server to client.
const POST_QUANTUM: u64 = 1088;
/// A client's hello with such a key share is at least as long.
const POST_QUANTUM_HELLO: u64 = 1300;
/// Beyond the longest handshake measured by this much, something was answered: another certificate is not larger by more.
const OTHER_CERTIFICATE: u64 = 2048;
/// Session tickets hold the client's certificate: so many bytes more, where clients send one.
const CLIENT_CERTIFICATE: u64 = 12_288;
/// No server's handshake is larger, where it was not measured.
const LARGEST_HANDSHAKE: u64 = 10_240;
/// The kernel begins with this guess of the largest segment received (`TCP_MSS_DEFAULT`, include/net/tcp.h).
const FIRST_GUESS: u32 = 536;
/// The client's end of a handshake has at most so many bytes: CCS and Finished (TLS 1.3), CCS and Finished of a resumed session (1.2).
const FINISHED: u64 = 97;
/// CCS and Finished of TLS 1.3 alone, with the longest hash that is in use.
const FINISHED_NEWER: u64 = 80;
/// The record that ends early data (`EndOfEarlyData`) before them: without one, there were none.
const END_OF_EARLY_DATA: u64 = 26;
/// With a key exchange before it (TLS 1.2), so many.
const KEY_EXCHANGE: u64 = 200;
/// A client's part is at least so long after its hello (TLS 1.2, resumed).
const SHORTEST_FINISHED: u64 = 43;
/// No client's hello is larger.
const LARGEST_HELLO: u64 = 2800;

/// Whether the client has sent more than its part of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    Perhaps,
    Yes,
}

/// Whether the server has sent more than its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    No,
    Perhaps,
    Yes,
}

/// The verdict of the rule `requests` on a connection of a port that may speak TLS.
pub(super) fn amend(verdict: Verdict, seen: &Seen, terms: &Terms) -> Verdict {
    let queued = Verdict::Busy(Why::Unread);
    let open = matches!(seen.stage, Stage::Open | Stage::HalfClosed);
    let (Some(_), Some(shape)) = (seen.ages, seen.shape) else {
        return verdict;
    };
    if !open || verdict == queued || seen.unsent > 0 || seen.received == 0 || shape.sent == 0 {
        return verdict;
    }
    let unsure = Verdict::Uncertain(Tie::Handshake);
    let nothing_asked = || hold(Verdict::Busy(Why::Fresh), seen, terms.holds.pause);
    let handshake = match terms.spoken.transport {
        Transport::Plain => return verdict,
        Transport::Unknown => {
            let answered = matches!(verdict, Verdict::Idle | Verdict::Busy(Why::Answering));
            return if answered && may_be_handshake(seen, &shape) {
                unsure
            } else {
                verdict
            };
        }
        Transport::Tls(handshake) => handshake,
    };
    let asked = || asked(seen.received, &shape, &handshake);
    match answered(verdict, seen.received, &shape, &handshake) {
        Answered::Yes => verdict,
        Answered::No => match asked() {
            Asked::Yes => Verdict::Busy(Why::Unanswered),
            Asked::Perhaps => unsure,
            Asked::No => nothing_asked(),
        },
        Answered::Perhaps => match (verdict, asked()) {
            (Verdict::Busy(Why::Unanswered), Asked::Yes) => verdict,
            (Verdict::Busy(Why::Unanswered), Asked::No) => nothing_asked(),
            (Verdict::Busy(Why::Unanswered), Asked::Perhaps) => unsure,
            // The last word of a full handshake of TLS 1.2 is the server's: what it sends after a request is an answer.
            (Verdict::Idle | Verdict::Busy(Why::Answering), _) if handshake.newer => unsure,
            _ => verdict,
        },
    }
}

/// Whether the server may have sent no more than a handshake.
fn answered(verdict: Verdict, received: u64, shape: &Shape, handshake: &Handshake) -> Answered {
    let more_keys = if handshake.newer && handshake.hybrid_keys && received >= POST_QUANTUM_HELLO {
        POST_QUANTUM
    } else {
        0
    };
    let fits = |flight: Flight| {
        is_all_of(shape, &flight, 0) || more_keys > 0 && is_all_of(shape, &flight, more_keys)
    };
    let full = if handshake.newer {
        fits(handshake.full)
    } else {
        // The server's word was the last of it, so order decides, and size only what order leaves in doubt: a resumed handshake
        // and its first answer may be as long, in as many segments.
        verdict.is_tie() && !verdict.is_undecided() && fits(handshake.full)
    };
    if full || handshake.resumed.is_some_and(fits) {
        return Answered::No;
    }
    let beyond = if handshake.asks_certificate {
        CLIENT_CERTIFICATE
    } else {
        OTHER_CERTIFICATE
    };
    if shape.sent <= handshake.full.bytes() + more_keys + beyond {
        Answered::Perhaps
    } else {
        Answered::Yes
    }
}

/// Whether what was sent has the size of this flight, in as many segments: an answer adds a segment of its own.
fn is_all_of(shape: &Shape, flight: &Flight, more: u64) -> bool {
    let bytes = flight.bytes() + more;
    let mss = u64::from(shape.mss.max(1));
    let first = (u64::from(flight.first) + more + MORE_AT_FIRST).div_ceil(mss);
    let segments = first + u64::from(flight.writes.saturating_sub(1));
    (bytes.saturating_sub(LESS)..=bytes + MORE).contains(&shape.sent)
        && u64::from(shape.payloads_sent) <= segments
}

/// Whether a request has come after the client's part of the handshake.
fn asked(received: u64, shape: &Shape, handshake: &Handshake) -> Asked {
    if shape.payloads_received <= 1 {
        return Asked::No;
    }
    let largest = u64::from(shape.largest_received);
    let rest = received.saturating_sub(largest);
    let is_exact = shape.largest_received > FIRST_GUESS && shape.largest_received < shape.mss;
    if is_exact && !handshake.asks_certificate {
        // The hello, in one segment, and nothing that has room for a request.
        let early = handshake.early_data;
        let finished = if early { FINISHED_NEWER } else { FINISHED };
        if rest <= finished {
            return Asked::No;
        }
        // But for one that came along with the hello.
        if early && rest <= FINISHED_NEWER + END_OF_EARLY_DATA {
            return Asked::Yes;
        }
    }
    let mss = u64::from(shape.mss.max(1));
    let segments = u64::from(shape.payloads_received);
    if handshake.asks_certificate {
        // The hello, the client's second flight, a request: each ends with a segment that is not full.
        return if segments >= received / mss + 3 {
            Asked::Yes
        } else {
            Asked::Perhaps
        };
    }
    // All of it the hello, but for one segment with the end of the handshake: with more segments, there is a request.
    let hello = received.saturating_sub(SHORTEST_FINISHED).div_ceil(mss);
    if segments >= hello + 2 {
        return Asked::Yes;
    }
    let longest = match shape.largest_received {
        largest if largest <= FIRST_GUESS => u64::from(FIRST_GUESS) + KEY_EXCHANGE,
        _ if is_exact => largest + KEY_EXCHANGE,
        _ => LARGEST_HELLO + FINISHED,
    };
    if received > longest {
        Asked::Yes
    } else {
        Asked::Perhaps
    }
}

/// On a port that was never probed: a handshake, and at most one request.
fn may_be_handshake(seen: &Seen, shape: &Shape) -> bool {
    let full = seen.received / u64::from(shape.mss.max(1));
    (200..=LARGEST_HANDSHAKE).contains(&shape.sent)
        && shape.payloads_sent >= 2
        && seen.received >= 150
        && (2..=full + 4).contains(&u64::from(shape.payloads_received))
}
