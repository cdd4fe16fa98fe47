//! Every active unit, over the system bus.
//!
//! `systemctl show` has PID 1 tell all that it knows of a unit, and read the files of its control group for that. What units of every kind have
//! is here asked for alone, and takes half the time. Property by property it would take PID 1 less, and the bus more.

use std::collections::{BTreeMap, HashMap};
use std::thread;

use zbus::{Array, Connection, OwnedObjectPath, Variant};

use super::bus::{Listed, MANAGER, PROPERTIES, ROOT_PATH, SYSTEMD, variant, within};
use super::order::Units;
use super::{Error, TRIAL};
use crate::world::Deadline;

/// So many connections ask at a time: PID 1 answers one call after the other, and seldom waits for the next.
const SIDE_BY_SIDE: usize = 4;
/// What units of every kind have.
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// What only one kind has: the end of their names, the interface, the property.
const OF_KINDS: [(&str, &str, &str); 2] = [
    (".mount", "org.freedesktop.systemd1.Mount", "Type"),
    (".service", "org.freedesktop.systemd1.Service", "BusName"),
];

/// A unit and its object.
type Place = (String, OwnedObjectPath);

/// As [`super::systemctl::show_all`], of properties that are texts, lists of texts, or yes and no; `Type` is told of mounts alone.
///
/// # Errors
/// [`Error::Bus`], [`Error::BusTimedOut`] or [`Error::Answer`].
pub(super) fn all(units: &[&str], properties: &[&str], deadline: Deadline) -> Result<Units, Error> {
    let owned =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let (units, properties) = (owned(units), owned(properties));
    within(deadline, move || {
        let places = zbus::block_on(places(&units))?;
        thread::scope(|scope| {
            let parts = places.chunks(places.len().div_ceil(SIDE_BY_SIDE).max(1));
            let asked: Vec<_> = parts
                .map(|part| scope.spawn(|| zbus::block_on(ask(part, &properties))))
                .collect();
            let gone = |_| Err(Error::Answer("a thread ended".to_owned()));
            let mut all = Units::new();
            for part in asked {
                all.extend(part.join().unwrap_or_else(gone)?);
            }
            Ok(all)
        })
    })
}

/// Every unit that is not at rest, and those that are named.
async fn places(names: &[String]) -> Result<Vec<Place>, Error> {
    let bus = Connection::system().await?;
    let listed = bus
        .call_method(Some(SYSTEMD), ROOT_PATH, Some(MANAGER), "ListUnits", &())
        .await?;
    let listed: Vec<Listed> = listed.body().deserialize()?;
    let listed = listed.into_iter();
    let mut places: Vec<Place> = listed
        // Another name of a device follows the first; a unit at rest may wait for a job.
        .filter(|(name, _, _, state, _, follows, _, job, ..)| {
            let rests = state == "inactive" && *job == 0;
            let twice = !follows.is_empty() || names.contains(name);
            !rests && !twice && !name.starts_with(TRIAL)
        })
        .map(|(name, _, _, _, _, _, path, ..)| (name, path))
        .collect();
    for name in names {
        let loaded = bus
            .call_method(
                Some(SYSTEMD),
                ROOT_PATH,
                Some(MANAGER),
                "LoadUnit",
                &(name,),
            )
            .await?;
        places.push((name.clone(), loaded.body().deserialize()?));
    }
    Ok(places)
}

async fn ask(
    places: &[Place],
    properties: &[String],
) -> Result<Vec<(String, BTreeMap<String, String>)>, Error> {
    let bus = Connection::system().await?;
    let mut units = Vec::new();
    for (name, path) in places {
        let told = bus
            .call_method(Some(SYSTEMD), path, Some(PROPERTIES), "GetAll", &(UNIT,))
            .await?;
        let body = told.body();
        let told: HashMap<String, Variant<'_>> = body.deserialize()?;
        let wanted = properties.iter().filter_map(|property| {
            let value = told.get(property)?;
            Some((property.clone(), text(value)))
        });
        let mut unit: BTreeMap<String, String> = wanted.collect();
        for (end, interface, property) in OF_KINDS {
            if name.ends_with(end) && properties.iter().any(|one| one == property) {
                let value = variant(&bus, SYSTEMD, path, interface, property).await?;
                unit.insert(property.to_owned(), text(&value));
            }
        }
        let id = unit.get("Id").unwrap_or(name).clone();
        units.push((id, unit));
    }
    Ok(units)
}

/// As `systemctl show` writes it; nothing of what is neither text, nor a list of texts, nor yes or no.
fn text(value: &Variant<'_>) -> String {
    match value {
        Variant::Str(text) => text.to_string(),
        Variant::Bool(true) => "yes".to_owned(),
        Variant::Bool(false) => "no".to_owned(),
        Variant::Array(list) => words(list),
        _ => String::new(),
    }
}

fn words(list: &Array<'_>) -> String {
    let words: Vec<String> = list.iter().map(text).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_systemctl_writes_them() {
        let list = Array::from(vec!["a.service", r"b\x2dc.mount"]);
        for (value, written) in [
            (Variant::from("x.service"), "x.service"),
            (Variant::from(true), "yes"),
            (Variant::from(false), "no"),
            (Variant::Array(list), r"a.service b\x2dc.mount"),
            (Variant::from(7_u32), ""),
        ] {
            assert_eq!(text(&value), written);
        }
    }
}
