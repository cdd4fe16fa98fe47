//! What moves on connections with HTTP/2 from look to look: pings and other control frames are told from requests. No I/O.

use std::time::Instant;

use super::table::Table;
use super::verdict::{Flow, Last, Seen};

/// A PING frame (RFC 9113, section 6.7), and so its answer.
const PING: u32 = 17;
/// So many pings at most between two looks: what has their size and is more is a message and its echo.
const MOST_PINGS: u32 = 2;
/// SETTINGS with ACK.
const ACKNOWLEDGED: u32 = 9;
/// Frames of a client that belong to no request, alone or in pairs: SETTINGS with ACK, WINDOW_UPDATE, both, two of these, PING.
const CONTROL: [u32; 5] = [9, 13, 22, 26, PING];
/// What TLS adds to what was written at once: nothing without, 22 bytes (1.3), 29 (1.2 with GCM).
const RECORDS: [u32; 3] = [0, 22, 29];
/// So many bytes of an answer may bring a WINDOW_UPDATE each.
const UPDATED_EVERY: u32 = 8192;

/// What is remembered of all connections with HTTP/2, by cookie.
#[derive(Debug)]
pub struct Flows {
    began: Instant,
    entries: Table<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    received: u32,
    sent: u32,
    /// Milliseconds since `began` at which more than control frames moved.
    moved_at: u32,
    /// At the first look the last payload had come in.
    received_last: bool,
    last: Last,
    /// Bytes of control frames that the server has sent since the first look.
    controls: u32,
}

impl Flows {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            entries: Table::new(),
        }
    }

    /// Compares a connection with the look before, and remembers it.
    pub fn note(&mut self, now: Instant, cookie: u64, seen: &Seen) -> Flow {
        let now =
            low(u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or_default());
        let (received, sent) = (low(seen.received), low(seen.sent));
        let ages = seen.ages.unwrap_or_default();
        let quiet = ages.received.min(ages.sent);
        let first = Entry {
            received,
            sent,
            moved_at: now.wrapping_sub(quiet),
            received_last: ages.received <= ages.sent,
            last: Last::Unknown,
            controls: 0,
        };
        let Some(entry) = self.entries.touch(cookie) else {
            self.entries.insert(cookie, first);
            return Flow {
                last: first.last,
                quiet,
                controls: 0,
            };
        };
        let came = received.wrapping_sub(entry.received);
        let went = sent.wrapping_sub(entry.sent);
        if came > 0 || went > 0 {
            if is_ping(came, went) || is_control(came, went) && is_unasked(went, came) {
                entry.controls = entry.controls.saturating_add(went);
                if entry.last == Last::Unknown {
                    entry.last = if entry.received_last {
                        Last::Perhaps
                    } else {
                        Last::Moved
                    };
                }
            } else {
                entry.last = match (is_control(came, went), is_control(went, came)) {
                    // An answer, or a part of one.
                    (true, _) => Last::Moved,
                    // A request, or a part of one.
                    (false, true) => Last::Asked,
                    (false, false) if ages.received < ages.sent => Last::Asked,
                    (false, false) if ages.sent < ages.received => Last::Moved,
                    // In one tick: what else the kernel shows decides.
                    (false, false) => Last::Unknown,
                };
                entry.received_last = ages.received <= ages.sent;
                entry.moved_at = now.wrapping_sub(quiet);
            }
        }
        entry.received = received;
        entry.sent = sent;
        Flow {
            last: entry.last,
            quiet: now.wrapping_sub(entry.moved_at),
            controls: entry.controls,
        }
    }

    /// Begins a look at all connections. [`Flows::end`] forgets those that it did not note.
    pub fn begin(&mut self) {
        self.entries.begin();
    }

    /// Ends a look at all connections that succeeded.
    pub fn end(&mut self) {
        self.entries.end();
    }
}

/// Pings and their answers, as many one way as the other.
fn is_ping(came: u32, went: u32) -> bool {
    came == went
        && RECORDS.iter().any(|record| {
            let one = PING + record;
            came.is_multiple_of(one) && came / one <= MOST_PINGS
        })
}

/// Nothing, or what a server sends without having been asked for anything: pings, their answers, and the answer to SETTINGS. Of the
/// same size as other control frames are the messages of an answer in small parts.
fn is_unasked(went: u32, came: u32) -> bool {
    let any = |frame: u32| RECORDS.iter().any(|record| went == frame + record);
    went == 0 || any(PING) || came > 0 && any(ACKNOWLEDGED)
}

