//! Does what the machine decides: threads that can't be trusted to end do the work, one loop over one channel hears of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::control::{Answer, Door, Request};
use super::draft::Draft;
use super::event::{Event, Phase, PoolStep, Report};
use super::looker::{Looker, Seen};
use super::machine::{Action, Depth, Input, Machine};
use super::slot::SlotStep;
use super::story::Story;
use super::target::Target;
use super::turn::Turn;
use super::ways::Ways;
use super::{Cause, Outcome, guard, leavers, target};
use crate::config::Settings;
use crate::evidence::Glance;
use crate::evidence::probe::Kept;
use crate::exit;
use crate::pools::{PeersSaid, Said};
use crate::receipts::{self, Run, Store, boot_clock};
use crate::systemd::{self, Notifier, Snapshot, UnitState};
use crate::world::{Deadline, Root};

/// What the threads tell.
#[derive(Debug)]
pub enum Message {
    /// PID 1's answer.
    Snapshot(Result<Snapshot, String>),
    /// A step of the pool of that name.
    Pool(String, PoolStep),
    /// A pool is done with: known to send nothing more, or not.
    Resolved(String, bool),
    /// The pool of that name has had the time to agree.
    Slow(String),
    /// It has had as much as one gets whose calls fail.
    Failing(String),
    /// What the pools that were left say now.
    Rechecked(Vec<Said>),
    /// What is watched.
    Seen(Box<Seen>),
    /// An answer to a look.
    Look(anyhow::Result<Glance>),
    /// Somebody asks something of it, and may want an answer.
    Request(Request, Option<Sender<Answer>>),
    /// Who else is healthy.
    Others(Vec<PeersSaid>),
    /// A step of taking a slot of the fleet.
    Slot(SlotStep),
    /// Something went wrong on the side.
    Note(String),
}

/// How a drain is to be run.
#[derive(Debug)]
pub struct Order {
    /// The host: its processes, and the files of its pools.
    pub root: Root,
    /// Where receipts, history and the state of the running drain lie.
    pub state: Root,
    /// What is drained.
    pub target: Target,
    /// The settings.
    pub settings: Settings,
    /// What reading the settings had to say.
    pub notes: Vec<String>,
    /// Run by systemd when it stops the hook.
    pub as_hook: bool,
    /// A deadline given by hand.
    pub limit: Option<Duration>,
}

/// PID 1 has this long to answer; without it the cause is unknown, and that is a shutdown.
const SNAPSHOT: Duration = Duration::from_secs(2);
/// systemd hears of us this often.
pub const BEAT: Duration = Duration::from_secs(5);
/// And waits this much longer each time.
pub const EXTENSION: Duration = Duration::from_secs(30);
/// The process is gone this long after the drain's deadline, whatever hangs (DESIGN 5.4 allows a second).
const GRACE: Duration = Duration::from_millis(800);
/// A host that somebody puts back into its pools is taken out again so often.
const RETURNS: u32 = 3;

/// A drain under way.
pub(super) struct Engine<'a> {
    pub(super) order: &'a Order,
    pub(super) tell: Sender<Message>,
    pub(super) inbox: Receiver<Message>,
    pub(super) hear: &'a mut dyn FnMut(Duration, &Event),
    pub(super) story: Story,
    pub(super) began: Instant,
    pub(super) store: Arc<Store>,
    pub(super) run: Run,
    pub(super) over: Arc<AtomicBool>,
    pub(super) deadline: Arc<RwLock<Instant>>,
    /// The watchdog ends with it.
    pub(super) alive: Option<Sender<()>>,
    /// Threads that leave a pool.
    pub(super) unresolved: usize,
    pub(super) ways: Ways,
    /// What the target listens on, once that is known.
    pub(super) ports: Arc<OnceLock<BTreeSet<u16>>>,
    /// So often what came back is left again.
    pub(super) returns: u32,
    /// What is known so far, on disk.
    pub(super) draft: Draft,
    /// Those who ask come in here.
    pub(super) door: Option<Door>,
}

