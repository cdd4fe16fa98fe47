//! supervisord: which programs it runs, as which processes, in which states, over its own XML-RPC interface.

mod config;
mod reply;

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;

use crate::world::http::{Client, Endpoint, HttpError, Tls};
use crate::world::{Deadline, Root, proc};

/// How supervisord itself is called among its programs.
pub const SUPERVISORD: &str = "supervisord";

/// The most parents between a process and its program. A longer chain is no chain.
const ANCESTORS: usize = 64;

/// One running supervisord.
#[derive(Debug)]
pub struct Supervisord {
    /// Its main process.
    pub pid: u32,
    client: Client,
    /// Its config.
    file: String,
    /// The whole `Authorization` header. A secret.
    authorization: Secret,
}

/// Is never printed.
struct Secret(Option<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// One program as supervisord sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its group; the same as `name` where none was configured.
    pub group: String,
    /// Its own name.
    pub name: String,
    /// What supervisord says of it.
    pub state: State,
    /// Its process; 0 when it has none.
    pub pid: u32,
    /// When it was last started.
    pub started: Option<Timestamp>,
    /// supervisord's own words: "pid 7, uptime 0:10:00", "Exited too quickly …".
    pub description: String,
}

impl Program {
    /// How `supervisorctl` calls it: `name`, or `group:name`.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.group, &self.name)
    }
}

fn label(group: &str, name: &str) -> String {
    if group == name {
        name.to_owned()
    } else {
        format!("{group}:{name}")
    }
}

/// How supervisord stops one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// How `supervisorctl` calls it.
    pub program: String,
    /// Its command line.
    pub command: String,
    /// The number of the signal that asks it to end.
    pub signal: i32,
    /// How long it is waited for before it is killed.
    pub limit: Duration,
    /// The signal goes to its whole process group.
    pub as_group: bool,
}

/// A program's state (supervisor's manual, "Process States").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "supervisord's own names")]
pub enum State {
    Stopped,
    Starting,
    Running,
    Backoff,
    Stopping,
    Exited,
    Fatal,
    Unknown,
}

/// Whose process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A program's, or one that it started.
    Program(&'a Program),
    /// supervisord itself, or started by it without being a program.
    Supervisord,
    /// Nobody's: left over by a supervisord that crashed (`KillMode=process`), or a program that put itself into the background.
    Leftover,
}

/// supervisord can't be asked, or says no. Never holds its password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// /proc or its config can't be read.
    #[error("{what}: {source}")]
    Local {
        /// The file or what was looked at.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// Its config names no interface that we could use.
    #[error("{file}: {fault}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong with it.
        fault: String,
    },
    /// It does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It answers with another status than 200; 401 means that its user or password is not the one of its config.
    #[error("supervisord answers {0}")]
    Status(u16),
    /// It answers, but not with a list of programs.
    #[error("supervisord's answer can't be understood: {0}")]
    Answer(String),
}

impl Supervisord {
    /// The one whose main process is `pid`; `None` when that process is no supervisord, or gone.
    ///
    /// # Errors
    /// [`Error::Local`] or [`Error::Config`].
    pub fn of(root: &Root, pid: u32) -> Result<Option<Self>, Error> {
        let arguments = proc::arguments(root, pid).map_err(|source| Error::Local {
            what: format!("process {pid}"),
            source,
        })?;
        let Some(options) = options(&arguments) else {
            return Ok(None);
        };
        let server = config::server(
            root,
            pid,
            &arguments[..arguments.len() - options.len()],
            options,
        )?;
        let file = server.file;
        let endpoint = Endpoint::parse(&server.address).map_err(|fault| Error::Config {
            file: file.clone(),
            fault: fault.to_string(),
        })?;
        let authorization = server.login.map(|(user, password)| {
            let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {login}")
        });
        Ok(Some(Self {
            pid,
            file,
            client: Client::new(&endpoint, &Tls::default())?,
            authorization: Secret(authorization),
        }))
    }

