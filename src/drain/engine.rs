//! Does what the machine decides: threads that can't be trusted to end do the work, one loop over one channel hears of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::beginning::ask_pid_1;
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
use super::{Cause, Outcome, guard, target};
use crate::config::Settings;
use crate::evidence::Glance;
use crate::evidence::probe::Kept;
use crate::exit;
use crate::pools::{PeersSaid, Said};
use crate::receipts::{Run, Store};
use crate::systemd::{Notifier, Snapshot, UnitState};
use crate::world::Root;

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

/// systemd hears of us this often.
pub const BEAT: Duration = Duration::from_secs(5);
/// And waits this much longer each time.
pub const EXTENSION: Duration = Duration::from_secs(30);

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
    /// The watchdog ends with it, and looks at the deadline again when told to.
    pub(super) alive: Sender<()>,
    /// The drain was begun by a process that was killed.
    pub(super) resumed: bool,
    /// What is spoken on the target's ports.
    pub(super) kept: Kept,
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
    /// The target's units as they were asked for.
    pub(super) names: Vec<String>,
}

/// Runs the drain to its end. The caller holds the lock, and tells `requests` what is asked of the drain meanwhile. Every event goes
/// to `hear`, with the time since the beginning.
pub fn run(
    order: &Order,
    inbox: (Sender<Message>, Receiver<Message>),
    hear: &mut dyn FnMut(Duration, &Event),
) -> Report {
    let names = match &order.target {
        Target::Units(configured) => target::unit_names(&order.root, configured),
        Target::Process { name, .. } => vec![name.clone()],
    };
    let (mut engine, notes) = Engine::prepared(order, names, inbox, hear);
    let gates = engine.prepare();
    engine.open_door();
    let (cause, units, mut early) = match &order.target {
        Target::Units(_) => {
            let (snapshot, early) = engine.await_snapshot();
            let (cause, units) = engine.judge_cause(snapshot);
            (cause, units, early)
        }
        Target::Process { pid, name } => {
            let units = target::process(&order.root, *pid, name);
            (Cause::Stop, units, Vec::new())
        }
    };
    engine.run.units = ids(&units);
    engine.set_limit(cause);
    for note in order.notes.iter().cloned().chain(notes) {
        engine.say(Event::Note { text: note });
    }
    let idle = cause == Cause::CrashRestart || target::watched(&units).is_empty();
    if idle {
        let what = if units.is_empty() {
            engine.names.join(", ")
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

impl Engine<'_> {
    pub(super) fn order_note(&mut self, text: String) {
        self.say(Event::Note { text });
    }

    /// Looks, listens and decides until it is over.
    fn wait(&mut self, units: Vec<UnitState>, early: Vec<Message>) -> Outcome {
        let settings = &self.order.settings;
        let looker = Looker::new(&self.order.root, &units, settings, self.kept.clone())
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
        let mut next_ask = now + BEAT;
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
            if now >= next_ask {
                next_ask = now + BEAT;
                if self.order.as_hook {
                    ask_pid_1(self.names.clone(), self.tell.clone());
                }
            }
            let message = match early.next() {
                Some(message) => Ok(message),
                None => {
                    let wake = machine.wake().min(next_beat).min(next_ask);
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
            Message::Snapshot(answer) => {
                let off = answer.is_ok_and(|snapshot| self.is_called_off(&snapshot));
                off.then_some(Input::Abort).into_iter().collect()
            }
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
                self.tell_others(guard::judge(&said, needed));
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
                self.story.still_busy(self.began.elapsed(), oldest);
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
