//! The sockets to look at.

use crate::Result;
use crate::host::Cgroup;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The port of the service that the filters ask for.
pub(crate) const OURS: u16 = 8080;

/// Connections of one process: two descriptors each, and one port of a few thousand ephemeral ones.
const EACH: usize = 8000;

/// Processes that hold the sockets.
pub(crate) struct Scene {
    pub(crate) sockets: usize,
    /// Connections of the service; each has one end with its port and two in its cgroup.
    pub(crate) ours: usize,
    /// The service's cgroup, where one could be made.
    pub(crate) cgroup: Option<u64>,
    holders: Vec<Child>,
}

impl Scene {
    pub(crate) fn new(sockets: usize) -> Result<Self> {
        let ours = sockets.div_ceil(100);
        let mut scene = Self {
            sockets,
            ours,
            cgroup: None,
            holders: vec![],
        };
        scene.cgroup = scene.start(OURS, ours, "cgroup")?;
        let mut left = (sockets / 2).saturating_sub(ours);
        for port in OURS + 1.. {
            if left == 0 {
                break;
            }
            let connections = left.min(EACH);
            scene.start(port, connections, "-")?;
            left -= connections;
        }
        Ok(scene)
    }

    /// Starts a process and waits until it holds its connections; returns its cgroup.
    fn start(&mut self, port: u16, connections: usize, cgroup: &str) -> Result<Option<u64>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["hold", &port.to_string(), &connections.to_string(), cgroup])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        self.holders.push(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        match line.trim() {
            "" => Err(format!("port {port} could not be filled").into()),
            "ready" => Ok(None),
            id => Ok(Some(id.parse()?)),
        }
    }

    /// Lets the processes go, by the end of their input.
    pub(crate) fn end(self) -> Result<()> {
        for mut holder in self.holders {
            drop(holder.stdin.take());
            holder.wait()?;
        }
        Ok(())
    }
}

/// A process of the scene: holds both ends of its connections until its input ends.
pub(crate) fn hold(port: u16, connections: usize, cgroup: bool) -> Result<()> {
    let limit = getrlimit(Resource::Nofile).maximum;
    let most = Rlimit {
        current: limit,
        maximum: limit,
    };
    setrlimit(Resource::Nofile, most)?;
    let cgroup = cgroup.then(Cgroup::new).and_then(std::result::Result::ok);
    if let Some(cgroup) = &cgroup {
        cgroup.enter()?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let mut ends = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let (mut server, _) = listener.accept()?;
        // One request and its answer.
        client.write_all(b"?")?;
        server.read_exact(&mut [0])?;
        server.write_all(b"!")?;
        client.read_exact(&mut [0])?;
        ends.push((client, server));
    }
    match &cgroup {
        Some(cgroup) => println!("{}", cgroup.id()?),
        None => println!("ready"),
    }
    std::io::stdin().read_to_end(&mut vec![])?;
    Ok(())
}
