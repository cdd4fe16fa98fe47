use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_drainctl");
const GENEROUS: Duration = Duration::from_secs(30);

/// Asks `look` until it answers.
pub(crate) fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + GENEROUS;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A folder with the state of a program, and a pool: it is out while a file is there.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    port: u16,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "[settle]\nmin = \"0s\"\nquiet = \"0s\"\nmax = \"5s\"\n[pool.health-file]\npath = \"{}\"\nleave = \"create\"\n\
             [pool.firewall]\nstand_in_for = []\n",
            dir.path().join("out").display()
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        // Free now, and taken by nobody else soon.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = port.local_addr().unwrap().port();
        Self { dir, port }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `drainctl run` for `command`, with options before it.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, options: &[&str], command: &[S]) -> Command {
        // Whoever runs the tests in the background may have these ignored, and so would the program.
        let mut run = Command::new("env");
        run.args(["--default-signal=INT,QUIT", BINARY, "run"])
            .arg("--state")
            .arg(self.path())
            .args(["--name", "app"])
            .args(options)
            .arg("--")
            .args(command);
        run
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("config.toml")
    }

    /// A server that is killed by SIGTERM at once, in a pool.
    pub(crate) fn serve(&self) -> Kept {
        Kept::start(self.server(&[]))
    }

    pub(crate) fn server(&self, options: &[&str]) -> Command {
        let config = self.config().display().to_string();
        let options = [&["--config", &config], options].concat();
        let marker = self.path().join("out").display().to_string();
        self.run(
            &options,
            &[BINARY, "demo", "backend", &marker, &self.port.to_string()],
        )
    }

    pub(crate) fn is_out(&self) -> bool {
        self.path().join("out").exists()
    }

    pub(crate) fn has_receipts(&self) -> bool {
        self.path()
            .join("app/var/lib/drainctl/receipts.json")
            .exists()
    }

    /// A request that is answered after so many seconds.
    pub(crate) fn request(&self, seconds: u32) -> TcpStream {
        let mut request = poll("a connection", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
        request
            .write_all(format!("GET /slow/{seconds} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
            .unwrap();
        request
    }
}

/// The whole answer to a request: its head and five bytes.
pub(crate) fn answer(mut request: TcpStream) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("done\n") && request.read(&mut byte).unwrap_or(0) == 1 {
        text.push(char::from(byte[0]));
    }
    text
}

/// A keeper with its program. What it started ends with the test: the server when its input does, others by their ids.
pub(crate) struct Kept {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
}

impl Kept {
    pub(crate) fn start(mut run: Command) -> Self {
        let mut child = run
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        poll("the keeper's end", || self.child.try_wait().unwrap())
    }

    /// The signal that ended it.
    pub(crate) fn end_signal(&mut self) -> Option<i32> {
        self.end().signal()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Its guard ends whatever it started.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The parent and the state of a process, if it is there.
fn stat(pid: u32) -> Option<(u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.to_owned();
    Some((fields.next()?.parse().ok()?, state))
}

pub(crate) fn is_gone(pid: u32) -> bool {
    stat(pid).is_none_or(|(_, state)| state == "Z")
}

/// The child of `pid` with that name.
pub(crate) fn child(pid: u32, name: &str) -> u32 {
    poll(name, || {
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            let is = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
            (stat(id)?.0 == pid && is.trim_end() == name).then_some(id)
        })
    })
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
