//! Asks ports during a drain: those that nobody has asked since the program that listens there was started. Nobody waits for it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::door::Door;
use super::{Kept, LIMIT, MOST, ask, reachable};
use crate::evidence::spoken::Transport;
use crate::evidence::{Listener, Role, Spoken};
use crate::world::Deadline;

/// What one drain asks beside its looks.
#[derive(Debug)]
pub struct Beside {
    /// By port and program: each is asked once.
    asked: HashSet<(u16, String)>,
    tell: Sender<Heard>,
    told: Receiver<Heard>,
    /// The ends of what is over: nobody else gets them while the drain looks.
    over: Vec<Door>,
}

#[derive(Debug)]
struct Heard {
    listener: Listener,
    spoken: Spoken,
    door: Door,
}

impl Default for Beside {
    fn default() -> Self {
        let (tell, told) = channel();
        Self {
            asked: HashSet::new(),
            tell,
            told,
            over: Vec::new(),
        }
    }
}

impl Beside {
    /// Begins to ask those of `listeners` of which `kept` knows nothing, or only what another process spoke there. The ends from which it
    /// asks: what comes from there is no traffic.
    #[must_use]
    pub fn ask<'a>(
        &mut self,
        listeners: impl IntoIterator<Item = &'a Listener>,
        kept: &Kept,
    ) -> Vec<SocketAddr> {
        let mut ends = Vec::new();
        for listener in listeners {
            let name = (listener.local.port(), listener.program.clone());
            if listener.role == Role::Closed
                || kept.is_fresh(listener, Duration::MAX)
                || self.asked.len() >= MOST
                || self.asked.contains(&name)
            {
                continue;
            }
            self.asked.insert(name);
            // Without an end or a thread it stays as it is.
            let Ok(door) = Door::reserved(reachable(listener.local)) else {
                continue;
            };
            let own: Vec<_> = door.ends().collect();
            let (tell, listener) = (self.tell.clone(), listener.clone());
            let begun = thread::Builder::new().name("probe".into()).spawn(move || {
                let spoken = ask(&door, Deadline::after(LIMIT));
                // A drain that is over hears nothing any more.
                let _ = tell.send(Heard {
                    listener,
                    spoken,
                    door,
                });
            });
            if begun.is_ok() {
                ends.extend(own);
            }
        }
        ends
    }

    /// What was heard since.
    pub fn heard(&mut self) -> Vec<(Listener, Spoken)> {
        let mut heard = Vec::new();
        while let Ok(one) = self.told.try_recv() {
            self.over.push(one.door);
            if one.spoken.transport != Transport::Unknown {
                heard.push((one.listener, one.spoken));
            }
        }
        heard
    }
}
