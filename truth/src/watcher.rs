//! Looks at every server's connections with the product's own evidence, and compares with the book.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use drainctl::evidence::memory::Memory;
use drainctl::evidence::pingpong;
use drainctl::evidence::sight::see;
use drainctl::evidence::verdict::{History, Pingpong, Seen, Terms, Verdict, Why, judge};
use drainctl::world::Root;
use sockdiag::{Query, Socket, SocketId, States, TcpState};

use crate::book::Book;
use crate::case::Case;
use crate::matrix::{Matrix, Sight};

/// A look that takes longer is given up.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// Sees what the product sees.
pub(crate) struct Watcher {
    socket: Socket,
    book: Arc<Book>,
    memory: Memory,
    ports: Vec<u16>,
    terms: HashMap<u16, Terms>,
}

/// One connection in one look.
struct Row {
    id: SocketId,
    seen: Seen,
    accepted: bool,
}

impl Watcher {
    /// Watches the servers on the ports of `terms`.
    pub(crate) fn new(book: Arc<Book>, terms: HashMap<u16, Terms>) -> Result<Self> {
        Ok(Self {
            socket: Socket::open()?,
            book,
            memory: Memory::new(Instant::now()),
            ports: terms.keys().copied().collect(),
            terms,
        })
    }

    /// One look at all connections, counted in `matrix` by the server's port.
    pub(crate) fn look(&mut self, matrix: &mut Matrix) -> Result<()> {
        let truth = self.book.before();
        let now = Instant::now();
        let rows = self.rows(now)?;
        let mut first = Memory::new(now);
        first.begin();
        self.memory.begin();
        let mut judged = Vec::with_capacity(rows.len());
        for row in &rows {
            let cookie = row.id.cookie();
            let terms = self.terms.get(&row.id.local().port());
            let rule = terms.map(|terms| terms.rule).unwrap_or_default();
            let histories = [&mut first, &mut self.memory]
                .map(|memory| memory.note(now, cookie, &row.seen, rule).history);
            let verdicts = histories.map(|history| self.verdict(row, &history));
            self.memory.judged(cookie, verdicts[1]);
            judged.push((row, histories, verdicts));
        }
        self.memory.end();
        let mut modes: HashMap<_, _> = judged
            .iter()
            .filter(|(_, _, verdicts)| verdicts.iter().any(|verdict| verdict.is_undecided()))
            .map(|(row, _, _)| (ends(&row.id), Pingpong::Unread))
            .collect();
        if !modes.is_empty() {
            pingpong::read(&Root::host(), &mut modes).context("read /proc/net/tcp")?;
        }
        for (row, mut histories, mut verdicts) in judged {
            let mode = modes.get(&ends(&row.id)).copied().unwrap_or_default();
            if verdicts[1].is_undecided() {
                self.memory.read(row.id.cookie(), mode);
            }
            for (history, verdict) in histories.iter_mut().zip(&mut verdicts) {
                if verdict.is_undecided() {
                    history.pingpong = mode;
                    *verdict = self.verdict(row, history);
                }
            }
            let Some(before) = truth.get(&row.id.cookie()) else {
                continue;
            };
            for (at, sight) in [Sight::First, Sight::Known].into_iter().enumerate() {
                let case = Case {
                    seen: row.seen,
                    history: histories[at],
                    verdict: verdicts[at],
                };
                let cell = matrix.cell(row.id.local().port(), sight);
                match before.still() {
                    None => cell.changed(),
                    Some(true) => cell.in_flight(&case, &before.truth),
                    Some(false) => cell.idle(&case, &before.truth, now),
                }
            }
        }
        Ok(())
    }

    fn verdict(&self, row: &Row, history: &History) -> Verdict {
        if !row.accepted {
            return Verdict::Busy(Why::Unaccepted);
        }
        match self.terms.get(&row.id.local().port()) {
            Some(terms) => judge(&row.seen, history, terms),
            None => Verdict::Idle,
        }
    }

    fn rows(&mut self, now: Instant) -> Result<Vec<Row>> {
        let states = States::ALL
            .without(TcpState::Listen)
            .without(TcpState::Close);
        let query = Query {
            states,
            ports: &self.ports,
            ..Query::default()
        };
        let deadline = now + LONGEST_LOOK;
        let rows = self
            .socket
            .dump(&query, deadline, Vec::new, |rows, row| {
                let open = matches!(row.state, TcpState::Established | TcpState::CloseWait);
                rows.push(Row {
                    id: row.id,
                    seen: see(row),
                    accepted: !open || row.inode != 0,
                });
            })
            .context("look at the servers' connections")?;
        Ok(rows)
    }
}

fn ends(id: &SocketId) -> (SocketAddr, SocketAddr) {
    (id.local(), id.remote())
}
