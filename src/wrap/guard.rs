//! What is left of a program whose keeper was killed: nobody would pass it signals any more, and what holds its ports keeps the next one
//! from starting.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use rustix::stdio::raw_stderr;

use crate::world::signals::{self, To, send};
use crate::world::{Root, child, memory, proc};

/// Names the run of the keeper in the environment of all that it starts.
pub const VARIABLE: &str = "DRAINCTL_RUN";
/// What is left is looked for this often: a process may be starting another in this moment.
const ROUNDS: u32 = 20;
const PACE: Duration = Duration::from_millis(50);

/// A process that sleeps until this one is gone; unless it is gone in order, it then ends the program with all that it started.
///
/// It also has standard error open for that long. A supervisord looks for children that have ended only when one of their pipes is
/// closed, or else once a second (its `runforever`), and a process closes its files a moment before it can be waited for: whoever is
/// woken in this moment finds nothing, and sleeps on. So the last to close it is one that has seen this process's end.
#[derive(Debug)]
pub struct Guard {
    tell: OwnedFd,
}

impl Guard {
    /// Starts it for the program that leads the process group `program`, started under `run`. For a process of one thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(program: u32, run: &str) -> io::Result<Self> {
        let us = pidfd_open(getpid(), PidfdFlags::empty())?;
        let (word, tell) = pipe_with(PipeFlags::CLOEXEC)?;
        let (begun, begins) = pipe_with(PipeFlags::CLOEXEC)?;
        let keep = [us.as_raw_fd(), word.as_raw_fd(), raw_stderr()];
        child::fork(&keep, || {
            let _ = rustix::thread::set_name(c"drainctl-guard");
            let _ = memory::shed();
            while poll(&mut [PollFd::new(&us, PollFlags::IN)], None) == Err(Errno::INTR) {}
            // Neither waits: who could write to it is gone.
            let in_order = word
                .try_clone()
                .map(File::from)
                .and_then(|mut word| word.read(&mut [0]));
            if in_order.is_ok_and(|bytes| bytes > 0) {
                return;
            }
            let _ = send(To::Group(program), signals::KILL);
            end_leftovers(&Root::host(), run);
        })?;
        drop(begins);
        // Closed once it has nothing else of ours open: the lock that the next keeper wants, the pipes of the program.
        let _ = File::from(begun).read(&mut [0]);
        Ok(Self { tell })
    }

    /// This process is about to end in order.
    pub fn dismiss(self) {
        let _ = rustix::io::write(&self.tell, b"!");
    }
}

/// Ends everything that was started under `run`, as far as it tells; waits until it is gone, within a second.
pub fn end_leftovers(root: &Root, run: &str) {
    for _ in 0..ROUNDS {
        let mut any = false;
        for pid in proc::pids(root).unwrap_or_default() {
            any |= is_of(root, pid, run) && end(root, pid, run);
        }
        if !any {
            return;
        }
        sleep(PACE);
    }
}

fn is_of(root: &Root, pid: u32, run: &str) -> bool {
    // One that is gone, or another user's, is none of ours.
    proc::has_variable(root, pid, VARIABLE, run).unwrap_or(false)
}

fn end(root: &Root, pid: u32, run: &str) -> bool {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(handle) = id.and_then(|id| pidfd_open(id, PidfdFlags::empty()).ok()) else {
        return false;
    };
    // Looked at once more, now that the id can't become somebody else's.
    is_of(root, pid, run) && pidfd_send_signal(&handle, Signal::KILL).is_ok()
}
