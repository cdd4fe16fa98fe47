//! Looks at the target's connections.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sockdiag::{Query, Row, Socket, SocketId, States, TcpState};

use super::arrivals::Traffic;
use super::checkers::Local;
use super::closed;
use super::listeners::{self, Found, Listener, LocalListener, Unit};
use super::locals::Locals;
use super::memory::Memory;
use super::newcomers::Newcomers;
use super::pingpong;
use super::probe::Kept;
use super::sight::see;
use super::spoken::Spoken;
use super::verdict::{History, Holds, Pingpong, Rule, Seen, Terms, Verdict, Why, judge};
use super::walk::{MOST_TIES, Undecided, Walk};
use crate::config::{SettleSettings, WatchSettings};
use crate::drain::event::{Held, Looked};
use crate::drain::machine::Depth;
use crate::world::Root;

/// A look is given up after this long: the kernel answers in milliseconds, or something is wrong.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// The target's connections, and what is remembered of them.
pub struct Watch {
    root: Root,
    socket: Socket,
    units: Vec<Unit>,
    settings: WatchSettings,
    /// What is spoken on the target's ports.
    kept: Kept,
    /// By what the connections to each of `listeners` are judged.
    terms: Vec<Terms>,
    /// When the drain began: streams are waited for so long from then on.
    began: Instant,
    checker_ports: Vec<u16>,
    /// The peers on this host that are told apart.
    local_peers: Local,
    newcomers: Newcomers,
    /// The connections of pollers: what they were answered was the whole answer.
    polled: HashSet<u64>,
    listeners: Vec<Listener>,
    locals: Locals,
    memory: Memory,
    witnesses: Vec<SocketId>,
}

/// What a look showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Glance {
    /// One of the oldest busy connections is still busy; nothing else was looked at. Its age.
    StillBusy(Duration),
    /// All connections, what follows from the arrivals so far, and what the look cost.
    Whole(Box<Looked>, Traffic, Duration),
}

/// What the connections to a port are judged by.
#[must_use]
pub fn terms(settings: &WatchSettings, port: u16, spoken: Spoken) -> Terms {
    let set = settings.port(port);
    let rule = match set.rule {
        Some(rule) => rule.into(),
        None if spoken.http2 => Rule::Http2,
        None => Rule::Requests,
    };
    Terms {
        holds: Holds {
            pause: settings.pause,
            uncertain: set.uncertain_hold.unwrap_or(settings.uncertain_hold),
            stream_quiet: settings.stream_quiet,
        },
        rule,
        spoken,
        streams_over: false,
    }
}

