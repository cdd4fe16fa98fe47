//! What stays beside the program: passes signals and the exit status on, reaps, and has it drained.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};

use super::guard::{Guard, VARIABLE};
use super::program::{Held, run_name};
use super::stage::{Act, Stage};
use super::terminal::Terminal;
use super::{Plan, host};
use crate::exit;
use crate::world::child::{Start, close_all_but};
use crate::world::signals::{self, Blocked, To, send};
use crate::world::{Deadline, Root, memory};

/// What shells say of a program that is not there, and of one that can't be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
/// And of one that a signal ended, beside the signal's number.
const SIGNALLED: u8 = 128;
/// A drain that has not ended so long after its limit is ended (its own watchdog comes before).
const LATE: Duration = Duration::from_secs(2);
/// A drain whose program is gone has this long for its report.
const REPORT: Duration = Duration::from_secs(1);

/// A program, and what is done about it.
struct Keeper<'a> {
    plan: &'a Plan,
    blocked: Blocked,
    binary: OsString,
    first: bool,
    held: Option<Held>,
    terminal: Option<Terminal>,
    program: u32,
    guard: Option<Guard>,
    stage: Stage,
    /// The process that drains, and when it must have ended.
    drain: Option<(u32, Instant)>,
    /// The process that sees to the program's start: learns what it speaks, rejoins.
    start: Option<u32>,
}

/// Keeps the program of `plan` until it has ended; the exit code, where this process was not to end by a signal itself. For a process
/// of one thread.
#[must_use]
pub fn run(plan: &Plan, binary: OsString) -> u8 {
    let blocked = match Blocked::all() {
        Ok(blocked) => blocked,
        Err(error) => return fail(exit::FAILED, &format!("can't wait for signals: {error}")),
    };
    let held = match plan.state.as_deref().map(|dir| Held::take(dir, &plan.name)) {
        None => None,
        Some(Ok(held)) => Some(held),
        Some(Err(error)) => return fail(exit::USAGE, &format!("{error:#}")),
    };
    let first = getpid().is_init();
    if !first {
        // What outlives its parent is still the program's. Where the kernel refuses, it goes to init as it always did.
        let _ = set_child_subreaper(Some(getpid()));
    }
    let terminal = Terminal::ours();
    let run = held
        .as_ref()
        .map_or_else(|| run_name(&plan.name), |held| held.run.clone());
    let lent = terminal.as_ref().and_then(Terminal::to_lend);
    let start = Start {
        argv: &plan.command,
        env: &[(VARIABLE, &run)],
        terminal: lent,
        ours: false,
    };
    let program = match start.run(&blocked) {
        Ok(program) => program,
        Err(error) => {
            if let (Some(terminal), Some(_)) = (&terminal, lent) {
                terminal.regain();
            }
            if let Some(held) = held {
                held.release();
            }
            return fail(
                not_started(&error),
                &format!("can't start {}: {error}", plan.command[0].to_string_lossy()),
            );
        }
    };
    let mut keeper = Keeper {
        plan,
        blocked,
        binary,
        first,
        held,
        terminal,
        program,
        guard: None,
        stage: Stage::Serving,
        drain: None,
        start: None,
    };
    keeper.let_go();
    if !first {
        // Without it a killed keeper still takes the program itself along.
        keeper.guard = Guard::start(program, &run).ok();
    }
    if keeper.held.is_some() {
        keeper.start = keeper.help("start");
    }
    keeper.keep()
}

fn fail(code: u8, what: &str) -> u8 {
    tell(what);
    code
}

/// A line, in one piece: the program writes to the same place.
fn tell(what: &str) {
    let _ = io::stderr().write_all(format!("drainctl: {what}\n").as_bytes());
}

