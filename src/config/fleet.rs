//! The table `[fleet]`: what every type has, and what its type has for itself.

use std::time::Duration;

use serde::Deserialize;
use toml::de::DeTable;

use super::check;
use super::fault::Nature;
use super::policy::{Policies, Policy};
use super::read::Sub;
use super::section::{Located, Section};
use super::settings::{Deadlines, FleetSettings};
use super::words::suggestion;
use crate::fleet::{self, FleetSpec};
use crate::world::Root;

/// The keys that every type of fleet has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FleetCommon {
    r#type: String,
    shutdown: Policy,
    restart: Policy,
    by_hand: Policy,
}

impl Default for FleetCommon {
    fn default() -> Self {
        Self {
            r#type: "consul".to_owned(),
            shutdown: Policy::wait(Duration::from_mins(2)),
            restart: Policy::wait(Duration::from_secs(30)),
            by_hand: Policy::REFUSE,
        }
    }
}

const FLEET_COMMON: &[&str] = &["type", "shutdown", "restart", "by_hand"];

pub(super) fn read<'a>(
    sub: Sub<'a>,
    deadline: &Deadlines,
    root: Option<&'a Root>,
    faults: &mut Vec<Located>,
) -> Option<FleetSettings> {
    let (common, own): (DeTable<'a>, DeTable<'a>) = sub
        .table
        .into_iter()
        .partition(|(key, _)| FLEET_COMMON.contains(&key.get_ref().as_ref()));
    let mut common = Section::new(sub.name.clone(), common, sub.header.clone(), root);
    let values: FleetCommon = common.read().unwrap_or_default();
    let policies = Policies {
        shutdown: values.shutdown,
        restart: values.restart,
        by_hand: values.by_hand,
    };
    check::policies(&mut common, &policies, deadline);
    let kind = fleet::KINDS.iter().find(|kind| kind.name == values.r#type);
    if kind.is_none() {
        let names: Vec<&str> = fleet::KINDS.iter().map(|kind| kind.name).collect();
        let hint = suggestion(&values.r#type, &names, "the types are");
        let unknown = values.r#type.escape_debug();
        common.fault("type", format!("unknown type `{unknown}`{hint}"));
    }
    let mut found = common.into_faults();
    let mut settings = None;
    if let Some(kind) = kind {
        let mut own = Section::new(sub.name, own, sub.header, root).beside(FLEET_COMMON);
        settings = (kind.settings)(&mut own);
        found.extend(own.into_faults());
    }
    let sound = found
        .iter()
        .all(|fault| fault.nature == Nature::Environment);
    faults.extend(found);
    let spec = FleetSpec {
        kind: kind?.name.to_owned(),
        settings: settings.filter(|_| sound)?,
    };
    Some(FleetSettings { spec, policies })
}