impl Watch {
    /// Watches what `units` listen on, in a drain that began at `began`. `kept` is what is known of their ports; `checker_ports` are
    /// those on which local health checkers listen themselves.
    ///
    /// # Errors
    /// The kernel does not answer sock_diag.
    pub fn new(
        root: &Root,
        units: Vec<Unit>,
        settings: &WatchSettings,
        settle: SettleSettings,
        kept: Kept,
        checker_ports: Vec<u16>,
        began: Instant,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            root: root.clone(),
            socket: Socket::open().context("open a sock_diag socket")?,
            units,
            settings: settings.clone(),
            kept,
            terms: Vec::new(),
            began,
            checker_ports,
            local_peers: Local::default(),
            newcomers: Newcomers::new(settings.ignore.clone(), settle),
            polled: HashSet::new(),
            listeners: Vec::new(),
            locals: Locals::default(),
            memory: Memory::new(Instant::now()),
            witnesses: Vec::new(),
        })
    }

    /// Finds what the target listens on. What it listened on before stays watched: a program that closes its listener still
    /// has requests to finish.
    ///
    /// # Errors
    /// Something could not be seen.
    pub fn discover(&mut self, name: &dyn Fn(u32) -> Option<String>) -> anyhow::Result<Found> {
        let deadline = Instant::now() + LONGEST_LOOK;
        let found = listeners::find(
            &self.root,
            &mut self.socket,
            &self.units,
            &self.checker_ports,
            deadline,
            name,
        )?;
        self.add(found.listeners.iter().cloned());
        let closed = closed::find(
            &self.root,
            &mut self.socket,
            &self.units,
            &found.taken,
            &self.kept,
            deadline,
            name,
        )?;
        self.add(closed);
        self.locals.add(found.locals.clone());
        self.locals
            .look(&mut self.socket, Instant::now(), deadline)?;
        self.local_peers = found.local_peers.clone();
        self.find_fronts(deadline)?;
        Ok(found)
    }

    /// Watches what `before` watched, whose look failed: a listener that was closed since is found by nobody again.
    pub fn take_over(&mut self, before: &Self) {
        self.kept.clone_from(&before.kept);
        self.newcomers
            .add_own(before.newcomers.own().iter().copied());
        self.add(before.listeners.iter().cloned());
        self.locals.add(before.locals.listeners().to_vec());
    }

    fn add(&mut self, listeners: impl IntoIterator<Item = Listener>) {
        for listener in listeners {
            let known = |one: &Listener| one.local == listener.local;
            if !self.listeners.iter().any(known) {
                let spoken = self.kept.of(&listener);
                let port = listener.local.port();
                self.terms.push(terms(&self.settings, port, spoken));
                self.listeners.push(listener);
            }
        }
    }

    /// What is known of the target's ports.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// From now on what comes from these ends is ours: nobody's request, and nothing that arrives.
    pub fn add_own_ends(&mut self, ends: impl IntoIterator<Item = SocketAddr>) {
        self.newcomers.add_own(ends);
    }

    /// What is spoken on a port, heard while it is watched: from now on its connections are judged by that.
    pub fn hear(&mut self, heard: &Listener, spoken: Spoken) {
        self.kept.put(heard, spoken);
        for (listener, known) in self.listeners.iter().zip(&mut self.terms) {
            let port = listener.local.port();
            if port == heard.local.port() && listener.program == heard.program {
                let streams_over = known.streams_over;
                *known = Terms {
                    streams_over,
                    ..terms(&self.settings, port, spoken)
                };
            }
        }
    }

    fn find_fronts(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let Self {
            root,
            socket,
            locals,
            ..
        } = self;
        let fronts = locals.find_fronts(root, socket, deadline)?;
        self.add(fronts);
        let Self {
            newcomers,
            listeners,
            local_peers,
            ..
        } = self;
        let watched = |local: &_| listeners.iter().any(|one| one.takes(*local));
        newcomers.tell_apart(local_peers, watched);
        Ok(())
    }

    /// What is watched.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// And the Unix sockets.
    #[must_use]
    pub fn locals(&self) -> &[LocalListener] {
        self.locals.listeners()
    }

    /// Looks.
    ///
    /// # Errors
    /// Something could not be seen: what is in flight is unknown.
    pub fn look(&mut self, depth: Depth) -> anyhow::Result<Glance> {
        let since = self.began.elapsed();
        for (listener, terms) in self.listeners.iter().zip(&mut self.terms) {
            let set = self.settings.port(listener.local.port()).stream_deadline;
            terms.streams_over |= since >= set.unwrap_or(self.settings.stream_deadline);
        }
        if depth == Depth::Oldest
            && let Some(age) = self.oldest_busy()?
        {
            return Ok(Glance::StillBusy(age));
        }
        let began = Instant::now();
        let (looked, traffic) = self.whole(began)?;
        let apart = traffic.pollers.iter().filter(|poller| poller.told_apart);
        self.polled = apart.map(|poller| poller.cookie).collect();
        Ok(Glance::Whole(Box::new(looked), traffic, began.elapsed()))
    }

    /// The age of the oldest witness that is still busy beyond doubt.
    fn oldest_busy(&mut self) -> anyhow::Result<Option<Duration>> {
        let now = Instant::now();
        let Self {
            socket,
            memory,
            listeners,
            terms,
            witnesses,
            ..
        } = self;
        let mut oldest = None;
        let look = |_, row: Option<&Row<'_>>| {
            let Some(row) = row else { return };
            let local = row.id.local();
            let Some(at) = listeners.iter().position(|one| one.takes(local)) else {
                return;
            };
            let seen = see(row);
            let noted = memory.note(now, row.id.cookie(), &seen, terms[at].rule);
            let verdict = verdict_of(row, &seen, &noted.history, &terms[at]);
            memory.judged(row.id.cookie(), verdict);
            if matches!(verdict, Verdict::Busy(_)) {
                oldest = oldest.max(Some(noted.age));
            }
        };
        socket
            .lookup(witnesses, true, now + LONGEST_LOOK, look)
            .context("look at the oldest busy connections")?;
        if oldest.is_none() {
            let look = self.locals.look(socket, now, now + LONGEST_LOOK)?;
            oldest = look.held.iter().map(|held| held.age).max();
        }
        Ok(oldest)
    }

    fn whole(&mut self, now: Instant) -> anyhow::Result<(Looked, Traffic)> {
        let deadline = now + LONGEST_LOOK;
        let checks = self.checkers_ends(deadline)?;
        let mut ports: Vec<u16> = self.listeners.iter().map(|l| l.local.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() {
            // An empty filter would mean every socket of the host.
            let mut walk = Walk::new(0);
            self.look_at_locals(&mut walk, now)?;
            return self.finish(walk, now);
        }
        let first = self.newcomers.is_first();
        let mut states = States::ALL
            .without(TcpState::Listen)
            .without(TcpState::Close);
        if !first {
            // From now on the kernel tells what ends, when it does.
            states = states.without(TcpState::TimeWait);
        }
        let query = Query {
            states,
            ports: &ports,
            ..Query::default()
        };
        self.memory.begin();
        let Self {
            socket,
            memory,
            listeners,
            newcomers,
            polled,
            terms,
            ..
        } = self;
        let mut walk = socket
            .dump(
                &query,
                deadline,
                || Walk::new(listeners.len()),
                |walk, row| {
                    let local = row.id.local();
                    let peer = row.id.remote();
                    let Some(at) = listeners.iter().position(|listener| listener.takes(local))
                    else {
                        return;
                    };
                    if checks.contains(&peer) || newcomers.own().contains(&peer) {
                        newcomers.check(row);
                        return;
                    }
                    if row.state == TcpState::TimeWait {
                        newcomers.closed_before(now, row);
                        return;
                    }
                    let seen = see(row);
                    let known = memory.knows(row.id.cookie());
                    let noted = memory.note(now, row.id.cookie(), &seen, terms[at].rule);
                    newcomers.seen(now, row, &noted, known);
                    let verdict = verdict_of(row, &seen, &noted.history, &terms[at]);
                    memory.judged(row.id.cookie(), verdict);
                    let answered = verdict == Verdict::Busy(Why::Answering);
                    let polled = answered && polled.contains(&row.id.cookie());
                    if verdict == Verdict::Idle || polled {
                        walk.looked.idle += 1;
                        return;
                    }
                    let held = Held {
                        program: listeners[at].program.clone(),
                        peer: peer.into(),
                        local: local.into(),
                        age: noted.age,
                        received: seen.received,
                        sent: seen.sent,
                        verdict,
                    };
                    if verdict == Verdict::Overdue {
                        walk.overdue(held);
                        return;
                    }
                    if verdict.is_undecided() && walk.ties.len() < MOST_TIES {
                        walk.ties.push(Undecided {
                            id: row.id,
                            seen,
                            history: noted.history,
                            held,
                            listener: at,
                        });
                        return;
                    }
                    walk.hold(held, row.id, at);
                },
            )
            .context("look at the connections")?;
        self.break_ties(&mut walk)?;
        self.witnesses = walk.witnesses();
        self.look_at_locals(&mut walk, now)?;
        self.finish(walk, now)
    }

    /// Ends the look with what follows from it.
    fn finish(&mut self, mut walk: Walk, now: Instant) -> anyhow::Result<(Looked, Traffic)> {
        let Self {
            newcomers,
            memory,
            listeners,
            ..
        } = self;
        let takes = |local| listeners.iter().any(|listener| listener.takes(local));
        let (arrived, traffic) = newcomers
            .end_look(now, now + LONGEST_LOOK, memory, takes)
            .context("hear of the connections that ended")?;
        self.memory.end();
        walk.looked.arrived = arrived;
        Ok((walk.finish(&self.listeners), traffic))
    }

    /// Adds the connections over Unix sockets.
    fn look_at_locals(&mut self, walk: &mut Walk, now: Instant) -> anyhow::Result<()> {
        let deadline = now + LONGEST_LOOK;
        let look = self.locals.look(&mut self.socket, now, deadline)?;
        // Every process of the host is looked at for it, so only once nothing else holds the drain. What is found counts from
        // the next look on, which also sees the proxies' own clients.
        if walk.looked.busy == 0 && !look.held.is_empty() {
            self.find_fronts(deadline)?;
        }
        self.newcomers.over_unix_sockets(now, look.arrived);
        walk.looked.idle += look.idle;
        for held in look.held {
            walk.hold_local(held);
        }
        Ok(())
    }

    /// Judges the ties again with what only `/proc/net/tcp` shows, but only when nothing else holds the drain.
    fn break_ties(&mut self, walk: &mut Walk) -> anyhow::Result<()> {
        let ties = std::mem::take(&mut walk.ties);
        let ends = |tie: &Undecided| (tie.id.local(), tie.id.remote());
        let mut modes = HashMap::new();
        let alone = walk.looked.busy == 0 && !ties.is_empty();
        if alone {
            modes = ties
                .iter()
                .map(|tie| (ends(tie), Pingpong::Unread))
                .collect();
            pingpong::read(&self.root, &mut modes).context("read /proc/net/tcp")?;
        }
        for mut tie in ties {
            // Beside what holds the drain anyway, a tie counts by its age alone.
            let mode = modes.get(&ends(&tie)).copied();
            tie.history.pingpong = mode.unwrap_or(Pingpong::Unknown);
            if alone {
                self.memory.read(tie.id.cookie(), tie.history.pingpong);
            }
            tie.held.verdict = judge(&tie.seen, &tie.history, &self.terms[tie.listener]);
            match tie.held.verdict {
                Verdict::Idle => {
                    walk.looked.idle += 1;
                    continue;
                }
                Verdict::Overdue => {
                    walk.overdue(tie.held);
                    continue;
                }
                _ => {}
            }
            walk.hold(tie.held, tie.id, tie.listener);
        }
        Ok(())
    }

    /// The client ends of the local checkers' connections.
    fn checkers_ends(&mut self, deadline: Instant) -> anyhow::Result<HashSet<SocketAddr>> {
        if self.newcomers.checkers().is_empty() {
            return Ok(HashSet::new());
        }
        let states = States::ALL
            .without(TcpState::Listen)
            .without(TcpState::TimeWait);
        let query = Query {
            states,
            cgroups: self.newcomers.checkers(),
            info: false,
            ..Query::default()
        };
        self.socket
            .dump(&query, deadline, HashSet::new, |ends, row| {
                ends.insert(row.id.local());
            })
            .context("look at the connections of the local checkers")
    }
}

/// The verdict, with the one thing that is not in the rules: a connection that waits to be accepted.
fn verdict_of(row: &Row<'_>, seen: &Seen, history: &History, terms: &Terms) -> Verdict {
    let open = matches!(row.state, TcpState::Established | TcpState::CloseWait);
    if open && row.inode == 0 {
        return Verdict::Busy(Why::Unaccepted);
    }
    judge(seen, history, terms)
}
