//! What is asked of a Consul agent, and the parts of its answers that matter.

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::mark::one_line;
use crate::pools::{PoolError, PoolErrorKind};
use crate::world::Deadline;
use crate::world::http::{Client, encode};

/// The id of the check that stands for maintenance of the whole node.
const NODE_MAINTENANCE: &str = "_node_maintenance";
/// What the id of the check begins with that stands for maintenance of one service; the service's id follows.
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// One check, as the agent and as the catalog have it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Check {
    pub(super) node: String,
    #[serde(rename = "CheckID")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    /// In a maintenance check, its reason.
    #[serde(default)]
    pub(super) notes: String,
    #[serde(default)]
    pub(super) output: String,
    /// Empty for a check of the node.
    #[serde(rename = "ServiceID")]
    pub(super) service: String,
}

impl Check {
    /// Proxies send nothing any more. A check that warns keeps its service in Consul's DNS.
    pub(super) fn is_critical(&self) -> bool {
        self.status == "critical"
    }

    pub(super) fn is_maintenance(&self) -> bool {
        self.id == NODE_MAINTENANCE || self.id.starts_with(SERVICE_MAINTENANCE)
    }
}

/// One service registered on the agent; its id is the key.
#[derive(Deserialize)]
pub(super) struct Service {
    #[serde(rename = "Service")]
    pub(super) name: String,
}

/// One instance of a service in the catalog: what proxies read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Instance {
    pub(super) node: InstanceNode,
    pub(super) service: InstanceService,
    /// Go writes an empty list as null.
    pub(super) checks: Option<Vec<Check>>,
}

