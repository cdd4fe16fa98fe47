use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::AddAssign;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow};

/// How many tests ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Passed.
    pub(crate) passed: u64,
    /// Failed, or could not be run though they should have been.
    pub(crate) failed: u64,
    /// Left out, with a line on standard error that says why.
    pub(crate) skipped: u64,
    /// What said that it failed, in the words that it said it in.
    pub(crate) failures: Vec<String>,
}

impl Counts {
    /// One check that passed or failed.
    pub(crate) fn of(passed: bool) -> Self {
        Self {
            passed: u64::from(passed),
            failed: u64::from(!passed),
            ..Self::default()
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Runs a test command, hands on what it prints, and counts.
///
/// A command that fails without a failed test (it did not compile, it was killed) counts as one failed.
///
/// # Errors
/// If it can't be started, or its output can't be handed on.
pub(crate) fn counted(command: &mut Command) -> Result<Counts> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut counts = thread::scope(|scope| {
        let errors = scope.spawn(|| {
            stderr.map_or_else(
                || Ok(Counts::default()),
                |pipe| hand_on(pipe, std::io::stderr()),
            )
        });
        let mut counts = stdout.map_or_else(
            || Ok(Counts::default()),
            |pipe| hand_on(pipe, std::io::stdout()),
        )?;
        counts += errors
            .join()
            .map_err(|_| anyhow!("a reading thread panicked"))??;
        anyhow::Ok(counts)
    })?;
    if !child.wait()?.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

fn hand_on(from: impl Read, mut to: impl Write) -> Result<Counts> {
    let mut counts = Counts::default();
    for line in BufReader::new(from).split(b'\n') {
        let line = line?;
        counts += counts_of(&String::from_utf8_lossy(&line));
        to.write_all(&[line.as_slice(), b"\n"].concat())?;
    }
    Ok(counts)
}

/// What one line says: libtest's summary, one thing that was left out, or one that failed.
fn counts_of(line: &str) -> Counts {
    let mut counts = Counts::default();
    if line.starts_with("SKIPPED ") {
        counts.skipped = 1;
    }
    let failed = line.starts_with("test ") && line.ends_with(" ... FAILED");
    if failed || line.starts_with("BROKEN ") {
        counts.failures.push(line.to_owned());
    }
    let Some((_, summary)) = line
        .strip_prefix("test result: ")
        .and_then(|rest| rest.split_once(". "))
    else {
        return counts;
    };
    for part in summary.split("; ") {
        match part
            .split_once(' ')
            .map(|(number, what)| (number.parse(), what))
        {
            Some((Ok(number), "passed")) => counts.passed = number,
            Some((Ok(number), "failed")) => counts.failed = number,
            Some((Ok(number), "ignored")) => counts.skipped = number,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_libtest_is_counted() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out; finished in 0.10s";
        assert_eq!(
            counts_of(line),
            Counts {
                passed: 3,
                failed: 1,
                skipped: 2,
                failures: vec![],
            }
        );
    }

    #[test]
    fn what_fails_is_named() {
        let named = |line| counts_of(line).failures;
        assert_eq!(named("test a::b ... FAILED"), ["test a::b ... FAILED"]);
        assert_eq!(named("BROKEN one row"), ["BROKEN one row"]);
        assert!(named("test a::b ... ok").is_empty());
    }

    #[test]
    fn only_lines_that_begin_with_the_word_are_skips() {
        assert_eq!(counts_of("SKIPPED e2e: needs root").skipped, 1);
        assert_eq!(counts_of("none SKIPPED here"), Counts::default());
    }

    #[test]
    fn a_command_that_fails_without_tests_is_one_failure() {
        let counts = counted(&mut Command::new("false")).unwrap();
        assert_eq!(counts, Counts::of(false));
    }
}
