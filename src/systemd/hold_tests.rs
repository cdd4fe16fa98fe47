use std::collections::BTreeMap;

use super::*;
use crate::systemd::find;

const APP: &str = "app.service";

/// `unit key=value…`, spaces in values written as commas; all are active and stopped by a shutdown.
fn all(lines: &str) -> Units {
    let mut units = Units::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let name = words.next().unwrap().to_owned();
        let mut unit = BTreeMap::from([
            ("Id".to_owned(), name.clone()),
            ("ActiveState".to_owned(), "active".to_owned()),
            ("Conflicts".to_owned(), "shutdown.target".to_owned()),
        ]);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            unit.insert(key.to_owned(), value.replace(',', " "));
        }
        units.insert(name, unit);
    }
    units
}

/// A host on which `app.service` is drained, and these units run.
fn host(lines: &str) -> Facts {
    let all = all(lines);
    let loaded = |name: &String| {
        let state = ("LoadState".to_owned(), "loaded".to_owned());
        (name.clone(), BTreeMap::from([state]))
    };
    Facts {
        units: all.keys().map(loaded).collect(),
        all,
        ..Facts::default()
    }
}

fn uses(unit: &str, by: Option<&str>, seen: bool) -> Use {
    Use {
        by: by.map(str::to_owned),
        unit: unit.to_owned(),
        why: format!("uses {unit}"),
        seen,
    }
}

fn decided(facts: &Facts) -> Holds {
    decide(facts, &[APP.to_owned()], &[])
}

fn names(held: &[Held]) -> Vec<&str> {
    held.iter().map(|held| held.unit.as_str()).collect()
}

const BASE: &str = "app.service
    db.service
    multi-user.target After=app.service,later.service
    later.service
    drain-connections.service After=app.service,drain-connections-hold.service";

#[test]
fn what_the_programs_use_is_named_as_far_as_a_shutdown_stops_it() {
    let mut facts = host(BASE);
    facts.uses = vec![
        uses("db.service", Some(APP), true),
        uses("systemd-journald.service", Some(APP), true),
        uses("dbus.service", Some(APP), true),
        uses("app.service", None, true),
        uses("later.service", Some("other.service"), true),
    ];
    let holds = decided(&facts);
    assert_eq!(names(&holds.named), ["db.service"]);
    assert_eq!(holds.new[0].matters, Matters::Used);
    facts.settings.hold.except = vec!["db.service".to_owned()];
    let holds = decided(&facts);
    assert_eq!(names(&holds.named), [""; 0]);
    assert_eq!(names(&holds.beside), [""; 0]);
}

#[test]
fn what_was_named_once_stays_until_it_is_gone() {
    let mut facts = host(BASE);
    facts.uses = vec![uses("db.service", Some(APP), true)];
    facts.agent = Some(find::Found {
        unit: "later.service".to_owned(),
        why: "it listens".to_owned(),
    });
    let asked = ["multi-user.target".to_owned()];
    let first = decide(&facts, &[APP.to_owned()], &asked);
    let order = ["later.service", "multi-user.target", "db.service"];
    assert_eq!(names(&first.named), order);
    let text = units::order(&first.named).unwrap();
    facts.files.insert(units::order_path(HOOK), text);
    (facts.uses, facts.agent) = (Vec::new(), None);
    let again = decided(&facts);
    assert_eq!(again.named, first.named);
    assert!(again.new.is_empty());
    facts.units.remove("db.service");
    facts.units.remove("later.service");
    assert_eq!(names(&decided(&facts).named), ["multi-user.target"]);
}

#[test]
fn the_hold_names_only_what_lasts_and_is_not_reached_by_way_of_the_boot() {
    let mut facts = host(&format!(
        "{BASE}
        by-hand.service
        after.service After=multi-user.target
        polkit.service BusName=org.freedesktop.PolicyKit1
        backup.service TriggeredBy=backup.timer
        call@1.service TriggeredBy=call.socket
        run-1.service Transient=yes
        user@0.service
        drain-connections-rejoin.service After=drain-connections.service
        some.socket"
    ));
    let holds = decided(&facts);
    let beside = ["after.service", "by-hand.service", "db.service"];
    assert_eq!(names(&holds.beside), beside);
    assert_eq!(holds.settled(), Holds::default());
    facts.files.insert(
        units::order_path(HOLD),
        units::order(&holds.beside).unwrap(),
    );
    assert!(decided(&facts).new.is_empty());
    facts.settings.hold.everything = false;
    assert!(decided(&facts).beside.is_empty());
}

#[test]
fn nothing_is_beside_the_hold_where_a_circle_leaves_nothing_sure() {
    let mut facts = host(&format!("{BASE}\nby-hand.service"));
    let app = facts.all.get_mut(APP).unwrap();
    app.insert("After".to_owned(), HOOK.to_owned());
    assert!(decided(&facts).beside.is_empty());
}

#[test]
fn mounts_and_networks_are_named_where_nothing_holds_them() {
    let mut facts = host(&format!(
        "{BASE}
        srv.mount Type=nfs4
        data.mount Type=ext4
        held.mount Type=nfs
        NetworkManager.service"
    ));
    let app = facts.all.get_mut(APP).unwrap();
    app.insert("After".to_owned(), "held.mount".to_owned());
    let holds = decided(&facts);
    assert_eq!(names(&holds.named), ["srv.mount", "NetworkManager.service"]);
    assert!(
        holds
            .new
            .iter()
            .take(2)
            .all(|new| new.matters == Matters::Carries)
    );
}

#[test]
fn a_config_names_units_that_are_not_there_yet() {
    let mut facts = host(BASE);
    facts.settings.hold.keep = vec!["soon.service".to_owned()];
    assert_eq!(names(&decided(&facts).named), ["soon.service"]);
}
