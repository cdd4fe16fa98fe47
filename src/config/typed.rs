//! Tables whose keys depend on their type: `[pool.NAME]` and `[probe.NAME]`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use toml::de::DeTable;

use super::check;
use super::fault::Nature;
use super::read::Sub;
use super::section::{Located, Section};
use super::settings::{POOL_LIMIT, PROBE_LIMIT, PoolSpec, ProbeSpec};
use super::words::suggestion;
use crate::world::Root;
use crate::{pools, probes};

/// The keys that all of them have.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Common {
    r#type: Option<String>,
    limit: Option<Limit>,
}

#[derive(Deserialize)]
struct Limit(#[serde(with = "super::duration")] Duration);

const COMMON: &[&str] = &["type", "limit"];

/// Reads and checks what a type has for itself.
type Settings = fn(&mut Section<'_>) -> Option<Value>;

/// A family of such tables.
pub(super) struct Family<Spec> {
    /// What one of them is called.
    what: &'static str,
    /// Where its table does not say how long it may take.
    limit: Duration,
    /// The keys that are read elsewhere, to be suggested too.
    beside: &'static [&'static str],
    /// Its types.
    types: fn() -> Vec<(&'static str, Settings)>,
    spec: fn(String, &'static str, Duration, Value) -> Spec,
}

/// The places that send this host traffic.
pub(super) const POOLS: Family<PoolSpec> = Family {
    what: "pool",
    limit: POOL_LIMIT,
    beside: &["type", "limit", "stand_in_for"],
    types: || {
        let kinds = pools::KINDS.iter();
        kinds.map(|kind| (kind.name, kind.settings)).collect()
    },
    spec: |name, kind, limit, settings| PoolSpec {
        name,
        kind: kind.to_owned(),
        limit,
        settings,
    },
};

/// What is asked beside the sockets.
pub(super) const PROBES: Family<ProbeSpec> = Family {
    what: "probe",
    limit: PROBE_LIMIT,
    beside: COMMON,
    types: || {
        let kinds = probes::KINDS.iter();
        kinds.map(|kind| (kind.name, kind.settings)).collect()
    },
    spec: |name, kind, limit, settings| ProbeSpec {
        name,
        kind: kind.to_owned(),
        limit,
        settings,
    },
};

/// All that are sound, in the order of their names. None may take longer than `longest`.
pub(super) fn read<'a, Spec>(
    all: Sub<'a>,
    family: &Family<Spec>,
    longest: Duration,
    root: Option<&'a Root>,
    faults: &mut Vec<Located>,
) -> Vec<Spec> {
    let mut specs = Vec::new();
    for (key, value) in all.table {
        let name = key.get_ref().to_string();
        let table = format!("{}.{name}", family.what);
        if let Some(sub) = Sub::of(table, key.span(), value, faults) {
            specs.extend(one(name, sub, family, longest, root, faults));
        }
    }
    specs
}

fn one<'a, Spec>(
    name: String,
    sub: Sub<'a>,
    family: &Family<Spec>,
    longest: Duration,
    root: Option<&'a Root>,
    faults: &mut Vec<Located>,
) -> Option<Spec> {
    let (common, own): (DeTable<'a>, DeTable<'a>) = sub
        .table
        .into_iter()
        .partition(|(key, _)| COMMON.contains(&key.get_ref().as_ref()));
    let mut common = Section::new(sub.name.clone(), common, sub.header.clone(), root);
    let values: Common = common.read().unwrap_or_default();
    let limit = values.limit.map_or(family.limit, |limit| limit.0);
    check::typed(&mut common, family.what, &name, limit, longest);

    let given = values.r#type.as_deref();
    let types = (family.types)();
    let kind = types
        .iter()
        .find(|(kind, _)| *kind == given.unwrap_or(&name));
    let names: Vec<&str> = types.iter().map(|(kind, _)| *kind).collect();
    match (kind, given) {
        (Some(_), _) => {}
        (None, Some(unknown)) => {
            let hint = suggestion(unknown, &names, "the types are");
            common.fault("type", format!("unknown type `{unknown}`{hint}"));
        }
        (None, None) if !common.has("type") => {
            let hint = suggestion(&name, &names, "the types are");
            common.fault(
                "type",
                format!("is missing, and `{name}` is not a type itself{hint}"),
            );
        }
        (None, None) => {}
    }
    let mut found = common.into_faults();
    let mut settings = None;
    if let Some((_, read)) = kind {
        let mut own = Section::new(sub.name, own, sub.header, root).beside(family.beside);
        settings = read(&mut own);
        found.extend(own.into_faults());
    }
    let sound = found
        .iter()
        .all(|fault| fault.nature == Nature::Environment);
    faults.extend(found);
    let settings = settings.filter(|_| sound)?;
    Some((family.spec)(name, kind?.0, limit, settings))
}
