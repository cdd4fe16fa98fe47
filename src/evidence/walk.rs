//! What one look at all connections gathers, from row to row.

use std::collections::BTreeMap;
use std::time::Duration;

use sockdiag::SocketId;

use super::listeners::Listener;
use super::verdict::{History, Seen};
use crate::drain::event::{Held, Looked};

/// So many of the oldest busy connections are asked for one by one between two looks at all.
const MOST_WITNESSES: usize = 32;
/// So many ties are looked up in `/proc/net/tcp` at once; what was read is remembered, so the others follow.
pub(super) const MOST_TIES: usize = 4096;

/// What one walk over the rows gathers; thrown away when the walk has to start over.
pub(super) struct Walk {
    pub(super) looked: Looked,
    /// What holds, by listener.
    per_program: Vec<u64>,
    /// What holds over Unix sockets, by program.
    locals: BTreeMap<String, u64>,
    witnesses: Vec<(Duration, SocketId)>,
    pub(super) ties: Vec<Undecided>,
}

/// A tie that needs the delayed-ACK mode.
pub(super) struct Undecided {
    pub(super) id: SocketId,
    pub(super) seen: Seen,
    pub(super) history: History,
    pub(super) held: Held,
    pub(super) listener: usize,
}

impl Walk {
    pub(super) fn new(listeners: usize) -> Self {
        Self {
            looked: Looked::default(),
            per_program: vec![0; listeners],
            locals: BTreeMap::new(),
            witnesses: Vec::new(),
            ties: Vec::new(),
        }
    }

    /// A connection to this listener holds the drain; it is asked for again by itself.
    pub(super) fn hold(&mut self, held: Held, id: SocketId, at: usize) {
        self.per_program[at] += 1;
        self.witnesses.push((held.age, id));
        if self.witnesses.len() >= 4 * MOST_WITNESSES {
            self.keep_oldest_witnesses();
        }
        self.name(held);
    }

    /// One over a Unix socket does.
    pub(super) fn hold_local(&mut self, held: Held) {
        *self.locals.entry(held.program.clone()).or_default() += 1;
        self.name(held);
    }

    /// A stream that is not waited for any longer.
    pub(super) fn overdue(&mut self, held: Held) {
        self.looked.overdue += 1;
        if self.looked.given_up.len() < Looked::MOST_HELD {
            self.looked.given_up.push(held);
        }
    }

    fn name(&mut self, held: Held) {
        self.looked.busy += 1;
        self.looked.uncertain += u64::from(held.verdict.is_tie());
        self.looked.held.push(held);
        if self.looked.held.len() >= 4 * Looked::MOST_HELD {
            self.keep_oldest_held();
        }
    }

    fn keep_oldest_held(&mut self) {
        self.looked
            .held
            .sort_by_key(|held| std::cmp::Reverse(held.age));
        self.looked.held.truncate(Looked::MOST_HELD);
    }

    /// Those to ask for until the next look at all connections.
    pub(super) fn witnesses(&mut self) -> Vec<SocketId> {
        self.keep_oldest_witnesses();
        self.witnesses.iter().map(|(_, id)| *id).collect()
    }

    fn keep_oldest_witnesses(&mut self) {
        self.witnesses
            .sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        self.witnesses.truncate(MOST_WITNESSES);
    }

    pub(super) fn finish(mut self, listeners: &[Listener]) -> Looked {
        self.keep_oldest_held();
        let mut programs = self.locals;
        for (listener, count) in listeners.iter().zip(&self.per_program) {
            if *count > 0 {
                *programs.entry(listener.program.clone()).or_default() += count;
            }
        }
        self.looked.programs = programs.into_iter().collect();
        self.looked
    }
}