/// Nothing, or control frames alone; `other` bytes went the other way.
fn is_control(bytes: u32, other: u32) -> bool {
    let alone = || {
        RECORDS.iter().any(|record| {
            CONTROL.iter().any(|frame| bytes == frame + record) || bytes == 2 * (13 + record)
        })
    };
    // WINDOW_UPDATE frames for parts of an answer.
    let updates = || {
        RECORDS.iter().any(|record| {
            bytes.is_multiple_of(13 + record) && bytes / (13 + record) <= other / UPDATED_EVERY
        })
    };
    bytes == 0 || alone() || updates()
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::evidence::verdict::Ages;

    /// What the second of two looks, 50 ms apart, makes of what moved in between, `ages` ago (received, sent). Before, nothing had
    /// moved for a minute, and the last word was the server's.
    fn moved(came: u64, went: u64, ages: (u32, u32)) -> Flow {
        let start = Instant::now();
        let mut flows = Flows::new(start);
        let seen = |received, sent, ages: (u32, u32)| Seen {
            received: 1000 + received,
            sent: 9000 + sent,
            ages: Some(Ages {
                received: ages.0,
                sent: ages.1,
                ack: 0,
            }),
            ..Seen::default()
        };
        let at = |ms: u64| start + Duration::from_millis(100_000 + ms);
        flows.note(at(0), 1, &seen(0, 0, (60_000, 59_990)));
        flows.note(at(50), 1, &seen(came, went, ages))
    }

    #[test]
    fn pings_move_nothing() {
        for (came, went) in [
            (17, 17),
            (39, 39),
            (78, 78),
            (17, 0),
            (0, 17),
            (13, 0),
            (35, 0),
        ] {
            let flow = moved(came, went, (10, 10));
            assert_eq!(flow.last, Last::Moved, "{came} {went}");
            assert!(flow.quiet > 59_000, "{came} {went}");
        }
    }

    #[test]
    fn messages_of_a_stream_that_have_the_size_of_frames_move_something() {
        // DATA of 0, 4, 8, 13 and 17 bytes; 0 and 4 over TLS.
        for went in [9, 13, 22, 26, 31, 35] {
            let flow = moved(0, went, (60_050, 10));
            assert_eq!((flow.last, flow.quiet), (Last::Moved, 10), "{went}");
        }
        // A message and its echo.
        let echoed = moved(17 * 5, 17 * 5, (20, 5));
        assert_eq!((echoed.last, echoed.quiet), (Last::Moved, 5));
    }

    #[test]
    fn the_server_s_pings_are_counted_apart() {
        assert_eq!(moved(17, 17, (10, 10)).controls, 17);
        assert_eq!(moved(300, 17, (10, 10)).controls, 0);
    }

    #[test]
    fn a_request_is_larger_than_a_control_frame_and_stays_one_whatever_moves_on_its_own() {
        for came in [40, 62, 300] {
            assert_eq!(moved(came, 0, (10, 60_040)).last, Last::Asked);
            // The server acknowledges settings, or opens the window.
            assert_eq!(moved(came, 9, (10, 8)).last, Last::Asked);
            assert_eq!(moved(came, 13, (10, 8)).last, Last::Asked);
        }
        let start = Instant::now();
        let mut flows = Flows::new(start);
        let seen = |received, sent| Seen {
            received,
            sent,
            ages: Some(Ages::default()),
            ..Seen::default()
        };
        flows.note(start, 1, &seen(100, 100));
        assert_eq!(flows.note(start, 1, &seen(400, 100)).last, Last::Asked);
        assert_eq!(flows.note(start, 1, &seen(417, 117)).last, Last::Asked);
        assert_eq!(flows.note(start, 1, &seen(417, 900)).last, Last::Moved);
    }

    #[test]
    fn an_answer_is_one_although_the_window_is_opened_for_it() {
        assert_eq!(moved(13, 20_000, (5, 10)).last, Last::Moved);
        assert_eq!(moved(130, 200_000, (5, 10)).last, Last::Moved);
        assert_eq!(moved(0, 500, (60_050, 10)).last, Last::Moved);
    }

    #[test]
    fn what_came_and_went_is_told_by_its_order() {
        assert_eq!(moved(300, 500, (5, 20)).last, Last::Asked);
        assert_eq!(moved(300, 500, (20, 5)).last, Last::Moved);
        assert_eq!(moved(300, 500, (5, 5)).last, Last::Unknown);
    }
}
