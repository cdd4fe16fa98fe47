//! Three real Consul servers, each in a network namespace of its own, on one bridge.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use drainctl::world::Deadline;
use drainctl::world::http::{Client, Endpoint, Tls};
use serde_json::Value;

const GENEROUS: Duration = Duration::from_secs(60);

/// Looks until `seen` holds.
pub(crate) fn eventually(what: &str, mut seen: impl FnMut() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < GENEROUS, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A network namespace, kept by a process that waits for the end of its input.
pub(crate) struct Namespace {
    keeper: Child,
}

impl Namespace {
    fn new() -> Option<Self> {
        let mut keeper = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo up && exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut up = [0; 3];
        let read = std::io::Read::read_exact(keeper.stdout.as_mut()?, &mut up);
        let namespace = Self { keeper };
        read.ok().map(|()| namespace)
    }

    /// A command in it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.keeper.id()))
            .arg(program);
        command
    }

    fn sh(&self, script: &str) {
        let done = self.command("sh").args(["-ec", script]).status().unwrap();
        assert!(done.success(), "{script}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// The cluster. Hosts live where the bridge is, 10.7.0.1; the servers are 10.7.0.11 to 13.
pub(crate) struct Cluster {
    servers: Vec<Option<Child>>,
    spaces: Vec<Namespace>,
    pub(crate) hub: Namespace,
    dir: tempfile::TempDir,
    binary: PathBuf,
}

/// The Consul to test against, as the pools' tests find it.
fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("DRAINCTL_TEST_CONSUL") {
        return Some(named.into());
    }
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let roots = std::fs::read_dir(cache.join("drainctl")).ok();
    let in_roots = roots.into_iter().flatten().flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    in_roots
        .map(|entry| entry.path().join("usr/bin"))
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join("consul"))
        .find(|file| file.is_file())
}

pub(crate) fn skipped(why: &str) {
    // Not `eprintln!`, which the test harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED fleet: {why}");
}

impl Cluster {
    pub(crate) fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped("needs root for network namespaces");
            return None;
        }
        let Some(binary) = binary() else {
            skipped("no Consul binary; `cargo xtask test` as root provides one");
            return None;
        };
        let Some(hub) = Namespace::new() else {
            skipped("no network namespace can be made");
            return None;
        };
        hub.sh("ip link add br0 type bridge; ip addr add 10.7.0.1/24 dev br0; ip link set br0 up");
        let mut cluster = Self {
            servers: Vec::new(),
            spaces: Vec::new(),
            hub,
            dir: tempfile::tempdir().unwrap(),
            binary,
        };
        for n in 1..=3 {
            let space = Namespace::new().unwrap();
            cluster.hub.sh(&format!(
                "ip link add v{n} type veth peer name eth0 netns {}; ip link set v{n} master br0; ip link set v{n} up",
                space.keeper.id()
            ));
            space.sh(&format!(
                "ip addr add 10.7.0.1{n}/24 dev eth0; ip link set eth0 up"
            ));
            cluster.spaces.push(space);
            cluster.servers.push(None);
        }
        for n in 1..=3 {
            cluster.boot(n);
        }
        cluster.wait_for_leader();
        Some(cluster)
    }

    fn boot(&mut self, n: usize) {
        let dir = self.dir.path().join(format!("server{n}"));
        std::fs::create_dir_all(&dir).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let config =
            r#"{"performance":{"raft_multiplier":1},"dns_config":{},"disable_update_check":true}"#;
        std::fs::write(dir.join("config.json"), config).unwrap();
        let child = self.spaces[n - 1]
            .command(&self.binary)
            .args(["agent", "-server", "-bootstrap-expect=3"])
            .arg(format!("-node=server{n}"))
            .args([format!("-bind=10.7.0.1{n}"), format!("-client=10.7.0.1{n}")])
            .args((1..=3).map(|n| format!("-retry-join=10.7.0.1{n}")))
            .args(["-retry-interval=1s", "-dns-port=-1", "-serf-wan-port=-1"])
            .arg(format!("-data-dir={}", dir.join("data").display()))
            .arg(format!(
                "-config-file={}",
                dir.join("config.json").display()
            ))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.servers[n - 1] = Some(child);
    }

    pub(crate) fn address(n: usize) -> String {
        format!("http://10.7.0.1{n}:8500")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The number of the leader, as one of the servers in `ask` knows it.
    fn leader(&self, ask: &[usize]) -> Option<usize> {
        ask.iter().find_map(|n| {
            let said = self.get(*n, "/v1/status/leader")?;
            let leader = said.as_str()?.strip_prefix("10.7.0.1")?.split(':').next()?;
            leader.parse().ok()
        })
    }

    pub(crate) fn wait_for_leader(&self) {
        eventually("a leader, known to all", || {
            (1..=3).all(|n| self.servers[n - 1].is_none() || self.leader(&[n]).is_some())
        });
    }

    /// What a server answers. The test's own thread is not in the hub's network, so a program asks.
    pub(crate) fn get(&self, n: usize, path: &str) -> Option<Value> {
        let url = Self::address(n);
        let namespace = format!("/proc/{}/ns/net", self.hub.keeper.id());
        let path = path.to_owned();
        let asked = std::thread::spawn(move || {
            let file = std::fs::File::open(namespace).ok()?;
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&file),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .ok()?;
            let client = Client::new(&Endpoint::parse(&url).ok()?, &Tls::default()).ok()?;
            let deadline = Deadline::after(Duration::from_secs(2));
            let answer = client.request("GET", &path, &[], None, deadline).ok()?;
            (answer.status == 200)
                .then(|| serde_json::from_slice(&answer.body).ok())
                .flatten()
        });
        asked.join().ok().flatten()
    }

    /// Ends the leader the hard way; its number.
    pub(crate) fn kill_leader(&mut self) -> usize {
        let leader = self.leader(&[1, 2, 3]).unwrap();
        if let Some(mut child) = self.servers[leader - 1].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        leader
    }

    /// Starts a server that was ended again, on its data.
    pub(crate) fn revive(&mut self, n: usize) {
        self.boot(n);
    }

    /// Cuts a server off from the other two and from the hosts, or joins it again.
    pub(crate) fn link(&self, n: usize, up: bool) {
        let state = if up { "up" } else { "down" };
        self.hub.sh(&format!("ip link set v{n} {state}"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
