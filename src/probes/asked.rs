//! Probes that may hang, asked without hanging with them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::build;
use crate::config::ProbeSpec;
use crate::text::one_line;
use crate::world::{Deadline, Root};

/// An answer that holds the drain is good for this long: nothing is lost by asking later.
const GOOD_FOR: Duration = Duration::from_millis(200);
/// As much of an error is kept, in characters.
const SHOWN: usize = 200;

/// All probes of a drain, each with a thread of its own that ends with this.
#[derive(Debug)]
pub struct Asked(Vec<One>);

#[derive(Debug)]
struct One {
    spec: ProbeSpec,
    ask: Sender<Deadline>,
    answers: Receiver<Result<u64, String>>,
    /// A question that has not been answered.
    open: bool,
    /// And it is an earlier one than the last that was asked.
    late: bool,
    /// The last answer that held the drain.
    busy: Option<(Instant, u64)>,
    /// Since when it has held the drain.
    since: Option<Instant>,
}

/// What one probe says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The probe's name in the config.
    pub name: String,
    /// How many requests are in flight, or why that is unknown.
    pub count: Result<u64, String>,
    /// Since when there have been any, as far as was asked.
    pub age: Duration,
}

impl Asked {
    /// Starts the threads; asks nothing yet.
    #[must_use]
    pub fn new(root: &Root, specs: &[ProbeSpec]) -> Self {
        Self(specs.iter().map(|spec| One::start(root, spec)).collect())
    }

    /// Asks all of them side by side. Each answers to this question, or within its limit is unknown.
    pub fn count(&mut self) -> Vec<Counted> {
        let now = Instant::now();
        for one in &mut self.0 {
            one.question(now);
        }
        self.0.iter_mut().map(|one| one.answer(now)).collect()
    }
}

impl One {
    fn start(root: &Root, spec: &ProbeSpec) -> Self {
        let (ask, asked) = channel::<Deadline>();
        let (tell, answers) = channel();
        let (root, own) = (root.clone(), spec.clone());
        std::thread::spawn(move || {
            let probe = build(&own);
            while let Ok(deadline) = asked.recv() {
                let count = match &probe {
                    Ok(probe) => probe
                        .count(&root, deadline)
                        .map_err(|error| format!("{error:#}")),
                    Err(error) => Err(format!("{error:#}")),
                };
                if tell.send(count).is_err() {
                    return;
                }
            }
        });
        Self {
            spec: spec.clone(),
            ask,
            answers,
            open: false,
            late: false,
            busy: None,
            since: None,
        }
    }

    fn is_known_busy(&self, now: Instant) -> bool {
        self.busy
            .is_some_and(|(at, _)| now.duration_since(at) < GOOD_FOR)
    }

    fn question(&mut self, now: Instant) {
        if self.is_known_busy(now) {
            return;
        }
        self.busy = None;
        if self.open {
            self.late = true;
        } else {
            self.send(now);
        }
    }

    fn send(&mut self, now: Instant) {
        self.open = self.ask.send(Deadline::at(now + self.spec.limit)).is_ok();
    }

    fn answer(&mut self, now: Instant) -> Counted {
        let count = match self.busy {
            Some((_, count)) => Ok(count),
            None => self.wait(now),
        };
        if count == Ok(0) {
            self.since = None;
        } else {
            self.since.get_or_insert(now);
        }
        if let Ok(count @ 1..) = count {
            self.busy.get_or_insert((now, count));
        }
        Counted {
            name: self.spec.name.clone(),
            age: self
                .since
                .map_or(Duration::ZERO, |since| now.duration_since(since)),
            count: count.map_err(|error| one_line(&error, SHOWN)),
        }
    }

    fn wait(&mut self, now: Instant) -> Result<u64, String> {
        let end = now + self.spec.limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                // The answer to an earlier question says nothing about now.
                Ok(_) if self.late => {
                    self.late = false;
                    self.send(now);
                }
                Ok(count) => {
                    self.open = false;
                    return count;
                }
                Err(RecvTimeoutError::Timeout) => return Err("no answer in time".to_owned()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the thread that asks has ended".to_owned());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn command(dir: &std::path::Path, text: &str, limit: Duration) -> ProbeSpec {
        let program = dir.join("count");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        ProbeSpec {
            name: "own".to_owned(),
            kind: "command".to_owned(),
            limit,
            settings: serde_json::json!({ "argv": [program] }),
        }
    }

    #[test]
    fn what_can_not_be_asked_is_unknown_and_holds() {
        let dir = tempfile::tempdir().unwrap();
        let long = Duration::from_secs(60);
        for (text, want) in [
            ("echo 3", Ok(3)),
            ("echo 0", Ok(0)),
            ("echo many", Err("is no whole number")),
            ("echo 0; exit 1", Err("exit status: 1")),
        ] {
            let mut probes = Asked::new(&Root::host(), &[command(dir.path(), text, long)]);
            let counted = probes.count().remove(0);
            match (&counted.count, want) {
                (Ok(count), Ok(want)) => assert_eq!(*count, want),
                (Err(error), Err(want)) => assert!(error.contains(want), "{error}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        // Each question waits at a gate of its own until the test lets it through.
        let gates = [dir.path().join("first"), dir.path().join("second")];
        for gate in &gates {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, gate, fifo, mode, 0).unwrap();
        }
        let text = format!(
            "cd {}; if mkdir begun 2>/dev/null; then read x < first; else read x < second; fi; echo $x",
            dir.path().display()
        );
        let mut spec = command(dir.path(), &text, Duration::from_secs(60));
        let mut one = One::start(&Root::host(), &spec);
        one.question(Instant::now());
        spec.limit = Duration::ZERO;
        one.spec = spec.clone();
        assert!(one.answer(Instant::now()).count.is_err());
        spec.limit = Duration::from_secs(60);
        one.spec = spec;
        one.question(Instant::now());
        let answered = std::thread::scope(|scope| {
            let answer = scope.spawn(|| one.answer(Instant::now()));
            std::fs::write(&gates[0], "0\n").unwrap();
            std::fs::write(&gates[1], "5\n").unwrap();
            answer.join().unwrap()
        });
        assert_eq!(answered.count, Ok(5));
    }
}
