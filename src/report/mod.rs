//! Events in; lines for a log, a live line for a terminal, JSON, the journal out.

/// The kept report for a terminal.
pub mod full;
/// The kept report as a page.
pub mod html;
mod journal;
mod json;
mod lines;
mod live;
/// The last drain for Prometheus.
pub mod metrics;
/// A running drain, as people are told of it.
pub mod now;
#[cfg(test)]
pub(crate) mod sample;
/// Lines that are redrawn in place.
pub mod screen;
mod words;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::drain::Event;

pub use lines::{Level, lines};
pub use words::{age, cause, held, in_flight, pool, report, short};

/// Looks are left out while so many events wait to be written.
const MOST_BEHIND: usize = 32;
/// The last event may take so long to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a drain's events go. They are written by a thread of their own: a reader that has stopped reading, a terminal that is held or a log
/// that hangs must not hold up the drain.
#[derive(Debug)]
pub struct Sink {
    queue: Sender<(Duration, Event)>,
    /// How many are not written yet.
    behind: Arc<AtomicUsize>,
    ended: Receiver<()>,
}

impl Sink {
    /// What fits where the output goes.
    #[must_use]
    pub fn choose(json: bool, as_hook: bool) -> Self {
        let mut writer = Writer::choose(json, as_hook);
        Self::to(move |at, event| writer.take(at, event))
    }

    fn to(mut write: impl FnMut(Duration, &Event) + Send + 'static) -> Self {
        let (queue, events) = channel::<(Duration, Event)>();
        let (end, ended) = channel();
        let behind = Arc::new(AtomicUsize::new(0));
        let left = behind.clone();
        std::thread::spawn(move || {
            for (at, event) in events {
                write(at, &event);
                left.fetch_sub(1, Ordering::Relaxed);
                if let Event::Ended(_) = event {
                    // Nobody may wait for it any more.
                    let _ = end.send(());
                }
            }
        });
        Self {
            queue,
            behind,
            ended,
        }
    }

    /// An event, with the time since the drain began.
    pub fn take(&mut self, at: Duration, event: &Event) {
        let behind = self.behind.load(Ordering::Relaxed);
        if matches!(event, Event::Looked(_)) && behind >= MOST_BEHIND {
            return;
        }
        self.behind.fetch_add(1, Ordering::Relaxed);
        // The thread ends with this.
        let _ = self.queue.send((at, event.clone()));
        if let Event::Ended(_) = event {
            let _ = self.ended.recv_timeout(PATIENCE);
        }
    }
}

/// Who writes them.
enum Writer {
    /// One line each, as a log keeps them.
    Lines(lines::Lines),
    /// A line that is redrawn.
    Live(live::Live),
    /// One JSON object a line.
    Json(json::Json),
}

impl Writer {
    fn choose(json: bool, as_hook: bool) -> Self {
        if json {
            Self::Json(json::Json::new())
        } else if !as_hook && std::io::stderr().is_terminal() {
            Self::Live(live::Live::new())
        } else {
            Self::Lines(lines::Lines::from_env())
        }
    }

    fn take(&mut self, at: Duration, event: &Event) {
        let in_journal = matches!(event, Event::Ended(report) if journal::keep(report));
        match self {
            Self::Lines(lines) => lines.take(at, event, in_journal),
            Self::Live(live) => live.take(at, event),
            Self::Json(json) => json.take(at, event),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::drain::event::Looked;

    #[test]
    fn a_reader_that_stops_reading_holds_nothing_up_and_is_not_told_every_look() {
        let (read_on, wait) = channel::<()>();
        let written = Arc::new(Mutex::new(Vec::new()));
        let all = written.clone();
        let mut sink = Sink::to(move |_, event| {
            let _ = wait.recv();
            all.lock().unwrap().push(matches!(event, Event::Looked(_)));
        });
        for _ in 0..10 * MOST_BEHIND {
            sink.take(Duration::ZERO, &Event::Looked(Looked::default()));
        }
        for _ in 0..10 {
            let text = "what is not a look is always told".to_owned();
            sink.take(Duration::ZERO, &Event::Note { text });
        }
        drop(read_on);
        sink.take(Duration::ZERO, &Event::Ended(Box::new(sample::sample())));
        let written = written.lock().unwrap();
        let (looks, others): (Vec<bool>, Vec<bool>) = written.iter().partition(|look| **look);
        assert_eq!((looks.len(), others.len()), (MOST_BEHIND, 11));
    }
}
