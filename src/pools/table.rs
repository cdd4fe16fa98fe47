//! Every type of pool. To add one: write its file, its `mod` line, and a line here.

use serde_json::Value;

use crate::config::Section;

/// What is known of a type of pool before one is made.
#[derive(Debug)]
pub struct Kind {
    /// Its name in the config and in receipts; never changes.
    pub name: &'static str,
    /// Reads and checks its table in the config: what [`crate::config::PoolSpec::settings`] holds from then on. Faults go into the
    /// section; `None` when nothing usable came out.
    pub settings: fn(&mut Section<'_>) -> Option<Value>,
}

/// The types, by name.
pub const KINDS: &[Kind] = &[];
