//! Connections to the target's Unix sockets. The kernel keeps neither ages nor counters of them: what it shows are queues, and who is
//! at the other end. Where that is a proxy whose own clients are watched, they tell whether a request is in flight.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use anyhow::Context as _;
use sockdiag::{Query, Socket, States, TcpState, UnixKind};

use super::listeners::{Listener, LocalListener, MOST_NAME, Role, incarnation};
use super::verdict::{Verdict, Why};
use crate::drain::event::{End, Held};
use crate::text::one_line;
use crate::world::{Root, proc};

/// As long as a path can be (`UNIX_PATH_MAX`), characters.
const MOST_PATH: usize = 108;

/// The target's Unix sockets, and what is remembered of the connections to them.
#[derive(Debug, Default)]
pub struct Locals {
    listeners: Vec<LocalListener>,
    known: HashMap<u64, Known>,
    /// Connections have been looked at before, so one that is not known is new.
    looked: bool,
}

/// A connection.
#[derive(Clone, Debug)]
struct Known {
    since: Instant,
    /// The inode of the other end.
    peer: Option<u32>,
    client: Client,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Client {
    /// Not looked up yet.
    Unknown,
    /// A process that listens for clients of its own, and those are watched.
    Front(String),
    /// A process of this name that does not, or none that could be found.
    Other(String),
}

/// What a look showed.
#[derive(Debug, Default)]
pub struct Look {
    /// What holds the drain.
    pub held: Vec<Held>,
    /// Connections with nothing in flight.
    pub idle: u64,
    /// Connections new since the look before.
    pub arrived: u64,
}

/// What the kernel shows of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Bytes that the program has not read.
    unread: u32,
    /// Memory of the bytes that the other end has not read.
    unsent: u32,
    /// The other end is still open.
    open: bool,
    /// The other end's own clients are watched.
    covered: bool,
}

/// Whether a request is in flight. Nobody waits for an answer whose end is closed; and what a watched proxy asks for has a client
/// that is watched.
fn judge(seen: Seen) -> Verdict {
    match seen {
        Seen { unread: 1.., .. } => Verdict::Busy(Why::Unread),
        Seen { open: false, .. } => Verdict::Idle,
        Seen { unsent: 1.., .. } => Verdict::Busy(Why::Unsent),
        Seen { covered: true, .. } => Verdict::Idle,
        _ => Verdict::Busy(Why::Open),
    }
}

impl Locals {
    /// Watches these too. What was listened on before stays watched.
    pub fn add(&mut self, listeners: Vec<LocalListener>) {
        for listener in listeners {
            if !self.listeners.iter().any(|one| one.name == listener.name) {
                self.listeners.push(listener);
            }
        }
    }

    /// The sockets.
    #[must_use]
    pub fn listeners(&self) -> &[LocalListener] {
        &self.listeners
    }

    /// Looks at all connections.
    ///
    /// # Errors
    /// Something could not be seen.
    pub fn look(
        &mut self,
        socket: &mut Socket,
        now: Instant,
        deadline: Instant,
    ) -> anyhow::Result<Look> {
        let mut look = Look::default();
        if self.listeners.is_empty() {
            return Ok(look);
        }
        let mut known = HashMap::new();
        for row in self.rows(socket, deadline)? {
            let waiting = row.state == TcpState::Listen;
            let before = self.known.get(&row.cookie).cloned();
            look.arrived += u64::from(before.is_none() && self.looked && !waiting);
            let mut this = before.unwrap_or(Known {
                since: now,
                peer: row.peer,
                client: Client::Unknown,
            });
            if waiting && row.unread == 0 {
                // Nobody waits: the next that does begins anew.
                continue;
            }
            this.peer = row.peer;
            let verdict = if waiting {
                Verdict::Busy(Why::Unaccepted)
            } else {
                judge(Seen {
                    unread: row.unread,
                    unsent: row.unsent,
                    open: row.peer.is_some(),
                    covered: matches!(this.client, Client::Front(_)),
                })
            };
            if verdict.holds() {
                let listener = &self.listeners[row.at];
                look.held.push(Held {
                    program: listener.program.clone(),
                    peer: End::Unix(this.client.to_string()),
                    local: End::Unix(one_line(&listener.name, MOST_PATH)),
                    age: now.duration_since(this.since),
                    received: 0,
                    sent: 0,
                    verdict,
                });
            } else {
                look.idle += 1;
            }
            known.insert(row.cookie, this);
        }
        self.known = known;
        self.looked = true;
        Ok(look)
    }

    fn rows(&self, socket: &mut Socket, deadline: Instant) -> anyhow::Result<Vec<Row>> {
        let states = States::of(&[TcpState::Established, TcpState::Listen]);
        socket
            .dump_unix(states, deadline, Vec::new, |rows, row| {
                // One that is not accepted yet has no inode, and its listener counts it.
                if row.kind == UnixKind::Other || row.inode == 0 {
                    return;
                }
                let Some(name) = row.name else { return };
                if let Some(at) = self.listeners.iter().position(|one| is_at(one, name)) {
                    rows.push(Row {
                        at,
                        state: row.state,
                        cookie: row.cookie,
                        peer: row.peer,
                        unread: row.rqueue,
                        unsent: row.wqueue,
                    });
                }
            })
            .context("look at the Unix sockets")
    }