/// Runs the drain to its end. The caller holds the lock, and tells `requests` what is asked of the drain meanwhile. Every event goes
/// to `hear`, with the time since the beginning.
pub fn run(
    order: &Order,
    inbox: (Sender<Message>, Receiver<Message>),
    hear: &mut dyn FnMut(Duration, &Event),
) -> Report {
    let began = Instant::now();
    let (tell, inbox) = inbox;
    let names = match &order.target {
        Target::Units(configured) => target::unit_names(&order.root, configured),
        Target::Process { name, .. } => vec![name.clone()],
    };
    if let Target::Units(_) = order.target {
        ask_pid_1(names.clone(), tell.clone());
    }
    let (store, damaged) = Store::open_or_set_aside(&order.state);
    let (run, resumed) = Run::begin_or_resume(&order.state);
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let mut story = Story::new(&run.id, &host, Timestamp::now());
    if resumed && let Ok(kept) = receipts::read(&order.state, &run.id) {
        story.resume(kept, boot_clock().saturating_sub(run.began));
    }
    let mut engine = Engine {
        order,
        tell,
        inbox,
        hear,
        story,
        began,
        store: Arc::new(store),
        run,
        over: Arc::new(AtomicBool::new(false)),
        deadline: Arc::new(RwLock::new(began + order.settings.deadline.shutdown)),
        alive: None,
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
    };
    let gates = engine.prepare();
    engine.open_door();
    let (cause, units, mut early) = match &order.target {
        Target::Units(_) => {
            let (snapshot, early) = engine.await_snapshot();
            let (cause, units) = engine.judge_cause(&names, snapshot);
            (cause, units, early)
        }
        Target::Process { pid, name } => {
            let units = target::process(&order.root, *pid, name);
            (Cause::Stop, units, Vec::new())
        }
    };
    engine.run.units = ids(&units);
    engine.set_limit(cause, resumed);
    for note in order.notes.iter().cloned().chain(damaged) {
        engine.say(Event::Note { text: note });
    }
    let idle = cause == Cause::CrashRestart || target::watched(&units).is_empty();
    if idle {
        let what = if units.is_empty() {
            names.join(", ")
        } else {
            ids(&units).join(", ")
        };
        engine.say(Event::Note {
            text: format!("{what} is not running: nothing to drain"),
        });
        return engine.end(Outcome::NothingToDo);
    }
    if let Some(outcome) = Turn::new(&mut engine, &mut early).come() {
        drop(gates);
        for message in early {
            let _ = engine.hear(message);
        }
        return engine.end(outcome);
    }
    engine.say(Event::Phase {
        phase: Phase::Leaving,
    });
    engine.open(&gates);
    let outcome = engine.wait(units, early);
    engine.end(outcome)
}

fn ids(units: &[UnitState]) -> Vec<String> {
    units.iter().map(|unit| unit.id.clone()).collect()
}

fn ask_pid_1(names: Vec<String>, tell: Sender<Message>) {
    std::thread::spawn(move || {
        let answer = systemd::snapshot(&names, Deadline::after(SNAPSHOT));
        tell.send(Message::Snapshot(answer.map_err(|error| error.to_string())))
    });
}

