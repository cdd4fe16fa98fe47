//! Signals as a process of one thread takes them: all of them blocked, and waited for one by one. Nothing runs in between, and nothing
//! is missed: what is blocked stays pending, also for the first process of a namespace, to which unblocked ones are not delivered.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// SIGCHLD.
pub const CHILD: i32 = libc::SIGCHLD;
/// SIGCONT.
pub const CONTINUE: i32 = libc::SIGCONT;
/// SIGKILL.
pub const KILL: i32 = libc::SIGKILL;
/// SIGSTOP.
pub const STOP: i32 = libc::SIGSTOP;
/// SIGTERM.
pub const TERM: i32 = libc::SIGTERM;

/// The signals that can be named, without their `SIG`. What can't be caught is not among them.
const NAMES: [(&str, i32); 12] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("IO", libc::SIGIO),
    ("PIPE", libc::SIGPIPE),
    ("PWR", libc::SIGPWR),
    ("QUIT", libc::SIGQUIT),
    ("TERM", libc::SIGTERM),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("WINCH", libc::SIGWINCH),
];

/// The number of a signal by its name, with or without `SIG`, or by its number as text.
#[must_use]
pub fn number(text: &str) -> Option<i32> {
    let name = text.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let by_number = || {
        let number = name.parse().ok()?;
        let realtime = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
        (realtime || NAMES.iter().any(|(_, known)| *known == number)).then_some(number)
    };
    let known = NAMES.iter().find(|(known, _)| *known == name);
    known.map(|(_, number)| *number).or_else(by_number)
}

/// What people call a signal.
#[must_use]
pub fn name(number: i32) -> String {
    let known = NAMES.iter().find(|(_, known)| *known == number);
    known.map_or_else(
        || format!("signal {number}"),
        |(name, _)| format!("SIG{name}"),
    )
}

/// Whether a signal's default stops a process, rather than ends it, where a terminal sends it (SIGTSTP, SIGTTIN, SIGTTOU).
#[must_use]
pub fn stops(number: i32) -> bool {
    [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&number)
}

/// Whether a signal is the one by which a terminal stops what runs in it (SIGTSTP).
#[must_use]
pub fn suspends(number: i32) -> bool {
    number == libc::SIGTSTP
}

/// Whether a signal is one by which a terminal ends what runs in it (SIGINT, SIGQUIT).
#[must_use]
pub fn interrupts(number: i32) -> bool {
    [libc::SIGINT, libc::SIGQUIT].contains(&number)
}

/// All signals of this process, blocked.
#[derive(Clone)]
pub struct Blocked {
    all: libc::sigset_t,
    before: libc::sigset_t,
}

impl Blocked {
    /// Blocks all that can be, and lets children be waited for even where they were ignored when we were started. For a process of
    /// one thread.
    ///
    /// # Errors
    /// What the system says.
    #[expect(unsafe_code, reason = "the standard library has no signal sets")]
    pub fn all() -> io::Result<Self> {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: each set is written as a whole by the call that gets its address, before it is read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            if libc::sigprocmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr()) != 0
                || libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_ERR
            {
                return Err(io::Error::last_os_error());
            }
            Ok(Self {
                all: all.assume_init(),
                before: before.assume_init(),
            })
        }
    }

    /// The next signal; none when `limit` has passed. Without a limit it sleeps until there is one.
    ///
    /// # Errors
    /// What the system says.
    #[expect(unsafe_code, reason = "the standard library can't wait for signals")]
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<Option<i32>> {
        let limit = limit.map(|limit| libc::timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the set is initialised; no siginfo is asked for; the time is null, which means none, or lives until the call ends.
        let number =
            unsafe { libc::sigtimedwait(&raw const self.all, std::ptr::null_mut(), limit) };
        if number > 0 {
            return Ok(Some(number));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        }
    }

    /// Blocks what was blocked before, and no more. Calls only what a process may call between fork and exec.
    ///
    /// # Errors
    /// What the system says.
    #[expect(unsafe_code, reason = "the standard library has no signal sets")]
    pub fn restore(&self) -> io::Result<()> {
        // SAFETY: the set was written by sigprocmask; the old one is not asked for.
        let done = unsafe {
            libc::sigprocmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Ends this process by a signal, as if it had not been caught. Returns only where the kernel spares us: the first process of a
    /// namespace, or a signal that does not end one.
    #[expect(
        unsafe_code,
        reason = "the standard library can't change what a signal does"
    )]
    pub fn die_of(&self, number: i32) {
        // Its core would be ours, not the one of the program that crashed.
        let _ = rustix::process::setrlimit(
            rustix::process::Resource::Core,
            rustix::process::Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        );
        // SAFETY: no handler is installed, the default needs none; the set is initialised before it is used.
        unsafe {
            libc::signal(number, libc::SIG_DFL);
            libc::raise(number);
            let mut only = MaybeUninit::uninit();
            libc::sigemptyset(only.as_mut_ptr());
            libc::sigaddset(only.as_mut_ptr(), number);
            libc::sigprocmask(libc::SIG_UNBLOCK, only.as_ptr(), std::ptr::null_mut());
        }
    }
}

/// Whom a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// One process.
    Process(u32),
    /// The process group with that id.
    Group(u32),
    /// This process's own group.
    OurGroup,
}

/// Sends a signal; one to somebody who is gone is no error.
///
/// # Errors
/// What the system says; `InvalidInput` for an id that would mean something else to the kernel.
#[expect(unsafe_code, reason = "realtime signals have no name elsewhere")]
pub fn send(to: To, number: i32) -> io::Result<()> {
    let id = |id: u32| match i32::try_from(id) {
        // 1 as a group would be everybody.
        Ok(id) if id > 1 => Ok(id),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    let target = match to {
        To::Process(pid) => id(pid)?,
        To::Group(group) => -id(group)?,
        To::OurGroup => 0,
    };
    // SAFETY: kill touches no memory of ours.
    if unsafe { libc::kill(target, number) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for text in ["TERM", "SIGTERM", " sigterm ", "15"] {
            assert_eq!(number(text), Some(TERM), "{text}");
        }
        for text in ["KILL", "9", "STOP", "CHLD", "17", "", "0", "-15", "TERMS"] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(number("34"), Some(34));
        assert_eq!(name(TERM), "SIGTERM");
        assert_eq!(name(40), "signal 40");
    }

    #[test]
    fn nobody_else_is_signalled_by_mistake() {
        for to in [To::Process(0), To::Process(1), To::Group(0), To::Group(1)] {
            assert!(send(to, 0).is_err(), "{to:?}");
        }
        assert!(send(To::Process(std::process::id()), 0).is_ok());
        assert!(send(To::Process(u32::MAX), 0).is_err());
    }
}
