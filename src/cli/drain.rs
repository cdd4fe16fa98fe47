//! `drain`: the hook's first half; by hand too, for a rolling deploy.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config;
use crate::drain::control::Request;
use crate::drain::engine::{self, BEAT, EXTENSION, Message, Order};
use crate::drain::evict::{Evict, forget_killed};
use crate::drain::join::{Joined, join};
use crate::drain::{Outcome, Target};
use crate::exit;
use crate::receipts::{Lock, Locked};
use crate::report::Sink;
use crate::systemd::{self, Notifier};
use crate::world::Root;

/// Leave the pools, wait until nothing is in flight.
///
/// systemd runs it when the host shuts down or the target stops; by hand it takes the host out until `drainctl rejoin`. Ctrl-C undoes
/// it, SIGTERM ends the wait.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: drainctl drain --deadline 2m && systemctl restart app && drainctl rejoin"
)]
pub(super) struct Drain {
    /// The most it may take, with its unit ("90s", "5m"); by default what the config says for the cause.
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    deadline: Option<Duration>,
    /// Drain also where nobody else is healthy.
    #[arg(long)]
    force: bool,
    /// One JSON object a line for each event.
    #[arg(long)]
    json: bool,
}

impl Drain {
    /// Runs it.
    ///
    /// # Errors
    /// Not root, or the lock can't be had.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("drain")?;
        let as_hook = systemd::runs_as_hook();
        let lock = match Lock::attempt(root)? {
            Locked::Ours(lock) => lock,
            Locked::Taken => match join_first(root, as_hook)? {
                Joined::Ended(outcome, code) => {
                    tell!("the drain that was running has ended: {outcome:?}");
                    return Ok(code);
                }
                Joined::TakeOver(lock) => lock,
            },
        };
        if let Err(error) = forget_killed(root) {
            tell!("a rehearsal that was killed can't be tidied up: {error}");
        }
        let (tell, inbox) = channel();
        let (mut settings, notes) = settings(root, &tell);
        if self.force {
            settings.force();
        }
        let order = Order {
            root: root.clone(),
            state: root.clone(),
            target: Target::Units(settings.units.clone()),
            settings,
            notes,
            as_hook,
            limit: self.deadline,
        };
        hear_signals(as_hook, tell.clone())?;
        let mut sink = Sink::choose(self.json, as_hook);
        let report = engine::run(&order, (tell, inbox), &mut |at, event| sink.take(at, event));
        drop(lock);
        Ok(report.exit)
    }
}

/// Waits for the drain that is running. Before systemd goes on, only one that is known to have drained will do: one by hand may have
/// been undone, had less time, or been skipped by the end of its session at the same poweroff. A rehearsal is not waited for at all.
fn join_first(root: &Root, as_hook: bool) -> anyhow::Result<Joined> {
    let does = |outcome, code| !as_hook || (outcome == Outcome::Drained && code == exit::OK);
    let notifier = if as_hook {
        Notifier::from_env()
    } else {
        Notifier::none()
    };
    let mut next_beat = Instant::now();
    let mut rehearsal = as_hook.then(|| Evict::new(root));
    join(root, does, || {
        if let Some(rehearsal) = &mut rehearsal {
            rehearsal.turn();
        }
        if Instant::now() >= next_beat {
            next_beat = Instant::now() + BEAT;
            notifier.tell("waits for the drainctl that is running", EXTENSION);
        }
    })
}

/// The settings whatever the config looks like, and what to say about it.
fn settings(root: &Root, tell: &Sender<Message>) -> (config::Settings, Vec<String>) {
    match config::load(root) {
        Ok(loaded) => {
            let settings = loaded.settings.clone();
            // A disk that hangs must not hold up the drain, which has no watchdog yet.
            let (root, tell) = (root.clone(), tell.clone());
            std::thread::spawn(move || {
                if let Err(error) = config::keep_last_good(&root, &loaded) {
                    let text = format!("the settings can't be kept as the last good ones: {error}");
                    let _ = tell.send(Message::Note(text));
                }
            });
            (settings, Vec::new())
        }
        Err(_) => config::load_or_last_good(root),
    }
}

/// SIGTERM ends the wait. Ctrl-C undoes the leave, but not under systemd, where nobody types. A hang-up does nothing: a drain
/// over SSH goes on when the connection breaks.
pub(super) fn hear_signals(as_hook: bool, tell: Sender<Message>) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let request = match signal {
                SIGHUP => continue,
                SIGINT if !as_hook => Request::Abort,
                _ => Request::Skip,
            };
            if tell.send(Message::Request(request, None)).is_err() {
                return;
            }
        }
    });
    Ok(())
}
