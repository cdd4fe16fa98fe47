use std::fs::File;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{command, run};

/// A namespace with a bridge, and others around it that hold one address each.
#[derive(Debug)]
pub struct Switch {
    site: String,
}

/// A network namespace with one interface, `eth0`, on the switch.
#[derive(Clone, Debug)]
pub struct Port {
    /// The namespace's name.
    pub name: String,
    /// The address on the switch.
    pub address: String,
}

impl Switch {
    /// Makes the bridge. `site` starts the names of all its namespaces.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new(site: &str) -> Result<Self> {
        let switch = Self {
            site: site.to_owned(),
        };
        let name = switch.netns("switch");
        ip(&["netns", "add", &name])?;
        ip(&["-n", &name, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &name, "link", "set", "br0", "up"])?;
        Ok(switch)
    }

    /// A port that is up and has its address.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn port(&self, name: &str, last: u8) -> Result<Port> {
        let port = self.bare_port(name, last)?;
        ip(&[
            "-n",
            &port.name,
            "address",
            "add",
            &format!("{}/24", port.address),
            "dev",
            "eth0",
        ])?;
        ip(&["-n", &port.name, "link", "set", "eth0", "up"])?;
        Ok(port)
    }

    /// A port whose interface somebody else configures: the host that boots in it.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn bare_port(&self, name: &str, last: u8) -> Result<Port> {
        let (switch, netns) = (self.netns("switch"), self.netns(name));
        ip(&["netns", "add", &netns])?;
        ip(&["-n", &netns, "link", "set", "lo", "up"])?;
        let wire = [
            "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &netns,
        ];
        ip(&[&["-n", &switch], wire.as_slice()].concat())?;
        ip(&["-n", &switch, "link", "set", name, "master", "br0", "up"])?;
        Ok(Port {
            name: netns,
            address: format!("10.77.0.{last}"),
        })
    }

    fn netns(&self, name: &str) -> String {
        format!("{}-{name}", self.site)
    }
}

impl Port {
    /// A command that runs in this namespace.
    pub fn command(&self, words: &[&str]) -> Command {
        command(&[&["ip", "netns", "exec", &self.name], words].concat())
    }

    /// Makes the buffers of new connections small: what is not read yet waits at its sender, and not on the way.
    ///
    /// # Errors
    /// If that fails.
    pub fn small_buffers(&self) -> Result<()> {
        let small = "4096 32768 32768";
        let settings = [
            format!("net.ipv4.tcp_rmem={small}"),
            format!("net.ipv4.tcp_wmem={small}"),
        ];
        run(self.command(&["sysctl", "-qw"]).args(settings)).map(drop)
    }

    /// Moves the calling thread, and all that it will start, into this namespace.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn enter(&self) -> Result<()> {
        let file = File::open(format!("/run/netns/{}", self.name))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering network namespace {}", self.name))
    }

    /// Runs `work` in this namespace, in a thread of its own, and waits for it.
    ///
    /// # Errors
    /// Those of `work`, or if the namespace is gone.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let done = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join()
        });
        done.map_err(|_| anyhow!("a thread in {} panicked", self.name))?
    }

    /// The body of a URL, fetched from here.
    ///
    /// # Errors
    /// Without an answer within 5 s, or with one that is no success.
    pub fn get(&self, url: &str) -> Result<String> {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5)));
        let agent: ureq::Agent = config.build().into();
        self.inside(|| Ok(agent.get(url).call()?.body_mut().read_to_string()?))
    }
}

impl Drop for Switch {
    /// Takes the namespaces' names away; they end with their last process.
    fn drop(&mut self) {
        let Ok(names) = run(&mut command(&["ip", "netns", "list"])) else {
            return;
        };
        let start = format!("{}-", self.site);
        for name in names
            .lines()
            .filter_map(|line| line.split(' ').next())
            .filter(|name| name.starts_with(&start))
        {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn ip(words: &[&str]) -> Result<()> {
    run(&mut command(&[&["ip"], words].concat())).map(drop)
}
