mod request;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, anyhow};

use crate::net::Port;
pub use request::{Done, Kind, agent, send};

/// Requests per second, whatever becomes of those before: an open loop.
const RATE: u32 = 40;

/// Load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<Mutex<Vec<Done>>>,
    arrivals: JoinHandle<Result<()>>,
}

/// All requests of a load, in the order of their ends.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Each of them.
    pub requests: Vec<Done>,
}

impl Load {
    /// Begins to send requests from `client` to `url`.
    pub fn start(client: &Port, url: &str) -> Self {
        Self::of(client, url, kind)
    }

    /// The same of a pool whose slow requests take no longer than a settle does: for many drains, one after the other.
    pub fn brief(client: &Port, url: &str) -> Self {
        Self::of(client, url, |number| match kind(number) {
            Kind::Slow(seconds) => Kind::Slow(seconds / 2),
            Kind::Stream(more) => Kind::Stream(more / 2),
            other => other,
        })
    }

    fn of(client: &Port, url: &str, kind: fn(u32) -> Kind) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let arrivals = thread::spawn({
            let (client, url, stop, done) = (
                client.clone(),
                url.to_owned(),
                Arc::clone(&stop),
                Arc::clone(&done),
            );
            move || {
                client.enter()?;
                arrive(&url, kind, &stop, &done)
            }
        });
        Self {
            stop,
            done,
            arrivals,
        }
    }

    /// Sends no more, waits for the answers still out, and returns them all.
    ///
    /// # Errors
    /// If the load itself broke.
    pub fn stop(self) -> Result<Summary> {
        self.stop.store(true, Ordering::Relaxed);
        self.arrivals
            .join()
            .map_err(|_| anyhow!("the load panicked"))??;
        let requests =
            std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Summary { requests })
    }
}

/// One thread a request: the arrivals wait for nobody.
fn arrive(
    url: &str,
    kind: fn(u32) -> Kind,
    stop: &AtomicBool,
    done: &Mutex<Vec<Done>>,
) -> Result<()> {
    let agent = agent();
    let start = Instant::now();
    thread::scope(|scope| {
        for number in 0.. {
            let at = start + Duration::from_secs(1) * number / RATE;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let agent = &agent;
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn_scoped(scope, move || {
                    let request = send(agent, url, kind(number));
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(request);
                })?;
        }
        Ok(())
    })
}

/// The mix: in every second 4 slow requests, 2 of each streamed kind, and 30 short ones.
fn kind(number: u32) -> Kind {
    // The order shifts by one every second, so that a balancer that takes turns gives each host all kinds.
    match (number + number / RATE) % RATE {
        3 => Kind::Slow(2),
        13 => Kind::Slow(4),
        23 => Kind::Slow(6),
        33 => Kind::Slow(8),
        6 | 27 => Kind::Stream(12),
        9 | 30 => Kind::Download,
        16 | 37 => Kind::Upload,
        _ => Kind::Short,
    }
}

impl Summary {
    /// The requests that were not answered in full.
    pub fn failed(&self) -> impl Iterator<Item = &Done> {
        self.requests
            .iter()
            .filter(|request| request.fault.is_some())
    }

    /// When the last byte came from a host to a request that was sent before `before`.
    pub fn last_answer(&self, host: &str, before: SystemTime) -> Option<SystemTime> {
        let sent = |request: &&Done| request.sent < before && request.host.as_deref() == Some(host);
        self.requests
            .iter()
            .filter(sent)
            .map(|request| request.ended)
            .max()
    }

    /// The failed requests, for a message.
    pub fn faults(&self) -> String {
        let mut text = String::new();
        for request in self.failed().take(10) {
            let age = request
                .ended
                .duration_since(request.sent)
                .unwrap_or_default();
            let host = request.host.as_deref().unwrap_or("-");
            let fault = request.fault.as_deref().unwrap_or_default();
            let at = jiff::Timestamp::try_from(request.sent)
                .map_or_else(|_| "-".to_owned(), |at| format!("{at:.3}"));
            let _infallible = writeln!(
                text,
                "{at} {:?} from {host}, failed after {:.3} s: {fault}",
                request.kind,
                age.as_secs_f64()
            );
        }
        text
    }
}
