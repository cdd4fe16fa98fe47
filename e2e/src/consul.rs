use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::poll;
use crate::net::Port;

/// Where the server listens; hosts and balancer know it.
pub const ADDRESS: &str = "10.77.0.2";
/// The last part of [`ADDRESS`].
pub(crate) const LAST: u8 = 2;
/// The name under which the programs are registered.
pub const SERVICE: &str = "app";

/// A Consul server in its own network namespace.
#[derive(Debug)]
pub struct Consul {
    server: Child,
    port: Port,
}

/// Whether agents and server look at tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// They are ignored.
    Ignored,
    /// An unknown one is refused; none at all is allowed everything.
    Checked,
}

impl Tokens {
    /// The part of an agent's settings that says so.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Ignored => r#"{"enabled": false}"#,
            Self::Checked => r#"{"enabled": true, "default_policy": "allow"}"#,
        }
    }
}

impl Consul {
    /// Starts the server and waits until it leads.
    ///
    /// # Errors
    /// If it does not within a minute.
    pub fn start(port: Port, binary: &Path, dir: &Path, tokens: Tokens) -> Result<Self> {
        let config = dir.join("registry.json");
        std::fs::write(&config, format!(r#"{{"acl": {}}}"#, tokens.setting()))?;
        let log = File::create(dir.join("registry.log"))?;
        let server = port
            .command(&[&binary.to_string_lossy()])
            .args([
                "agent",
                "-dev",
                "-node=registry",
                "-datacenter=lab",
                "-log-level=warn",
                "-config-file",
            ])
            .arg(config)
            .args([format!("-bind={ADDRESS}"), format!("-client={ADDRESS}")])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the Consul server")?;
        let consul = Self { server, port };
        poll("a leader of Consul", Duration::from_secs(60), || {
            Ok((consul.get("status/leader")?.as_str() != Some("")).then_some(()))
        })?;
        Ok(consul)
    }

    /// The hosts whose service passes: what balancers read.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn passing(&self) -> Result<Vec<String>> {
        let instances = self.get(&format!("health/service/{SERVICE}?passing"))?;
        let names = instances
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|instance| instance["Node"]["Node"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// Waits until the host passes, or until it does not.
    ///
    /// # Errors
    /// If that takes longer than `limit`.
    pub fn wait_passing(&self, host: &str, passing: bool, limit: Duration) -> Result<()> {
        poll(
            &format!("{host} passing in Consul: {passing}"),
            limit,
            || Ok((self.passing()?.iter().any(|name| name == host) == passing).then_some(())),
        )
    }

    /// Whether gossip holds the host's agent for alive.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn alive(&self, host: &str) -> Result<bool> {
        let checks = self.get(&format!("health/node/{host}"))?;
        let alive =
            |check: &Value| check["CheckID"] == "serfHealth" && check["Status"] == "passing";
        Ok(checks.as_array().into_iter().flatten().any(alive))
    }

    /// The notes of all the node's maintenance checks.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn maintenance(&self, host: &str) -> Result<Vec<String>> {
        let checks = self.get(&format!("health/node/{host}"))?;
        let marks = checks.as_array().into_iter().flatten().filter(|check| {
            check["CheckID"]
                .as_str()
                .is_some_and(|id| id.contains("_maintenance"))
        });
        Ok(marks
            .map(|check| check["Notes"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.port.get(&format!("http://{ADDRESS}:8500/v1/{path}"))?,
        )?)
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        // Errors say that it is gone already.
        let _gone = self.server.kill();
        let _ended = self.server.wait();
    }
}
