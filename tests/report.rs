//! What is known of a drain that is killed outlives it: the real engine on a real server.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use drainctl::drain::Outcome;
use drainctl::receipts;
use drainctl::world::Root;

const GENEROUS: Duration = Duration::from_secs(30);

/// A part of the demo; it ends with its standard input, and with this.
struct Part(Child);

impl Part {
    fn start(arguments: &[&str], paths: &[&Path]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_drainctl"))
            .arg("demo")
            .args(arguments)
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_drain_leaves_its_story_and_the_next_one_tells_it_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (marker, state) = (dir.path().join("marker"), Root::at(dir.path()));
    let mut server = Part::start(&["backend"], &[&marker]);
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let mut request =
        TcpStream::connect(("127.0.0.1", port.trim().parse::<u16>().unwrap())).unwrap();
    request
        .write_all(b"GET /slow/6 HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let pid = server.0.id().to_string();
    let drain = || Part::start(&["drain", &pid], &[&marker, dir.path()]);
    let first = drain();
    let known = until(|| {
        let report = receipts::last(&state)?;
        (report.phases.len() == 3 && !report.waited.is_empty()).then_some(report)
    });
    drop(first);
    assert_eq!((known.outcome, known.exit), (Outcome::Unfinished, 1));
    let left = receipts::last(&state).unwrap();
    assert_eq!((&left.id, left.outcome), (&known.id, Outcome::Unfinished));
    assert!(left.pools[0].out.is_some(), "{left:?}");
    assert!(
        left.waited[0].open && left.curve.points[0].busy == Some(1),
        "{left:?}"
    );
    let mut second = drain();
    // Not `wait`: that closes its standard input.
    let code = until(|| second.0.try_wait().unwrap());
    assert!(code.success(), "{code}");
    let whole = receipts::last(&state).unwrap();
    assert_eq!((&whole.id, whole.outcome), (&known.id, Outcome::Drained));
    assert_eq!(receipts::list(&state).unwrap().len(), 1);
    assert_eq!(whole.began, known.began);
    assert!(whole.took > left.took, "{whole:?}");
    assert_eq!(whole.phases[..3], left.phases[..]);
    assert_eq!(whole.waited[0].peer, left.waited[0].peer);
    let told = whole.notes.iter().any(|note| note.contains("killed after"));
    assert!(told, "{whole:?}");
}

fn until<T>(mut value: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(began.elapsed() < GENEROUS, "it never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}
