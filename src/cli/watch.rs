//! `status --watch`: a running drain until its end, redrawn in place on a terminal.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::drain::Report;
use crate::drain::control::{Answer, ControlError, Now, Request, ask};
use crate::drain::event::Phase;
use crate::receipts::{self, Run};
use crate::report::screen::Screen;
use crate::world::{Deadline, Root};
use crate::{exit, report};

/// Asked this often.
const PACE: Duration = Duration::from_millis(500);
/// Without a terminal, said this often, and at each phase.
const EVERY: Duration = Duration::from_secs(5);
/// The report is on disk so long after the drain at most.
const KEPT: Duration = Duration::from_secs(1);
/// Where a terminal does not say.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// What the running drain sees; none where there is none, or it ended while it was asked.
///
/// # Errors
/// There is one that can't be asked.
pub(super) fn now(root: &Root) -> anyhow::Result<Option<Now>> {
    match ask(root, Request::Status) {
        Ok(Answer::Status(now)) => Ok(Some(*now)),
        Ok(Answer::Refused(why)) => anyhow::bail!("the running drain refuses: {why}"),
        Ok(Answer::Done(_)) => anyhow::bail!("the running drain is of another version"),
        Err(ControlError::NoDrain | ControlError::Ended) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Shows it until it ends, as `json` one object a line.
///
/// # Errors
/// No drain is running, or it can't be asked.
pub(super) fn watch(root: &Root, json: bool) -> anyhow::Result<u8> {
    let Some(mut seen) = now(root)? else {
        return Err(ControlError::NoDrain.into());
    };
    let mut view = View::new(json);
    loop {
        match view.show(&seen) {
            // Nobody watches any more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(exit::OK),
            shown => shown?,
        }
        thread::sleep(PACE);
        match now(root)? {
            // Another one may have begun.
            Some(next) if next.id == seen.id => seen = next,
            _ => break,
        }
    }
    if !json {
        let words = last_words(root, &seen.id);
        view.clear()?;
        for line in words {
            say!("{line}");
        }
    }
    Ok(exit::OK)
}

/// How the drain `id` ended.
fn last_words(root: &Root, id: &str) -> Vec<String> {
    let deadline = Deadline::after(KEPT);
    loop {
        let last = receipts::read(root, id).ok();
        if let Some(last) = last.filter(Report::is_finished) {
            return report::report(&last);
        }
        if deadline.passed() {
            let killed = Run::read(root).is_some_and(|run| run.id == id && run.ended.is_none());
            let how = if killed {
                "it was killed"
            } else {
                "it has ended"
            };
            return vec![format!("{how}, and its report is not kept")];
        }
        thread::sleep(PACE / 10);
    }
}

/// Where it is shown.
struct View {
    json: bool,
    terminal: bool,
    screen: Screen,
    said: Option<(Instant, Phase)>,
}

impl View {
    fn new(json: bool) -> Self {
        // What a terminal calls itself that can't move its cursor (terminfo's `dumb`).
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            json,
            terminal: !json && !dumb && io::stdout().is_terminal(),
            screen: Screen::default(),
            said: None,
        }
    }

    fn show(&mut self, now: &Now) -> io::Result<()> {
        if self.json {
            return write(&format!("{}\n", serde_json::to_string(now)?));
        }
        if self.terminal {
            let lines = report::now::lines(now);
            return write(&self.screen.frame(&lines, size()));
        }
        let due = self
            .said
            .is_none_or(|(when, phase)| when.elapsed() >= EVERY || phase != now.phase);
        if due {
            self.said = Some((Instant::now(), now.phase));
            return write(&format!("{}\n", report::now::headline(now)));
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        write(&self.screen.clear())
    }
}

/// At once, so that a terminal shows no half of it.
fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let known = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let (columns, rows) = known.map_or((COLUMNS, ROWS), |size| (size.ws_col, size.ws_row));
    (columns.into(), rows.into())
}
