use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often [`poll`] looks.
const LOOK: Duration = Duration::from_millis(50);

/// A command of words, without input.
pub fn command<S: AsRef<OsStr>>(words: &[S]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or(OsStr::new("true"), AsRef::as_ref));
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs a command to its end and returns what it printed to standard output.
///
/// # Errors
/// If it can't be started, or ends with anything but 0; the error holds what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        bail!("{} ({}): {}", shown(command), output.status, both(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end, whatever that is.
///
/// # Errors
/// If it can't be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", shown(command)))
}

/// Both outputs of a command, for a message.
pub fn both(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The command's words, for a message.
fn shown(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

/// Asks `look` until it has an answer.
///
/// # Errors
/// When `limit` has passed; the error names `what` and the last error of `look`.
pub fn poll<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let last = match look() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= end {
            let why = last.map_or(String::new(), |error| format!(": {error:#}"));
            bail!("{what}: not within {} s{why}", limit.as_secs());
        }
        thread::sleep(LOOK);
    }
}
