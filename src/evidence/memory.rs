//! What the looks before this one showed of each connection: ties, pauses and arrivals need it. No I/O.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::verdict::{Ages, History, LONGEST_DELAYED_ACK, Pingpong, Seen, Segments, Verdict, Why};

/// What is remembered of all watched connections, by the kernel's socket cookie: never reused while the host is up.
#[derive(Debug)]
pub struct Memory {
    began: Instant,
    round: u8,
    complete: bool,
    entries: HashMap<u64, Entry>,
}

/// 100 000 of these must stay small, so counters are kept modulo 2³² and only compared for equality or by difference.
#[derive(Clone, Copy, Debug)]
struct Entry {
    received: u32,
    sent: u32,
    segments: Segments,
    /// `segments` at the last look before payload arrived.
    segments_before: Segments,
    /// Since when, in milliseconds before the last look, nothing had been sent.
    silence: u32,
    longest_pause: u32,
    /// Milliseconds since `began` at which the current request began to arrive.
    asked_at: u32,
    round: u8,
    /// Read since the last payload, and not to change before the next.
    pingpong: Pingpong,
    /// Payload has arrived between two looks, so `segments_before` means something.
    seen_arriving: bool,
    /// At the last look an answer had begun.
    answering: bool,
    /// At the last look no ACK was still to be sent.
    nothing_pending: bool,
    /// At the last look a request was under way that had not been answered.
    asking: bool,
}

/// What a look adds to what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// What the rules need.
    pub history: History,
    /// A request is new since the look before: a connection without a byte has none.
    pub arrived: bool,
    /// Payload bytes received since the look before, or since the connection began; modulo 2³².
    pub size: u32,
    /// Since the request began, or since the last one did.
    pub age: Duration,
}

impl Memory {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            round: 0,
            complete: false,
            entries: HashMap::new(),
        }
    }

    /// How many connections are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no connection is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Compares a connection with the look before, and remembers it.
    pub fn note(&mut self, now: Instant, cookie: u64, seen: &Seen) -> Noted {
        let received = low(seen.received);
        let sent = low(seen.sent);
        let now =
            low(u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX));
        let silence = seen.ages.map_or(0, |ages| ages.sent);
        let asked_at = now.wrapping_sub(seen.ages.map_or(0, |ages| ages.received));
        let age = |asked_at: u32| Duration::from_millis(now.wrapping_sub(asked_at).into());
        let answering = seen.ages.is_some_and(has_answered);
        let segments = seen.segments.unwrap_or_default();
        let nothing_pending = answering
            || seen
                .ages
                .is_some_and(|ages| ages.received > LONGEST_DELAYED_ACK);
        let round = self.round;
        let Some(entry) = self.entries.get_mut(&cookie) else {
            self.entries.insert(
                cookie,
                Entry {
                    received,
                    sent,
                    segments,
                    segments_before: Segments::default(),
                    silence,
                    longest_pause: 0,
                    asked_at,
                    round,
                    pingpong: Pingpong::Unread,
                    // A connection that opened between two looks began with none: the kernel doesn't count the SYN-ACK, and
                    // where one does, a tie only looks less answered.
                    seen_arriving: self.complete && seen.received > 0,
                    answering,
                    nothing_pending,
                    asking: false,
                },
            );
            let since = seen.segments.filter(|_| self.complete && seen.received > 0);
            let history = History {
                since,
                ..History::default()
            };
            return Noted {
                history,
                arrived: self.complete && seen.received > 0,
                size: received,
                age: age(asked_at),
            };
        };
        let size = received.wrapping_sub(entry.received);
        let got_more = entry.received != received;
        let sent_more = entry.sent != sent;
        // More bytes of a request that nothing was sent for are the same request.
        let arrived = got_more && (sent_more || !entry.asking);
        if arrived {
            entry.asked_at = asked_at;
        }
        if got_more || sent_more {
            entry.pingpong = Pingpong::Unread;
        }
        if got_more {
            // With an ACK still to be sent for what came before, the count would begin in the midst of a request. Counts from
            // further back are safe: more segments decide less.
            if entry.nothing_pending {
                entry.segments_before = entry.segments;
                entry.seen_arriving = true;
            }
            entry.longest_pause = 0;
        } else if sent_more && entry.answering {
            // At least as long as the silence that the last look saw; between two looks far apart there may have been many.
            entry.longest_pause = entry.longest_pause.max(entry.silence);
        }
        let history = History {
            since: seen
                .segments
                .filter(|_| entry.seen_arriving)
                .map(|now| now.since(entry.segments_before)),
            pingpong: entry.pingpong,
            longest_pause: entry.longest_pause,
            flow: None,
        };
        entry.received = received;
        entry.sent = sent;
        entry.segments = segments;
        entry.silence = silence;
        entry.answering = answering;
        entry.nothing_pending = nothing_pending;
        entry.round = round;
        Noted {
            history,
            arrived,
            size,
            age: age(entry.asked_at),
        }
    }

    /// Remembers the verdict, which tells the next look whether more bytes are a new request.
    pub fn judged(&mut self, cookie: u64, verdict: Verdict) {
        if let Some(entry) = self.entries.get_mut(&cookie) {
            entry.asking = matches!(verdict, Verdict::Busy(Why::Unanswered | Why::Unread));
        }
    }

    /// Remembers the delayed-ACK mode, which costs a walk over every socket of the host to read.
    pub fn read(&mut self, cookie: u64, pingpong: Pingpong) {
        if let Some(entry) = self.entries.get_mut(&cookie)
            // An ACK still to be sent may end it.
            && entry.nothing_pending
        {
            entry.pingpong = pingpong;
        }
    }

    /// A connection that is gone, whose last look this is: `received` bytes of payload in `segments`, over its life. The bytes of a request
    /// that no look has shown; none where all of them were looked at.
    #[must_use]
    pub fn gone(&self, cookie: u64, received: u64, segments: u16) -> Option<u32> {
        let Some(entry) = self.entries.get(&cookie) else {
            return (segments > 0).then(|| low(received));
        };
        // More bytes of a request that was seen to be under way belong to it.
        let more = entry.segments.payloads_received != segments && !entry.asking;
        more.then(|| low(received).wrapping_sub(entry.received))
    }

    /// Whether a connection was there at the last look.
    #[must_use]
    pub fn knows(&self, cookie: u64) -> bool {
        self.entries.contains_key(&cookie)
    }

    /// Whether any look has ended: before, nothing can be told to be new.
    #[must_use]
    pub fn has_looked(&self) -> bool {
        self.complete
    }

    /// Begins a look at all connections. [`Memory::end`] forgets those that it did not note.
    pub fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Ends a look at all connections that succeeded.
    pub fn end(&mut self) {
        let round = self.round;
        self.entries.retain(|_, entry| entry.round == round);
        self.complete = true;
    }
}

