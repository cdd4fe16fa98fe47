//! One suite for all types in the table.

use std::path::Path;

use drainctl::pools::{KINDS, Membership, PoolErrorKind, Rejoined};
use serde_json::{Value, json};

use crate::support::{becomes, cx, pool};
use crate::{aws_target_group, command, consul, envoy, firewall, haproxy, health_file, http};

/// One way to set a pool up, in front of something real.
pub(crate) trait Fixture {
    /// For messages.
    fn name(&self) -> &'static str;
    /// The pool's settings, as a receipt keeps them.
    fn settings(&self) -> Value;
    /// The root that its calls see.
    fn dir(&self) -> &Path;
    /// All that the pool could have changed, by the eyes of an operator.
    fn state(&self) -> Value;
    /// An operator takes the host out, on top of whatever stands.
    fn take_out(&self);
    /// What stands in the pool is taken away by an operator.
    fn put_back(&self);
    /// Whether the operator's own mark stands.
    fn is_taken_out(&self) -> bool;
    /// Whether an operator's mark leaves nothing to compare it with once it is set: a file that is gone.
    fn mark_is_absence(&self) -> bool {
        false
    }
    /// Whether nothing tells our mark from an operator's of the same kind: a state without a reason.
    fn mark_is_anonymous(&self) -> bool {
        self.mark_is_absence()
    }
    /// What the server keeps across an end that it did not expect is all there is afterwards.
    fn restart(&mut self);
    /// What version 0.1 wrote into a receipt, with the pool in the state that it describes.
    fn receipt_0_1(&self) -> Value;
}

fn fixtures(kind: &str) -> Option<Vec<Box<dyn Fixture>>> {
    match kind {
        "aws-target-group" => Some(aws_target_group::fixtures()),
        "command" => Some(command::fixtures()),
        "consul" => Some(consul::fixtures()),
        "envoy" => Some(envoy::fixtures()),
        "firewall" => Some(firewall::fixtures()),
        "haproxy" => Some(haproxy::fixtures()),
        "health-file" => Some(health_file::fixtures()),
        "http" => Some(http::fixtures()),
        _ => None,
    }
}

#[test]
fn every_type_of_pool_does_what_every_pool_must() {
    for kind in KINDS {
        // A thread a type: what a fixture does to its thread, like moving it into another network, ends with it.
        let done = std::thread::spawn(|| does_what_every_pool_must(kind.name)).join();
        assert!(done.is_ok(), "{}", kind.name);
    }
}

fn does_what_every_pool_must(kind: &str) {
    let fixtures = fixtures(kind).ok_or(format!("the pool type {kind} has no fixture here"));
    for mut fixture in fixtures.unwrap() {
        for (name, property) in PROPERTIES {
            eprintln!("{kind}, {}: {name}", fixture.name());
            let clean = fixture.state();
            property(kind, fixture.as_mut());
            assert_eq!(fixture.state(), clean, "the next test starts clean");
        }
    }
}

type Property = fn(&str, &mut dyn Fixture);

const PROPERTIES: &[(&str, Property)] = &[
    ("prepare changes nothing", prepare_changes_nothing),
    ("leave twice, rejoin twice", leave_twice_rejoin_twice),
    (
        "an operator's own mark survives",
        an_operators_mark_survives,
    ),
    (
        "an operator's mark lifted before the leave",
        an_operators_mark_lifted_before_the_leave,
    ),
    ("a changed mark is left alone", a_changed_mark_is_left_alone),
    ("a mark that is gone is fine", a_mark_that_is_gone_is_fine),
    ("a rejoin without a leave", a_rejoin_without_a_leave),
    ("a receipt of version 0.1", a_receipt_of_version_0_1),
    (
        "a receipt of a later version, and ones that are damaged",
        other_receipts,
    ),
    ("a restart in between", a_restart_in_between),
    ("a receipt that was lost", a_receipt_that_was_lost),
];

fn prepare_changes_nothing(kind: &str, fixture: &mut dyn Fixture) {
    let pool = pool(kind, fixture.settings());
    let before = fixture.state();
    pool.prepare(&cx(fixture.dir())).unwrap();
    pool.status(&cx(fixture.dir())).unwrap();
    pool.peers(&cx(fixture.dir())).unwrap();
    let missing = pool.missing_rights(&cx(fixture.dir())).unwrap();
    assert_eq!(missing, Vec::<String>::new());
    assert_eq!(fixture.state(), before);
}

fn leave_twice_rejoin_twice(kind: &str, fixture: &mut dyn Fixture) {
    let pool = pool(kind, fixture.settings());
    let dir = fixture.dir();
    let clean = fixture.state();
    becomes(pool.as_ref(), dir, Membership::In);
    let before = pool.prepare(&cx(dir)).unwrap();
    // Receipts are JSON on disk.
    let before: Value = serde_json::from_str(&before.to_string()).unwrap();
    pool.leave(&cx(dir), &before).unwrap();
    becomes(pool.as_ref(), dir, Membership::Out);
    let out = fixture.state();
    pool.leave(&cx(dir), &before).unwrap();
    assert_eq!(fixture.state(), out);
    for _ in 0..2 {
        let rejoined = pool.rejoin(&cx(dir), &before).unwrap();
        assert_eq!(rejoined, Rejoined::Restored);
        assert_eq!(fixture.state(), clean);
    }
    becomes(pool.as_ref(), dir, Membership::In);
}

