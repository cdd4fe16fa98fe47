//! From the text of all sources to settings: parsed, merged by key, read table by table, checked.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::check;
use super::fault::{Fault, Nature};
use super::files::Source;
use super::merge::{Map, merged, moved};
use super::section::{Located, Section, line_at};
use super::settings::{
    GuardSettings, PortSettings, Settings, WatchSettings, default_pools, default_stand_ins,
};
use super::words::printable;
use super::{fleet, stand_in, typed};
use crate::world::Root;

/// What came out of the sources.
#[derive(Debug)]
pub(super) struct Read {
    /// A table with a fault counts with its defaults, a pool with one is left out.
    pub(super) settings: Settings,
    pub(super) faults: Vec<Fault>,
}

/// Reads all sources, later ones winning key by key. With `root`, what the values name is looked at too.
pub(super) fn read(root: Option<&Root>, sources: &[Source]) -> Read {
    let map = Map::new(sources);
    let mut parsed = Vec::new();
    let mut broken = vec![false; sources.len()];
    let mut faults = Vec::new();
    for (n, source) in sources.iter().enumerate() {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        parsed.push(moved(table.into_inner(), map.bases[n]));
        // What follows on the same line is a consequence.
        let mut lines = BTreeSet::new();
        for error in errors {
            broken[n] = true;
            let at = error.span().map_or(0, |span| span.start);
            if lines.insert(line_at(&source.text, at)) {
                let at = map.bases[n] + at;
                faults.push(map.fault(at, printable(error.message()), Nature::Value));
            }
        }
    }
    let any_broken = broken.contains(&true);

    let all = merged(parsed.iter().cloned());
    let (mut settings, located) = interpret(all, map.whole(), root);
    let mut found = located;
    if any_broken {
        // Half a file says nothing about what its tables mean together, only about the other files' own keys.
        found.retain(|fault| fault.shape);
        let whole = parsed.iter().zip(&broken);
        let whole = whole.filter(|(_, broken)| !**broken);
        let whole = merged(whole.map(|(table, _)| table.clone()));
        settings = interpret(whole, map.whole(), None).0;
    }
    // Each file once as the one that wins: a wrong value is a fault even where a later file overrides it.
    if sources.len() > 1 {
        for n in 0..sources.len() {
            let others = (0..sources.len()).filter(|other| *other != n);
            let order = others.chain([n]).map(|n| parsed[n].clone());
            let (_, located) = interpret(merged(order), map.whole(), None);
            found.extend(
                located
                    .into_iter()
                    .filter(|fault| fault.shape && map.source(fault.at) == n),
            );
        }
    }
    let shown = found.into_iter().filter(|fault| {
        !broken
            .get(map.source(fault.at))
            .is_some_and(|broken| *broken)
    });
    faults.extend(shown.map(|fault| map.fault(fault.at, fault.what, fault.nature)));
    Read { settings, faults }
}

/// The keys above all tables.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Top {
    units: Vec<String>,
}

const TABLES: [&str; 10] = [
    "deadline", "hold", "settle", "watch", "rejoin", "guard", "fleet", "report", "pool", "probe",
];

