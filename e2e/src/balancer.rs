use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};

use crate::consul::{ADDRESS as REGISTRY, SERVICE};
use crate::net::Port;

/// The last part of the balancer's address.
pub(crate) const LAST: u8 = 3;
/// What HAProxy writes.
const LOG: &str = "haproxy.log";

/// HAProxy, which learns its servers from Consul's DNS and from nothing else: no checks of its own, no second try. Or the other way round.
#[derive(Debug)]
pub struct Balancer {
    haproxy: Child,
    port: Port,
    dir: PathBuf,
    /// Where it sends requests from.
    pub address: String,
    /// Where requests go.
    pub url: String,
}

impl Balancer {
    /// Starts it; it finds servers as soon as Consul names some.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(port: &Port, dir: &Path) -> Result<Self> {
        Ok(Self {
            haproxy: spawn(port, dir, &from_registry())?,
            port: port.clone(),
            dir: dir.to_owned(),
            address: port.address.clone(),
            url: format!("http://{}", port.address),
        })
    }

    /// Starts it anew with these servers, which it checks itself, without any registry. What it can't connect to it tries again elsewhere.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn rely_on_checks(&mut self, servers: &[(&str, String)]) -> Result<()> {
        self.end();
        self.haproxy = spawn(&self.port, &self.dir, &checked(servers))?;
        Ok(())
    }

    fn end(&mut self) {
        // Errors say that it is gone already.
        let _gone = self.haproxy.kill();
        let _ended = self.haproxy.wait();
    }

    /// What it logged of requests that did not end well.
    pub fn faults(&self) -> Vec<String> {
        let text = fs::read(self.dir.join(LOG)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Four dashes: ended in order, by neither side's fault.
        text.lines()
            .filter(|line| line.contains("app/") && !line.contains(" ---- "))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(port: &Port, dir: &Path, backend: &str) -> Result<Child> {
    let config = dir.join("haproxy.cfg");
    fs::write(&config, settings(&port.address, backend))?;
    let log = File::create(dir.join(LOG))?;
    port.command(&["haproxy", "-db", "-f"])
        .arg(config)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting HAProxy")
}

/// Nothing but what Consul's DNS says, and one try.
fn from_registry() -> String {
    format!(
        "\
    retries 0
    no option redispatch
    server-template app 4 _{SERVICE}._tcp.service.consul resolvers consul resolve-prefer ipv4 init-addr none
"
    )
}

/// Checks at HAProxy's own pace and its usual tries; names and addresses with ports.
fn checked(servers: &[(&str, String)]) -> String {
    let mut text = String::from(
        "    retries 3\n    option redispatch\n    option httpchk GET /health\n    default-server check inter 2s fall 3 rise 2\n",
    );
    for (name, address) in servers {
        let _infallible = writeln!(text, "    server {name} {address}");
    }
    text
}

fn settings(address: &str, backend: &str) -> String {
    format!(
        "\
global
    log stdout format raw local0
    maxconn 2000
    nbthread 1
defaults
    mode http
    log global
    option httplog
    http-reuse always
    timeout connect 2s
    timeout queue 2s
    timeout client 120s
    timeout server 120s
resolvers consul
    nameserver server {REGISTRY}:8600
    accepted_payload_size 8192
    timeout resolve 500ms
    timeout retry 500ms
    hold valid 500ms
    hold nx 500ms
    hold other 500ms
    hold refused 500ms
    hold obsolete 0s
frontend web
    bind {address}:80
    default_backend app
backend app
    balance roundrobin
{backend}"
    )
}
