//! Real HAProxy processes, each with a runtime socket in a folder of its own and one over TCP.

use std::path::{Path, PathBuf};
use std::process::Command;

use drainctl::world::dial::Address;
use drainctl::world::{Deadline, Root};

use crate::support::{Daemon, GENEROUS, eventually, free_port, not_provided};

/// One process with the backends `web` and `api`, and in each the servers `app1`, `app2` (checked) and `off` (`disabled`), all on this host; the backend
/// `fleet` with `app1` here and another elsewhere; and `follow`, whose `app1` follows the checks of `web/app2`.
pub(crate) struct Haproxy {
    dir: PathBuf,
    name: String,
    port: u16,
    process: Daemon,
    /// Where `app2` is, and is checked.
    pub(crate) app2: u16,
}

impl Haproxy {
    /// A process whose socket is `/NAME.sock` below `dir`; its TCP socket has the level operator. `None` where there is no HAProxy.
    pub(crate) fn start(dir: &Path, name: &str) -> Option<Self> {
        if Command::new("haproxy").arg("-v").output().is_err() {
            not_provided("haproxy");
            return None;
        }
        let (port, app2) = (free_port(), free_port());
        let path = |file: &str| dir.join(format!("{name}.{file}")).display().to_string();
        let backend = format!(
            " server app1 127.0.0.1:1\n server app2 127.0.0.1:{app2} check inter 50ms fall 1 rise 1\n server off 127.0.0.1:1 disabled\n"
        );
        let config = format!(
            "global\n stats socket {} mode 600 level admin\n stats socket {} mode 600 level user\n stats socket ipv4@127.0.0.1:{port} level operator\n server-state-file {}\n\
             defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n load-server-state-from-file global\n\
             backend web\n{backend}backend api\n{backend}\
             backend fleet\n server app1 127.0.0.1:1\n server elsewhere 192.0.2.1:1\n\
             backend follow\n server app1 127.0.0.1:1 track web/app2\n",
            path("sock"),
            path("user"),
            path("state"),
        );
        std::fs::write(path("cfg"), config).unwrap();
        let process = Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            port,
            process: spawn(dir, name),
            app2,
        };
        process.wait_until_ready();
        Some(process)
    }

    /// Ends the process and starts it again, with its states kept as reload scripts keep them.
    pub(crate) fn restart(&mut self) {
        let state = self.ask("show servers state");
        std::fs::write(self.dir.join(format!("{}.state", self.name)), state).unwrap();
        self.process.end();
        self.process = spawn(&self.dir, &self.name);
        self.wait_until_ready();
    }

    /// What the operator is answered.
    pub(crate) fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap()
    }

    /// The socket of level operator.
    pub(crate) fn operator(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Backend, server, administrative state and weight of every server.
    pub(crate) fn states(&self) -> Vec<[String; 4]> {
        let answer = self.ask("show servers state");
        let rows = answer.lines().filter(|line| {
            line.starts_with(|c: char| c.is_ascii_digit()) && line.split(' ').count() > 9
        });
        rows.map(|row| {
            let cells: Vec<&str> = row.split(' ').collect();
            [1, 3, 6, 7].map(|at| cells[at].to_owned())
        })
        .collect()
    }

    fn try_ask(&self, command: &str) -> std::io::Result<String> {
        let address = Address::parse(&format!("/{}.sock", self.name)).unwrap();
        let answer = address.ask(
            &Root::at(&self.dir),
            format!("{command}\n").as_bytes(),
            1 << 20,
            Deadline::after(GENEROUS),
        )?;
        Ok(String::from_utf8(answer).unwrap())
    }

    fn wait_until_ready(&self) {
        eventually("HAProxy answers", || self.try_ask("show info").is_ok());
    }
}

fn spawn(dir: &Path, name: &str) -> Daemon {
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f");
    command.arg(dir.join(format!("{name}.cfg")));
    Daemon::start(&mut command, dir.join(format!("{name}.log")))
}