impl Engine<'_> {
    /// Control is a help: without it the drain goes on.
    fn open_door(&mut self) {
        match Door::open(&self.order.state, self.tell.clone()) {
            Ok(door) => self.door = Some(door),
            Err(error) => self.order_note(format!("can't be controlled while it runs: {error}")),
        }
    }

    /// PID 1's answer, and what else came in before it.
    fn await_snapshot(&self) -> (Result<Snapshot, String>, Vec<Message>) {
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
    fn judge_cause(
        &mut self,
        names: &[String],
        snapshot: Result<Snapshot, String>,
    ) -> (Cause, Vec<UnitState>) {
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
                (Cause::Unknown, target::assumed(&self.order.root, names))
            }
        }
    }

    pub(super) fn order_note(&mut self, text: String) {
        self.say(Event::Note { text });
    }

    fn set_limit(&mut self, cause: Cause, resumed: bool) {
        let limit = self
            .order
            .limit
            .unwrap_or_else(|| cause.deadline(&self.order.settings.deadline));
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
        let (alive, watched) = channel();
        watchdog(self.deadline.clone(), watched);
        self.alive = Some(alive);
        let id = self.run.id.clone();
        self.say(Event::Began {
            id,
            cause,
            limit,
            resumed,
        });
    }

    /// Looks, listens and decides until it is over.
    fn wait(&mut self, units: Vec<UnitState>, early: Vec<Message>) -> Outcome {
        let settings = &self.order.settings;
        let looker = Looker {
            root: self.order.root.clone(),
            units,
            settings: settings.watch.clone(),
            settle: settings.settle,
            pools: settings.pools.clone(),
            probes: settings.probes.clone(),
            kept: Kept::read(&self.order.state),
        }
        .start(self.tell.clone());
        let notifier = if self.order.as_hook {
            Notifier::from_env()
        } else {
            Notifier::none()
        };
        let now = Instant::now();
        let pools = settings.pools.len();
        let mut machine = Machine::new(now, self.end_at(), settings.settle, pools)
            .with_last_resort(self.ways.has_last_resort());
        let mut next_beat = now;
        let mut early = early.into_iter();
        let mut inputs = VecDeque::from([Input::Tick]);
        loop {
            let now = Instant::now();
            while let Some(input) = inputs.pop_front() {
                for action in machine.handle(now, input) {
                    match action {
                        Action::Enter(Phase::Ended) => {}
                        Action::Enter(phase) => self.say(Event::Phase { phase }),
                        Action::Look(depth) => self.ask(&looker, depth),
                        Action::StandIn => inputs.extend(self.traffic_goes_on()),
                        Action::LastResort => inputs.extend(self.last_resort()),
                        Action::Recheck => inputs.extend(self.recheck()),
                        Action::Finish(outcome) => return outcome,
                    }
                }
            }
            if now >= next_beat {
                next_beat = now + BEAT;
                notifier.tell(&self.story.status(machine.deadline()), EXTENSION);
            }
            let message = match early.next() {
                Some(message) => Ok(message),
                None => {
                    let wake = machine.wake().min(next_beat);
                    self.inbox
                        .recv_timeout(wake.saturating_duration_since(Instant::now()))
                }
            };
            match message {
                Ok(message) => inputs.extend(self.hear(message)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    inputs.push_back(Input::Tick);
                }
            }
        }
    }

    fn ask(&self, looker: &Sender<Depth>, depth: Depth) {
        if looker.send(depth).is_err() {
            let gone = anyhow::anyhow!("the thread that looks has ended");
            let _ = self.tell.send(Message::Look(Err(gone)));
        }
    }

    /// What a message means for the machine.
    pub(super) fn hear(&mut self, message: Message) -> Vec<Input> {
        match message {
            Message::Snapshot(_) => Vec::new(),
            Message::Note(text) => {
                self.say(Event::Note { text });
                Vec::new()
            }
            Message::Slot(step) => {
                // Nobody waits for it any more.
                match step {
                    SlotStep::Held => self.order_note("the slot is held now".to_owned()),
                    SlotStep::Failed(why) => {
                        self.order_note(format!("the slot of the fleet may be lost: {why}"));
                    }
                    SlotStep::Full(_) => {}
                }
                Vec::new()
            }
            Message::Others(said) => {
                let needed = self.order.settings.guard.others;
                match guard::judge(&said, needed) {
                    guard::Guard::Fine => {}
                    guard::Guard::Last(why) | guard::Guard::Alone(why) => {
                        self.order_note(format!("{why}; it drains all the same"))
                    }
                    guard::Guard::Unknown(why) => self.order_note(why),
                }
                Vec::new()
            }
            Message::Pool(pool, step) => {
                match step {
                    PoolStep::Asked => self.ways.asked(&pool),
                    PoolStep::Retrying { .. } => self.ways.called(&pool, false),
                    _ => self.ways.called(&pool, true),
                }
                self.say(Event::Pool { pool, step });
                Vec::new()
            }
            Message::Resolved(name, left) => {
                self.unresolved -= 1;
                let next = self.ways.resolved(&name, left);
                self.follow(next)
            }
            Message::Slow(name) => {
                let next = self.ways.slow(&name);
                self.follow(next)
            }
            Message::Failing(name) if self.ways.is_failing(&name) => {
                let next = self.ways.slow(&name);
                self.follow(next)
            }
            Message::Failing(_) => Vec::new(),
            Message::Rechecked(said) => self.rechecked(&said),
            Message::Seen(seen) => {
                self.seen(*seen);
                Vec::new()
            }
            Message::Look(Ok(Glance::StillBusy(oldest))) => {
                self.story.still_busy(self.began.elapsed());
                vec![Input::StillBusy { oldest }]
            }
            Message::Look(Ok(Glance::Whole(looked, traffic, cost))) => {
                let input = Input::Whole {
                    busy: looked.busy,
                    silent_at: traffic.silent_at,
                    oldest: looked.oldest(),
                    cost,
                };
                for why in &looked.unknown {
                    let text = format!("{why}; that counts as busy");
                    if !self.story.has_noted(&text) {
                        self.order_note(text);
                    }
                }
                self.say(Event::Looked(*looked));
                vec![input]
            }
            Message::Look(Err(error)) => {
                self.say(Event::Blind {
                    error: format!("{error:#}"),
                });
                vec![Input::Blind]
            }
            Message::Request(request, reply) => {
                let (answer, input) = self.answer(request);
                match (reply, answer) {
                    (Some(reply), answer) => drop(reply.send(answer)),
                    (None, Answer::Refused(why)) => self.order_note(why),
                    (None, _) => {}
                }
                input.into_iter().collect()
            }
        }
    }

    fn seen(&mut self, seen: Seen) {
        for text in seen.notes {
            self.say(Event::Note { text });
        }
        self.tell_ports(seen.listeners.iter().map(|l| l.local));
        let listeners = seen
            .listeners
            .iter()
            .map(|l| (l.program.clone(), l.local.port()))
            .collect();
        let sockets = seen.locals.into_iter().map(|l| (l.program, l.name));
        self.say(Event::Found {
            units: seen.units,
            listeners,
            sockets: sockets.collect(),
        });
        // A disk that hangs must not hold up this loop.
        let (store, id, tell) = (self.store.clone(), self.run.id.clone(), self.tell.clone());
        std::thread::spawn(move || {
            if let Err(error) = store.mark(&id, seen.mark) {
                let text = format!("rejoin will not know what was up: {error:#}");
                let _ = tell.send(Message::Note(text));
            }
        });
    }

    pub(super) fn end_at(&self) -> Instant {
        *self.deadline.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody.
    pub(super) fn say(&mut self, event: Event) {
        let at = self.began.elapsed();
        let event = event.plain();
        self.story.take(at, &event);
        if self.draft.is_due(&event) {
            let limit = self.run.limit;
            let known = self
                .story
                .report(Outcome::Unfinished, exit::FAILED, at, limit);
            self.draft.give(known);
        }
        if let Event::Began { .. } | Event::Phase { .. } | Event::Extended { .. } = event {
            self.run.phase = self.story.phase().to_string();
            // For those who watch; the drain itself does not need it.
            let _ = self.run.write(&self.order.state);
        }
        (self.hear)(at, &event);
    }
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
                // The deadline may have moved meanwhile.
                Err(RecvTimeoutError::Timeout) | Ok(()) => {}
            }
        }
    });
}
