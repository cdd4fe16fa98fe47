//! What arrived, from whom and how often: how long silence must last to be one, and who only polls. Pure.
//!
//! The reasons for each number are in `docs/evidence.md`.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::SettleSettings;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A peer with this address.
    Address(IpAddr),
    /// It can't be said: a peer on a Unix socket, or what the kernel had to drop.
    Unknown,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unknown => f.write_str("somebody"),
        }
    }
}

/// A request that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who sent it.
    pub from: Origin,
    /// Our port.
    pub port: u16,
    /// Its bytes, as far as they had come when it was seen.
    pub size: u32,
    /// The socket that it came on.
    pub cookie: u64,
    /// When it came.
    pub at: Instant,
    /// It may have come so much earlier.
    pub slack: Duration,
    /// It came between two looks. Without: it was found at the first look, and what came before it is not known.
    pub live: bool,
}

/// Someone who sends the same request at the same rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poller {
    /// Who.
    pub from: Origin,
    /// To which port of ours.
    pub port: u16,
    /// How often.
    pub period: Duration,
    /// The connection of the last request.
    pub cookie: u64,
    /// It went on after all others had stopped, and so does not follow the pools: it counts no more. Without: it may as well be the one
    /// client of a balancer that has not heard yet.
    pub told_apart: bool,
    /// The same peer has sent nothing else lately.
    pub alone: bool,
}

/// What follows from the arrivals so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// When silence is proven, if nothing more arrives; at once, without any arrival.
    pub silent_at: Option<Instant>,
    /// Those who poll.
    pub pollers: Vec<Poller>,
}

/// The arrivals of the last [`WINDOW`].
#[derive(Debug)]
pub struct Arrivals {
    limits: SettleSettings,
    /// In the order of the looks.
    kept: VecDeque<Arrival>,
    /// Those of the look that is under way; of each stream the latest.
    look: HashMap<Stream, Arrival>,
    counted: u64,
}

/// Requests of one size from one peer to one port.
type Stream = (Origin, u16, u32);

/// What is older says nothing about now.
const WINDOW: Duration = Duration::from_secs(60);
/// The most that are kept, 72 bytes each. A host that has more is busy beyond doubt.
const MOST: usize = 16_384;
/// And of one look.
const MOST_OF_A_LOOK: usize = 4096;
/// So many streams within four looks need no closer look.
const BEYOND_DOUBT: usize = 64;
/// Arrivals closer together are one burst: looks are as far apart.
const BURST: Duration = Duration::from_millis(50);
/// So many gaps between arrivals, over this long, show how dense traffic is: a burst is shorter.
const DENSE: usize = 6;
const DENSE_SPAN: Duration = Duration::from_secs(1);
/// Dense traffic is silent after so many times its longest gap.
const DENSE_GAPS: u32 = 3;
/// Other traffic after so many times the longest gap that was seen.
const SPARSE_GAPS: u32 = 2;
/// So many peers that send seldom are clients without a balancer in between: judged as one.
const MANY_PEERS: usize = 12;
/// A rhythm is so many gaps of the same length.
const RHYTHM: usize = 3;
/// No checker polls more often; a lone client in a loop does.
const SHORTEST_PERIOD: Duration = Duration::from_millis(500);
/// A poll is small: a request line and a few headers.
const LARGEST_POLL: u32 = 1024;

impl Arrivals {
    /// None so far.
    #[must_use]
    pub fn new(limits: SettleSettings) -> Self {
        Self {
            limits,
            kept: VecDeque::new(),
            look: HashMap::new(),
            counted: 0,
        }
    }

    /// Something arrived. Kept across a look that has to start over: it finds nothing new the second time.
    pub fn add(&mut self, arrival: Arrival) {
        self.counted += u64::from(arrival.live);
        let mut arrival = arrival;
        let mut stream = (arrival.from, arrival.port, arrival.size);
        if self.look.len() >= MOST_OF_A_LOOK && !self.look.contains_key(&stream) {
            // No room for whose it is; when the last of them came still counts.
            arrival.from = Origin::Unknown;
            stream = (arrival.from, 0, 0);
        }
        let latest = self.look.entry(stream).or_insert(arrival);
        if latest.at < arrival.at {
            *latest = arrival;
        }
    }

    /// A look ended: how many arrived since the one before.
    pub fn end_look(&mut self, now: Instant) -> u64 {
        let old = |arrival: &Arrival| now.saturating_duration_since(arrival.at) > WINDOW;
        while self.kept.len() + self.look.len() > MOST || self.kept.front().is_some_and(old) {
            self.kept.pop_front();
        }
        self.kept
            .extend(self.look.drain().map(|(_, latest)| latest));
        std::mem::take(&mut self.counted)
    }