fn interpret<'a>(
    mut table: DeTable<'a>,
    whole: Range<usize>,
    root: Option<&'a Root>,
) -> (Settings, Vec<Located>) {
    let mut faults = Vec::new();
    let [
        deadline,
        hold,
        settle,
        watch,
        rejoin,
        guard,
        fleet,
        report,
        mut pools,
        probes,
    ] = TABLES.map(|name| {
        let found = table
            .remove_entry(name)
            .map(|(key, value)| (key.span(), value));
        found
            .and_then(|(header, value)| Sub::of(name.to_owned(), header, value, &mut faults))
            .unwrap_or_else(|| Sub::absent(name))
    });

    let mut top = Section::new("", table, whole, root).beside(&TABLES);
    let units = top.read::<Top>().unwrap_or_default().units;
    check::units(&mut top, &units);
    let units = finish(top, units, &mut faults);

    let deadline = section(deadline, root, check::deadline, &mut faults);
    let hold = section(hold, root, check::hold, &mut faults);
    let settle = section(settle, root, check::settle, &mut faults);
    let watch = watch_section(watch, root, &mut faults);
    let rejoin = section(rejoin, root, check::rejoin, &mut faults);
    let guard: GuardSettings = section(
        guard,
        root,
        |section, guard: &GuardSettings| check::policies(section, &guard.policies(), &deadline),
        &mut faults,
    );
    let report = section(report, root, check::report, &mut faults);

    let fleet = (!fleet.table.is_empty())
        .then(|| fleet::read(fleet, &deadline, root, &mut faults))
        .flatten();

    let longest = deadline.shutdown.max(deadline.restart);
    let any_pool = !pools.table.is_empty();
    let covers = stand_in::take(&mut pools, root, &mut faults);
    let all = typed::read(pools, &typed::POOLS, longest, root, &mut faults);
    let (mut found, mut stand_ins) = stand_in::split(all, covers);
    if found.is_empty() {
        found = default_pools();
    }
    if !any_pool {
        stand_ins = default_stand_ins();
    }
    let settings = Settings {
        units,
        deadline,
        hold,
        settle,
        watch,
        rejoin,
        guard,
        report,
        fleet,
        pools: found,
        stand_ins,
        probes: typed::read(probes, &typed::PROBES, longest, root, &mut faults),
    };
    (settings, faults)
}

/// A table and where it is named.
pub(super) struct Sub<'a> {
    pub(super) name: String,
    pub(super) table: DeTable<'a>,
    pub(super) header: Range<usize>,
}

impl<'a> Sub<'a> {
    fn absent(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            table: DeTable::new(),
            header: 0..0,
        }
    }

    pub(super) fn of(
        name: String,
        header: Range<usize>,
        value: Spanned<DeValue<'a>>,
        faults: &mut Vec<Located>,
    ) -> Option<Self> {
        let is = match value.into_inner() {
            DeValue::Table(table) => {
                return Some(Self {
                    name,
                    table,
                    header,
                });
            }
            DeValue::Array(_) => "a list",
            _ => "a value",
        };
        let what = format!("{name}: must be a table, not {is}; write [{name}] and its keys below");
        faults.push(Located {
            at: header.start,
            what: printable(&what),
            nature: Nature::Value,
            shape: true,
        });
        None
    }
}

/// `[watch]`, and the tables of single ports in it.
fn watch_section<'a>(
    mut sub: Sub<'a>,
    root: Option<&'a Root>,
    faults: &mut Vec<Located>,
) -> WatchSettings {
    const PORTS: &str = "ports";
    let ports = sub
        .table
        .remove_entry(PORTS)
        .and_then(|(key, value)| Sub::of(format!("watch.{PORTS}"), key.span(), value, faults));
    let mut section = Section::new(sub.name, sub.table, sub.header, root).beside(&[PORTS]);
    let values: WatchSettings = section.read().unwrap_or_default();
    let mut watch = finish(section, values, faults);
    for (key, value) in ports.into_iter().flat_map(|ports| ports.table) {
        let name = key.get_ref().to_string();
        let Some(sub) = Sub::of(format!("watch.{PORTS}.{name}"), key.span(), value, faults) else {
            continue;
        };
        let mut section = Section::new(sub.name, sub.table, sub.header, root);
        let values: PortSettings = section.read().unwrap_or_default();
        let port = check::port(&mut section, &name);
        let values = finish(section, values, faults);
        watch.ports.extend(port.map(|port| (port, values)));
    }
    watch
}

fn section<'a, T: Default + serde::de::DeserializeOwned>(
    sub: Sub<'a>,
    root: Option<&'a Root>,
    check: impl FnOnce(&mut Section<'a>, &T),
    faults: &mut Vec<Located>,
) -> T {
    let mut section = Section::new(sub.name, sub.table, sub.header, root);
    let values: T = section.read().unwrap_or_default();
    check(&mut section, &values);
    finish(section, values, faults)
}

