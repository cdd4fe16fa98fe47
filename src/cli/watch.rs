//! `status --watch`: a running drain until its end, redrawn in place on a terminal.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::drain::Report;
use crate::drain::control::{Answer, ControlError, Now, Request, ask};
use crate::drain::event::Phase;
use crate::receipts::{self, Run};
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
    let mut screen = Screen::new(json);
    loop {
        screen.show(&seen)?;
        thread::sleep(PACE);
        match now(root)? {
            // Another one may have begun.
            Some(next) if next.id == seen.id => seen = next,
            _ => break,
        }
    }
    screen.clear()?;
    if !json {
        for line in last_words(root, &seen.id) {
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
struct Screen {
    json: bool,
    terminal: bool,
    drawn: usize,
    said: Option<(Instant, Phase)>,
}

impl Screen {
    fn new(json: bool) -> Self {
        Self {
            json,
            terminal: !json && io::stdout().is_terminal(),
            drawn: 0,
            said: None,
        }
    }

    fn show(&mut self, now: &Now) -> io::Result<()> {
        if self.json {
            return writeln!(io::stdout(), "{}", serde_json::to_string(now)?);
        }
        if self.terminal {
            let (columns, rows) = size();
            let lines = fit(&report::now::lines(now), columns, rows);
            self.clear()?;
            self.drawn = lines.len();
            return writeln!(io::stdout(), "{}", lines.join("\n"));
        }
        let due = self
            .said
            .is_none_or(|(when, phase)| when.elapsed() >= EVERY || phase != now.phase);
        if due {
            self.said = Some((Instant::now(), now.phase));
            writeln!(io::stdout(), "{}", report::now::headline(now))?;
        }
        Ok(())
    }

    /// Takes away what was drawn.
    fn clear(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.drawn) {
            0 => Ok(()),
            // Up to the first of the lines, and everything from there on away (ECMA-48: CPL, ED).
            drawn => write!(io::stdout(), "\x1b[{drawn}F\x1b[J"),
        }
    }
}

fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let known = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let (columns, rows) = known.map_or((COLUMNS, ROWS), |size| (size.ws_col, size.ws_row));
    (columns.into(), rows.into())
}

/// As much as fits without a line being broken: that would spoil the redrawing.
fn fit(lines: &[String], columns: usize, rows: usize) -> Vec<String> {
    let cut = |line: &String| {
        if line.chars().count() < columns {
            return line.clone();
        }
        let mut short: String = line.chars().take(columns.saturating_sub(2)).collect();
        short.push('…');
        short
    };
    lines.iter().take(rows.saturating_sub(1)).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_never_breaks_a_line_or_scrolls() {
        let lines = [
            "é".repeat(200),
            "short".to_owned(),
            "x".repeat(79),
            "last".to_owned(),
        ];
        let drawn = fit(&lines, 80, 4);
        assert_eq!(drawn.len(), 3);
        assert!(drawn.iter().all(|line| line.chars().count() < 80));
        assert!(drawn[0].ends_with('…'));
        assert_eq!(drawn[2], "x".repeat(79));
    }
}
