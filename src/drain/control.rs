//! Control over a drain that is running: a socket for root, one line of JSON in, one line out for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use std::{fs, thread};

use rustix::net::{Shutdown, sockopt};
use serde::{Deserialize, Serialize};

use super::Cause;
use super::engine::Message;
use super::event::{Looked, Phase, PoolReport};
use crate::config::duration;
use crate::receipts::RUN_DIR;
use crate::world::{Deadline, Root};

/// Its name in the run folder.
const NAME: &str = "control.sock";
/// A request is no longer.
const MOST_REQUEST: u64 = 4 << 10;
/// An answer is no longer.
const MOST_ANSWER: u64 = 256 << 10;
/// So many are served at once; more are turned away.
const MOST_CLIENTS: usize = 8;
/// A client has this long for its line, and as long to take the answer.
const LINE: Duration = Duration::from_secs(2);
/// The drain has this long to answer: before it does anything else it may wait for PID 1.
const ANSWER: Duration = Duration::from_secs(5);

/// What somebody asks of a running drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// What it sees.
    Status,
    /// Go on at once.
    Skip,
    /// Undo it.
    Abort,
    /// Take longer.
    Extend {
        /// So much longer.
        #[serde(with = "duration")]
        by: Duration,
    },
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done; what that means.
    Done(String),
    /// It is not done; why.
    Refused(String),
    /// What it sees.
    Status(Box<Now>),
}

/// A drain that is running, as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// Its id.
    pub id: String,
    /// Why it runs.
    pub cause: Cause,
    /// What it is doing.
    pub phase: Phase,
    /// For how long it has run.
    pub took: Duration,
    /// What is left until its deadline.
    pub left: Duration,
    /// The target units.
    pub units: Vec<String>,
    /// The pools.
    pub pools: Vec<PoolReport>,
    /// The last look at all connections, the oldest few of them; nothing while they can't be seen.
    pub looked: Option<Looked>,
    /// How long ago that look was.
    pub looked_ago: Duration,
    /// What an operator should know, the last few.
    pub notes: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no drain is running")]
    NoDrain,
    /// It ended meanwhile.
    #[error("the drain ended before it answered")]
    Ended,
    /// The socket can't be used.
    #[error("the running drain can't be asked: {0}")]
    Failed(io::Error),
}

/// The socket of a running drain, open until dropped. The caller holds the lock, so there is one.
#[derive(Debug)]
pub struct Door {
    listener: Arc<UnixListener>,
    path: PathBuf,
}

impl Door {
    /// Opens it and serves it on threads of its own, which end with it; what is asked goes to `tell`. One that a killed drain left
    /// is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(state: &Root, tell: Sender<Message>) -> io::Result<Self> {
        let path = state.path(RUN_DIR).join(NAME);
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = Arc::new(UnixListener::bind(&new)?);
        // Whoever connects before this is turned away by who they are.
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        let door = Self { listener, path };
        let listener = door.listener.clone();
        thread::Builder::new().spawn(move || serve(&listener, &tell))?;
        fs::rename(&new, &door.path)?;
        Ok(door)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        // Ends the wait for the next client.
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
    }
}

fn serve(listener: &UnixListener, tell: &Sender<Message>) {
    // One reference for each client being served, and this one.
    let clients = Arc::new(());
    loop {
        match listener.accept() {
            Ok(_) if Arc::strong_count(&clients) > MOST_CLIENTS => {}
            Ok((stream, _)) => {
                let (client, tell) = (clients.clone(), tell.clone());
                let _ = thread::Builder::new().spawn(move || {
                    // A client that is gone needs no answer.
                    let _ = attend(&stream, &tell);
                    drop(client);
                });
            }
            // The door is closed.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            // Out of file descriptors, most likely: that passes.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn attend(stream: &UnixStream, tell: &Sender<Message>) -> io::Result<()> {
    stream.set_write_timeout(Some(LINE))?;
    let peer = sockopt::socket_peercred(stream)?;
    let refused = |why: &str| Some(Answer::Refused(why.to_owned()));
    let answer = if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
        match serde_json::from_slice(&line(stream)?) {
            Ok(request) => pass_on(request, tell),
            Err(error) => refused(&format!("not understood: {error}")),
        }
    } else {
        refused("only root may control a drain")
    };
    let Some(answer) = answer else { return Ok(()) };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    (&*stream).write_all(&text)
}

/// The line that a client sends, as far as it comes in time.
fn line(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let deadline = Deadline::after(LINE);
    let mut line = Vec::new();
    let mut piece = [0; 512];
    while !line.contains(&b'\n') && line.len() as u64 <= MOST_REQUEST {
        stream.set_read_timeout(Some(deadline.left().max(Duration::from_millis(1))))?;
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        line.extend_from_slice(&piece[..read]);
        if deadline.passed() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(line)
}

/// The drain's answer; none where it ended without one.
fn pass_on(request: Request, tell: &Sender<Message>) -> Option<Answer> {
    let (reply, answer) = channel();
    tell.send(Message::Request(request, Some(reply))).ok()?;
    answer.recv_timeout(ANSWER).ok()
}

/// Asks the drain that is running, if there is one.
///
/// # Errors
/// There is none, it ended meanwhile, or it can't be asked.
pub fn ask(state: &Root, request: Request) -> Result<Answer, ControlError> {
    let stream =
        UnixStream::connect(state.path(RUN_DIR).join(NAME)).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NoDrain,
                _ => ControlError::Failed(error),
            }
        })?;
    exchange(&stream, request).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::UnexpectedEof => ControlError::Ended,
        _ => ControlError::Failed(error),
    })
}

fn exchange(mut stream: &UnixStream, request: Request) -> io::Result<Answer> {
    stream.set_write_timeout(Some(LINE))?;
    stream.set_read_timeout(Some(LINE + ANSWER))?;
    let mut text = serde_json::to_vec(&request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MOST_ANSWER)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}
