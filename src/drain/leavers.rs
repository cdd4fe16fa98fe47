//! The threads that leave the pools, one each, and what their ends mean: stand-ins begin, and what came back is left again.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::engine::{Engine, Message};
use super::event::{Event, PoolStep};
use super::leave::Leaving;
use super::machine::Input;
use super::ways::Next;
use crate::config::PoolSpec;
use crate::pools::{self, Membership, Said};

/// A pool that has not said by so long after its limit what became of it is given up.
const LATE: Duration = Duration::from_secs(1);
/// A pool that has not even agreed by then is stood in for, where somebody can.
const PATIENCE: Duration = Duration::from_secs(3);
/// One whose calls fail, where that one would only be slow, by then: a connection that is refused, a token that is not taken.
const PATIENCE_WITH_ERRORS: Duration = Duration::from_secs(1);
/// The pools have this long to say that this host is still out.
const RECHECK: Duration = Duration::from_secs(1);

/// What opens the way for a pool's thread, and for the one that gives it up.
pub(super) type Gates = [Sender<Instant>; 2];

/// Whether leaving by it turns traffic away. One that can't be made turns away nothing, and says so when it is begun.
pub(super) fn refuses(spec: &PoolSpec) -> bool {
    pools::build(spec).is_ok_and(|pool| pool.refuses())
}