fn has_answered(ages: Ages) -> bool {
    ages.sent < ages.received
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(received: u64, sent: u64, acks_sent: u16, ages: (u32, u32, u32)) -> Seen {
        let ages = Some(Ages {
            received: ages.0,
            sent: ages.1,
            ack: ages.2,
        });
        Seen {
            received,
            sent,
            segments: Some(Segments {
                acks_sent,
                ..Segments::default()
            }),
            ages,
            ..Seen::default()
        }
    }

    fn acks_sent(noted: &Noted) -> Option<u16> {
        noted.history.since.map(|since| since.acks_sent)
    }

    struct Lab {
        memory: Memory,
        start: Instant,
    }

    impl Lab {
        fn new() -> Self {
            let start = Instant::now();
            Self {
                memory: Memory::new(start),
                start,
            }
        }

        fn look(&mut self, at: u64, cookie: u64, seen: &Seen) -> Noted {
            self.memory.begin();
            let noted = self
                .memory
                .note(self.start + Duration::from_millis(at), cookie, seen);
            self.memory.end();
            noted
        }
    }

    #[test]
    fn the_first_look_knows_nothing_and_finds_nothing_new() {
        let mut lab = Lab::new();
        let noted = lab.look(0, 1, &seen(10, 10, 3, (5, 5, 5)));
        assert_eq!((noted.history, noted.arrived), (History::default(), false));
        assert_eq!(noted.age, Duration::from_millis(5));
    }

    #[test]
    fn segments_are_counted_from_the_look_before_the_request() {
        let mut lab = Lab::new();
        lab.look(0, 1, &seen(10, 10, 3, (500, 500, 460)));
        let noted = lab.look(50, 1, &seen(20, 20, 3, (20, 20, 20)));
        assert!(noted.arrived);
        assert_eq!(acks_sent(&noted), Some(0));
        let noted = lab.look(100, 1, &seen(20, 20, 4, (70, 70, 70)));
        assert!(!noted.arrived);
        assert_eq!(acks_sent(&noted), Some(1));
    }

    #[test]
    fn the_mode_is_remembered_until_the_next_payload_but_not_while_an_ack_is_due() {
        let mut lab = Lab::new();
        let quiet = seen(10, 10, 3, (500, 500, 460));
        assert_eq!(lab.look(0, 1, &quiet).history.pingpong, Pingpong::Unread);
        lab.memory.read(1, Pingpong::On);
        assert_eq!(lab.look(50, 1, &quiet).history.pingpong, Pingpong::On);
        let fresh = seen(20, 20, 3, (10, 10, 10));
        assert_eq!(lab.look(100, 1, &fresh).history.pingpong, Pingpong::Unread);
        lab.memory.read(1, Pingpong::On);
        assert_eq!(lab.look(150, 1, &fresh).history.pingpong, Pingpong::Unread);
    }

    #[test]
    fn segments_are_not_counted_from_the_midst_of_a_request() {
        let mut lab = Lab::new();
        lab.look(0, 1, &seen(10, 10, 3, (500, 500, 460)));
        lab.look(50, 1, &seen(20, 20, 3, (2, 2, 2)));
        let noted = lab.look(100, 1, &seen(30, 20, 4, (48, 48, 48)));
        assert_eq!(acks_sent(&noted), Some(1));
    }

    #[test]
    fn a_connection_opened_between_two_looks_has_a_history_and_is_an_arrival() {
        let mut lab = Lab::new();
        lab.look(0, 1, &seen(10, 10, 3, (500, 500, 460)));
        let noted = lab.look(50, 2, &seen(20, 20, 1, (20, 20, 20)));
        assert_eq!((noted.arrived, acks_sent(&noted)), (true, Some(1)));
    }

    #[test]
    fn a_connection_without_a_byte_arrives_with_its_first() {
        let mut lab = Lab::new();
        lab.look(0, 1, &seen(10, 10, 3, (500, 500, 460)));
        assert!(!lab.look(50, 2, &seen(0, 0, 1, (20, 20, 20))).arrived);
        let noted = lab.look(100, 2, &seen(77, 0, 1, (20, 70, 20)));
        assert_eq!((noted.arrived, noted.size), (true, 77));
    }

    #[test]
    fn of_a_connection_that_is_gone_only_what_no_look_has_shown_is_new() {
        let mut lab = Lab::new();
        assert_eq!(lab.memory.gone(7, 0, 0), None);
        assert_eq!(lab.memory.gone(7, 90, 1), Some(90));
        let mut one = seen(10, 10, 3, (500, 500, 460));
        one.segments = Some(Segments {
            payloads_received: 1,
            ..Segments::default()
        });
        lab.look(0, 1, &one);
        assert_eq!(lab.memory.gone(1, 10, 1), None);
        assert_eq!(lab.memory.gone(1, 60, 2), Some(50));
        lab.memory.judged(1, Verdict::Busy(Why::Unanswered));
        assert_eq!(lab.memory.gone(1, 60, 2), None);
    }

    #[test]
    fn more_bytes_of_an_unanswered_request_are_no_arrival() {
        let mut lab = Lab::new();
        lab.look(0, 1, &seen(10, 10, 3, (5, 500, 5)));
        lab.memory.judged(1, Verdict::Busy(Why::Unanswered));
        assert!(!lab.look(50, 1, &seen(99, 10, 3, (5, 550, 5))).arrived);
        lab.memory.judged(1, Verdict::Busy(Why::Unanswered));
        // Answered and asked again between two looks.
        assert!(lab.look(100, 1, &seen(120, 50, 3, (5, 10, 5))).arrived);
    }

    #[test]
    fn the_longest_pause_of_an_answer_is_measured_and_forgotten_with_the_next_request() {
        let mut lab = Lab::new();
        lab.look(0, 1, &seen(10, 10, 0, (100, 300, 100)));
        // The time until the answer begins is not a pause in it.
        lab.look(1000, 1, &seen(10, 20, 0, (1100, 50, 50)));
        lab.look(1350, 1, &seen(10, 20, 0, (1450, 400, 400)));
        let noted = lab.look(1400, 1, &seen(10, 30, 0, (1500, 10, 10)));
        assert_eq!(noted.history.longest_pause, 400);
        // Looked at again much later: what was sent in between came in no one knows how many bursts.
        let noted = lab.look(6400, 1, &seen(10, 90, 0, (6500, 10, 10)));
        assert_eq!(noted.history.longest_pause, 400);
        let noted = lab.look(6500, 1, &seen(20, 90, 0, (10, 110, 10)));
        assert_eq!(noted.history.longest_pause, 0);
    }

    #[test]
    fn what_a_whole_look_does_not_see_is_forgotten() {
        let mut lab = Lab::new();
        lab.look(0, 1, &seen(1, 1, 0, (5, 5, 5)));
        lab.look(50, 2, &seen(1, 1, 0, (5, 5, 5)));
        assert_eq!(lab.memory.len(), 1);
    }
}
