//! Other programs: started without a shell, bounded in time and output, told nothing they need not know.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Deadline;

/// The most that is read of each output stream, in bytes. A program that writes more is ended.
pub const MOST: usize = 1 << 20;

/// Where programs are looked for, whatever our own environment says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a killed program may take to be gone before it is left to init.
const GRACE: Duration = Duration::from_millis(200);

/// What a program left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote, at most [`MOST`] bytes.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, at most [`MOST`] bytes.
    pub stderr: Vec<u8>,
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started.
    #[error("can't start {program}: {source}")]
    Start {
        /// The program's name.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// It was still running at the deadline, and was killed.
    #[error("{program} did not end in time")]
    TimedOut {
        /// The program's name.
        program: String,
    },
    /// It wrote more than [`MOST`] bytes, and was killed.
    #[error("{program} wrote more than {MOST} bytes")]
    TooMuch {
        /// The program's name.
        program: String,
    },
    /// Talking to it failed.
    #[error("can't talk to {program}: {source}")]
    Io {
        /// The program's name.
        program: String,
        /// What the system says.
        source: io::Error,
    },
}

/// Runs `argv` to its end, with `input` as its standard input, or none.
///
/// The program runs in a process group of its own, so that a Ctrl-C meant for us does not end it, and so that all of it is gone when the
/// deadline passes.
///
/// # Errors
/// Any [`ExecError`]. A program that ends with a failure is no error here: see [`Output::status`].
pub fn run(argv: &[&str], input: Option<&[u8]>, deadline: Deadline) -> Result<Output, ExecError> {
    let (program, arguments) = argv.split_first().ok_or_else(|| ExecError::Start {
        program: String::new(),
        source: ErrorKind::InvalidInput.into(),
    })?;
    let stdin = match input {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|source| ExecError::Start {
            program: (*program).to_owned(),
            source,
        })?;
    let ended = talk(&mut child, input.unwrap_or_default(), deadline);
    if !matches!(ended, Ok(Some(_))) {
        end(&mut child);
    }
    let program = (*program).to_owned();
    match ended {
        Ok(Some(output)) => Ok(output),
        Ok(None) => Err(ExecError::TimedOut { program }),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            Err(ExecError::TooMuch { program })
        }
        Err(source) => Err(ExecError::Io { program, source }),
    }
}

/// Feeds and reads a program until it ends; `None` when the deadline comes first.
///
/// The end of the program counts, not the end of its output: a process that it left running may hold the streams open for ever.
fn talk(child: &mut Child, mut input: &[u8], deadline: Deadline) -> io::Result<Option<Output>> {
    let mut stdin = child.stdin.take();
    let mut out = Stream::new(child.stdout.take())?;
    let mut err = Stream::new(child.stderr.take())?;
    if let Some(stdin) = &stdin {
        rustix::io::ioctl_fionbio(stdin, true)?;
    }
    loop {
        let status = child.try_wait()?;
        // Read after the look at the process: what it wrote before its end is all there then.
        out.read()?;
        err.read()?;
        if let Some(status) = status {
            return Ok(Some(Output {
                status,
                stdout: out.bytes,
                stderr: err.bytes,
            }));
        }
        if let Some(pipe) = &mut stdin {
            match pipe.write(input) {
                Ok(sent) => input = &input[sent..],
                Err(error) if would_block(&error) => {}
                // It closed its input: it has what it wants.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => input = &[],
                Err(error) => return Err(error),
            }
            if input.is_empty() {
                stdin = None;
            }
        }
        if deadline.passed() {
            return Ok(None);
        }
        let readers = [out.fd(), err.fd()].into_iter().flatten();
        let mut waits: Vec<PollFd<'_>> = readers
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        if let Some(stdin) = &stdin {
            waits.push(PollFd::new(stdin, PollFlags::OUT));
        }
        // The streams usually close with the process; otherwise its end is noticed a little later.
        let limit = if waits.is_empty() { 1 } else { 20 };
        let limit = deadline.left().min(Duration::from_millis(limit));
        let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
        match poll(&mut waits, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One output stream, read as far as it goes.
struct Stream<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
}

impl<R: Read + AsFd> Stream<R> {
    fn new(pipe: Option<R>) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self {
            pipe,
            bytes: Vec::new(),
        })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Takes what is there. `FileTooLarge` past [`MOST`].
    fn read(&mut self) -> io::Result<()> {
        let mut part = [0; 16 << 10];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut part) {
                Ok(0) => self.pipe = None,
                Ok(count) if self.bytes.len() + count > MOST => {
                    return Err(ErrorKind::FileTooLarge.into());
                }
                Ok(count) => self.bytes.extend_from_slice(&part[..count]),
                Err(error) if would_block(&error) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

/// Kills the program's group, and waits a moment for it to be gone. One that hangs in the kernel is left behind.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // The only failure is that nobody is left.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let grace = Deadline::after(GRACE);
    while matches!(child.try_wait(), Ok(None)) && !grace.passed() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[test]
    fn both_streams_the_status_and_the_input_are_kept() {
        let run = run(
            &["sh", "-c", "cat; echo bad >&2; exit 3"],
            Some(b"in"),
            soon(),
        );
        let output = run.unwrap();
        assert_eq!(output.stdout, b"in");
        assert_eq!(output.stderr, b"bad\n");
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn the_environment_is_not_ours() {
        let output = run(&["env"], None, soon()).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["LC_ALL=C", &format!("PATH={PATH}")]);
    }

    #[test]
    fn a_program_that_hangs_is_gone_at_the_deadline_with_all_its_children() {
        let begun = Instant::now();
        let limit = Deadline::after(Duration::from_millis(100));
        let error = run(&["sh", "-c", "sleep 60 & sleep 60"], None, limit).unwrap_err();
        assert!(matches!(error, ExecError::TimedOut { .. }));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_child_left_running_does_not_hold_us() {
        let begun = Instant::now();
        let output = run(&["sh", "-c", "sleep 60 & echo $!"], None, soon()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15));
        let left = String::from_utf8(output.stdout).unwrap();
        let left = Pid::from_raw(left.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(left, Signal::KILL).unwrap();
    }

    #[test]
    fn endless_output_is_cut() {
        let error = run(&["yes"], None, soon()).unwrap_err();
        assert!(matches!(error, ExecError::TooMuch { .. }));
    }

    #[test]
    fn input_larger_than_a_pipe_goes_through_and_may_be_refused() {
        let input = vec![b'x'; MOST];
        let output = run(&["cat"], Some(&input), soon()).unwrap();
        assert_eq!(output.stdout.len(), MOST);
        assert!(
            run(&["true"], Some(&input), soon())
                .unwrap()
                .status
                .success()
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&["no-such-program-here"], None, soon()).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"));
    }
}
