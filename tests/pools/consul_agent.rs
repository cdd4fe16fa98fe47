//! Real Consul agents on loopback, one process each.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Daemon, ask, cache, eventually, free_port, not_provided, program};

/// The token that may do everything where ACLs are on.
pub(crate) const MASTER: &str = "5ec4e700-0000-4000-8000-000000000001";

/// A server agent of its own datacenter, with its data kept across restarts.
pub(crate) struct ConsulAgent {
    binary: PathBuf,
    dir: TempDir,
    ports: [u16; 3],
    process: Daemon,
    acl: bool,
}

/// The Consul to test against: `$DRAINCTL_TEST_CONSUL`, that of the lab's hosts in the cache of `cargo xtask`, or the one installed.
fn binary() -> Option<PathBuf> {
    let roots = cache().and_then(|cache| std::fs::read_dir(cache).ok());
    let in_roots = roots
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("usr/bin"));
    program("DRAINCTL_TEST_CONSUL", in_roots.collect(), "consul")
}

impl ConsulAgent {
    /// An agent on node `host1` with the service `app` (id `app-1`, a TTL check that passes) and `plain` without any check.
    pub(crate) fn start(acl: bool) -> Option<Self> {
        Self::with(acl, &json!([]))
    }

    /// With these services besides, whose checks may be scripts.
    pub(crate) fn with(acl: bool, besides: &Value) -> Option<Self> {
        Self::also(acl, besides, |_, _| {})
    }

    /// With whatever `more` adds to its config; it is given the folder of the agent.
    pub(crate) fn also(
        acl: bool,
        besides: &Value,
        more: impl FnOnce(&mut Value, &Path),
    ) -> Option<Self> {
        let Some(binary) = binary() else {
            not_provided("consul");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut config = json!({
            "enable_local_script_checks": true,
            "performance": { "raft_multiplier": 1 },
            "acl": {
                "enabled": acl,
                "default_policy": "deny",
                "tokens": if acl { json!({ "master": MASTER, "agent": MASTER }) } else { json!({}) },
            },
            "services": [
                { "name": "app", "id": "app-1", "port": 18080, "token": if acl { MASTER } else { "" },
                  "check": { "name": "app answers", "ttl": "1h", "status": "passing" } },
                { "name": "plain", "port": 18081, "token": if acl { MASTER } else { "" } },
            ],
        });
        if let (Some(all), Some(besides)) = (config["services"].as_array_mut(), besides.as_array())
        {
            all.extend(besides.iter().cloned());
        }
        more(&mut config, dir.path());
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let ports = [free_port(), free_port(), free_port()];
        let process = spawn(&binary, &dir, ports, true);
        let agent = Self {
            binary,
            dir,
            ports,
            process,
            acl,
        };
        agent.wait_until_ready();
        Some(agent)
    }

    /// Starts it again on the same data, as a client agent that knows no server.
    pub(crate) fn lose_its_servers(&mut self) {
        self.process.end();
        std::fs::remove_dir_all(self.dir.path().join("data/serf")).unwrap();
        self.process = spawn(&self.binary, &self.dir, self.ports, false);
        eventually("the agent answers", || {
            self.call("GET", "/v1/agent/services", None).is_ok()
        });
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Ends the process the hard way and starts it again on the same data.
    pub(crate) fn restart(&mut self) {
        self.process.end();
        self.process = spawn(&self.binary, &self.dir, self.ports, true);
        self.wait_until_ready();
    }

    /// What the API answers to the operator, as JSON where it is some.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let token = [("X-Consul-Token", MASTER)];
        let body = body.map(Value::to_string);
        let token: &[_] = if self.acl { &token } else { &[] };
        let body = body.as_deref().map(str::as_bytes);
        let answer = ask(&self.address(), method, path, token, body)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status != 200 {
            return Err(text);
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) fn put(&self, path: &str) {
        self.call("PUT", path, None).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.call("GET", path, None).unwrap()
    }

    /// A token with these rules (HCL).
    pub(crate) fn token(&self, secret: &str, rules: &str) {
        let policy = json!({ "Name": secret, "Rules": rules });
        self.call("PUT", "/v1/acl/policy", Some(&policy)).unwrap();
        let token = json!({ "SecretID": secret, "Policies": [{ "Name": secret }] });
        self.call("PUT", "/v1/acl/token", Some(&token)).unwrap();
    }

    /// Until the catalog shows both services, as proxies would see them.
    fn wait_until_ready(&self) {
        eventually("Consul is ready", || {
            ["app", "plain"].iter().all(|service| {
                self.call("GET", &format!("/v1/health/service/{service}"), None)
                    .is_ok_and(|found| found.as_array().is_some_and(|list| !list.is_empty()))
            })
        });
    }
}

fn spawn(binary: &PathBuf, dir: &TempDir, ports: [u16; 3], with_servers: bool) -> Daemon {
    let [http, server, serf] = ports.map(|port| port.to_string());
    let role: &[&str] = if with_servers {
        &["-server", "-bootstrap-expect=1"]
    } else {
        &[]
    };
    let mut command = Command::new(binary);
    command
        .args(["agent", "-node=host1"])
        .args(role)
        .args(["-bind=127.0.0.1", "-client=127.0.0.1"])
        .args(["-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1"])
        .args(["-http-port", &http, "-server-port", &server])
        .args(["-serf-lan-port", &serf])
        .arg("-data-dir")
        .arg(dir.path().join("data"))
        .arg("-config-file")
        .arg(dir.path().join("config.json"));
    Daemon::start(&mut command, dir.path().join("log"))
}
