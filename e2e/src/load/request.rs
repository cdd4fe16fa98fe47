use std::io::{self, Read};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use ureq::{Agent, SendBody};

/// Nothing that the lab asks for takes longer, except what never ends.
const LIMIT: Duration = Duration::from_secs(60);
/// Size of a download, in bytes.
const DOWNLOAD: usize = 3_000_000;
/// Size of an upload, in bytes.
const UPLOAD: usize = 200_000;
/// Pieces in which bodies cross the network, and the pause after each: a client far away. An upload takes 0.5 s, a download 2 s.
const PIECE: usize = 40_000;
const UPLOAD_PAUSE: Duration = Duration::from_millis(100);
const DOWNLOAD_PAUSE: Duration = Duration::from_millis(26);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answered at once.
    Short,
    /// Answered after so many seconds of silence.
    Slow(u64),
    /// A chunk, and then so many more, each 0.4 s after the one before.
    Stream(u32),
    /// A chunk every 0.4 s, without an end.
    Forever,
    /// 3 MB, read slowly.
    Download,
    /// 200 kB, sent slowly.
    Upload,
}

/// One request and how it went.
#[derive(Clone, Debug)]
pub struct Done {
    /// What was asked for.
    pub kind: Kind,
    /// When it was sent.
    pub sent: SystemTime,
    /// When its last byte had come, or it failed.
    pub ended: SystemTime,
    /// The host that answered, if one did.
    pub host: Option<String>,
    /// What was wrong with it.
    pub fault: Option<String>,
}

/// An agent that opens a connection for each request: what is kept alive is between balancer and hosts.
pub fn agent() -> Agent {
    let config = Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .max_idle_connections(0)
        .build();
    config.into()
}

/// Sends one request and checks its answer to the last byte.
pub fn send(agent: &Agent, url: &str, kind: Kind) -> Done {
    let sent = SystemTime::now();
    let mut host = None;
    let fault = exchange(agent, url, kind, &mut host)
        .err()
        .map(|error| format!("{error:#}"));
    Done {
        kind,
        sent,
        ended: SystemTime::now(),
        host,
        fault,
    }
}

fn exchange(agent: &Agent, url: &str, kind: Kind, host: &mut Option<String>) -> Result<()> {
    let (path, expected) = match kind {
        Kind::Short => ("/short".to_owned(), b"ok\n".to_vec()),
        Kind::Slow(seconds) => (format!("/slow?s={seconds}"), b"done\n".to_vec()),
        Kind::Stream(more) => {
            let chunks: String = (0..=more)
                .map(|number| format!("chunk {number}\n"))
                .collect();
            // Half a gap more, so that no rounding counts.
            let seconds = f64::from(more) * 0.4 + 0.2;
            (format!("/stream?s={seconds}&gap=0.4"), chunks.into_bytes())
        }
        Kind::Forever => ("/forever?gap=0.4".to_owned(), Vec::new()),
        Kind::Download => (
            format!("/download?bytes={DOWNLOAD}"),
            pattern(DOWNLOAD).to_vec(),
        ),
        Kind::Upload => {
            let sum: u64 = pattern(UPLOAD).iter().copied().map(u64::from).sum();
            (
                "/upload".to_owned(),
                format!("{UPLOAD} bytes, sum {sum}\n").into_bytes(),
            )
        }
    };
    let url = format!("{url}{path}");
    let mut response = match kind {
        Kind::Upload => {
            let mut body = Paced {
                data: pattern(UPLOAD),
                sent: 0,
            };
            let request = agent.post(url).header("Content-Length", UPLOAD.to_string());
            request.send(SendBody::from_reader(&mut body))?
        }
        _ => agent.get(url).call()?,
    };
    *host = response
        .headers()
        .get("x-host")
        .and_then(|name| name.to_str().ok())
        .map(str::to_owned);
    let mut body = Vec::with_capacity(expected.len());
    let mut reader = response.body_mut().as_reader();
    if kind == Kind::Download {
        let mut piece = vec![0; PIECE];
        loop {
            let count = reader
                .read(&mut piece)
                .with_context(|| format!("after {} bytes", body.len()))?;
            if count == 0 {
                break;
            }
            body.extend_from_slice(&piece[..count]);
            if body.len() / PIECE > (body.len() - count) / PIECE {
                thread::sleep(DOWNLOAD_PAUSE);
            }
        }
    } else {
        let read = reader.read_to_end(&mut body);
        read.with_context(|| format!("after {} bytes", body.len()))?;
    }
    ensure!(
        body.len() == expected.len(),
        "{} bytes instead of {}",
        body.len(),
        expected.len()
    );
    ensure!(
        body == expected,
        "the right length, but not the right bytes"
    );
    Ok(())
}

/// The bytes that the programs send and expect.
fn pattern(length: usize) -> &'static [u8] {
    static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250_u8).cycle().take(DOWNLOAD).collect());
    &ALL[..length]
}

/// A body that is sent in pieces, with pauses.
struct Paced {
    data: &'static [u8],
    sent: usize,
}

impl Read for Paced {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.sent > 0 && self.sent.is_multiple_of(PIECE) {
            thread::sleep(UPLOAD_PAUSE);
        }
        let left = (PIECE - self.sent % PIECE).min(self.data.len() - self.sent);
        let count = left.min(into.len());
        into[..count].copy_from_slice(&self.data[self.sent..self.sent + count]);
        self.sent += count;
        Ok(count)
    }
}
