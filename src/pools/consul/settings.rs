//! The settings of one Consul agent, and its token.

use std::path::PathBuf;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::local;
use crate::config::Section;
use crate::pools::{Context, PoolError, files};
use crate::world::http::Endpoint;

/// What the config says of one agent.
#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) address: String,
    scope: Option<Scope>,
    pub(super) services: Vec<String>,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
}

/// Only says in words what `services` says too.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scope {
    Node,
    Services,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:8500".to_owned(),
            scope: None,
            services: Vec::new(),
            token_file: None,
            token_env: None,
            ca_file: None,
        }
    }
}

/// Reads and checks the pool's table in the config.
pub(super) fn check(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if let Err(error) = Endpoint::parse(&settings.address) {
        section.fault("address", error);
    }
    match (settings.scope, settings.services.is_empty()) {
        (Some(Scope::Node), false) => section.fault(
            "scope",
            "the node and single services exclude each other; leave out one",
        ),
        (Some(Scope::Services), true) => {
            section.fault("scope", "services has to name at least one");
        }
        _ => {}
    }
    for (index, service) in settings.services.iter().enumerate() {
        if service.is_empty() {
            section.fault_item("services", index, "must not be empty");
        }
    }
    if let Some(name) = &settings.token_env
        && !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    {
        // A token itself would be kept in receipts and told in errors.
        section.fault("token_env", "must be the name of an environment variable");
    }
    if settings.token_file.is_some() && settings.token_env.is_some() {
        section.fault("token_env", "token_file is set too; leave out one");
    }
    if let Some(file) = &settings.token_file {
        files::check_secret(section, "token_file", file);
    }
    if let Some(file) = &settings.ca_file {
        files::check(section, "ca_file", file);
    }
    section.keep(&settings)
}

impl Settings {
    pub(super) fn token(&self, cx: &Context) -> Result<Option<String>, PoolError> {
        if let Some(file) = &self.token_file {
            return files::read_secret(cx, file).map(Some);
        }
        let Some(name) = &self.token_env else {
            return Ok(None);
        };
        let token = std::env::var(name).unwrap_or_default();
        match token.trim() {
            "" => Err(local(anyhow!("${name}: not set, or no readable text"))),
            token => Ok(Some(token.to_owned())),
        }
    }
}
