//! The terminal, where a person runs the program by hand. The program has a process group of its own, so that nobody's signal to ours
//! passes the drain by; the terminal's foreground is therefore lent to that group, and what the terminal does to it is done to ours.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::process::{Pid, getpgrp, getsid};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use crate::world::signals::{self, To, send};

/// The terminal that controls this process.
pub(super) struct Terminal(File);

impl Terminal {
    /// None without one.
    pub(super) fn ours() -> Option<Self> {
        File::open("/dev/tty").ok().map(Self)
    }

    pub(super) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// To start the program with, where it is to be in the foreground.
    pub(super) fn to_lend(&self) -> Option<BorrowedFd<'_>> {
        self.is_ours().then(|| self.0.as_fd())
    }

    /// There is no program to lend it to after all.
    pub(super) fn regain(&self) {
        let _ = tcsetpgrp(&self.0, getpgrp());
    }

    /// Whether our own group has the foreground: it was never lent, or the shell has given it to us anew.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(&self.0).is_ok_and(|group| group == getpgrp())
    }

    fn is_lent(&self, program: u32) -> bool {
        tcgetpgrp(&self.0).is_ok_and(|group| group.as_raw_nonzero().get().unsigned_abs() == program)
    }

    /// Gives the foreground to the program, where it is ours to give. One that wanted it before was stopped, and goes on then.
    fn lend(&self, program: u32) {
        if !self.is_ours() {
            return;
        }
        if let Some(group) = i32::try_from(program).ok().and_then(Pid::from_raw) {
            // A terminal that hung up has no foreground any more.
            let _ = tcsetpgrp(&self.0, group);
        }
    }

    /// The program was stopped by `signal`: so is our own group, for the shell to see. It goes on in [`Terminal::resume`].
    pub(super) fn stopped(&self, program: u32, signal: i32) {
        let suspended = signals::suspends(signal);
        let lent = self.is_lent(program);
        let wants_terminal = signals::stops(signal) && !suspended && (lent || self.is_ours());
        // Nobody would continue us: the group of a session's leader is no job of a shell.
        let no_job = getsid(None).is_ok_and(|session| session == getpgrp());
        let hidden = !signals::stops(signal) && !lent;
        if hidden {
            // Stopped by hand, from elsewhere: whoever did it will continue it, and not us.
        } else if wants_terminal {
            // `fg` of a job that was running in the background sends no SIGCONT; and the shell may take the
            // terminal for us once more after it was lent.
            self.resume(program);
        } else if !no_job {
            let _ = send(To::OurGroup, signals::STOP);
        } else if suspended {
            let _ = send(To::Group(program), signals::CONTINUE);
        }
    }

    /// We were continued: so is the program, in the foreground where that is ours now.
    pub(super) fn resume(&self, program: u32) {
        self.lend(program);
        let _ = send(To::Group(program), signals::CONTINUE);
    }

    /// The program has ended, by `signal` if so: the foreground is ours again. A Ctrl-C was meant for all that runs in it.
    pub(super) fn take_back(&self, program: u32, signal: Option<i32>) {
        if !self.is_lent(program) {
            return;
        }
        self.regain();
        if let Some(signal) = signal.filter(|signal| signals::interrupts(*signal)) {
            // It stays pending here: all of ours are blocked, and we end in the same way.
            let _ = send(To::OurGroup, signal);
        }
    }
}
