//! The one table of probes: config, help, documentation and tests go over it.

use anyhow::anyhow;
use serde_json::Value;

use super::{Probe, command, envoy, haproxy, nginx, prometheus};
use crate::config::{ProbeSpec, Section};

/// A type of probe.
pub struct Kind {
    /// As `type` in the config says it.
    pub name: &'static str,
    /// What it asks, for people.
    pub about: &'static str,
    /// Reads and checks its table in the config; `None` when nothing usable came out.
    pub settings: fn(&mut Section<'_>) -> Option<Value>,
    /// Makes one from such settings.
    pub build: fn(&Value) -> anyhow::Result<Box<dyn Probe>>,
}

/// The types, by name.
pub const KINDS: &[Kind] = &[
    command::KIND,
    envoy::KIND,
    haproxy::KIND,
    nginx::KIND,
    prometheus::KIND,
];

/// The probe that `spec` describes. Asks nothing yet.
///
/// # Errors
/// A type that is not in the table; settings that its type can't use.
pub fn build(spec: &ProbeSpec) -> anyhow::Result<Box<dyn Probe>> {
    let kind = KINDS.iter().find(|kind| kind.name == spec.kind);
    let kind = kind.ok_or_else(|| anyhow!("no type of probe is called {:?}", spec.kind))?;
    (kind.build)(&spec.settings)
}
