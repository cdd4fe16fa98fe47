//! Requests at a steady rate, whatever becomes of those before: an open loop, as the world is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::world::Deadline;
use crate::world::http::{Client, Endpoint, HttpErrorKind, Tls};

/// Requests a second.
pub const RATE: u32 = 40;
/// A streamed answer has so many chunks,
pub const CHUNKS: u32 = 8;
/// and this much time between them.
pub const GAP: Duration = Duration::from_millis(350);
/// The longest answer takes 4 s.
const LIMIT: Duration = Duration::from_secs(15);
/// What a thread needs here, in bytes.
const STACK: usize = 512 << 10;

/// Load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    arrivals: JoinHandle<std::io::Result<()>>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// All that have ended.
    pub requests: u64,
    /// Those that were not answered in full, by what was wrong.
    pub faults: BTreeMap<String, u64>,
}

impl Tally {
    /// How many were not answered in full.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl Load {
    /// Begins to send requests to `address`.
    ///
    /// # Errors
    /// No client can be made.
    pub fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let client = Client::new(
            &Endpoint::parse(&format!("http://{address}"))?,
            &Tls::default(),
        )?;
        let over = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (ended, noted) = (over.clone(), tally.clone());
        Ok(Self {
            over,
            tally,
            arrivals: thread::spawn(move || arrive(&client, &ended, &noted)),
        })
    }

    /// What has become of the requests so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Sends no more, waits for the answers that are still out, and counts.
    ///
    /// # Errors
    /// The load itself broke.
    pub fn stop(self) -> anyhow::Result<Tally> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.arrivals.join();
        ended
            .map_err(|_| anyhow!("the load broke"))?
            .context("start a request")?;
        Ok(lock(&self.tally).clone())
    }
}

/// One thread a request: the arrivals wait for nobody.
fn arrive(client: &Client, over: &AtomicBool, tally: &Mutex<Tally>) -> std::io::Result<()> {
    let began = Instant::now();
    thread::scope(|scope| {
        for number in 0.. {
            let at = began + Duration::from_secs(1) * number / RATE;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if over.load(Ordering::Relaxed) {
                break;
            }
            let request = move || {
                let fault = send(client, path(number));
                let mut tally = lock(tally);
                tally.requests += 1;
                if let Some(fault) = fault {
                    *tally.faults.entry(fault).or_default() += 1;
                }
            };
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, request)?;
        }
        Ok(())
    })
}

/// The mix: in every second 30 short requests, 6 that take 2 to 4 s, and 4 streamed ones.
fn path(number: u32) -> &'static str {
    match number % RATE {
        3 | 24 => "/slow/2",
        10 | 31 => "/slow/3",
        17 | 38 => "/slow/4",
        6 | 13 | 27 | 34 => "/stream",
        _ => "/short",
    }
}

/// Sends a request; what was wrong with its answer, if anything.
fn send(client: &Client, path: &str) -> Option<String> {
    match client.request("GET", path, &[], None, Deadline::after(LIMIT)) {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => Some(format!("answered {}", answer.status)),
        Err(error) if error.kind() == HttpErrorKind::TimedOut => Some("no answer".to_owned()),
        Err(_) => Some("cut off".to_owned()),
    }
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
