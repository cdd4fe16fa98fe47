//! Every type of fleet. To add one: write its file, its `mod` line, and a line here.

use serde_json::Value;

use super::{Fleet, FleetSpec, consul, fleetlock};
use crate::config::Section;
use crate::pools::{PoolError, PoolErrorKind};

/// What is known of a type of fleet before one is made.
#[derive(Debug)]
pub struct Kind {
    /// Its name in the config and in receipts; never changes.
    pub name: &'static str,
    /// Reads and checks its part of the table `[fleet]`.
    pub settings: fn(&mut Section<'_>) -> Option<Value>,
    /// Makes one from such settings, also from those of an older version.
    pub build: fn(&Value) -> Result<Box<dyn Fleet>, PoolError>,
}

/// The types, by name.
pub const KINDS: &[Kind] = &[consul::KIND, fleetlock::KIND];

/// The fleet that `spec` describes. Touches nothing yet.
///
/// # Errors
/// A type that is not in the table, and settings that its type can't use.
pub fn build(spec: &FleetSpec) -> Result<Box<dyn Fleet>, PoolError> {
    let kind = KINDS
        .iter()
        .find(|kind| kind.name == spec.kind)
        .ok_or_else(|| {
            let unknown = anyhow::anyhow!("no type of fleet is called {:?}", spec.kind);
            PoolError::new(PoolErrorKind::Local, unknown)
        })?;
    (kind.build)(&spec.settings)
}