#[derive(Deserialize)]
pub(super) struct InstanceNode {
    #[serde(rename = "Node")]
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct InstanceService {
    #[serde(rename = "ID")]
    pub(super) id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Own {
    config: OwnConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnConfig {
    node_name: String,
}

/// One answer to the question for rights.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Authorized {
    resource: String,
    #[serde(default)]
    segment: String,
    allow: bool,
}

/// What can be in maintenance.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Node,
    /// The service with this id.
    Service(&'a str),
}

/// A Consul agent, for the calls of one operation.
pub(super) struct Agent {
    pub(super) client: Client,
    pub(super) token: Option<String>,
    pub(super) deadline: Deadline,
}

/// What the agent itself has registered, as far as the token may read it.
pub(super) struct Local {
    pub(super) checks: BTreeMap<String, Check>,
    pub(super) services: BTreeMap<String, Service>,
}

impl Local {
    /// The reason of the maintenance that stands on `part`.
    pub(super) fn maintenance(&self, part: Part<'_>) -> Option<&str> {
        let id = match part {
            Part::Node => NODE_MAINTENANCE.to_owned(),
            Part::Service(id) => format!("{SERVICE_MAINTENANCE}{id}"),
        };
        self.checks.get(&id).map(|check| check.notes.as_str())
    }
}

impl Agent {
    pub(super) fn local(&self) -> Result<Local, PoolError> {
        Ok(Local {
            checks: self.get("/v1/agent/checks")?,
            services: self.get("/v1/agent/services")?,
        })
    }

    /// The name of the agent's node. Every check tells it; without any, the token needs `agent:read`.
    pub(super) fn node(&self, local: &Local) -> Result<String, PoolError> {
        if let Some(check) = local.checks.values().next() {
            return Ok(check.node.clone());
        }
        Ok(self.get::<Own>("/v1/agent/self")?.config.node_name)
    }

    /// All checks of `node` in the catalog. None means that the token may not read them, since every node has one by itself.
    pub(super) fn node_checks(&self, node: &str) -> Result<Vec<Check>, PoolError> {
        let checks: Vec<Check> =
            self.get(&format!("/v1/health/node/{}?consistent", encode(node)))?;
        if checks.is_empty() {
            return Err(refused(&format!(
                "the catalog shows nothing of the node {node:?}; the token may lack node:read"
            )));
        }
        Ok(checks)
    }

    /// All instances of the service `name`, passing or not.
    pub(super) fn instances(&self, name: &str) -> Result<Vec<Instance>, PoolError> {
        self.get(&format!("/v1/health/service/{}?consistent", encode(name)))
    }

    /// Those of `rights` (resource, name; all to write) that the token does not have. Where the agent's ACLs are off it needs none; an agent that
    /// can't be asked so denies nothing here.
    pub(super) fn denied<'r>(
        &self,
        rights: &[(&'r str, &'r str)],
    ) -> Result<Vec<(&'r str, &'r str)>, PoolError> {
        const PATH: &str = "/v1/internal/acl/authorize";
        let asked: Vec<_> = rights
            .iter()
            .map(|(resource, name)| json!({"Resource": resource, "Segment": name, "Access": "write"}))
            .collect();
        let asked = serde_json::Value::from(asked).to_string();
        let (status, body) = self.call_with("POST", PATH, Some(asked.as_bytes()))?;
        match status {
            200 => {}
            // From before Consul 1.7.
            404 | 405 => return Ok(Vec::new()),
            401 if body.contains("ACL support disabled") => return Ok(Vec::new()),
            _ => return Err(unwanted("POST", PATH, status, &body)),
        }
        let answers: Vec<Authorized> = serde_json::from_str(&body).map_err(|error| {
            let error = one_line(&error.to_string());
            PoolError::new(PoolErrorKind::BadAnswer, anyhow!("POST {PATH}: {error}"))
        })?;
        let allowed = |resource: &str, name: &str| {
            answers
                .iter()
                .any(|one| one.resource == resource && one.segment == name && one.allow)
        };
        let denied = rights
            .iter()
            .filter(|(resource, name)| !allowed(resource, name));
        Ok(denied.copied().collect())
    }

    /// Makes sure that a service that the agent did not list is gone, and not hidden from the token.
    pub(super) fn is_gone(&self, id: &str) -> Result<(), PoolError> {
        let path = format!("/v1/agent/service/{}", encode(id));
        match self.call("GET", &path)? {
            (404, _) => Ok(()),
            (200, _) => Err(PoolError::new(
                PoolErrorKind::BadAnswer,
                anyhow!("GET {path}: the service has appeared just now"),
            )),
            (status, body) => Err(unwanted("GET", &path, status, &body)),
        }
    }

    /// Sets maintenance. Where one stands already, Consul keeps that with its reason.
    pub(super) fn set(&self, part: Part<'_>, reason: &str) -> Result<(), PoolError> {
        self.put(part, &format!("enable=true&reason={}", encode(reason)))
    }

    /// Lifts maintenance, whoever set it.
    pub(super) fn lift(&self, part: Part<'_>) -> Result<(), PoolError> {
        self.put(part, "enable=false")
    }

    fn put(&self, part: Part<'_>, query: &str) -> Result<(), PoolError> {
        let path = match part {
            Part::Node => "/v1/agent/maintenance".to_owned(),
            Part::Service(id) => format!("/v1/agent/service/maintenance/{}", encode(id)),
        };
        match self.call("PUT", &format!("{path}?{query}"))? {
            (200, _) => Ok(()),
            (status, body) => Err(unwanted("PUT", &path, status, &body)),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, PoolError> {
        match self.call("GET", path)? {
            (200, body) => serde_json::from_str(&body).map_err(|error| {
                let error = one_line(&error.to_string());
                PoolError::new(PoolErrorKind::BadAnswer, anyhow!("GET {path}: {error}"))
            }),
            (status, body) => Err(unwanted("GET", path, status, &body)),
        }
    }

    fn call(&self, method: &str, path: &str) -> Result<(u16, String), PoolError> {
        self.call_with(method, path, None)
    }

    fn call_with(
        &self,
        method: &str,
        path: &str,
        sent: Option<&[u8]>,
    ) -> Result<(u16, String), PoolError> {
        let header = self.token.as_deref().map(|token| ("X-Consul-Token", token));
        let answer = self
            .client
            .request(method, path, header.as_slice(), sent, self.deadline)?;
        let body = String::from_utf8_lossy(&answer.body);
        // Whatever comes back may end up in a message, a report or a receipt, and a server may echo what it got.
        let body = match &self.token {
            Some(token) => body.replace(token, "[token]"),
            None => body.into_owned(),
        };
        Ok((answer.status, body))
    }
}

pub(super) fn refused(what: &str) -> PoolError {
    PoolError::new(PoolErrorKind::Refused, anyhow!("{what}"))
}

fn unwanted(method: &str, path: &str, status: u16, body: &str) -> PoolError {
    let kind = match status {
        401 | 403 => PoolErrorKind::Refused,
        404 => PoolErrorKind::NotMember,
        // No leader, no answer from the servers, too many requests: another try may help.
        429 | 500..=599 => PoolErrorKind::Unreachable,
        _ => PoolErrorKind::BadAnswer,
    };
    let said = one_line(body);
    PoolError::new(kind, anyhow!("{method} {path}: status {status}: {said}"))
}
