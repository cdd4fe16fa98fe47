//! The requests that a drain waited for, one by one, as far as there is room. No I/O.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{End, Held, Looked};
use crate::evidence::Verdict;

/// So many are kept: those that were waited for longest.
pub const MOST_WAITS: usize = 256;

/// One request, or connection, that held the drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The program that listens.
    pub program: String,
    /// The client's side.
    pub peer: End,
    /// Our side.
    pub local: End,
    /// When it was last seen in flight, since the beginning of the drain.
    pub until: Duration,
    /// How long it had been under way then; longer than `until` where it began before the drain.
    pub age: Duration,
    /// Payload bytes received over the connection's life, by then.
    pub received: u64,
    /// Payload bytes sent over the connection's life, by then.
    pub sent: u64,
    /// Why it held, by then.
    pub verdict: Verdict,
    /// It was still in flight at the last look.
    pub open: bool,
}

impl Wait {
    /// When it began, since the beginning of the drain; zero where it did before.
    #[must_use]
    pub fn from(&self) -> Duration {
        self.until.saturating_sub(self.age)
    }

    /// How long the drain has seen it in flight.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.until.min(self.age)
    }

    fn new(at: Duration, held: &Held) -> Self {
        Self {
            program: held.program.clone(),
            peer: held.peer.clone(),
            local: held.local.clone(),
            until: at,
            age: held.age,
            received: held.received,
            sent: held.sent,
            verdict: held.verdict,
            open: true,
        }
    }

    /// Whether `held` is a later request on the same connection: more was received, and it began after this was last seen.
    fn is_followed_by(&self, at: Duration, held: &Held) -> bool {
        held.received > self.received && at.saturating_sub(held.age) > self.until
    }
}

/// Both ends of a connection; and which of those it is that share them, as those of a Unix socket may.
type Ends = (End, End, usize);

/// Follows them from look to look.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    open: HashMap<Ends, Wait>,
    over: Vec<Wait>,
    more: u64,
}

impl Waits {
    /// Goes on where an earlier process stopped.
    #[must_use]
    pub fn resume(waits: Vec<Wait>, more: u64) -> Self {
        let (open, over): (Vec<_>, Vec<_>) = waits.into_iter().partition(|wait| wait.open);
        Self {
            open: by_ends(open),
            over,
            more,
        }
    }

    /// A look at all connections.
    pub fn take(&mut self, at: Duration, looked: &Looked) {
        let mut named = HashSet::new();
        for held in &looked.held {
            let mut ends = (held.local.clone(), held.peer.clone(), 0);
            while !named.insert(ends.clone()) {
                ends.2 += 1;
            }
            let now = Wait::new(at, held);
            let known = self.open.get_mut(&ends);
            match known {
                Some(wait) if !wait.is_followed_by(at, held) => {
                    // The same request, however its age is told this time.
                    let age = now.age.max(wait.age + (at - wait.until.min(at)));
                    *wait = Wait { age, ..now };
                }
                Some(wait) => {
                    let over = std::mem::replace(wait, now);
                    self.close(over);
                }
                None => drop(self.open.insert(ends, now)),
            }
        }
        // The oldest are named: an older one that is not has ended; a younger one may only have no room.
        let complete = u64::try_from(looked.held.len()).is_ok_and(|named| named >= looked.busy);
        let youngest = looked.held.last().map_or(Duration::ZERO, |held| held.age);
        let ended: Vec<_> = self
            .open
            .iter()
            .filter(|(ends, wait)| {
                let age = wait.age + at.saturating_sub(wait.until);
                !named.contains(ends) && (complete || age > youngest)
            })
            .map(|(ends, _)| ends.clone())
            .collect();
        for ends in ended {
            if let Some(wait) = self.open.remove(&ends) {
                self.close(wait);
            }
        }
        if self.open.len() > 4 * MOST_WAITS {
            self.drop_youngest();
        }
    }

    /// Between looks at all of them one is known to be under way still: the one that must be as old by now as is told of it.
    pub fn still(&mut self, at: Duration, age: Duration) {
        let expected = |wait: &Wait| wait.age + at.saturating_sub(wait.until);
        let nearest = self
            .open
            .values_mut()
            .min_by_key(|wait| expected(wait).abs_diff(age));
        if let Some(wait) = nearest {
            wait.age = age.max(expected(wait));
            wait.until = wait.until.max(at);
        }
    }

    fn close(&mut self, wait: Wait) {
        self.over.push(Wait {
            open: false,
            ..wait
        });
        if self.over.len() >= 2 * MOST_WAITS {
            self.more += shorten(&mut self.over);
        }
    }

    fn drop_youngest(&mut self) {
        let mut open: Vec<Wait> = self.open.drain().map(|(_, wait)| wait).collect();
        self.more += shorten(&mut open);
        self.open = by_ends(open);
    }

    /// Those that were waited for longest, and how many others were followed.
    #[must_use]
    pub fn longest(&self) -> (Vec<Wait>, u64) {
        let mut all: Vec<Wait> = self
            .over
            .iter()
            .chain(self.open.values())
            .cloned()
            .collect();
        let dropped = shorten(&mut all);
        (all, self.more + dropped)
    }
}