    /// All its programs.
    ///
    /// # Errors
    /// [`Error::Http`], [`Error::Status`] or [`Error::Answer`]: unknown, never none.
    pub fn programs(&self, deadline: Deadline) -> Result<Vec<Program>, Error> {
        let answer = self.call("supervisor.getAllProcessInfo", deadline)?;
        reply::programs(&answer).map_err(Error::Answer)
    }

    /// How long it waits for each program's end before it kills it (`stopwaitsecs`), by the program's label.
    ///
    /// # Errors
    /// As [`Supervisord::programs`].
    pub fn stop_limits(&self, deadline: Deadline) -> Result<Vec<(String, Duration)>, Error> {
        let answer = self.call("supervisor.getAllConfigInfo", deadline)?;
        reply::stop_limits(&answer).map_err(Error::Answer)
    }

    /// A file whose settings win over all others: it is read last. `None` where its config includes no others.
    #[must_use]
    pub fn last_word(&self, root: &Root) -> Option<String> {
        config::last_word(root, &self.file)
    }

    /// How it stops each program.
    ///
    /// # Errors
    /// As [`Supervisord::programs`].
    pub fn stops(&self, root: &Root, deadline: Deadline) -> Result<Vec<Stop>, Error> {
        let answer = self.call("supervisor.getAllConfigInfo", deadline)?;
        let mut stops = reply::stops(&answer).map_err(Error::Answer)?;
        let as_group = config::as_group(root, &self.file);
        for stop in &mut stops {
            stop.as_group = as_group.contains(&stop.program);
        }
        Ok(stops)
    }

    fn call(&self, name: &'static str, deadline: Deadline) -> Result<Vec<u8>, Error> {
        let call = dxr::MethodCall {
            name: name.into(),
            params: Vec::new(),
        };
        let call = call
            .to_xml()
            .map_err(|error| Error::Answer(error.to_string()))?;
        let mut headers = vec![("Content-Type", "text/xml")];
        if let Some(authorization) = &self.authorization.0 {
            headers.push(("Authorization", authorization));
        }
        let answer =
            self.client
                .request("POST", "/RPC2", &headers, Some(call.as_bytes()), deadline)?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(Error::Status(status)),
        }
    }
}

/// Whose process `pid` is, given the main process of supervisord and its programs. A process that is gone is a leftover of nobody.
///
/// # Errors
/// What the system says.
pub fn owner<'a>(
    root: &Root,
    main: u32,
    programs: &'a [Program],
    pid: u32,
) -> io::Result<Owner<'a>> {
    let mut at = pid;
    for _ in 0..ANCESTORS {
        if let Some(program) = programs.iter().find(|program| program.pid == at) {
            return Ok(Owner::Program(program));
        }
        if at == main {
            return Ok(Owner::Supervisord);
        }
        match proc::parent(root, at)? {
            Some(parent) if parent > 1 => at = parent,
            _ => break,
        }
    }
    Ok(Owner::Leftover)
}

