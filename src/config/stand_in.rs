//! `stand_in_for`: which pools are left only where others can't be. Where the config names none, and does not speak of the firewall either, that is it.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::read::Sub;
use super::section::{Located, Section};
use super::settings::{PoolSpec, STAND_IN, StandIn, default_pools, plain};
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

/// What the config says of stand-ins.
pub(super) struct Said {
    /// By the names of the pools that are stand-ins.
    covers: BTreeMap<String, Covers>,
    /// Whether it says so much that nothing has to be guessed.
    is_decided: bool,
}

/// Takes the key out of the tables of the pools, checked.
pub(super) fn take<'a>(
    pools: &mut Sub<'a>,
    root: Option<&'a Root>,
    faults: &mut Vec<Located>,
) -> Said {
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
    let is_decided = !those.is_empty();
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
    Said { covers, is_decided }
}

fn check(section: &mut Section<'_>, names: Vec<String>, pools: &[String]) -> Covers {
    if names == ["*"] {
        return None;
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

/// The pools, and those that stand in for them: first those that were meant for certain ones. One that stands in for nobody is never left.
pub(super) fn split(all: Vec<PoolSpec>, mut said: Said) -> (Vec<PoolSpec>, Vec<StandIn>) {
    let (mut pools, mut stand_ins) = (Vec::new(), Vec::new());
    for pool in all {
        match said.covers.remove(&pool.name) {
            Some(Some(nobody)) if nobody.is_empty() => {}
            Some(covers) => stand_ins.push(StandIn { pool, covers }),
            None => pools.push(pool),
        }
    }
    if !said.is_decided && pools.iter().all(|pool| pool.kind != STAND_IN) {
        stand_ins.extend(plain(STAND_IN).map(StandIn::for_all));
    }
    stand_ins.sort_by_key(|one| one.covers.is_none());
    (pools, stand_ins)
}
