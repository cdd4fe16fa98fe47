//! What moves on connections with HTTP/2 from look to look: pings and other control frames are told from requests. Pure.

use super::verdict::{Ages, Flow, Last};

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

/// What is remembered of a connection with HTTP/2, in few bytes: see [`super::memory`].
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
pub(super) struct Moved {
    /// When more than control frames moved, on the milliseconds of the caller.
    at: u32,
    /// Bytes of control frames that the server has sent since the first look; this many may be more.
    controls: u16,
    last: Last,
    /// When they moved, the last payload had come in.
    received_last: bool,
}

impl Moved {
    /// At the first look at a connection.
    pub(super) fn first(now: u32, ages: Ages) -> Self {
        Self {
            at: now.wrapping_sub(quiet(ages)),
            controls: 0,
            last: Last::Unknown,
            received_last: ages.received <= ages.sent,
        }
    }

    /// At a later look: so many bytes came in, and went out, since the one before.
    pub(super) fn next(mut self, now: u32, came: u32, went: u32, ages: Ages) -> Self {
        if came == 0 && went == 0 {
            return self;
        }
        if is_ping(came, went) || is_control(came, went) && is_unasked(went, came) {
            let went = u16::try_from(went).unwrap_or(u16::MAX);
            self.controls = self.controls.saturating_add(went);
            if self.last == Last::Unknown {
                self.last = if self.received_last {
                    Last::Perhaps
                } else {
                    Last::Moved
                };
            }
            return self;
        }
        self.last = match (is_control(came, went), is_control(went, came)) {
            // An answer, or a part of one.
            (true, _) => Last::Moved,
            // A request, or a part of one.
            (false, true) => Last::Asked,
            (false, false) if ages.received < ages.sent => Last::Asked,
            (false, false) if ages.sent < ages.received => Last::Moved,
            // In one tick: what else the kernel shows decides.
            (false, false) => Last::Unknown,
        };
        self.received_last = ages.received <= ages.sent;
        self.at = now.wrapping_sub(quiet(ages));
        self
    }

    /// What the rules need of it.
    pub(super) fn flow(self, now: u32) -> Flow {
        Flow {
            last: self.last,
            quiet: now.wrapping_sub(self.at),
            controls: match self.controls {
                u16::MAX => u32::MAX,
                controls => controls.into(),
            },
        }
    }
}

fn quiet(ages: Ages) -> u32 {
    ages.received.min(ages.sent)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ages((received, sent): (u32, u32)) -> Ages {
        Ages {
            received,
            sent,
            ack: 0,
        }
    }

    /// What the second of two looks, 50 ms apart, makes of what moved in between, `since` then (received, sent). Before, nothing had
    /// moved for a minute, and the last word was the server's.
    fn moved(came: u32, went: u32, since: (u32, u32)) -> Flow {
        let first = Moved::first(100_000, ages((60_000, 59_990)));
        let next = first.next(100_050, came, went, ages(since));
        next.flow(100_050)
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
        let mut moved = Moved::first(0, Ages::default());
        for (came, went, last) in [
            (300, 0, Last::Asked),
            (17, 17, Last::Asked),
            (0, 783, Last::Moved),
        ] {
            moved = moved.next(0, came, went, Ages::default());
            assert_eq!(moved.flow(0).last, last, "{came} {went}");
        }
    }

    #[test]
    fn control_frames_beyond_count_are_any_number() {
        let mut moved = Moved::first(0, Ages::default());
        for _ in 0..5000 {
            moved = moved.next(0, 17, 17, Ages::default());
        }
        assert_eq!(moved.flow(0).controls, u32::MAX);
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
