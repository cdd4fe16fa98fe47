//! Which units outlive the drain, predicted from what systemd has loaded. Pure.
//!
//! A partial order and never a sequence: what nothing holds back may stop at once, in parallel with the drain.

use std::collections::{BTreeMap, BTreeSet};

use super::view;

/// Units by their real names, with their properties as `systemctl show` writes them.
pub type Units = BTreeMap<String, BTreeMap<String, String>>;

/// The properties that [`predict`] reads.
pub const PROPERTIES: [&str; 9] = [
    "Id",
    "ActiveState",
    "After",
    "Conflicts",
    "ConflictedBy",
    "ConsistsOf",
    "RequiredBy",
    "BoundBy",
    "PropagatesStopTo",
];

/// What a shutdown conflicts with is what it stops.
pub const ENDS: [&str; 2] = ["shutdown.target", "umount.target"];

/// Whom the stop of a unit stops as well. The last one only maybe: at a shutdown systemd 252 does so, and 257 does not.
const REACHES: [&str; 4] = ["ConsistsOf", "RequiredBy", "BoundBy", "PropagatesStopTo"];

/// Mounts that a service manager takes away with the service they are for, whatever their own order is.
const CREDENTIALS: &str = "run-credentials-";

/// What a shutdown does, as far as systemd guarantees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The units that begin to stop only once the hook has stopped.
    pub outlive: BTreeSet<String>,
    /// The units that may stop while the drain runs.
    pub may_stop: BTreeSet<String>,
    /// The units that the hook is ordered after, and that are ordered after the hook: systemd drops one of these orders, nobody
    /// knows which.
    pub circle: BTreeSet<String>,
    /// Those that only a circle holds back, and those whose stop may be left out for it: they may stop while the drain runs, or may not.
    pub unsure: BTreeSet<String>,
}

impl Order {
    /// Whether a shutdown stops this unit, sooner or later: whether it is active, for all that matters here.
    #[must_use]
    pub fn is_stopped(&self, unit: &str) -> bool {
        self.outlive.contains(unit) || self.may_stop.contains(unit)
    }
}

/// Predicts the next shutdown for `hook`, taken for active even where it is not.
#[must_use]
pub fn predict(units: &Units, hook: &str) -> Order {
    let sure = stopped(units, &REACHES[..3]);
    let mut stopped = stopped(units, &REACHES);
    stopped.insert(hook);
    let order: Vec<(&str, &str)> = stopped
        .iter()
        .flat_map(|unit| names(units, unit, "After").map(|after| (*unit, after)))
        // Order counts only between units that are both being stopped.
        .filter(|(_, after)| stopped.contains(after))
        .collect();
    let below = reach(hook, &order);
    let turned: Vec<_> = order.iter().map(|&(unit, after)| (after, unit)).collect();
    let above = reach(hook, &turned);
    let circle: BTreeSet<&str> = below.intersection(&above).copied().collect();
    // What is held back only by way of a stop that systemd may drop is not held back.
    let mut dropped = dropped(units, &circle);
    let unsure = |unit: &&&str| !sure.contains(**unit) || unit.starts_with(CREDENTIALS);
    dropped.extend(stopped.iter().filter(unsure));
    let mut ways = order;
    ways.retain(|(unit, after)| {
        let gone = circle.contains(after) || after.starts_with(CREDENTIALS);
        (*unit == hook || !dropped.contains(unit)) && !gone
    });
    let outlive = reach(hook, &ways);
    let owned = |names: &BTreeSet<&str>| {
        let others = names.iter().filter(|name| **name != hook);
        others.map(|name| (*name).to_owned()).collect()
    };
    stopped.retain(|unit| !outlive.contains(unit));
    let unsure = stopped.iter().copied();
    let unsure = unsure.filter(|unit| below.contains(unit) || dropped.contains(unit));
    let unsure = unsure.collect();
    Order {
        unsure: owned(&unsure),
        outlive: owned(&outlive),
        may_stop: owned(&stopped),
        circle: owned(&circle),
    }
}