impl Engine<'_> {
    /// Starts a thread a pool. Each reads what stands there, and then waits at its gate.
    pub(super) fn prepare(&mut self) -> Vec<Gates> {
        let order = self.order;
        let started = order.settings.pools.iter().map(|spec| self.start(spec));
        started.flatten().collect()
    }

    /// Lets the pools' threads change something.
    pub(super) fn open(&self, gates: &[Gates]) {
        let opened = Instant::now();
        for gate in gates.iter().flatten() {
            // A pool's thread that is gone has said why.
            let _ = gate.send(opened);
        }
        for spec in &self.order.settings.pools {
            if self.ways.has_stand_in(&spec.name) {
                let (tell, name) = (self.tell.clone(), spec.name.clone());
                std::thread::spawn(move || {
                    std::thread::sleep(PATIENCE_WITH_ERRORS);
                    tell.send(Message::Failing(name.clone()))?;
                    std::thread::sleep(PATIENCE - PATIENCE_WITH_ERRORS);
                    tell.send(Message::Slow(name))
                });
            }
        }
    }

    fn start(&mut self, spec: &PoolSpec) -> Option<Gates> {
        self.unresolved += 1;
        self.story.pool(spec);
        match pools::build(spec) {
            Ok(pool) => Some(self.start_leaving(spec, pool)),
            Err(error) => {
                let failed = PoolStep::Failed {
                    error: error.to_string(),
                };
                let _ = self.tell.send(Message::Pool(spec.name.clone(), failed));
                let resolved = Message::Resolved(spec.name.clone(), false);
                let _ = self.tell.send(resolved);
                None
            }
        }
    }

    fn start_leaving(&self, spec: &PoolSpec, pool: Box<dyn pools::Pool>) -> Gates {
        let (gate, closed) = channel();
        let (start, started) = channel();
        let tell = self.tell.clone();
        let name = spec.name.clone();
        let leaving = Leaving {
            drain: self.run.id.clone(),
            spec: spec.clone(),
            pool,
            root: self.order.root.clone(),
            store: self.store.clone(),
            over: self.over.clone(),
            deadline: self.deadline.clone(),
            ports: self.ports.clone(),
        };
        let limit = spec.limit + LATE;
        let (resolve, resolved) = channel();
        let (steps, step_of) = (tell.clone(), name.clone());
        std::thread::spawn(move || {
            let left = leaving.run(&closed, |step| {
                let _ = steps.send(Message::Pool(step_of.clone(), step));
            });
            resolve.send(left)
        });
        // A file system that hangs knows no deadline, and a thread that is gone tells nothing.
        std::thread::spawn(move || {
            // Its limit begins where the leaving does.
            let _ = started.recv();
            let left = resolved.recv_timeout(limit).unwrap_or_else(|_| {
                let error = "it hangs, or has ended, without an answer".to_owned();
                let _ = tell.send(Message::Pool(name.clone(), PoolStep::Failed { error }));
                false
            });
            tell.send(Message::Resolved(name, left))
        });
        [gate, start]
    }

    /// The ports that the target listens on, for those who wait for them; only what can be reached from elsewhere is meant.
    pub(super) fn tell_ports(&self, listeners: impl Iterator<Item = SocketAddr>) {
        let reached = listeners.filter(|local| !local.ip().to_canonical().is_loopback());
        // Found again, they are the same or more; who waited has them by now.
        let _ = self.ports.set(reached.map(|local| local.port()).collect());
    }

    /// Does what the ways out ask for; what the machine is to know of it.
    pub(super) fn follow(&mut self, next: Vec<Next>) -> Vec<Input> {
        let mut inputs = Vec::new();
        if self.over.load(Ordering::Relaxed) {
            return inputs;
        }
        for next in next {
            match next {
                Next::Settled { left } => inputs.push(Input::PoolResolved { left }),
                Next::More => inputs.push(Input::Joined { pools: 1 }),
                Next::Start(name, pool) => {
                    self.order_note(format!("{pool} is not left: {name} stands in for it"));
                    self.begin(&name);
                }
            }
        }
        inputs
    }

    /// Leaves by a pool or stand-in of this name at once.
    fn begin(&mut self, name: &str) {
        let Some(spec) = self.order.settings.way(name) else {
            return;
        };
        if let Some(gates) = self.start(spec) {
            self.open(&[gates]);
        }
    }

    /// Traffic has not stopped within the settle. Where every pool says that it sends none, one of them does not do what it says.
    pub(super) fn traffic_goes_on(&mut self) -> Vec<Input> {
        let next = self.ways.traffic_goes_on();
        self.stand_in(next)
    }

    /// What was in flight is done, and traffic goes on.
    pub(super) fn last_resort(&mut self) -> Vec<Input> {
        let next = self.ways.last_resort();
        self.stand_in(next)
    }

    fn stand_in(&mut self, next: Option<Next>) -> Vec<Input> {
        let Some(Next::Start(name, pool)) = next else {
            return Vec::new();
        };
        if self.ways.is_in_need(&pool) {
            self.order_note(format!("{pool} is not left: {name} stands in for it"));
        } else {
            self.order_note(format!(
                "traffic goes on although {pool} says that this host is out: {name} stands in for it"
            ));
            if self.order.settings.has_own_pools() {
                self.story.went_on();
            }
        }
        self.begin(&name);
        vec![Input::Joined { pools: 1 }]
    }

    /// Asks the pools that were left whether that still holds; the answer is a message.
    pub(super) fn recheck(&self) -> Vec<Input> {
        let settings = &self.order.settings;
        let left = self.ways.left().filter_map(|name| settings.way(name));
        let specs: Vec<PoolSpec> = left.cloned().collect();
        if specs.is_empty() {
            return vec![Input::Joined { pools: 0 }];
        }
        let (root, tell) = (self.order.root.clone(), self.tell.clone());
        std::thread::spawn(move || {
            tell.send(Message::Rechecked(pools::ask(&root, &specs, RECHECK)))
        });
        Vec::new()
    }

    /// Leaves again what takes traffic again. Who does not answer has said before that it holds.
    pub(super) fn rechecked(&mut self, said: &[Said]) -> Vec<Input> {
        let back = said
            .iter()
            .filter(|said| said.membership == Some(Membership::In));
        let mut pools = 0;
        for said in back {
            if self.returns == 0 {
                let error = "it sends traffic here again: somebody puts this host back each time"
                    .to_owned();
                self.say(Event::Pool {
                    pool: said.name.clone(),
                    step: PoolStep::Failed { error },
                });
                self.ways.resolved(&said.name, false);
                continue;
            }
            self.returns -= 1;
            self.order_note(format!(
                "{} sends traffic here again: somebody has put this host back; leaving again",
                said.name
            ));
            self.ways.again(&said.name);
            self.begin(&said.name);
            pools += 1;
        }
        vec![Input::Joined { pools }]
    }
}