/// What follows supervisord's own name in a command line, whether it is run as a script, by an interpreter, or as a module; `None` when
/// the program is another one, even where supervisord is one of its arguments.
#[must_use]
pub fn options(arguments: &[String]) -> Option<&[String]> {
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let program = base(arguments.first()?);
    if program == SUPERVISORD {
        return Some(&arguments[1..]);
    }
    if !program.starts_with("python") && !program.starts_with("pypy") {
        return None;
    }
    // The interpreter's own options come first; `-m` takes the module as its argument.
    let script = arguments[1..]
        .iter()
        .position(|argument| !argument.starts_with('-'))?
        + 1;
    let is_module = arguments[script - 1] == "-m" && arguments[script] == "supervisor.supervisord";
    let is_script = arguments[script - 1] != "-m" && base(&arguments[script]) == SUPERVISORD;
    (is_module || is_script).then(|| &arguments[script + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn supervisord_is_known_by_what_is_run_and_not_by_what_is_named() {
        for (text, expected) in [
            (
                "/usr/bin/python3 /usr/bin/supervisord -n -c /etc/a",
                Some("-n -c /etc/a"),
            ),
            ("/usr/bin/python3 -u -E /usr/bin/supervisord -n", Some("-n")),
            ("python3.11 -m supervisor.supervisord -n", Some("-n")),
            ("/opt/venv/bin/supervisord -n", Some("-n")),
            ("vim /etc/supervisord", None),
            ("python3 app.py supervisord", None),
            ("python3 -m supervisord", None),
            ("grep supervisord", None),
        ] {
            let arguments = line(text);
            assert_eq!(options(&arguments), expected.map(line).as_deref(), "{text}");
        }
        assert_eq!(options(&[]), None);
    }

    fn family() -> (tempfile::TempDir, Root, Vec<Program>) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        // 10 supervisord: 20 the program, 21 its worker; 11 a helper of supervisord; 30 lives on after a crash, 31 its worker.
        for (pid, parent) in [(10, 1), (20, 10), (21, 20), (11, 10), (30, 1), (31, 30)] {
            let stat = format!("{pid} (a b) S {parent} 1 1 0");
            root.replace(format!("/proc/{pid}/stat"), stat.as_bytes(), 0o644)
                .unwrap();
        }
        let web = Program {
            group: "shop".to_owned(),
            name: "web".to_owned(),
            state: State::Running,
            pid: 20,
            started: None,
            description: String::new(),
        };
        (dir, root, vec![web])
    }

    #[test]
    fn processes_belong_to_the_program_above_them_or_are_left_over() {
        let (_dir, root, programs) = family();
        let of = |pid| owner(&root, 10, &programs, pid).unwrap();
        assert_eq!(of(20), Owner::Program(&programs[0]));
        assert_eq!(of(21), Owner::Program(&programs[0]));
        assert_eq!(of(10), Owner::Supervisord);
        assert_eq!(of(11), Owner::Supervisord);
        assert_eq!(of(31), Owner::Leftover);
        assert_eq!(of(99), Owner::Leftover);
        assert_eq!(programs[0].label(), "shop:web");
    }

    /// A supervisord whose config lies in a made-up file system, and which answers every call with `status` and `body`.
    fn answering(status: &'static str, body: &'static str) -> (tempfile::TempDir, Supervisord) {
        use std::io::{Read, Write};
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let socket = dir.path().join("sock");
        let config = format!(
            "[unix_http_server]\nfile={}\nusername=me\npassword=hunter2\n",
            socket.display()
        );
        root.replace("/etc/supervisord.conf", config.as_bytes(), 0o600)
            .unwrap();
        root.replace("/proc/7/cmdline", b"/usr/bin/supervisord\0-n\0", 0o600)
            .unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = Vec::new();
                let mut part = [0; 1024];
                while !request.ends_with(b"</methodCall>") {
                    let count = stream.read(&mut part).unwrap();
                    request.extend_from_slice(&part[..count]);
                }
                let request = String::from_utf8(request).unwrap().to_lowercase();
                // "me:hunter2", as supervisorctl sends it.
                let knows = request.contains("authorization: basic bwu6ahvudgvymg==");
                let status = if knows { status } else { "400 no login" };
                let length = body.len();
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (dir, Supervisord::of(&root, 7).unwrap().unwrap())
    }

    #[test]
    fn supervisord_is_asked_with_the_login_of_its_own_config() {
        let none = "<?xml version='1.0'?><methodResponse><params><param><value><array><data></data></array></value>\
                    </param></params></methodResponse>";
        let soon = Deadline::after(std::time::Duration::from_secs(20));
        let (_dir, server) = answering("200 OK", none);
        assert_eq!(server.programs(soon).unwrap(), []);
        assert!(!format!("{server:?}").contains("hunter2"));
        let (_dir, server) = answering("401 Unauthorized", "hunter2");
        let error = server.programs(soon).unwrap_err();
        assert_eq!(error.to_string(), "supervisord answers 401");
        let (_dir, server) = answering("200 OK", "hunter2");
        let error = server.programs(soon).unwrap_err();
        assert!(matches!(error, Error::Answer(_)));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
