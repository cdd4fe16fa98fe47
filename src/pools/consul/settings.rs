//! The settings of one Consul agent, and its token.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::local;
use crate::config::Section;
use crate::pools::{Context, PoolError};
use crate::world::http::Endpoint;

/// The largest token that is read, in bytes.
const LARGEST_TOKEN: u64 = 4096;

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
    for (key, file) in [
        ("token_file", &settings.token_file),
        ("ca_file", &settings.ca_file),
    ] {
        let Some(file) = file else { continue };
        if !file.is_absolute() {
            section.fault(key, "must be an absolute path");
        } else if let Some(root) = section.root() {
            match std::fs::metadata(root.path(file)) {
                Err(error) => section.environment(key, error),
                Ok(meta) if key == "token_file" && is_public(&meta) => {
                    section.environment(key, "can be read by every user; `chmod 600` it");
                }
                Ok(_) => {}
            }
        }
    }
    section.keep(&settings)
}

fn is_public(meta: &Metadata) -> bool {
    meta.mode() & 0o004 != 0
}

impl Settings {
    /// Read for each operation: tokens are rotated, also between leave and rejoin.
    pub(super) fn token(&self, cx: &Context) -> Result<Option<String>, PoolError> {
        let (from, token) = if let Some(file) = &self.token_file {
            let from = file.display().to_string();
            let token = cx
                .root
                .read(file, LARGEST_TOKEN)
                .map_err(|error| local(anyhow!("{from}: {error}")))?;
            (from, token)
        } else if let Some(name) = &self.token_env {
            let from = format!("${name}");
            let token = std::env::var(name)
                .map_err(|_| local(anyhow!("{from}: not set, or not readable text")))?;
            (from, token)
        } else {
            return Ok(None);
        };
        let token = token.trim();
        if token.is_empty() {
            return Err(local(anyhow!("{from}: no token in it")));
        }
        Ok(Some(token.to_owned()))
    }
}
