use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};

use crate::consul::{ADDRESS as REGISTRY, SERVICE};
use crate::net::Port;

/// The last part of the balancer's address.
pub(crate) const LAST: u8 = 3;

/// HAProxy, which learns its servers from Consul's DNS and from nothing else: no checks of its own, no second try.
#[derive(Debug)]
pub struct Balancer {
    haproxy: Child,
    log: PathBuf,
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
        let config = dir.join("haproxy.cfg");
        fs::write(&config, settings(&port.address))?;
        let log = dir.join("haproxy.log");
        let file = File::create(&log)?;
        let haproxy = port
            .command(&["haproxy", "-db", "-f"])
            .arg(config)
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("starting HAProxy")?;
        Ok(Self {
            haproxy,
            log,
            address: port.address.clone(),
            url: format!("http://{}", port.address),
        })
    }

    /// What it logged of requests that did not end well.
    pub fn faults(&self) -> Vec<String> {
        let text = fs::read(&self.log).unwrap_or_default();
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
        // Errors say that it is gone already.
        let _gone = self.haproxy.kill();
        let _ended = self.haproxy.wait();
    }
}

fn settings(address: &str) -> String {
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
    retries 0
    no option redispatch
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
    server-template app 4 _{SERVICE}._tcp.service.consul resolvers consul resolve-prefer ipv4 init-addr none
"
    )
}
