//! Which of the rows that the kernel shows are arrivals, and from whom: checkers and ignored peers are none.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sockdiag::{Ends, Info, Row, TcpState};

use super::arrivals::{Arrival, Arrivals, Origin, Traffic};
use super::checkers::Local;
use super::memory::{Memory, Noted};
use super::sight::see;
use crate::config::{Ignore, SettleSettings};

/// Arrivals are late by their tick, a read and a schedule at most.
const SLACK: Duration = Duration::from_millis(10);
/// How long a socket stays in TIME_WAIT (`TCP_TIMEWAIT_LEN`, include/net/tcp.h).
const TIME_WAIT: Duration = Duration::from_secs(60);

/// Keeps the arrivals of one watch.
#[derive(Debug)]
pub(super) struct Newcomers {
    /// None where the kernel does not tell of sockets that are gone: connections between two looks stay unseen.
    ends: Option<Ends>,
    ignore: Vec<Ignore>,
    /// The ends of our own probes.
    own: HashSet<SocketAddr>,
    arrivals: Arrivals,
    /// The control groups of the local checkers.
    checkers: Vec<u64>,
    /// A proxy runs here whose own clients are not watched, so a connection from this host may carry somebody's request.
    proxies: bool,
    /// New connections from this host that were not the checkers': they may have opened while the checkers were looked at.
    unsure: HashMap<u64, Arrival>,
    /// Connections of checkers: once they are gone, nothing else tells whose they were.
    checked: HashSet<u64>,
    /// Somebody on this host who is no checker has a connection to the target.
    others_local: bool,
    looked: Option<Instant>,
}

impl Newcomers {
    /// Nobody yet.
    pub(super) fn new(ignore: Vec<Ignore>, limits: SettleSettings) -> Self {
        Self {
            // The looks themselves are worth more than what falls between them.
            ends: Ends::open().ok(),
            ignore,
            own: HashSet::new(),
            arrivals: Arrivals::new(limits),
            checkers: Vec::new(),
            proxies: false,
            unsure: HashMap::new(),
            checked: HashSet::new(),
            others_local: false,
            looked: None,
        }
    }

    /// Who on this host is told apart from now on, while these sockets are watched.
    pub(super) fn tell_apart(&mut self, local: &Local, watched: impl Fn(&SocketAddr) -> bool) {
        self.checkers.clone_from(&local.checkers);
        self.proxies = local.has_unwatched_proxies(watched);
    }

    /// What comes from these ends is ours, and nobody's request.
    pub(super) fn add_own(&mut self, ends: impl IntoIterator<Item = SocketAddr>) {
        self.own.extend(ends);
    }

    /// The ends that are ours.
    pub(super) fn own(&self) -> &HashSet<SocketAddr> {
        &self.own
    }

    /// The control groups of the local checkers.
    pub(super) fn checkers(&self) -> &[u64] {
        &self.checkers
    }

    /// Whether no look has ended yet.
    pub(super) fn is_first(&self) -> bool {
        self.looked.is_none()
    }

    /// A row that is a checker's.
    pub(super) fn check(&mut self, row: &Row<'_>) {
        let cookie = row.id.cookie();
        self.unsure.remove(&cookie);
        self.checked.insert(cookie);
    }

    /// A row that is not, and what is new of it; `known` if the look before had it.
    pub(super) fn seen(&mut self, now: Instant, row: &Row<'_>, noted: &Noted, known: bool) {
        let (local, peer) = (row.id.local(), row.id.remote());
        let cookie = row.id.cookie();
        if self.ignores(local, peer) {
            return;
        }
        // Whose it is can be asked while the peer has its end open. A checker may have closed it since the look before, and a busy
        // program not yet ours: then nobody knows, until it is gone.
        if known
            && row.state == TcpState::Established
            && let Some(arrival) = self.unsure.remove(&cookie)
        {
            self.others_local = true;
            self.arrivals.add(arrival);
        }
        let live = noted.arrived;
        let before_us = self.looked.is_none() && noted.size > 0;
        if !live && !before_us {
            return;
        }
        let at = now.checked_sub(noted.age).unwrap_or(now);
        let arrival = Arrival {
            from: Origin::Address(peer.ip()),
            port: local.port(),
            size: if live { noted.size } else { 0 },
            cookie,
            at,
            slack: SLACK,
            live,
        };
        if !known && live && own_host(local, peer) && !self.checkers.is_empty() {
            self.unsure.insert(cookie, arrival);
        } else {
            self.arrivals.add(arrival);
        }
    }

