//! The rules `streams` and `until-closed`: what a connection carries has no end that the kernel could show.

use super::{Seen, Stage, Terms, Verdict, Why, unsent, within};

/// Busy while payload moves.
pub(super) fn judge(seen: &Seen, terms: &Terms) -> Verdict {
    if let Some(verdict) = ending(seen) {
        return bounded(verdict, terms);
    }
    let verdict = match seen.ages {
        _ if has_unread(seen) => Verdict::Busy(Why::Unread),
        _ if seen.unsent > 0 => unsent(seen),
        None => Verdict::Busy(Why::Unseen),
        Some(ages) if within(ages.received.min(ages.sent), terms.holds.stream_quiet) => {
            Verdict::Busy(Why::Streaming)
        }
        Some(_) => Verdict::Idle,
    };
    bounded(verdict, terms)
}

/// Busy while either side may send.
pub(super) fn judge_until_closed(seen: &Seen, terms: &Terms) -> Verdict {
    bounded(ending(seen).unwrap_or(Verdict::Busy(Why::Open)), terms)
}

/// Streams have a deadline of their own.
pub(super) fn bounded(verdict: Verdict, terms: &Terms) -> Verdict {
    if terms.streams_over && verdict.holds() {
        Verdict::Overdue
    } else {
        verdict
    }
}

fn has_unread(seen: &Seen) -> bool {
    seen.unread > u32::from(seen.stage == Stage::HalfClosed)
}

/// The verdict on a connection that is not open yet, or not any more.
fn ending(seen: &Seen) -> Option<Verdict> {
    match seen.stage {
        Stage::Open | Stage::HalfClosed => None,
        Stage::Opening | Stage::Closed => Some(Verdict::Idle),
        // The FIN counts as one byte.
        Stage::Closing if seen.unsent > 1 => Some(unsent(seen)),
        Stage::Closing => Some(Verdict::Idle),
    }
}
