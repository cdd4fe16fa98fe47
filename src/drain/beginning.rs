//! How a drain begins: what is known from before, why it runs, how long it may take.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::control::Door;
use super::draft::Draft;
use super::engine::{BEAT, Engine, Message, Order};
use super::event::{Event, Report};
use super::story::Story;
use super::target::Target;
use super::ways::Ways;
use super::{Cause, leavers, target};
use crate::evidence::probe::Kept;
use crate::exit;
use crate::receipts::{self, Run, Store, boot_clock};
use crate::systemd::{self, Snapshot, UnitState};
use crate::world::{Deadline, Root};

/// PID 1 has this long to answer; without it the cause is unknown, and that is a shutdown.
const SNAPSHOT: Duration = Duration::from_secs(2);
/// The disk has this long to say what is known from before. The sockets can be watched without it.
const STATE: Duration = Duration::from_secs(1);
/// The process is gone this long after the drain's deadline, whatever hangs (DESIGN 5.4 allows a second).
const GRACE: Duration = Duration::from_millis(800);
/// A host that somebody puts back into its pools is taken out again so often.
const RETURNS: u32 = 3;

/// What lies in the state folder.
struct State {
    store: Store,
    kept: Kept,
    /// The report of the drain that is taken over.
    told: Option<Report>,
    /// What there is to say about it.
    note: Option<String>,
}

impl State {
    fn read(state: &Root, resumed: Option<&str>) -> Self {
        let (store, note) = Store::open_or_set_aside(state);
        Self {
            store,
            kept: Kept::read(state),
            told: resumed.and_then(|id| receipts::read(state, id).ok()),
            note,
        }
    }

    /// As [`State::read`], unless the disk hangs.
    fn read_in_time(state: &Root, resumed: Option<String>) -> Self {
        let (tell, told) = channel();
        let root = state.clone();
        std::thread::spawn(move || {
            // Nobody waits for one that comes too late.
            let _ = tell.send(Self::read(&root, resumed.as_deref()));
        });
        told.recv_timeout(STATE).unwrap_or_else(|_| Self {
            store: Store::unread(state),
            kept: Kept::default(),
            told: None,
            note: Some(format!("{} does not answer", receipts::STATE_DIR)),
        })
    }
}

impl<'a> Engine<'a> {
    /// All that is there before anything is known of the target, and what there is to say about it. From here on the process ends with its
    /// deadline; until the cause is known that is the longest.
    pub(super) fn prepared(
        order: &'a Order,
        names: Vec<String>,
        (tell, inbox): (Sender<Message>, Receiver<Message>),
        hear: &'a mut dyn FnMut(Duration, &Event),
    ) -> (Self, Option<String>) {
        let began = Instant::now();
        let longest = order.limit.unwrap_or(order.settings.deadline.shutdown);
        let deadline = Arc::new(RwLock::new(began + longest));
        let (alive, watched) = channel();
        watchdog(deadline.clone(), watched);
        if let Target::Units(_) = order.target {
            ask_pid_1(names.clone(), tell.clone());
        }
        let (run, resumed) = Run::begin_or_resume(&order.state);
        let known = State::read_in_time(&order.state, resumed.then(|| run.id.clone()));
        let host = rustix::system::uname();
        let host = host.nodename().to_string_lossy();
        let mut story = Story::new(&run.id, &host, Timestamp::now());
        if let Some(told) = known.told {
            story.resume(told, boot_clock().saturating_sub(run.began));
        }
        let engine = Self {
            order,
            tell,
            inbox,
            hear,
            story,
            began,
            store: Arc::new(known.store),
            run,
            resumed,
            over: Arc::new(AtomicBool::new(false)),
            deadline,
            alive,
            unresolved: 0,
            ways: Ways::new(
                &order.settings.pools,
                &order.settings.stand_ins,
                leavers::refuses,
            ),
            ports: Arc::new(OnceLock::new()),
            returns: RETURNS,
            draft: Draft::start(&order.state),
            door: None,
            kept: known.kept,
            names,
        };
        (engine, known.note)
    }

    /// Control is a help: without it the drain goes on.
    pub(super) fn open_door(&mut self) {
        match Door::open(&self.order.state, self.tell.clone()) {
            Ok(door) => self.door = Some(door),
            Err(error) => self.order_note(format!("can't be controlled while it runs: {error}")),
        }
    }

    /// PID 1's answer, and what else came in before it.
    pub(super) fn await_snapshot(&self) -> (Result<Snapshot, String>, Vec<Message>) {
        // The thread's own limit comes first; this one is for a thread that is stuck.
        let deadline = Deadline::after(SNAPSHOT + BEAT / 10);
        let mut early = Vec::new();
        loop {
            match self.inbox.recv_timeout(deadline.left()) {
                Ok(Message::Snapshot(answer)) => return (answer, early),
                Ok(other) => early.push(other),
                Err(_) => return (Err("no answer in time".to_owned()), early),
            }
        }
    }

    /// Why it runs, and the units of the target that are there.
    pub(super) fn judge_cause(
        &mut self,
        snapshot: Result<Snapshot, String>,
    ) -> (Cause, Vec<UnitState>) {
        let names = &self.names;
        match snapshot {
            Ok(snapshot) => {
                let cause = Cause::decide(&snapshot, systemd::HOOK, names, self.order.as_hook);
                let loaded =
                    |unit: &UnitState| unit.load_state != "not-found" && names.contains(&unit.name);
                (cause, snapshot.units.into_iter().filter(loaded).collect())
            }
            Err(error) => {
                self.order_note(format!(
                    "PID 1 does not say why ({error}); taken for a shutdown"
                ));
                let assumed = target::assumed(&self.order.root, &self.names);
                (Cause::Unknown, assumed)
            }
        }
    }

    /// The drain's own deadline, from now on.
    pub(super) fn set_limit(&mut self, cause: Cause) {
        let configured = cause.deadline(&self.order.settings.deadline);
        let limit = match self.order.limit {
            Some(limit) => limit,
            // It may have been extended.
            None if self.resumed && self.run.cause == cause => configured.max(self.run.limit),
            None => configured,
        };
        self.run.cause = cause;
        self.run.limit = limit;
        // A drain that was killed and is run again keeps its deadline, unless that has passed.
        let used = boot_clock().saturating_sub(self.run.began);
        let left = if used < limit { limit - used } else { limit };
        let end = Instant::now() + left;
        *self
            .deadline
            .write()
            .unwrap_or_else(PoisonError::into_inner) = end;
        let _ = self.alive.send(());
        let resumed = self.resumed;
        let id = self.run.id.clone();
        self.say(Event::Began {
            id,
            cause,
            limit,
            resumed,
        });
    }
}

pub(super) fn ask_pid_1(names: Vec<String>, tell: Sender<Message>) {
    std::thread::spawn(move || {
        let answer = systemd::snapshot(&names, Deadline::after(SNAPSHOT));
        tell.send(Message::Snapshot(answer.map_err(|error| error.to_string())))
    });
}

/// Ends the process shortly after the drain's deadline, should anything keep the loop from doing it.
fn watchdog(deadline: Arc<RwLock<Instant>>, watched: Receiver<()>) {
    std::thread::spawn(move || {
        loop {
            let end = *deadline.read().unwrap_or_else(PoisonError::into_inner) + GRACE;
            let left = end.saturating_duration_since(Instant::now());
            match watched.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    std::process::exit(exit::DEADLINE.into())
                }
                Err(RecvTimeoutError::Disconnected) => return,
                // The deadline has moved, or may have.
                Err(RecvTimeoutError::Timeout) | Ok(()) => {}
            }
        }
    });
}
