//! Every type of pool. To add one: write its file, its `mod` line, and a line here.

use serde_json::Value;

use super::look::Find;
use super::{Pool, PoolError, PoolErrorKind};
use crate::config::{PoolSpec, Section};

/// What is known of a type of pool before one is made.
#[derive(Debug)]
pub struct Kind {
    /// Its name in the config and in receipts; never changes.
    pub name: &'static str,
    /// What leaving it means, in one line for people.
    pub about: &'static str,
    /// Reads and checks its table in the config: what [`PoolSpec::settings`] holds from then on. Faults go into the
    /// section; `None` when nothing usable came out.
    pub settings: fn(&mut Section<'_>) -> Option<Value>,
    /// Makes one from such settings, be they from today's config or from the receipt of an older version: unknown keys are
    /// passed over, and missing ones have their defaults.
    pub build: fn(&Value) -> Result<Box<dyn Pool>, PoolError>,
    /// Looks for one on this host, where that can be done.
    pub find: Option<Find>,
}

/// The types, by name.
pub const KINDS: &[Kind] = &[
    super::aws_target_group::KIND,
    super::command::KIND,
    super::consul::KIND,
    super::envoy::KIND,
    super::firewall::KIND,
    super::haproxy::KIND,
    super::health_file::KIND,
    super::http::KIND,
];

/// The pool that `spec` describes. Touches nothing yet.
///
/// # Errors
/// [`PoolErrorKind::Local`] for a type that is not in the table and for settings that its type can't use.
pub fn build(spec: &PoolSpec) -> Result<Box<dyn Pool>, PoolError> {
    let kind = KINDS
        .iter()
        .find(|kind| kind.name == spec.kind)
        .ok_or_else(|| {
            let unknown = anyhow::anyhow!("no pool type is called {:?}", spec.kind);
            PoolError::new(PoolErrorKind::Local, unknown)
        })?;
    (kind.build)(&spec.settings)
}
