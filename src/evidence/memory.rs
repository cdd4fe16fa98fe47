//! What the looks before this one showed of each connection: ties, pauses, HTTP/2 and arrivals need it. No I/O.

use std::time::{Duration, Instant};

use super::flows::Moved;
use super::table::Table;
use super::verdict::{
    Ages, History, LONGEST_DELAYED_ACK, Pingpong, Rule, Seen, Segments, Verdict, Why,
};

/// What is remembered of all watched connections, by the kernel's socket cookie: never reused while the host is up.
#[derive(Debug)]
pub struct Memory {
    began: Instant,
    complete: bool,
    entries: Table<Entry>,
}

/// 100 000 of these must stay small (28 bytes each), so counters are kept modulo 2³² and only compared for equality or by difference.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(2))]
struct Entry {
    received: u32,
    sent: u32,
    /// Milliseconds since `began` at which the current request began to arrive.
    asked_at: u32,
    segments: Segments,
    /// Segments since the last look before payload arrived.
    since: Few,
    flags: Flags,
    course: Course,
}

/// What an answer's course tells, by the rule of the connection's port.
#[derive(Clone, Copy, Debug)]
enum Course {
    /// One answer at a time.
    Bursts {
        /// Since when, before the last look, nothing had been sent.
        silence: Coarse,
        longest_pause: Coarse,
    },
    /// Many at once, and what belongs to none.
    Frames(Moved),
}

/// Segments, as far as the rules tell them apart: none, one, or more. Two bits each.
#[derive(Clone, Copy, Debug, Default)]
struct Few(u8);

impl Few {
    const BITS: u32 = 2;
    const MORE: u16 = (1 << Self::BITS) - 1;

    fn plus(self, more: Segments) -> Self {
        let few = Segments::from(self);
        let add = |few: u16, more: u16, place: u32| {
            let sum = few.saturating_add(more).min(Self::MORE);
            u8::try_from(sum << (place * Self::BITS)).unwrap_or(u8::MAX)
        };
        Self(
            add(few.acks_sent, more.acks_sent, 0)
                | add(few.acks_received, more.acks_received, 1)
                | add(few.payloads_received, more.payloads_received, 2),
        )
    }
}

impl From<Few> for Segments {
    fn from(Few(bits): Few) -> Self {
        let few = |place: u32| u16::from(bits >> (place * Few::BITS)) & Few::MORE;
        Self {
            acks_sent: few(0),
            acks_received: few(1),
            payloads_received: few(2),
        }
    }
}

/// A time of up to 17 minutes, in steps of 16 ms; never less than it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Coarse(u16);

impl Coarse {
    const STEP: u32 = 16;

    fn of(millis: u32) -> Self {
        Self(u16::try_from(millis.div_ceil(Self::STEP)).unwrap_or(u16::MAX))
    }

    fn millis(self) -> u32 {
        u32::from(self.0) * Self::STEP
    }
}

/// Yes or no, a bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Flags(u8);