fn not_started(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

impl Keeper<'_> {
    /// Closes what was for the program: pipes and sockets that it closes must be closed.
    fn let_go(&self) {
        let own = [
            self.held.as_ref().map(Held::number),
            self.terminal.as_ref().map(Terminal::number),
        ];
        let own: Vec<RawFd> = own.into_iter().flatten().collect();
        // Without /proc they stay open.
        let _ = close_all_but(&own, 3);
        if let Ok(null) = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
        {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
        }
    }

    fn keep(mut self) -> u8 {
        // From here on it sleeps.
        let _ = memory::shed();
        loop {
            let limit = self.drain.map(|(_, end)| Deadline::at(end).left());
            match self.blocked.wait(limit) {
                Ok(Some(signals::CHILD)) => {
                    if let Some(status) = self.reap() {
                        return self.end(status);
                    }
                }
                Ok(Some(signals::CONTINUE)) => self.resume(),
                Ok(Some(signal)) => self.signal(signal),
                Ok(None) => self.drain_is_late(),
                Err(error) => {
                    // It can't come to this with a valid set; the program must be reachable even so.
                    self.say(&format!("can't wait for signals: {error}"));
                    self.forward(signals::TERM);
                    return exit::FAILED;
                }
            }
        }
    }

    fn signal(&mut self, signal: i32) {
        let drained = || host::is_drained(&Root::host());
        match self.stage.signal(signal, &self.plan.drain_on, drained) {
            Act::Forward(signal) => self.forward(signal),
            Act::Drain => self.drain(),
            Act::Hurry(signal) => {
                if let Some((drain, _)) = self.drain {
                    let _ = send(To::Process(drain), signals::TERM);
                }
                self.forward(signal);
            }
        }
    }

    fn drain(&mut self) {
        self.stop_start();
        let end = Instant::now() + self.plan.limit + LATE;
        self.drain = self.help("drain").map(|drain| (drain, end));
        if self.drain.is_none() {
            self.drained();
        }
    }

    /// The drain is over, however it was: the program hears of it.
    fn drained(&mut self) {
        self.drain = None;
        if let Some(signal) = self.stage.drained() {
            self.forward(signal);
        }
    }

    fn drain_is_late(&mut self) {
        if let Some((drain, end)) = self.drain
            && Deadline::at(end).passed()
        {
            self.say("the drain does not end: it is ended");
            let _ = send(To::Process(drain), signals::KILL);
            self.drained();
        }
    }

    /// A rejoin that is killed leaves its receipts, and the next one goes on with them.
    fn stop_start(&mut self) {
        if let Some(start) = self.start.take() {
            let _ = send(To::Process(start), signals::KILL);
        }
    }

    /// Starts a helper; none, and said, when that fails.
    fn help(&self, part: &str) -> Option<u32> {
        let argv = self.plan.helper(&self.binary, part, self.program);
        let start = Start {
            argv: &argv,
            env: &[],
            terminal: None,
            ours: true,
        };
        match start.run(&self.blocked) {
            Ok(pid) => Some(pid),
            Err(error) => {
                self.say(&format!("can't {part}: {error}"));
                None
            }
        }
    }

    fn forward(&self, signal: i32) {
        // What a terminal sends it sends to all that run in its foreground.
        let typed = signals::interrupts(signal) || signals::stops(signal);
        let in_front = self.terminal.as_ref().is_some_and(Terminal::is_ours);
        let to = if self.plan.to_group || typed && in_front {
            To::Group(self.program)
        } else {
            To::Process(self.program)
        };
        if let Err(error) = send(to, signal) {
            self.say(&format!("can't pass {} on: {error}", signals::name(signal)));
        }
    }

    fn resume(&self) {
        match &self.terminal {
            Some(terminal) => terminal.resume(self.program),
            None => self.forward(signals::CONTINUE),
        }
    }

    /// Takes every child that has ended; how the program did, if it did.
    fn reap(&mut self) -> Option<WaitStatus> {
        let mut ended = None;
        let mut drained = false;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            let pid = pid.as_raw_nonzero().get().unsigned_abs();
            if pid == self.program {
                match status.stopping_signal() {
                    Some(signal) => self.stopped(signal),
                    None => ended = Some(status),
                }
            } else if self.drain.is_some_and(|(drain, _)| drain == pid) {
                self.drain = None;
                drained = true;
            } else if self.start == Some(pid) {
                self.start = None;
            }
        }
        // A program that is gone must not be signalled: its id may be somebody else's by now.
        if drained && ended.is_none() {
            self.drained();
        }
        ended
    }

    fn stopped(&self, signal: i32) {
        // The first process of a namespace can't be stopped, and nobody would continue it.
        if let Some(terminal) = self.terminal.as_ref().filter(|_| !self.first) {
            terminal.stopped(self.program, signal);
        }
    }

    /// The program has ended: so do we, in the same way.
    fn end(mut self, status: WaitStatus) -> u8 {
        self.stage = Stage::Ending;
        self.stop_start();
        self.await_report();
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.program, status.terminating_signal());
        }
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
        if let Some(held) = self.held.take() {
            held.release();
        }
        let Some(signal) = status.terminating_signal() else {
            let code = status
                .exit_status()
                .and_then(|code| u8::try_from(code).ok());
            return code.unwrap_or(exit::FAILED);
        };
        if !self.first {
            self.blocked.die_of(signal);
        }
        SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or_default())
    }

    /// A drain whose program has ended meanwhile has nothing to wait for; what it saw is worth keeping.
    fn await_report(&mut self) {
        let Some((drain, _)) = self.drain else { return };
        let _ = send(To::Process(drain), signals::TERM);
        let limit = Deadline::after(REPORT);
        while self.drain.is_some() && !limit.passed() {
            if let Ok(Some(signals::CHILD)) = self.blocked.wait(Some(limit.left())) {
                self.reap();
            }
        }
        if let Some((drain, _)) = self.drain {
            let _ = send(To::Process(drain), signals::KILL);
        }
    }

    fn say(&self, what: &str) {
        tell(&format!("{}: {what}", self.plan.name));
    }
}