/// What a shutdown stops: the active units that conflict with it, and those that a stop of them reaches.
fn stopped<'a>(units: &'a Units, reaches: &[&str]) -> BTreeSet<&'a str> {
    let active = |unit: &str| {
        let state = view::property(units, unit, "ActiveState");
        !matches!(state, "" | "inactive" | "failed")
    };
    let ends = |unit: &str| {
        ENDS.iter().any(|end| {
            let own = names(units, unit, "Conflicts").chain(names(units, unit, "ConflictedBy"));
            let theirs = names(units, end, "Conflicts").chain(names(units, end, "ConflictedBy"));
            own.into_iter().any(|name| name == *end) || theirs.into_iter().any(|name| name == unit)
        })
    };
    let mut found = BTreeSet::new();
    let mut ahead: Vec<&str> = units
        .keys()
        .map(String::as_str)
        .filter(|u| ends(u))
        .collect();
    while let Some(unit) = ahead.pop() {
        if active(unit) && found.insert(unit) {
            for key in reaches {
                ahead.extend(names(units, unit, key));
            }
        }
    }
    found
}

/// The stops that systemd may leave out to break a circle: any one in it, and with it those that would have brought it about.
fn dropped<'a>(units: &'a Units, circle: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let mut dropped = circle.clone();
    let mut before = usize::MAX;
    while dropped.len() != before {
        before = dropped.len();
        for unit in units.keys() {
            let mut reached = REACHES.iter().flat_map(|key| names(units, unit, key));
            if !dropped.is_empty() && reached.any(|one| dropped.contains(one)) {
                dropped.insert(unit);
            }
        }
    }
    dropped
}

/// Everything that can be reached from `start`; not `start` itself, unless by a way back.
fn reach<'a>(start: &'a str, edges: &[(&'a str, &'a str)]) -> BTreeSet<&'a str> {
    let mut next: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
    for (from, to) in edges {
        next.entry(from).or_default().push(to);
    }
    let mut found = BTreeSet::new();
    let mut ahead = vec![start];
    while let Some(at) = ahead.pop() {
        for &to in next.get(at).into_iter().flatten() {
            if found.insert(to) {
                ahead.push(to);
            }
        }
    }
    found
}

