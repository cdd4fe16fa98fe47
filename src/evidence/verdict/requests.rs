//! The rule `requests`: a request is answered before the next one comes, as in HTTP/1.1. Doubt has no end here: see the callers.

use std::time::Duration;

use super::{
    Ages, History, Holds, Pingpong, Seen, Segments, Stage, Tie, Verdict, Why, unsent, within,
};

/// The longest time for which the kernel delays an ACK (`TCP_DELACK_MAX`, include/net/tcp.h): until then, no ACK says nothing.
pub(in crate::evidence) const LONGEST_DELAYED_ACK: u32 = 200;

/// A peer acknowledges an answer sooner: it delays that for 200 ms with Linux, 500 at most (RFC 1122, 4.2.3.2), and TCP's keepalive, which brings
/// an ACK whether there was an answer or not, begins after a second at the earliest (`TCP_KEEPIDLE`).
const LATEST_ACK: u32 = 900;

/// Judges one connection.
pub(super) fn judge(seen: &Seen, history: &History, holds: &Holds) -> Verdict {
    // The FIN takes one number in the sequence space, so the kernel's subtraction counts it as a byte.
    let fin_received = u32::from(seen.stage == Stage::HalfClosed);
    let fin_sent = u32::from(seen.stage == Stage::Closing);
    match seen.stage {
        Stage::Opening | Stage::Closed => return Verdict::Idle,
        Stage::Closing => {
            // The program is done with it; only bytes of its answer are worth a wait.
            return if seen.unsent > fin_sent {
                unsent(seen)
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
        return unsent(seen);
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
    // An answer that came in bursts is expected to go on for twice its longest pause, but for no longer than anything is held in doubt.
    let twice = 2 * Duration::from_millis(history.longest_pause.into());
    let pause = holds.pause.max(twice.min(holds.uncertain));
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
    Verdict::Uncertain(match history.pingpong {
        // A FIN counts among the segments and switches the mode on, so neither says anything.
        _ if seen.stage == Stage::HalfClosed => Tie::ProbablyBusy,
        // All that was sent is acknowledged. An answer is by a segment without payload, unless a request brought the ACK.
        _ if since.acks_received == 0 => return Verdict::Busy(Why::Unanswered),
        Pingpong::Unread => Tie::Undecided,
        // The peer acknowledged the answer by itself. A request that it sent twice would have switched the mode off.
        Pingpong::On if (1..LATEST_ACK).contains(&ages.received.saturating_sub(ages.ack)) => {
            return answered(ages, history, holds);
        }
        // A payload sent within the tick switches the mode on, and only the delayed-ACK timer of a later request off again.
        Pingpong::Off => return Verdict::Busy(Why::Unanswered),
        // That timer is the only way in which a request of one segment is acknowledged in that mode.
        Pingpong::On if since.payloads_received == 1 && mature => {
            return answered(ages, history, holds);
        }
        Pingpong::On => Tie::ProbablyIdle,
        Pingpong::Unknown => Tie::ProbablyBusy,
    })
}