    /// What follows at `now`.
    #[must_use]
    pub fn judge(&self, now: Instant) -> Traffic {
        let recent = |arrival: &&Arrival| now.saturating_duration_since(arrival.at) < BURST * 4;
        if self.kept.iter().rev().take_while(recent).count() > BEYOND_DOUBT {
            return Traffic {
                silent_at: Some(now + self.limits.min),
                pollers: Vec::new(),
            };
        }
        let mut pollers = self.pollers(now);
        let polls = |arrival: &Arrival| {
            pollers
                .iter()
                .any(|(stream, _)| *stream == (arrival.from, arrival.port, arrival.size))
        };
        let (polled, others): (Vec<&Arrival>, Vec<&Arrival>) =
            self.kept.iter().partition(|arrival| polls(arrival));
        let silent_at = self.silent_at(&others);
        // Dense or not, there must have been others that stopped, or nothing tells a poller from a lone client.
        let stopped = silent_at.filter(|at| *at <= now && live(&others) > RHYTHM);
        for (stream, poller) in &mut pollers {
            let on = |arrival: &&&Arrival| (arrival.from, arrival.port, arrival.size) == *stream;
            let last = polled.iter().filter(on).map(|arrival| arrival.at).max();
            poller.alone = others.iter().all(|other| other.from != poller.from);
            poller.told_apart = stopped.is_some() && last >= stopped;
        }
        let apart = |arrival: &&Arrival| {
            pollers.iter().any(|(stream, poller)| {
                poller.told_apart && *stream == (arrival.from, arrival.port, arrival.size)
            })
        };
        let counting: Vec<&Arrival> = self.kept.iter().filter(|each| !apart(each)).collect();
        Traffic {
            silent_at: self.silent_at(&counting),
            pollers: pollers.into_iter().map(|(_, poller)| poller).collect(),
        }
    }

    /// The streams that keep a rhythm now.
    fn pollers(&self, now: Instant) -> Vec<(Stream, Poller)> {
        let mut streams: HashMap<Stream, Vec<&Arrival>> = HashMap::new();
        for arrival in self.kept.iter().filter(|arrival| arrival.live) {
            streams
                .entry((arrival.from, arrival.port, arrival.size))
                .or_default()
                .push(arrival);
        }
        let rhythmic = |(stream, arrivals): (Stream, Vec<&Arrival>)| {
            let (from, port, size) = stream;
            let period = rhythm(&arrivals)?;
            let last = arrivals.last()?;
            let late = now.saturating_duration_since(last.at) > period + period / 2;
            if late || size > LARGEST_POLL || from == Origin::Unknown {
                return None;
            }
            let poller = Poller {
                from,
                port,
                period,
                cookie: last.cookie,
                told_apart: false,
                alone: false,
            };
            Some((stream, poller))
        };
        let mut pollers: Vec<_> = streams.into_iter().filter_map(rhythmic).collect();
        pollers.sort_by_key(|(stream, _)| *stream);
        pollers
    }

    /// When all of them are known to have stopped. Each peer is judged by itself: a slow balancer must not hide among busy ones.
    fn silent_at(&self, arrivals: &[&Arrival]) -> Option<Instant> {
        let mut peers: HashMap<Origin, Vec<&Arrival>> = HashMap::new();
        for arrival in arrivals {
            peers.entry(arrival.from).or_default().push(arrival);
        }
        let (dense, seldom): (Vec<_>, Vec<_>) = peers
            .into_values()
            .map(Times::of)
            .partition(Times::is_dense);
        let crowd = (seldom.len() >= MANY_PEERS)
            .then(|| Times::of(arrivals.to_vec()))
            .filter(Times::is_dense);
        let seldom = if crowd.is_some() { Vec::new() } else { seldom };
        let silent = |times: Times| Some(times.last? + self.needed(&times));
        dense
            .into_iter()
            .chain(crowd)
            .chain(seldom)
            .filter_map(silent)
            .max()
    }

    /// How long the silence after these must last.
    fn needed(&self, times: &Times) -> Duration {
        let SettleSettings { min, quiet, max } = self.limits;
        let needed = if times.is_dense() {
            (DENSE_GAPS * times.longest).max(min)
        } else {
            (SPARSE_GAPS * times.longest).max(quiet)
        };
        needed.min(max)
    }
}

fn live(arrivals: &[&Arrival]) -> usize {
    arrivals.iter().filter(|arrival| arrival.live).count()
}

/// The gaps between arrivals of which nothing was missed.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    last: Option<Instant>,
    gaps: usize,
    longest: Duration,
    /// From the first to the last of which nothing was missed.
    span: Duration,
}

impl Times {
    fn of(mut arrivals: Vec<&Arrival>) -> Self {
        arrivals.sort_by_key(|arrival| arrival.at);
        let mut times = Self {
            last: arrivals.last().map(|arrival| arrival.at),
            ..Self::default()
        };
        let mut before: Option<&Arrival> = None;
        for arrival in arrivals.into_iter().filter(|arrival| arrival.live) {
            let gap = before.map(|before| arrival.at.duration_since(before.at));
            if gap.is_some_and(|gap| gap < BURST) {
                continue;
            }
            if let Some(gap) = gap {
                times.gaps += 1;
                times.span += gap;
                times.longest = times.longest.max(gap);
            }
            before = Some(arrival);
        }
        times
    }

    fn is_dense(&self) -> bool {
        self.gaps >= DENSE && self.span >= DENSE_SPAN
    }
}

/// The period of arrivals that keep one.
fn rhythm(arrivals: &[&Arrival]) -> Option<Duration> {
    let (first, last) = (arrivals.first()?, arrivals.last()?);
    let gaps = arrivals.len() - 1;
    if gaps < RHYTHM {
        return None;
    }
    let period = last.at.duration_since(first.at) / u32::try_from(gaps).ok()?;
    let fits = |pair: &[&Arrival]| {
        let [before, after] = pair else { return false };
        let gap = after.at.saturating_duration_since(before.at);
        gap.abs_diff(period)
            <= period / 50 + before.slack.max(after.slack) + Duration::from_millis(10)
    };
    (period >= SHORTEST_PERIOD && arrivals.windows(2).all(fits)).then_some(period)
}

#[cfg(test)]
#[path = "arrivals_tests.rs"]
mod tests;