fn names<'a>(units: &'a Units, unit: &str, key: &str) -> std::str::SplitWhitespace<'a> {
    view::property(units, unit, key).split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOOK: &str = "hook.service";

    /// Lines such as `a.service active After=b.service`; all but `!` units conflict with the shutdown.
    fn host(text: &str) -> Units {
        let mut units = Units::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let stays = name.starts_with('!');
            let name = name.trim_start_matches('!');
            let mut unit = BTreeMap::from([("Id".to_owned(), name.to_owned())]);
            unit.insert("ActiveState".to_owned(), words.next().unwrap().to_owned());
            if !stays {
                unit.insert("Conflicts".to_owned(), "shutdown.target".to_owned());
            }
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                unit.insert(key.to_owned(), value.replace(',', " "));
            }
            units.insert(name.to_owned(), unit);
        }
        units
    }

    fn outlive(text: &str) -> Vec<String> {
        predict(&host(text), HOOK).outlive.into_iter().collect()
    }

    #[test]
    fn what_the_hook_is_ordered_after_outlives_it_also_by_way_of_others() {
        let order = predict(
            &host(
                "hook.service active After=app.service,missing.service
                 app.service active After=network.target
                 network.target active
                 cron.service active
                 idle.service inactive",
            ),
            HOOK,
        );
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(order.outlive, set(&["app.service", "network.target"]));
        assert_eq!(order.may_stop, set(&["cron.service"]));
        assert_eq!(order.circle, set(&[]));
    }

    #[test]
    fn no_way_leads_through_a_unit_that_is_not_stopped() {
        // Ordering counts only between two jobs: one that is inactive, and one that a shutdown leaves alone, hold nothing back.
        for middle in ["middle.service inactive", "!middle.service active"] {
            let text = format!(
                "hook.service active After=middle.service\n{middle} After=app.service\napp.service active"
            );
            assert!(outlive(&text).is_empty(), "{middle}");
        }
    }

    #[test]
    fn before_is_the_wrong_way_round() {
        assert!(outlive("hook.service active\napp.service active After=hook.service").is_empty());
    }

    #[test]
    fn a_stop_reaches_what_is_bound_to_what_is_stopped() {
        for key in ["ConsistsOf", "RequiredBy", "BoundBy", "PropagatesStopTo"] {
            let text = format!(
                "hook.service active After=bound.service\na.service active {key}=bound.service\n!bound.service active"
            );
            assert_eq!(outlive(&text), ["bound.service"], "{key}");
        }
    }

    #[test]
    fn a_stop_that_only_some_versions_pass_on_is_not_sure() {
        let text = "hook.service active After=bound.service
                    a.service active PropagatesStopTo=bound.service,free.service
                    !bound.service active After=behind.service
                    !free.service active
                    behind.service active";
        let order = predict(&host(text), HOOK);
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(list(order.outlive), "bound.service");
        assert_eq!(list(order.unsure), "behind.service free.service");
    }

    #[test]
    fn a_conflict_counts_from_either_side_and_with_the_unmounting_too() {
        let text = "hook.service active After=a.mount,b.service
                    !a.mount active Conflicts=umount.target
                    !b.service active
                    !shutdown.target inactive Conflicts=b.service";
        assert_eq!(outlive(text), ["a.mount", "b.service"]);
    }

    #[test]
    fn an_inactive_hook_is_predicted_as_if_it_were_started() {
        let text = "!hook.service inactive After=app.service\napp.service active";
        assert_eq!(outlive(text), ["app.service"]);
    }

    #[test]
    fn a_stop_that_is_left_out_for_a_circle_takes_along_those_that_would_bring_it_about() {
        let order = predict(
            &host(
                "hook.service active After=late.service,basic.target,network.target
                 late.service active After=hook.service
                 basic.target active After=disk.mount RequiredBy=late.service
                 network.target active After=net.service
                 net.service active
                 disk.mount active
                 cron.service active",
            ),
            HOOK,
        );
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(
            list(order.outlive),
            "basic.target net.service network.target"
        );
        assert_eq!(list(order.unsure), "disk.mount late.service");
        assert_eq!(list(order.may_stop), "cron.service disk.mount late.service");
    }

    #[test]
    fn nothing_in_or_behind_a_circle_is_guaranteed() {
        let order = predict(
            &host(
                "hook.service active After=app.service,database.service
                 app.service active After=hook.service,cache.service
                 cache.service active
                 database.service active",
            ),
            HOOK,
        );
        assert_eq!(
            order.circle.into_iter().collect::<Vec<_>>(),
            ["app.service"]
        );
        assert_eq!(
            order.outlive.into_iter().collect::<Vec<_>>(),
            ["database.service"]
        );
    }

    prop_compose! {
        /// Any orders between ten units, each active or not; the first is the hook.
        fn any_host()(
            active in proptest::collection::vec(any::<bool>(), 10),
            edges in proptest::collection::vec((0..10_usize, 0..10_usize), 0..40),
        ) -> (Units, Vec<(usize, usize)>) {
            let mut units = Units::new();
            for (at, active) in active.iter().enumerate() {
                let after: Vec<String> =
                    edges.iter().filter(|edge| edge.0 == at).map(|edge| format!("u{}", edge.1)).collect();
                let state = if *active { "active" } else { "inactive" };
                units.insert(format!("u{at}"), BTreeMap::from([
                    ("ActiveState".to_owned(), state.to_owned()),
                    ("Conflicts".to_owned(), "shutdown.target".to_owned()),
                    ("After".to_owned(), after.join(" ")),
                ]));
            }
            (units, edges)
        }
    }

    proptest! {
        /// Whatever order systemd chooses: each round stops any unit that nothing living is ordered after.
        #[test]
        fn no_order_that_systemd_may_choose_stops_what_is_guaranteed((units, _) in any_host(), picks: Vec<u8>) {
            let order = predict(&units, "u0");
            prop_assume!(order.circle.is_empty());
            let mut alive: BTreeSet<&str> = order.outlive.iter().chain(&order.may_stop).map(String::as_str).collect();
            // The drain never ends: what can be stopped is stopped.
            alive.insert("u0");
            let held = |unit: &str, alive: &BTreeSet<&str>| alive.iter().any(|other| {
                *other != unit && names(&units, other, "After").any(|after| after == unit)
            });
            for pick in picks.into_iter().chain(0..=255).chain(0..=255) {
                let free: Vec<&str> = alive.iter().copied().filter(|unit| *unit != "u0" && !held(unit, &alive)).collect();
                if free.is_empty() {
                    break;
                }
                alive.remove(free[usize::from(pick) % free.len()]);
            }
            for unit in &order.outlive {
                prop_assert!(alive.contains(unit.as_str()), "{unit} was stopped");
            }
        }

        #[test]
        fn every_stopped_unit_is_in_exactly_one_set((units, _) in any_host()) {
            let order = predict(&units, "u0");
            prop_assert!(order.outlive.is_disjoint(&order.may_stop));
            prop_assert!(order.circle.is_subset(&order.may_stop));
            let active = units.iter().filter(|(name, unit)| *name != "u0" && unit["ActiveState"] == "active").count();
            prop_assert_eq!(order.outlive.len() + order.may_stop.len(), active);
        }
    }
}
