//! A child that is to be as if nobody stood above it: with the signals, files and variables that we were given, and bound to our end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_parent_process_death_signal,
    setpgid, waitpid,
};

use super::signals::{self, Blocked, To};

/// What a child is to be.
#[derive(Debug)]
pub struct Start<'a> {
    /// The program and its arguments.
    pub argv: &'a [OsString],
    /// Variables beside our own.
    pub env: &'a [(&'a str, &'a str)],
    /// The terminal whose foreground the child's process group becomes.
    pub terminal: Option<BorrowedFd<'a>>,
    /// One of this program's own: its input is empty, and what it prints goes to standard error.
    pub ours: bool,
}

/// Variables that name the process they are meant for by its id (sd_listen_fds(3), sd_watchdog_enabled(3)).
const FOR_ONE: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

impl Start<'_> {
    /// Starts it in a process group of its own, with the signals as they were before `blocked`. It is killed when this process ends,
    /// unless it changes its user.
    ///
    /// For a process of one thread: the child would find locks that other threads held, and is killed when the thread that started
    /// it ends.
    ///
    /// # Errors
    /// What the system says, also to the exec.
    #[expect(
        unsafe_code,
        reason = "variables that name the child's own id can only be set in it"
    )]
    pub fn run(&self, blocked: &Blocked) -> io::Result<u32> {
        let (fault, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let us = getpid();
        // SAFETY: this process has one thread, so the child finds every lock free and may do what any process may.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let error = self.become_child(us, blocked.clone());
                let number = error.raw_os_error().unwrap_or(libc::EINVAL);
                let _ = File::from(tell).write_all(&number.to_ne_bytes());
                exit_now(127)
            }
            pid => {
                drop(tell);
                let stopped = await_exec(&fault, pid);
                let mut number = [0; 4];
                match File::from(fault).read_exact(&mut number) {
                    // Closed by the exec.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        if let Some(signal) = stopped {
                            let _ = signals::send(To::Process(pid.unsigned_abs()), signal);
                        }
                        Ok(pid.unsigned_abs())
                    }
                    Ok(()) => {
                        let _ = waitpid(Pid::from_raw(pid), WaitOptions::empty());
                        Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// In the child: becomes the program. Returns only with an error.
    #[expect(unsafe_code, reason = "signals are given back at the last moment")]
    fn become_child(&self, parent: Pid, blocked: Blocked) -> io::Error {
        let prepared = (|| {
            setpgid(None, None)?;
            // What was meant for our parent's group until now has reached our parent too.
            while blocked.wait(Some(Duration::ZERO))?.is_some() {}
            if let Some(terminal) = self.terminal {
                // A terminal that hung up meanwhile is no reason not to run.
                let _ = rustix::termios::tcsetpgrp(terminal, getpid());
            }
            set_parent_process_death_signal(Some(Signal::KILL))?;
            io::Result::Ok(())
        })();
        if let Err(error) = prepared {
            return error;
        }
        if getppid() != Some(parent) {
            // It ended before we were bound to its end.
            return io::Error::from_raw_os_error(libc::ESRCH);
        }
        let Some((program, arguments)) = self.argv.split_first() else {
            return io::ErrorKind::InvalidInput.into();
        };
        let mut command = Command::new(program);
        command.args(arguments).envs(self.env.iter().copied());
        for name in FOR_ONE {
            if std::env::var(name).is_ok_and(|id| id == parent.to_string()) {
                command.env(name, std::process::id().to_string());
            }
        }
        if self.ours {
            let errors = rustix::io::dup(rustix::stdio::stderr()).map(Stdio::from);
            command
                .stdin(Stdio::null())
                .stdout(errors.unwrap_or_else(|_| Stdio::null()));
        }
        // SAFETY: the closure only calls sigprocmask.
        unsafe { command.pre_exec(move || blocked.restore()) };
        command.exec()
    }
}

/// Waits until the child has executed its program, or has said why not. The terminal is its own a moment before that: a Ctrl-Z in this
/// moment would hold both of us for ever, so it goes on; the signal that stopped it, to be sent again.
fn await_exec(fault: &OwnedFd, pid: libc::pid_t) -> Option<i32> {
    let pid = Pid::from_raw(pid)?;
    let mut stopped = None;
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: 50_000_000,
    };
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
    while poll(&mut [PollFd::new(fault, PollFlags::IN)], Some(&pause)) == Ok(0) {
        if let Ok(Some((_, status))) = waitpid(Some(pid), options) {
            stopped = status.stopping_signal().or(stopped);
            let _ = kill_process(pid, Signal::CONT);
        }
    }
    stopped
}

/// Runs `body` in a process of its own that nobody waits for; its id. It has nothing open but `keep`, and is in a group of its own.
/// For a process of one thread.
///
/// # Errors
/// What the system says.
#[expect(unsafe_code, reason = "the standard library does not fork")]
pub fn fork(keep: &[RawFd], body: impl FnOnce()) -> io::Result<u32> {
    // SAFETY: this process has one thread, so the child finds every lock free and may do what any process may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            if setpgid(None, None).is_ok() && close_all_but(keep, 0).is_ok() {
                body();
            }
            exit_now(0)
        }
        pid => Ok(pid.unsigned_abs()),
    }
}

/// Ends a forked child without what belongs to its parent: buffers and handlers for the exit.
#[expect(
    unsafe_code,
    reason = "the standard library runs the parent's handlers"
)]
fn exit_now(code: i32) -> ! {
    // SAFETY: it does not return, and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Closes every file from the number `from` on, but those in `keep`. What we were given is for our child: a listening socket that stays
/// open here would go on taking connections after the child has closed it.
///
/// The numbers must belong to nobody in this process.
///
/// # Errors
/// /proc can't be read.
#[expect(unsafe_code, reason = "these files have no owner here")]
pub fn close_all_but(keep: &[RawFd], from: RawFd) -> io::Result<()> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(number) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            numbers.push(number);
        }
    }
    for number in numbers {
        if number >= from && !keep.contains(&number) {
            // SAFETY: what has an owner is in `keep`; the folder itself is closed by now.
            unsafe { libc::close(number) };
        }
    }
    Ok(())
}
