//! `stand_in_for`: which pools are left only where others can't be.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::read::Sub;
use super::section::{Located, Section};
use super::settings::{PoolSpec, StandIn, default_pools};
use super::words::suggestion;
use crate::world::Root;

const KEY: &str = "stand_in_for";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    stand_in_for: Vec<String>,
}

/// Whom a pool stands in for; `None`: all.
type Covers = Option<Vec<String>>;

/// Takes the key out of the tables of the pools, checked.
pub(super) fn take<'a>(
    pools: &mut Sub<'a>,
    root: Option<&'a Root>,
    faults: &mut Vec<Located>,
) -> BTreeMap<String, Covers> {
    let stands_in = |value: &DeValue<'_>| match value {
        DeValue::Table(table) => table.contains_key(KEY),
        _ => false,
    };
    let (those, others): (DeTable<'a>, DeTable<'a>) = std::mem::take(&mut pools.table)
        .into_iter()
        .partition(|(_, value)| stands_in(value.get_ref()));
    let mut regular: Vec<String> = others.keys().map(|key| key.get_ref().to_string()).collect();
    if regular.is_empty() {
        regular = default_pools().into_iter().map(|pool| pool.name).collect();
    }
    let mut covers = BTreeMap::new();
    pools.table = others;
    for (key, mut value) in those {
        let name = key.get_ref().to_string();
        if let DeValue::Table(table) = value.get_mut()
            && let Some((own, whom)) = table.remove_entry(KEY)
        {
            let header = own.span();
            let only = DeTable::from_iter([(own, whom)]);
            let mut section = Section::new(format!("pool.{name}"), only, header, root);
            let names = section.read::<Keys>().unwrap_or_default().stand_in_for;
            let whom = check(&mut section, names, &regular);
            faults.extend(section.into_faults());
            covers.insert(name, whom);
        }
        pools.table.insert(key, value);
    }
    covers
}

fn check(section: &mut Section<'_>, names: Vec<String>, pools: &[String]) -> Covers {
    if names == ["*"] {
        return None;
    }
    if names.is_empty() {
        section.fault(KEY, "must name a pool, or be [\"*\"] for all");
    }
    let known: Vec<&str> = pools.iter().map(String::as_str).collect();
    for (n, name) in names.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            let hint = suggestion(name, &known, "the pools are");
            let shown = name.escape_debug();
            section.fault_item(
                KEY,
                n,
                format!("no pool `{shown}` that stands in for no other{hint}"),
            );
        }
    }
    Some(names)
}

/// The pools, and those that stand in for them: first those that were meant for certain ones.
pub(super) fn split(
    all: Vec<PoolSpec>,
    mut covers: BTreeMap<String, Covers>,
) -> (Vec<PoolSpec>, Vec<StandIn>) {
    let (mut pools, mut stand_ins) = (Vec::new(), Vec::new());
    for pool in all {
        match covers.remove(&pool.name) {
            Some(covers) => stand_ins.push(StandIn { pool, covers }),
            None => pools.push(pool),
        }
    }
    stand_ins.sort_by_key(|one| one.covers.is_none());
    (pools, stand_ins)
}