    /// Looks up who is at the other ends that were not looked up yet. Answers where those of them listen that are proxies: their clients
    /// are to be watched too.
    ///
    /// # Errors
    /// Something could not be seen.
    pub fn find_fronts(
        &mut self,
        root: &Root,
        socket: &mut Socket,
        deadline: Instant,
    ) -> anyhow::Result<Vec<Listener>> {
        let strangers: HashSet<u64> = self
            .known
            .values()
            .filter(|known| known.client == Client::Unknown)
            .filter_map(|known| known.peer.map(u64::from))
            .collect();
        if strangers.is_empty() {
            return Ok(Vec::new());
        }
        let query = Query {
            states: States::of(&[TcpState::Listen]),
            info: false,
            ..Query::default()
        };
        let listening = socket
            .dump(&query, deadline, HashMap::new, |all, row| {
                all.insert(u64::from(row.inode), row.id.local());
            })
            .context("list the listening sockets")?;
        let mut clients = HashMap::new();
        let mut fronts = Vec::new();
        for pid in proc::pids(root).context("list the processes")? {
            // A process that may not be looked at is not found: its connections count as long as they are open.
            let Ok(inodes) = proc::socket_inodes(root, pid) else {
                continue;
            };
            let ends: Vec<u64> = inodes
                .iter()
                .filter(|inode| strangers.contains(inode))
                .copied()
                .collect();
            if ends.is_empty() {
                continue;
            }
            let name = proc::name(root, pid).ok().flatten();
            // A process may call itself anything.
            let program = one_line(name.as_deref().unwrap_or("process"), MOST_NAME);
            let listens = inodes.iter().filter_map(|inode| listening.get(inode));
            let at = fronts.len();
            fronts.extend(listens.map(|local| Listener {
                local: *local,
                program: program.clone(),
                process: incarnation(root, [pid]),
                role: Role::Front,
            }));
            let label = format!("{program} {pid}");
            let client = if fronts.len() > at {
                Client::Front(label)
            } else {
                Client::Other(label)
            };
            clients.extend(ends.into_iter().map(|end| (end, client.clone())));
        }
        for known in self
            .known
            .values_mut()
            .filter(|known| known.client == Client::Unknown)
        {
            if let Some(peer) = known.peer {
                let nobody = || Client::Other("a process that can't be found".to_owned());
                known.client = clients
                    .get(&u64::from(peer))
                    .cloned()
                    .unwrap_or_else(nobody);
            }
        }
        Ok(fronts)
    }
}

/// A row of one of ours.
struct Row {
    /// Which of the listeners.
    at: usize,
    state: TcpState,
    cookie: u64,
    peer: Option<u32>,
    /// Of a listener: how many wait.
    unread: u32,
    unsent: u32,
}

/// Whether the kernel's name is that of the listener, as `/proc/net/unix` writes it.
fn is_at(listener: &LocalListener, name: &[u8]) -> bool {
    let written = name
        .iter()
        .map(|byte| if *byte == 0 { b'@' } else { *byte });
    if name.is_ascii() {
        return written.eq(listener.name.bytes());
    }
    let written: Vec<u8> = written.collect();
    String::from_utf8_lossy(&written) == listener.name
}

impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "a local process",
            Self::Front(name) | Self::Other(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_connection_is_idle_only_where_its_clients_are_watched() {
        let open = Seen {
            open: true,
            ..Seen::default()
        };
        assert_eq!(judge(open), Verdict::Busy(Why::Open));
        let covered = Seen {
            covered: true,
            ..open
        };
        assert_eq!(judge(covered), Verdict::Idle);
        assert_eq!(
            judge(Seen {
                unread: 1,
                ..covered
            }),
            Verdict::Busy(Why::Unread)
        );
        assert_eq!(
            judge(Seen {
                unsent: 1,
                ..covered
            }),
            Verdict::Busy(Why::Unsent)
        );
        let gone = Seen {
            unsent: 1,
            ..Seen::default()
        };
        assert_eq!(judge(gone), Verdict::Idle);
        // A client that does not wait for an answer may still want its request done.
        assert_eq!(
            judge(Seen { unread: 1, ..gone }),
            Verdict::Busy(Why::Unread)
        );
    }

    #[test]
    fn names_are_compared_as_the_table_writes_them() {
        let at = |listener: &str, name: &[u8]| {
            let listener = LocalListener {
                name: listener.to_owned(),
                program: String::new(),
            };
            is_at(&listener, name)
        };
        assert!(at("/run/app.sock", b"/run/app.sock"));
        assert!(at("@app@1", b"\0app\x001"));
        assert!(at("/run/\u{e9}", "/run/\u{e9}".as_bytes()));
        assert!(at("/run/\u{fffd}", b"/run/\xff"));
        assert!(!at("/run/app.sock", b"/run/app.sock2"));
    }
}
