//! What is left of a program whose keeper was killed: nobody would pass it signals any more, and what holds its ports keeps the next one
//! from starting.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid,
};

use crate::world::signals::{self, To, send};
use crate::world::{Root, child, memory, proc};

/// Names the run of the keeper in the environment of all that it starts.
pub const VARIABLE: &str = "DRAINCTL_RUN";
/// What is left is looked for this often: a process may be starting another in this moment.
const ROUNDS: u32 = 20;
const PACE: Duration = Duration::from_millis(50);

/// A process that sleeps until this one is gone, and then ends the program with all that it started.
#[derive(Debug)]
pub struct Guard {
    pid: u32,
    /// Open for as long as this process lives.
    _alive: OwnedFd,
}

impl Guard {
    /// Starts it for the program that leads the process group `program`, started under `run`. For a process of one thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(program: u32, run: &str) -> io::Result<Self> {
        let (end, alive) = pipe_with(PipeFlags::CLOEXEC)?;
        let pid = child::fork(&end, || {
            let _ = rustix::thread::set_name(c"drainctl-guard");
            let Ok(mut end) = end.try_clone().map(File::from) else {
                return;
            };
            let _ = memory::shed();
            // Ends with the last holder of the other end.
            let _ = end.read(&mut [0]);
            let _ = send(To::Group(program), signals::KILL);
            end_leftovers(&Root::host(), run);
        })?;
        Ok(Self { pid, _alive: alive })
    }

    /// Sends it away: this process is about to end in order.
    pub fn dismiss(self) {
        let _ = send(To::Process(self.pid), signals::KILL);
        // One that has just begun may still hold what was open here, the lock among it.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
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