impl Flags {
    /// Payload has arrived between two looks, so `since` means something.
    const SEEN_ARRIVING: u8 = 1;
    /// At the last look an answer had begun.
    const ANSWERING: u8 = 1 << 1;
    /// At the last look no ACK was still to be sent.
    const NOTHING_PENDING: u8 = 1 << 2;
    /// At the last look a request was under way that had not been answered.
    const ASKING: u8 = 1 << 3;
    /// The delayed-ACK mode, read since the last payload, and not to change before the next; without all of these it was not read.
    const PINGPONG_UNKNOWN: u8 = 1 << 4;
    const PINGPONG_OFF: u8 = 1 << 5;
    const PINGPONG_ON: u8 = 1 << 6;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.0 = if on { self.0 | flag } else { self.0 & !flag };
    }

    fn pingpong(self) -> Pingpong {
        if self.has(Self::PINGPONG_UNKNOWN) {
            Pingpong::Unknown
        } else if self.has(Self::PINGPONG_OFF) {
            Pingpong::Off
        } else if self.has(Self::PINGPONG_ON) {
            Pingpong::On
        } else {
            Pingpong::Unread
        }
    }

    fn set_pingpong(&mut self, mode: Pingpong) {
        self.set(Self::PINGPONG_UNKNOWN, mode == Pingpong::Unknown);
        self.set(Self::PINGPONG_OFF, mode == Pingpong::Off);
        self.set(Self::PINGPONG_ON, mode == Pingpong::On);
    }
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
            complete: false,
            entries: Table::new(),
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
        self.entries.len() == 0
    }

    /// Compares a connection, on a port that is judged by `rule`, with the look before, and remembers it.
    pub fn note(&mut self, now: Instant, cookie: u64, seen: &Seen, rule: Rule) -> Noted {
        let received = low(seen.received);
        let sent = low(seen.sent);
        let now =
            low(u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX));
        let ages = seen.ages.unwrap_or_default();
        let age = |asked_at: u32| Duration::from_millis(now.wrapping_sub(asked_at).into());
        let segments = seen.segments.unwrap_or_default();
        let answering = seen.ages.is_some_and(has_answered);
        let nothing_pending = answering || ages.received > LONGEST_DELAYED_ACK;
        let mut next = Entry {
            received,
            sent,
            asked_at: now.wrapping_sub(ages.received),
            segments,
            since: Few::default().plus(segments),
            flags: Flags::default(),
            course: match rule {
                Rule::Http2 => Course::Frames(Moved::first(now, ages)),
                _ => Course::Bursts {
                    silence: Coarse::of(ages.sent),
                    longest_pause: Coarse::default(),
                },
            },
        };
        next.flags.set(Flags::ANSWERING, answering);
        next.flags.set(Flags::NOTHING_PENDING, nothing_pending);
        let Some(entry) = self.entries.touch(cookie) else {
            // A connection that opened between two looks began with none: the kernel doesn't count the SYN-ACK, and where one does,
            // a tie only looks less answered.
            let arrived = self.complete && seen.received > 0;
            next.flags.set(Flags::SEEN_ARRIVING, arrived);
            self.entries.insert(cookie, next);
            return Noted {
                history: next.history(now, seen),
                arrived,
                size: received,
                age: age(next.asked_at),
            };
        };
        let last = *entry;
        let size = received.wrapping_sub(last.received);
        let more = sent.wrapping_sub(last.sent);
        let got_more = size > 0;
        let sent_more = more > 0;
        // More bytes of a request that nothing was sent for are the same request.
        let arrived = got_more && (sent_more || !last.flags.has(Flags::ASKING));
        if !arrived {
            next.asked_at = last.asked_at;
        }
        for kept in [Flags::SEEN_ARRIVING, Flags::ASKING] {
            next.flags.set(kept, last.flags.has(kept));
        }
        if !got_more && !sent_more {
            next.flags.set_pingpong(last.flags.pingpong());
        }
        // With an ACK still to be sent for what came before, the count would begin in the midst of a request. Counts from further back
        // are safe: more segments decide less.
        let anew = got_more && last.flags.has(Flags::NOTHING_PENDING);
        let before = if anew { Few::default() } else { last.since };
        next.since = before.plus(segments.since(last.segments));
        if anew {
            next.flags.set(Flags::SEEN_ARRIVING, true);
        }
        match (&mut next.course, last.course) {
            (
                Course::Bursts { longest_pause, .. },
                Course::Bursts {
                    silence,
                    longest_pause: longest,
                },
            ) if !got_more => {
                *longest_pause = if sent_more && last.flags.has(Flags::ANSWERING) {
                    // At least as long as the silence that the last look saw; between two looks far apart there may have been many.
                    longest.max(silence)
                } else {
                    longest
                };
            }
            (Course::Frames(moved), Course::Frames(before)) => {
                *moved = before.next(now, size, more, ages);
            }
            // A new request; or what is spoken on the port has been found out since.
            _ => {}
        }
        *entry = next;
        Noted {
            history: next.history(now, seen),
            arrived,
            size,
            age: age(next.asked_at),
        }
    }

    /// Remembers the verdict, which tells the next look whether more bytes are a new request.
    pub fn judged(&mut self, cookie: u64, verdict: Verdict) {
        if let Some(entry) = self.entries.get_mut(cookie) {
            let asking = matches!(verdict, Verdict::Busy(Why::Unanswered | Why::Unread));
            entry.flags.set(Flags::ASKING, asking);
            if asking {
                // What was sent last was no answer (session tickets), so the time until one comes is no pause in it.
                entry.flags.set(Flags::ANSWERING, false);
            }
        }
    }

    /// Remembers the delayed-ACK mode, which costs a walk over every socket of the host to read.
    pub fn read(&mut self, cookie: u64, pingpong: Pingpong) {
        if let Some(entry) = self.entries.get_mut(cookie)
            // An ACK still to be sent may end it.
            && entry.flags.has(Flags::NOTHING_PENDING)
        {
            entry.flags.set_pingpong(pingpong);
        }
    }

    /// A connection that is gone, whose last look this is: `received` bytes of payload in `segments`, over its life. The bytes of a request
    /// that no look has shown; none where all of them were looked at.
    #[must_use]
    pub fn gone(&self, cookie: u64, received: u64, segments: u16) -> Option<u32> {
        let Some(entry) = self.entries.get(cookie) else {
            return (segments > 0).then(|| low(received));
        };
        // More bytes of a request that was seen to be under way belong to it.
        let last = *entry;
        let more = last.segments.payloads_received != segments && !last.flags.has(Flags::ASKING);
        more.then(|| low(received).wrapping_sub(last.received))
    }

    /// Whether a connection was there at the last look.
    #[must_use]
    pub fn knows(&self, cookie: u64) -> bool {
        self.entries.get(cookie).is_some()
    }

    /// Whether any look has ended: before, nothing can be told to be new.
    #[must_use]
    pub fn has_looked(&self) -> bool {
        self.complete
    }

    /// Begins a look at all connections. [`Memory::end`] forgets those that it did not note.
    pub fn begin(&mut self) {
        self.entries.begin();
    }

    /// Ends a look at all connections that succeeded.
    pub fn end(&mut self) {
        self.entries.end();
        self.complete = true;
    }
}

impl Entry {
    /// What the rules need, of a connection that looks like this now.
    fn history(self, now: u32, seen: &Seen) -> History {
        let since = seen
            .segments
            .filter(|_| self.flags.has(Flags::SEEN_ARRIVING));
        let (longest_pause, flow) = match self.course {
            Course::Bursts { longest_pause, .. } => (longest_pause.millis(), None),
            Course::Frames(moved) => (0, Some(moved.flow(now))),
        };
        History {
            since: since.map(|_| self.since.into()),
            pingpong: self.flags.pingpong(),
            longest_pause,
            flow,
        }
    }
}

fn has_answered(ages: Ages) -> bool {
    ages.sent < ages.received
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