fn by_ends(waits: Vec<Wait>) -> HashMap<Ends, Wait> {
    let mut open = HashMap::new();
    for wait in waits {
        let mut ends = (wait.local.clone(), wait.peer.clone(), 0);
        while open.contains_key(&ends) {
            ends.2 += 1;
        }
        open.insert(ends, wait);
    }
    open
}

/// Keeps the longest, in order; how many were dropped.
fn shorten(waits: &mut Vec<Wait>) -> u64 {
    waits.sort_by_cached_key(|wait| {
        (
            Reverse(wait.held()),
            Reverse(wait.age),
            wait.peer.clone(),
            wait.until,
        )
    });
    let dropped = waits.len().saturating_sub(MOST_WAITS);
    waits.truncate(MOST_WAITS);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Why;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn held(port: u16, age: u64, received: u64) -> Held {
        Held {
            program: "app".to_owned(),
            peer: End::Tcp(([10, 0, 0, 7], port).into()),
            local: End::Tcp(([10, 0, 0, 1], 80).into()),
            age: ms(age),
            received,
            sent: 0,
            verdict: Verdict::Busy(Why::Unanswered),
        }
    }

    fn looked(mut held: Vec<Held>, busy: u64) -> Looked {
        held.sort_by_key(|held| Reverse(held.age));
        Looked {
            busy,
            held,
            ..Looked::default()
        }
    }

    #[test]
    fn a_request_is_one_wait_from_its_beginning_to_its_last_look() {
        let mut waits = Waits::default();
        waits.take(ms(0), &looked(vec![held(1, 5000, 10)], 1));
        waits.take(
            ms(1000),
            &looked(vec![held(1, 6002, 10), held(2, 400, 7)], 2),
        );
        waits.take(ms(2000), &looked(vec![held(2, 1399, 7)], 1));
        let (all, more) = waits.longest();
        assert_eq!((all.len(), more), (2, 0));
        assert_eq!(all[0].peer.to_string(), "10.0.0.7:2");
        assert_eq!((all[0].from(), all[0].held()), (ms(600), ms(1400)));
        assert!(all[0].open);
        assert_eq!((all[1].from(), all[1].held()), (ms(0), ms(1000)));
        assert!(!all[1].open);
    }

    #[test]
    fn the_next_request_on_a_connection_is_another_wait() {
        let mut waits = Waits::default();
        waits.take(ms(0), &looked(vec![held(1, 100, 10)], 1));
        waits.take(ms(50), &looked(vec![held(1, 150, 10)], 1));
        waits.take(ms(300), &looked(vec![held(1, 20, 20)], 1));
        // An upload goes on: the same request.
        waits.take(ms(350), &looked(vec![held(1, 70, 90)], 1));
        assert_eq!(waits.longest().0.len(), 2);
    }

    #[test]
    fn the_oldest_is_followed_between_looks_at_all_of_them() {
        let mut waits = Waits::default();
        waits.take(
            ms(0),
            &looked(vec![held(1, 9000, 10), held(2, 3000, 10)], 2),
        );
        waits.still(ms(4000), ms(13_000));
        // The oldest is over, the other one is not.
        waits.still(ms(4900), ms(7900));
        waits.take(ms(5000), &looked(Vec::new(), 0));
        let (all, _) = waits.longest();
        let ends: Vec<_> = all.iter().map(|wait| (wait.until, wait.age)).collect();
        assert_eq!(ends, [(ms(4900), ms(7900)), (ms(4000), ms(13_000))]);
    }

    #[test]
    fn connections_that_can_not_be_told_apart_by_their_ends_are_counted_each() {
        let unix = |age| Held {
            peer: End::Unix("nginx (77)".to_owned()),
            local: End::Unix("/run/app.sock".to_owned()),
            ..held(1, age, 1)
        };
        let mut waits = Waits::default();
        waits.take(ms(100), &looked(vec![unix(3000), unix(50)], 2));
        waits.take(ms(200), &looked(vec![unix(3100), unix(150)], 2));
        let (all, _) = waits.longest();
        assert_eq!(
            all.iter().map(|wait| wait.age).collect::<Vec<_>>(),
            [ms(3100), ms(150)]
        );
        let again = Waits::resume(all.clone(), 0);
        assert_eq!(again.longest().0, all);
    }

    #[test]
    fn ten_thousand_are_followed_as_far_as_there_is_room() {
        let mut waits = Waits::default();
        for round in 0..60_u64 {
            let first = u16::try_from(round * 150).unwrap();
            let named = (first..first + 256)
                .map(|port| held(port, 90_000 - u64::from(port) + round * 1000, 1))
                .collect();
            waits.take(ms(round * 1000), &looked(named, 10_000 - round * 150));
        }
        let (all, more) = waits.longest();
        assert_eq!(all.len(), MOST_WAITS);
        assert_eq!(more, 59 * 150);
        assert!(all.is_sorted_by_key(|wait| Reverse(wait.held())));
    }
}