    /// A row in TIME_WAIT, found at the first look: the program closed it. Later ones are told by [`Newcomers::gone`].
    pub(super) fn closed_before(&mut self, now: Instant, row: &Row<'_>) {
        let (local, peer) = (row.id.local(), row.id.remote());
        let left = Duration::from_millis(row.timer_expires.into());
        let age = TIME_WAIT.saturating_sub(left);
        if self.ignores(local, peer) || (own_host(local, peer) && !self.counts_own_host()) {
            return;
        }
        self.arrivals.add(Arrival {
            from: Origin::Address(peer.ip()),
            port: local.port(),
            size: 0,
            cookie: row.id.cookie(),
            at: now.checked_sub(age).unwrap_or(now),
            slack: SLACK,
            live: false,
        });
    }

    /// So many requests arrived over Unix sockets, which name no peer.
    pub(super) fn over_unix_sockets(&mut self, now: Instant, count: u64) {
        for _ in 0..count {
            self.arrivals.add(self.unknown(now));
        }
    }

    fn unknown(&self, now: Instant) -> Arrival {
        Arrival {
            from: Origin::Unknown,
            port: 0,
            size: 0,
            cookie: 0,
            at: now,
            slack: SLACK,
            live: true,
        }
    }

    /// Ends a look: counts what ended since the one before. How many arrived, and what follows.
    ///
    /// # Errors
    /// The kernel's word can't be understood.
    pub(super) fn end_look(
        &mut self,
        now: Instant,
        deadline: Instant,
        memory: &Memory,
        ours: impl Fn(SocketAddr) -> bool,
    ) -> Result<(u64, Traffic), sockdiag::Error> {
        let slack = self
            .looked
            .map_or(Duration::ZERO, |looked| now.duration_since(looked));
        let mut ends = self.ends.take();
        let mut gone = Vec::new();
        let whole = match &mut ends {
            None => true,
            Some(ends) => ends.read(deadline, |row| {
                if ours(row.id.local()) {
                    let segments = row.info.as_ref().and_then(Info::data_segs_in);
                    let received = see(row).received;
                    gone.push((row.id, received, segments.unwrap_or_default()));
                }
            })?,
        };
        self.ends = ends;
        for (id, received, segments) in gone {
            let cookie = id.cookie();
            if self.checked.remove(&cookie) {
                continue;
            }
            let waited = self.unsure.remove(&cookie);
            let (local, peer) = (id.local(), id.remote());
            let [.., high, low] = segments.to_be_bytes();
            let unseen = memory.gone(cookie, received, u16::from_be_bytes([high, low]));
            let counts = !own_host(local, peer) || self.counts_own_host();
            if self.ignores(local, peer) || !(counts || memory.knows(cookie) && waited.is_none()) {
                continue;
            }
            if let Some(arrival) = waited {
                self.arrivals.add(arrival);
            }
            if let Some(size) = unseen {
                self.arrivals.add(Arrival {
                    from: Origin::Address(peer.ip()),
                    port: local.port(),
                    size,
                    cookie,
                    at: now,
                    slack: slack + SLACK,
                    live: self.looked.is_some(),
                });
            }
        }
        if !whole {
            self.arrivals.add(self.unknown(now));
        }
        self.looked = Some(now);
        let arrived = self.arrivals.end_look(now);
        Ok((arrived, self.arrivals.judge(now)))
    }

    /// Whether a connection from this host that no look could ask for its process counts: nobody but checkers is known to have any.
    fn counts_own_host(&self) -> bool {
        self.checkers.is_empty() || self.proxies || self.others_local
    }

    fn ignores(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        let ignored = |ignore: &Ignore| ignore.covers(peer.ip(), local.port());
        self.own.contains(&peer) || self.ignore.iter().any(ignored)
    }
}

/// Whether the peer is on this host.
fn own_host(local: SocketAddr, peer: SocketAddr) -> bool {
    peer.ip().is_loopback() || peer.ip() == local.ip()
}