/// `values` if the section is sound, else the defaults.
fn finish<T: Default>(section: Section<'_>, values: T, faults: &mut Vec<Located>) -> T {
    let found = section.into_faults();
    let sound = found
        .iter()
        .all(|fault| fault.nature == Nature::Environment);
    faults.extend(found);
    if sound { values } else { T::default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::time::Duration;

    use super::*;
    use crate::config::{DEFAULTS, from_sources};
    use crate::evidence::Spoken;
    use crate::evidence::watch::terms;
    use crate::{pools, probes};

    fn source(text: impl Into<String>) -> Source {
        Source {
            path: "a.toml".to_owned(),
            text: text.into(),
        }
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        assert_eq!(from_sources(&[source(DEFAULTS)]), Ok(Settings::default()));
    }

    /// The documentation with its examples switched on.
    fn examples() -> Settings {
        let text: String = DEFAULTS
            .lines()
            .map(|line| match line.strip_prefix('#') {
                // Prose has a space after the sign.
                Some(example) if !example.starts_with(' ') => format!("{example}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        from_sources(&[source(text)]).unwrap()
    }

    #[test]
    fn the_documented_examples_are_valid() {
        let settings = examples();
        assert!(settings.rejoin.check.is_some());
        let kinds: BTreeSet<&str> = settings.ways().map(|p| p.kind.as_str()).collect();
        assert_eq!(
            kinds.len(),
            pools::KINDS.len(),
            "each type of pool has its example"
        );
        let kinds: BTreeSet<&str> = settings.probes.iter().map(|p| p.kind.as_str()).collect();
        assert_eq!(
            kinds.len(),
            probes::KINDS.len(),
            "each type of probe has its example"
        );
    }

    #[test]
    fn every_key_of_every_pool_and_probe_is_documented() {
        let examples = examples();
        let pools = examples.ways().map(|pool| &pool.settings);
        let probes = examples.probes.iter().map(|probe| &probe.settings);
        for settings in pools.chain(probes) {
            for key in settings.as_object().unwrap().keys() {
                assert!(DEFAULTS.contains(&format!("{key} = ")), "{key}");
            }
        }
    }

    #[test]
    fn what_is_set_for_one_port_counts_there_alone() {
        // Files of their own, as `doctor` proposes them.
        let files = ["uncertain_hold = \"1m\"", "stream_deadline = \"2m\""];
        let files = files.map(|line| source(format!("[watch.ports.8443]\n{line}\n")));
        let watch = from_sources(&files).unwrap().watch;
        let hold = |port| terms(&watch, port, Spoken::PLAIN).holds.uncertain;
        assert_eq!(hold(8443), Duration::from_mins(1));
        assert_eq!(hold(80), watch.uncertain_hold);
        assert_eq!(
            watch.port(8443).stream_deadline,
            Some(Duration::from_mins(2))
        );
        assert_eq!(watch.port(80).stream_deadline, None);
    }

    #[test]
    fn deep_tables_are_read_or_refused() {
        let deep = "a.".repeat(200_000);
        for text in [
            format!("{deep}a = 1"),
            format!("[{deep}a]"),
            format!("x = {}1{}", "[".repeat(200_000), "]".repeat(200_000)),
            format!("x = {}", "{a=".repeat(200_000)),
        ] {
            assert!(from_sources(&[source(text)]).is_err());
        }
    }

    #[test]
    fn thousands_of_wrong_values_are_not_all_said() {
        let text = format!("units = [{}]", "1,\n".repeat(100_000));
        let faults = from_sources(&[source(text)]).unwrap_err();
        assert_eq!(faults.iter().count(), 51);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC*", other in "[a-z\\[\\]=\"'{},.#\n \t0-9]*") {
            let _ = from_sources(&[source(text), source(other)]);
        }

        #[test]
        fn any_change_of_the_defaults_is_read(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut text: Vec<char> = DEFAULTS.chars().collect();
            for (at, to) in changes {
                let at = at.index(text.len());
                text[at] = to;
            }
            text.truncate(1 + cut.index(text.len()));
            let _ = from_sources(&[source(DEFAULTS), source(text.iter().collect::<String>())]);
        }
    }
}