fn an_operators_mark_survives(kind: &str, fixture: &mut dyn Fixture) {
    let pool = pool(kind, fixture.settings());
    let clean = fixture.state();
    fixture.take_out();
    let marked = fixture.state();
    let dir = fixture.dir();
    let before = pool.prepare(&cx(dir)).unwrap();
    pool.leave(&cx(dir), &before).unwrap();
    assert_eq!(fixture.state(), marked);
    becomes(pool.as_ref(), dir, Membership::Out);
    let rejoined = pool.rejoin(&cx(dir), &before).unwrap();
    assert!(matches!(rejoined, Rejoined::LeftAlone(_)), "{rejoined:?}");
    assert_eq!(fixture.state(), marked);
    assert!(fixture.is_taken_out());
    fixture.put_back();
    assert_eq!(fixture.state(), clean);
}

fn an_operators_mark_lifted_before_the_leave(kind: &str, fixture: &mut dyn Fixture) {
    // The receipt says that there is nothing of ours to undo; so nothing is done.
    let pool = pool(kind, fixture.settings());
    let dir = fixture.dir();
    let clean = fixture.state();
    fixture.take_out();
    let before = pool.prepare(&cx(dir)).unwrap();
    fixture.put_back();
    pool.leave(&cx(dir), &before).unwrap();
    assert_eq!(fixture.state(), clean);
}

fn a_changed_mark_is_left_alone(kind: &str, fixture: &mut dyn Fixture) {
    if fixture.mark_is_absence() {
        return;
    }
    let pool = pool(kind, fixture.settings());
    let dir = fixture.dir();
    let before = pool.prepare(&cx(dir)).unwrap();
    pool.leave(&cx(dir), &before).unwrap();
    fixture.put_back();
    fixture.take_out();
    let rejoined = pool.rejoin(&cx(dir), &before).unwrap();
    assert!(matches!(rejoined, Rejoined::LeftAlone(_)), "{rejoined:?}");
    assert!(fixture.is_taken_out());
    fixture.put_back();
}

fn a_mark_that_is_gone_is_fine(kind: &str, fixture: &mut dyn Fixture) {
    let pool = pool(kind, fixture.settings());
    let dir = fixture.dir();
    let before = pool.prepare(&cx(dir)).unwrap();
    pool.leave(&cx(dir), &before).unwrap();
    fixture.put_back();
    let rejoined = pool.rejoin(&cx(dir), &before).unwrap();
    assert_eq!(rejoined, Rejoined::Restored);
}

fn a_rejoin_without_a_leave(kind: &str, fixture: &mut dyn Fixture) {
    // Killed between the receipt and the leave.
    let pool = pool(kind, fixture.settings());
    let dir = fixture.dir();
    let before = pool.prepare(&cx(dir)).unwrap();
    let rejoined = pool.rejoin(&cx(dir), &before).unwrap();
    assert_eq!(rejoined, Rejoined::Restored);
}

fn a_receipt_of_version_0_1(kind: &str, fixture: &mut dyn Fixture) {
    let receipt = fixture.receipt_0_1();
    let pool = pool(kind, receipt["settings"].clone());
    let dir = fixture.dir();
    becomes(pool.as_ref(), dir, Membership::Out);
    let rejoined = pool.rejoin(&cx(dir), &receipt["before"]).unwrap();
    assert_eq!(rejoined, Rejoined::Restored);
    becomes(pool.as_ref(), dir, Membership::In);
}

fn other_receipts(kind: &str, fixture: &mut dyn Fixture) {
    let pool = pool(kind, fixture.settings());
    let dir = fixture.dir();
    let clean = fixture.state();
    let before = pool.prepare(&cx(dir)).unwrap();
    pool.leave(&cx(dir), &before).unwrap();
    let out = fixture.state();
    // What `command` keeps is for its program to judge.
    if kind == "command" {
        pool.rejoin(&cx(dir), &before).unwrap();
    } else {
        for damaged in [Value::Null, "text".into(), json!([]), json!([[]]), json!(7)] {
            let error = pool.rejoin(&cx(dir), &damaged).unwrap_err();
            assert_eq!(error.kind(), PoolErrorKind::Local, "{damaged}: {error}");
            assert!(error.to_string().contains("receipt"), "{damaged}: {error}");
            assert!(pool.leave(&cx(dir), &damaged).is_err(), "{damaged}");
            assert_eq!(fixture.state(), out, "{damaged}");
        }
        // A part of it is missing: an error, or what is left of it is undone; nothing else is.
        for key in before.as_object().unwrap().keys() {
            let mut cut = before.clone();
            cut.as_object_mut().unwrap().remove(key);
            match pool.rejoin(&cx(dir), &cut) {
                Err(error) => assert_eq!(error.kind(), PoolErrorKind::Local, "{key}: {error}"),
                Ok(Rejoined::LeftAlone(_)) => assert_eq!(fixture.state(), out, "without {key}"),
                Ok(Rejoined::Restored) => assert_eq!(fixture.state(), clean, "without {key}"),
            }
        }
        let mut later = before;
        let mut place = &mut later;
        if kind == "health-file" {
            // One of several things: what is known of it lies one deeper.
            place = place.as_object_mut().unwrap().values_mut().next().unwrap();
        }
        if place.is_object() {
            place["of a later version"] = json!({ "more": [1] });
        }
        assert_eq!(pool.rejoin(&cx(dir), &later).unwrap(), Rejoined::Restored);
    }
    assert_eq!(fixture.state(), clean);
    becomes(pool.as_ref(), dir, Membership::In);
}

