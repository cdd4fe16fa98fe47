//! Ports on which HTTP/2 was found: many requests share a connection, and frames move that belong to none.
//!
//! A request that waits alone on its connection is seen as with HTTP/1.1: it came in, and nothing went out since. One that waits
//! while others are answered is not: then the connection is busy until nothing has moved for `stream_quiet`.

use super::{Flow, History, Last, Seen, Stage, Terms, Tie, Verdict, Why, streams, within};
use crate::evidence::spoken::Transport;

/// A client acknowledges an answer with WINDOW_UPDATE frames at once. What comes later than this after the last payload sent is a
/// request, milliseconds.
const ANSWERS_ARE_TAKEN_WITHIN: u32 = 500;

/// Acknowledging settings and opening the window adds so much to what a server greets with, bytes.
const GREETING_VARIES: u64 = 90;
/// The preface of a client, with its settings and what it says to the server's, bytes.
const PREFACE: u64 = 120;

/// `alone` is the verdict as if each request had its answer before the next.
pub(super) fn judge(alone: Verdict, seen: &Seen, history: &History, terms: &Terms) -> Verdict {
    let open = matches!(seen.stage, Stage::Open | Stage::HalfClosed);
    let Some(ages) = seen.ages.filter(|_| open) else {
        return streams::bounded(alone, terms);
    };
    let Flow {
        last,
        quiet,
        controls,
    } = history.flow.unwrap_or(Flow {
        last: Last::Unknown,
        quiet: ages.received.min(ages.sent),
        controls: 0,
    });
    let request = Verdict::Busy(Why::Unanswered);
    // Where HTTP/1.1 is spoken too, a request may be one of those, and they end.
    let sure = if terms.spoken.http1 {
        request
    } else {
        streams::bounded(request, terms)
    };
    match (alone, last) {
        (Verdict::Busy(Why::Unread | Why::Unsent | Why::PeerSilent), _) => {
            streams::bounded(alone, terms)
        }
        (Verdict::Busy(Why::Fresh) | Verdict::Uncertain(Tie::Handshake), _) => alone,
        (Verdict::Uncertain(Tie::Undecided), Last::Unknown) => alone,
        (_, Last::Asked) => sure,
        // Nothing was answered; without TLS it is known whether something was asked.
        _ if is_greeting(seen, controls, terms) => streams::bounded(request, terms),
        (_, Last::Perhaps) => streams::bounded(request, terms),
        (Verdict::Busy(Why::Unanswered), Last::Unknown) => {
            // A request, or what a client sends once it has taken an answer.
            let gap = ages.sent.saturating_sub(ages.received);
            if gap > ANSWERS_ARE_TAKEN_WITHIN {
                sure
            } else {
                streams::bounded(request, terms)
            }
        }
        _ if within(quiet, terms.holds.stream_quiet) => {
            streams::bounded(Verdict::Busy(Why::Streaming), terms)
        }
        _ => Verdict::Idle,
    }
}

/// Whether the server has said no more than hello, and the client may have.
fn is_greeting(seen: &Seen, controls: u32, terms: &Terms) -> bool {
    let greeting = u64::from(terms.spoken.greeting);
    let over_tls = matches!(terms.spoken.transport, Transport::Tls(_));
    // A connection with HTTP/1.1 may have answered with less.
    !terms.spoken.http1
        && greeting > 0
        && seen.sent <= greeting + GREETING_VARIES + u64::from(controls)
        && (over_tls || seen.received > PREFACE)
}
