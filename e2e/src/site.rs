use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};

use crate::balancer::{self, Balancer};
use crate::cgroup::Cgroup;
use crate::command::poll;
use crate::consul::{self, Consul, Tokens};
use crate::enter::{Parts, run_dir};
use crate::host::Host;
use crate::load::{Summary, agent};
use crate::net::{Port, Switch};
use crate::programs::{self, Program};

/// A busy machine needs a while for checks, gossip and DNS.
pub const CONVERGE_LIMIT: Duration = Duration::from_secs(45);

/// The name of the first host; all cases act on it.
pub const FIRST: &str = "alpha";
/// The name of the second.
pub const SECOND: &str = "beta";

/// The last part of the client's address.
const CLIENT: u8 = 4;

/// Hosts, registry, balancer and client around one switch.
#[derive(Debug)]
pub struct Site {
    /// The booted hosts; the first is [`FIRST`].
    pub hosts: Vec<Host>,
    /// HAProxy.
    pub balancer: Balancer,
    /// The Consul server.
    pub consul: Consul,
    /// Where load comes from.
    pub client: Port,
    _switch: Switch,
    dir: PathBuf,
}

impl Site {
    /// Boots a host for each program; all pass in Consul and are reached through the balancer afterwards.
    ///
    /// # Errors
    /// If any part does not come up.
    pub fn start(parts: &Parts, programs: &[Program], tokens: Tokens) -> Result<Self> {
        static SITES: AtomicU32 = AtomicU32::new(1);
        let name = format!("s{}", SITES.fetch_add(1, Ordering::Relaxed));
        let run = run_dir().context("outside of the lab's namespaces")?;
        let run_name = run
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let dir = run.join(&name);
        std::fs::create_dir_all(&dir)?;
        let switch = Switch::new(&name)?;
        let mut hosts = Vec::new();
        for ((program, host), last) in programs.iter().zip([FIRST, SECOND]).zip(11..) {
            let port = switch.bare_port(host, last)?;
            let cgroup = Cgroup::create(&run_name, &port.name)?;
            let host = Host::new(host, port, &parts.root, dir.join(host), cgroup)?;
            programs::lay(&host, *program, tokens)?;
            hosts.push(host);
        }
        let registry = switch.port("consul", consul::LAST)?;
        let binary = parts.root.join("usr/bin/consul");
        let consul = Consul::start(registry, &binary, &dir, tokens)?;
        thread::scope(|scope| {
            let boots: Vec<_> = hosts
                .iter_mut()
                .map(|host| scope.spawn(|| host.boot()))
                .collect();
            boots
                .into_iter()
                .try_for_each(|boot| boot.join().map_err(|_| anyhow!("a boot panicked"))?)
        })?;
        let middle = switch.port("balancer", balancer::LAST)?;
        let client = switch.port("client", CLIENT)?;
        middle.small_buffers()?;
        client.small_buffers()?;
        let tls = programs.contains(&Program::Tls);
        let balancer = Balancer::start(&middle, &dir, tls)?;
        let site = Self {
            hosts,
            balancer,
            consul,
            client,
            _switch: switch,
            dir,
        };
        for host in &site.hosts {
            site.wait_serving(&host.name)?;
        }
        Ok(site)
    }

    /// The hosts as a balancer's servers: names, and addresses with the programs' port.
    #[must_use]
    pub fn servers(&self) -> Vec<(String, String)> {
        let server = |host: &Host| {
            let address = format!("{}:{}", host.port.address, programs::PORT);
            (host.name.clone(), address)
        };
        self.hosts.iter().map(server).collect()
    }

    /// The host that the cases act on.
    pub fn first(&mut self) -> &mut Host {
        &mut self.hosts[0]
    }

    /// Waits until a host passes in Consul, and answers through the balancer.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait_serving(&self, host: &str) -> Result<()> {
        self.consul.wait_passing(host, true, CONVERGE_LIMIT)?;
        let (agent, url) = (agent(), format!("{}/short", self.balancer.url));
        self.client.inside(|| {
            poll(
                &format!("{host} behind the balancer"),
                CONVERGE_LIMIT,
                || {
                    let response = agent.get(&url).call()?;
                    let name = response.headers().get("x-host");
                    Ok(name.is_some_and(|name| name == host).then_some(()))
                },
            )
        })
    }

    /// What a failed case shows: requests, balancer, hook and supervisor.
    pub fn evidence(&self, load: &Summary, since: SystemTime) -> String {
        let faults = self.balancer.faults();
        let journal = self.hosts[0].journal().map(|journal| journal.since(since));
        let journal = journal.map_or_else(
            |error| format!("{error:#}"),
            |journal| {
                format!(
                    "hook:\n{}\nsupervisor:\n{}",
                    journal.tail("drain-connections.service", 40),
                    journal.tail("supervisor.service", 10)
                )
            },
        );
        format!(
            "failed requests:\n{}balancer:\n{}\n{journal}\n(files in {})",
            load.faults(),
            faults[faults.len().saturating_sub(10)..].join("\n"),
            self.dir.display()
        )
    }
}