fn a_restart_in_between(kind: &str, fixture: &mut dyn Fixture) {
    let pool = pool(kind, fixture.settings());
    let before = pool.prepare(&cx(fixture.dir())).unwrap();
    pool.leave(&cx(fixture.dir()), &before).unwrap();
    becomes(pool.as_ref(), fixture.dir(), Membership::Out);
    fixture.restart();
    let dir = fixture.dir();
    becomes(pool.as_ref(), dir, Membership::Out);
    let rejoined = pool.rejoin(&cx(dir), &before).unwrap();
    assert_eq!(rejoined, Rejoined::Restored);
    becomes(pool.as_ref(), dir, Membership::In);
}

fn a_receipt_that_was_lost(kind: &str, fixture: &mut dyn Fixture) {
    if fixture.mark_is_anonymous() {
        return;
    }
    let pool = pool(kind, fixture.settings());
    let dir = fixture.dir();
    let lost = pool.prepare(&cx(dir)).unwrap();
    pool.leave(&cx(dir), &lost).unwrap();
    let before = pool.prepare(&cx(dir)).unwrap();
    pool.leave(&cx(dir), &before).unwrap();
    let rejoined = pool.rejoin(&cx(dir), &before).unwrap();
    assert_eq!(rejoined, Rejoined::Restored);
    becomes(pool.as_ref(), dir, Membership::In);
}

/// What CONTRIBUTING shows as all that the smallest type in front of a server needs elsewhere is what stands there, and it is the smallest.
#[test]
fn the_smallest_pool_is_shown_as_it_is() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(top.join(file)).unwrap();
    let page = read("CONTRIBUTING.md");
    let shown = page.split("```diff\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap();
    let mut file = String::new();
    let mut added = 0;
    for line in shown.lines() {
        if let Some(name) = line.strip_prefix("--- ") {
            file = read(name);
        } else if let Some(line) = line.strip_prefix('+') {
            assert!(file.lines().any(|one| one == line), "not there: {line}");
            added += 1;
        }
    }
    assert_eq!(added, 2, "{shown}");
    let length = |name: &str| {
        let file = format!("src/pools/{}.rs", name.replace('-', "_"));
        std::fs::metadata(top.join(file)).map_or(u64::MAX, |meta| meta.len())
    };
    let at_a_server = KINDS.iter().map(|kind| kind.name);
    let at_a_server = at_a_server.filter(|name| crate::faults::has_server(name));
    let smallest = at_a_server.min_by_key(|name| length(name)).unwrap();
    assert!(
        shown.contains(&format!("super::{smallest}::KIND")),
        "{smallest}"
    );
    assert!(page.contains(&format!("`src/pools/{smallest}.rs`, the smallest")));
}

/// What CONTRIBUTING says: a file, its `mod` line, its line in the table, and nothing else in the rooms of the pools.
#[test]
fn a_type_of_pool_is_one_file_and_two_lines() {
    let pools = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pools");
    let read = |file: &str| std::fs::read_to_string(pools.join(file)).unwrap();
    let (rooms, table) = (read("mod.rs"), read("table.rs"));
    for kind in KINDS {
        let name = kind.name.replace('-', "_");
        let count =
            |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!(count(&rooms, &format!("mod {name};")), 1, "{name}");
        assert_eq!(count(&table, &format!("super::{name}::KIND,")), 1, "{name}");
        assert_eq!(count(&table, &name), 1, "{name} once more in the table");
        assert_eq!(count(&rooms, &name), 1, "{name} once more among the rooms");
        let own = [format!("{name}.rs"), name.clone()];
        for entry in std::fs::read_dir(&pools).unwrap() {
            let entry = entry.unwrap();
            let file = entry.file_name().into_string().unwrap();
            if entry.path().is_dir()
                || own.contains(&file)
                || file == "mod.rs"
                || file == "table.rs"
            {
                continue;
            }
            let text = read(&file);
            for path in [format!("super::{name}::"), format!("pools::{name}::")] {
                assert_eq!(count(&text, &path), 0, "{name} in {file}");
            }
        }
    }
}
