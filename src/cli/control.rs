//! `skip`, `extend`, `abort`: control over a drain that is running.

use std::thread;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::drain::Outcome;
use crate::drain::control::{Answer, ControlError, Request, ask};
use crate::exit;
use crate::receipts::Run;
use crate::world::{Deadline, Root};

/// End the wait of the drain that is running: go on at once, in order.
///
/// What is still in flight is reported, and cut by what follows; the host stays out of its pools.
#[derive(Debug, Args)]
#[command(after_help = "Example: drainctl skip")]
pub(super) struct Skip {}

/// Give the drain that is running more time.
///
/// A shutdown can't be given more than 30 minutes in all: systemd ends it by force then.
#[derive(Debug, Args)]
#[command(after_help = "Example: drainctl extend 2m")]
pub(super) struct Extend {
    /// How much more, with its unit ("90s", "5m").
    #[arg(value_name = "DURATION", value_parser = super::duration)]
    by: Duration,
}

/// Undo the drain that is running: the host is back in its pools.
///
/// The stop or restart of the units that it was for is cancelled, too. Refused while the machine goes down; it can only be skipped then.
#[derive(Debug, Args)]
#[command(after_help = "Example: drainctl abort")]
pub(super) struct Abort {}

/// Ending takes this long at most: an undo asks every pool.
const ENDING: Duration = Duration::from_secs(25);
const PACE: Duration = Duration::from_millis(20);

impl Skip {
    /// Runs it.
    ///
    /// # Errors
    /// Not root, no drain is running, or it does not end.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("skip")?;
        say!("{}", ended(end(root, Request::Skip)?));
        Ok(exit::OK)
    }
}

impl Extend {
    /// Runs it.
    ///
    /// # Errors
    /// Not root, no drain is running, or it refuses.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("extend")?;
        say!("{}", accepted(ask(root, Request::Extend { by: self.by })?)?);
        Ok(exit::OK)
    }
}

impl Abort {
    /// Runs it.
    ///
    /// # Errors
    /// Not root, no drain is running, it refuses, or it could not be undone.
    pub(super) fn run(self, root: &Root) -> anyhow::Result<u8> {
        super::need_root("abort")?;
        match end(root, Request::Abort)? {
            outcome @ Outcome::Aborted => say!("{}", ended(outcome)),
            other => bail!(
                "not undone: {}; `drainctl rejoin` takes the host back",
                ended(other)
            ),
        }
        Ok(exit::OK)
    }
}

/// Ends the running drain by `request`; how it really ended.
fn end(root: &Root, request: Request) -> anyhow::Result<Outcome> {
    let first = Run::read(root).filter(|run| run.ended.is_none());
    match ask(root, request) {
        Ok(answer) => drop(accepted(answer)?),
        // It may be gone before its answer is written: how it ended is on disk.
        Err(ControlError::Ended) => {}
        Err(error) => return Err(error.into()),
    }
    let deadline = Deadline::after(ENDING);
    loop {
        let run = Run::read(root);
        // One that had just begun was not on disk when it was asked.
        let same = |run: &Run| first.as_ref().is_none_or(|first| first.id == run.id);
        match run.filter(same) {
            Some(Run {
                ended: Some((outcome, _)),
                ..
            }) => return Ok(outcome),
            // Another one runs already.
            None if first.is_some() => bail!("it has ended; `drainctl report` tells how"),
            _ if deadline.passed() => bail!("it was asked to, but has not ended"),
            _ => thread::sleep(PACE),
        }
    }
}

fn accepted(answer: Answer) -> anyhow::Result<String> {
    match answer {
        Answer::Done(text) => Ok(text),
        Answer::Refused(why) => bail!("refused: {why}"),
        Answer::Status(_) => bail!("the running drain is of another version"),
    }
}

/// How a drain ended, for those who asked it to.
fn ended(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Skipped => "skipped; `drainctl report` says what was in flight",
        Outcome::Refused => "it was refused, and nothing was changed",
        Outcome::Aborted => "undone: the host is back in its pools",
        Outcome::Drained => "it had drained already",
        Outcome::DeadlineHit => "its deadline had come already",
        Outcome::NothingToDo => "it had nothing to do",
        Outcome::Unfinished => "it ended without a word",
    }
}
