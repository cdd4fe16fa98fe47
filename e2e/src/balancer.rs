use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};

use crate::consul::{ADDRESS as REGISTRY, SERVICE};
use crate::enter::Parts;
use crate::envoy;
use crate::net::Port;

/// The last part of the balancer's address.
pub(crate) const LAST: u8 = 3;
/// What HAProxy writes.
const LOG: &str = "haproxy.log";

/// The port of HAProxy's runtime socket.
const ORDERS: u16 = 9999;
/// The backend whose servers stand in the config.
const FIXED: &str = "fixed-app";

/// HAProxy, which learns its servers from Consul's DNS and from nothing else: no checks of its own, no second try. Or the other way round, or
/// another balancer in its place.
#[derive(Debug)]
pub struct Balancer {
    process: Child,
    port: Port,
    dir: PathBuf,
    /// Where it sends requests from.
    pub address: String,
    /// Where requests go.
    pub url: String,
}

impl Balancer {
    /// Starts it; it finds servers as soon as Consul names some. Over TLS each request has a connection of its own.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(port: &Port, dir: &Path, tls: bool) -> Result<Self> {
        Ok(Self {
            process: spawn(port, dir, &from_registry(tls))?,
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
    pub fn rely_on_checks(&mut self, servers: &[(String, String)]) -> Result<()> {
        self.end();
        self.process = spawn(&self.port, &self.dir, &checked(servers))?;
        Ok(())
    }

    /// Starts it anew with these servers, to which it sends until its runtime socket says otherwise: no checks, one try.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn rely_on_orders(&mut self, servers: &[(String, String)]) -> Result<()> {
        self.end();
        let backend = format!(
            "backend {FIXED}\n    balance roundrobin\n{}",
            fixed(servers)
        );
        self.process = spawn(&self.port, &self.dir, &backend)?;
        Ok(())
    }

    /// Starts it anew: it sends one half of the requests where Consul's DNS says, and the other to these servers, as with
    /// [`Balancer::rely_on_orders`].
    ///
    /// # Errors
    /// If it can't be started.
    pub fn rely_on_both(&mut self, servers: &[(String, String)]) -> Result<()> {
        self.end();
        let backends = format!(
            "{}backend {FIXED}\n    balance roundrobin\n{}",
            from_registry(false),
            fixed(servers)
        );
        self.process = spawn(&self.port, &self.dir, &backends)?;
        Ok(())
    }

    /// Puts Envoy in its place, which follows Consul's DNS and nothing else.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn become_envoy(&mut self, parts: &Parts) -> Result<()> {
        self.end();
        self.process = envoy::spawn(parts, &self.port, &self.dir, LOG)?;
        Ok(())
    }

    /// Where its runtime socket is, and what a server of [`Balancer::rely_on_both`] or [`Balancer::rely_on_orders`] is called there.
    pub fn orders(&self, server: &str) -> (String, String) {
        (
            format!("{}:{ORDERS}", self.address),
            format!("{FIXED}/{server}"),
        )
    }

    fn end(&mut self) {
        // Errors say that it is gone already.
        let _gone = self.process.kill();
        let _ended = self.process.wait();
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

fn spawn(port: &Port, dir: &Path, backends: &str) -> Result<Child> {
    let config = dir.join("haproxy.cfg");
    fs::write(&config, settings(&port.address, backends))?;
    let log = File::create(dir.join(LOG))?;
    port.command(&["haproxy", "-db", "-f"])
        .arg(config)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting HAProxy")
}

/// Nothing but what Consul's DNS says, and one try.
fn from_registry(tls: bool) -> String {
    let tls = if tls {
        "    option http-server-close\n    default-server ssl verify none\n"
    } else {
        ""
    };
    format!(
        "\
backend app
    balance roundrobin
{tls}\
    retries 0
    no option redispatch
    server-template app 4 _{SERVICE}._tcp.service.consul resolvers consul resolve-prefer ipv4 init-addr none
"
    )
}

/// One try, and nobody to ask but the operators of the runtime socket.
fn fixed(servers: &[(String, String)]) -> String {
    format!(
        "    retries 0\n    no option redispatch\n{}",
        lines(servers)
    )
}

fn lines(servers: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, address) in servers {
        let _infallible = writeln!(text, "    server {name} {address}");
    }
    text
}

/// Checks at HAProxy's own pace and its usual tries; names and addresses with ports.
fn checked(servers: &[(String, String)]) -> String {
    format!(
        "\
backend app
    balance roundrobin
    retries 3
    option redispatch
    option httpchk GET /health
    default-server check inter 2s fall 3 rise 2
{}",
        lines(servers)
    )
}

/// The backends are `app`, [`FIXED`], or both; both have one half each.
fn settings(address: &str, backends: &str) -> String {
    let fixed = backends.contains(&format!("backend {FIXED}\n"));
    let app = backends.contains("backend app\n");
    let choice = match (app, fixed) {
        (true, true) => {
            format!("use_backend {FIXED} if {{ rand(2) eq 0 }}\n    default_backend app")
        }
        (true, false) => "default_backend app".to_owned(),
        _ => format!("default_backend {FIXED}"),
    };
    format!(
        "\
global
    log stdout format raw local0
    maxconn 2000
    stats socket ipv4@{address}:{ORDERS} level admin
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
    {choice}
{backends}"
    )
}
