//! HAProxy, for real: processes of their own for each test.

use std::net::TcpListener;
use std::path::Path;

use drainctl::pools::{Health, Membership, PoolErrorKind, Rejoined};
use drainctl::world::Root;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bad_server::{Answer, BadServer};
use crate::conformance::Fixture;
use crate::haproxy_process::Haproxy;
use crate::support::{becomes, cx, eventually, find, pool, read};

/// One server in one process, drained; or two servers in two processes, put into maintenance.
struct Balancers {
    dir: TempDir,
    processes: Vec<Haproxy>,
}

pub(crate) fn fixtures() -> Vec<Box<dyn Fixture>> {
    [&["one"][..], &["one", "two"][..]]
        .into_iter()
        .filter_map(|names| {
            let dir = tempfile::tempdir().unwrap();
            let processes = names.iter().map(|name| Haproxy::start(dir.path(), name));
            let processes = processes.collect::<Option<_>>()?;
            Some(Box::new(Balancers { dir, processes }) as Box<dyn Fixture>)
        })
        .collect()
}

impl Balancers {
    fn is_drain(&self) -> bool {
        self.processes.len() == 1
    }

    fn servers(&self) -> &'static [&'static str] {
        if self.is_drain() {
            &["web/app1"]
        } else {
            &["web/app1", "api/app1"]
        }
    }

    fn set(&self, state: &str) {
        for process in &self.processes {
            for server in self.servers() {
                let answer = process.ask(&format!("set server {server} state {state}"));
                assert_eq!(answer, "\n");
            }
        }
    }
}

impl Fixture for Balancers {
    fn name(&self) -> &'static str {
        if self.is_drain() { "drain" } else { "maint" }
    }

    fn settings(&self) -> Value {
        let socket = if self.is_drain() {
            json!("/one.sock")
        } else {
            json!(["/one.sock", "/two.sock"])
        };
        json!({ "socket": socket, "servers": self.servers(), "leave": self.name(), "a key of a later version": 1 })
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn state(&self) -> Value {
        self.processes
            .iter()
            .map(|one| json!(one.states()))
            .collect()
    }

    /// What tells an operator's state from ours is that it is another one.
    fn take_out(&self) {
        self.set(if self.is_drain() { "maint" } else { "drain" });
    }

    fn put_back(&self) {
        self.set("ready");
    }

    fn is_taken_out(&self) -> bool {
        let admin = if self.is_drain() { "1" } else { "8" };
        self.processes.iter().all(|process| {
            let states = process.states();
            self.servers().iter().all(|server| {
                states.iter().any(|[backend, name, state, _]| {
                    format!("{backend}/{name}") == **server && state == admin
                })
            })
        })
    }

    fn mark_is_anonymous(&self) -> bool {
        true
    }

    fn restart(&mut self) {
        for process in &mut self.processes {
            process.restart();
        }
    }

    fn receipt_0_1(&self) -> Value {
        let text = if self.is_drain() {
            include_str!("receipts/haproxy-drain-0.1.json")
        } else {
            include_str!("receipts/haproxy-maint-0.1.json")
        };
        self.set(self.name());
        let text = text
            .replace("/SOCKET1", "/one.sock")
            .replace("SOCKET2", "/two.sock");
        serde_json::from_str(&text).unwrap()
    }
}

fn one(server: &str) -> Option<(TempDir, Haproxy, Value)> {
    let dir = tempfile::tempdir().unwrap();
    let process = Haproxy::start(dir.path(), "one")?;
    let settings = json!({ "socket": "/one.sock", "servers": [server] });
    Some((dir, process, settings))
}

#[test]
fn a_server_that_haproxy_does_not_have_is_no_member() {
    let Some((dir, _process, settings)) = one("web/app1") else {
        return;
    };
    let before = pool("haproxy", settings).prepare(&cx(dir.path())).unwrap();
    for unknown in ["web/nobody", "nothing/app1"] {
        let of = |servers: &[&str]| {
            let settings = json!({ "socket": "/one.sock", "servers": servers });
            pool("haproxy", settings)
        };
        // The other one leaves nevertheless.
        let half = of(&["web/app1", unknown]);
        let stood = half.prepare(&cx(dir.path())).unwrap();
        assert!(half.leave(&cx(dir.path()), &stood).is_err());
        assert_eq!(
            of(&["web/app1"]).status(&cx(dir.path())).unwrap(),
            Membership::Out
        );
        assert_eq!(
            half.rejoin(&cx(dir.path()), &stood).unwrap(),
            Rejoined::Restored
        );
        for error in [
            of(&[unknown]).prepare(&cx(dir.path())).unwrap_err(),
            half.leave(&cx(dir.path()), &before).unwrap_err(),
            half.status(&cx(dir.path())).unwrap_err(),
        ] {
            assert_eq!(error.kind(), PoolErrorKind::NotMember);
            assert!(error.to_string().contains(unknown), "{error}");
        }
        assert_eq!(
            half.rejoin(&cx(dir.path()), &stood).unwrap(),
            Rejoined::Restored
        );
    }
}

#[test]
fn a_socket_without_the_right_is_refused_and_the_remedy_named() {
    let Some((dir, process, mut settings)) = one("web/app1") else {
        return;
    };
    for socket in [&process.operator(), "/one.user"] {
        settings["socket"] = socket.into();
        let pool = pool("haproxy", settings.clone());
        let before = pool.prepare(&cx(dir.path())).unwrap();
        let error = pool.leave(&cx(dir.path()), &before).unwrap_err();
        assert_eq!(error.kind(), PoolErrorKind::Refused);
        assert!(error.to_string().contains("level admin"), "{error}");
        assert_eq!(pool.status(&cx(dir.path())).unwrap(), Membership::In);
    }
}

#[test]
fn a_server_that_follows_another_ones_checks_is_drained_by_itself_and_with_it() {
    let Some((dir, process, settings)) = one("follow/app1") else {
        return;
    };
    let pool = pool("haproxy", settings);
    let cx = || cx(dir.path());
    let _listener = TcpListener::bind(("127.0.0.1", process.app2)).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::In);
    let clean = process.states();
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    assert_eq!(pool.status(&cx()).unwrap(), Membership::Out);
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    assert_eq!(process.states(), clean);
    // Out with the one that it follows, which somebody has taken out: nothing of ours to undo there.
    for state in ["drain", "maint"] {
        process.ask(&format!("set server web/app2 state {state}"));
        assert_eq!(pool.status(&cx()).unwrap(), Membership::Out, "{state}");
        let before = pool.prepare(&cx()).unwrap();
        pool.leave(&cx(), &before).unwrap();
        assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
        assert!(process.ask("show servers state web").contains(" app2 "));
        assert_eq!(pool.status(&cx()).unwrap(), Membership::Out, "{state}");
        process.ask("set server web/app2 state ready");
        becomes(pool.as_ref(), dir.path(), Membership::In);
        assert_eq!(process.states(), clean);
    }
}

#[test]
fn a_server_that_was_added_while_haproxy_runs_is_one_like_any_other() {
    let Some((dir, process, settings)) = one("fleet/late") else {
        return;
    };
    let pool = pool("haproxy", settings);
    let cx = || cx(dir.path());
    let add = || {
        process.ask("add server fleet/late 127.0.0.1:1");
        process.ask("enable server fleet/late");
        assert_eq!(pool.status(&cx()).unwrap(), Membership::In);
    };
    assert_eq!(
        pool.prepare(&cx()).unwrap_err().kind(),
        PoolErrorKind::NotMember
    );
    add();
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    assert_eq!(pool.status(&cx()).unwrap(), Membership::Out);
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    assert_eq!(pool.status(&cx()).unwrap(), Membership::In);
    // Whoever deploys takes it away while it is out, and adds it anew.
    pool.leave(&cx(), &before).unwrap();
    process.ask("set server fleet/late state maint");
    let gone = process.ask("del server fleet/late");
    assert!(gone.contains("deleted"), "{gone}");
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    add();
}

#[test]
fn one_process_that_is_gone_keeps_no_other_in() {
    let Some((dir, process, mut settings)) = one("web/app1") else {
        return;
    };
    settings["socket"] = json!(["/two.sock", "/one.sock"]);
    let pool = pool("haproxy", settings);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    let error = pool.leave(&cx(dir.path()), &before).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Unreachable);
    assert!(error.to_string().contains("/two.sock"), "{error}");
    assert!(process.ask("show stat").contains(",DRAIN,"));
}

#[test]
fn weights_and_what_an_operator_forces_between_stay() {
    let Some((dir, process, settings)) = one("web/app1") else {
        return;
    };
    let pool = pool("haproxy", settings);
    let cx = || cx(dir.path());
    process.ask("set server web/app1 weight 0");
    let clean = process.states();
    // Without a weight nothing is sent, whatever the state is.
    assert_eq!(pool.status(&cx()).unwrap(), Membership::Out);
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    pool.rejoin(&cx(), &before).unwrap();
    assert_eq!(process.states(), clean);
    // An operator was between the receipt and the leave, and comes back to us after the drain.
    process.ask("set server web/app1 state maint");
    pool.leave(&cx(), &before).unwrap();
    assert!(process.ask("show stat").contains(",MAINT,"));
    let rejoined = pool.rejoin(&cx(), &before).unwrap();
    assert_eq!(rejoined, Rejoined::LeftAlone("web/app1: MAINT".to_owned()));
    // `disabled` in HAProxy's own config is somebody's will too.
    let pool = crate::support::pool(
        "haproxy",
        json!({ "socket": "/one.sock", "servers": ["web/off"] }),
    );
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    let rejoined = pool.rejoin(&cx(), &before).unwrap();
    assert!(matches!(rejoined, Rejoined::LeftAlone(_)), "{rejoined:?}");
}

#[test]
fn health_is_what_the_checks_say_while_it_drains() {
    let Some((dir, process, settings)) = one("web/app2") else {
        return;
    };
    let pool = pool("haproxy", settings);
    let cx = || cx(dir.path());
    becomes(pool.as_ref(), dir.path(), Membership::Out);
    let was_down = pool.prepare(&cx()).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", process.app2)).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::In);
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    assert_eq!(pool.health(&cx(), &before).unwrap(), Health::Passing);
    drop(listener);
    eventually("the check fails", || {
        pool.health(&cx(), &before).unwrap() != Health::Passing
    });
    let Health::Failing(why) = pool.health(&cx(), &before).unwrap() else {
        panic!("the check fails and passes");
    };
    assert!(why.contains("web/app2") && why.contains("L4CON"), "{why}");
    // One that was down before holds nothing up.
    assert_eq!(pool.health(&cx(), &was_down).unwrap(), Health::Passing);
    let _listener = TcpListener::bind(("127.0.0.1", process.app2)).unwrap();
    eventually("the check passes", || {
        pool.health(&cx(), &before).unwrap() == Health::Passing
    });
    // In maintenance the checks rest.
    process.ask("set server web/app2 state maint");
    assert_eq!(pool.health(&cx(), &before).unwrap(), Health::Passing);
}

fn before(socket: &str) -> Value {
    json!({ "leave": "drain", "sockets": { socket: { "web/app1": { "admin": 0, "up": true } } } })
}

#[test]
fn no_answer_crashes_it_and_none_without_the_words_is_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = BadServer::start(Answer::Hang);
    let socket = server.address().trim_start_matches("http://");
    let pool = pool(
        "haproxy",
        json!({ "socket": socket, "servers": ["web/app1"] }),
    );
    let word = prop_oneof![
        Just("web".to_owned()),
        Just("app1".to_owned()),
        Just("be_id".to_owned()),
        Just("srv_name".to_owned()),
        Just("srv_admin_state".to_owned()),
        Just("srv_op_state".to_owned()),
        Just("status".to_owned()),
        Just("2".to_owned()),
        "[ -~]{0,4}".prop_filter("a weight of nothing is out", |word| !word.contains('0')),
    ];
    let line = prop::collection::vec(word, 0..9);
    let answer = prop::collection::vec((line, prop::sample::select(vec![" ", ","])), 0..6);
    proptest!(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() }, |(answer in answer)| {
        let lines: Vec<String> = answer.iter().map(|(words, between)| words.join(between)).collect();
        server.set(Answer::Raw(format!("1\n# {}\n", lines.join("\n")).into_bytes()));
        let _ = pool.prepare(&cx(dir.path()));
        let _ = pool.health(&cx(dir.path()), &before(socket));
        let _ = pool.rejoin(&cx(dir.path()), &before(socket));
        let status = pool.status(&cx(dir.path()));
        prop_assert!(!matches!(status, Ok(Membership::Out)), "{:?}", status);
    });
}

#[test]
fn it_is_found_where_one_of_several_servers_is_this_host() {
    let Some((dir, _process, _)) = one("web/app1") else {
        return;
    };
    let socket = dir.path().join("one.sock").display().to_string();
    let looked = find("haproxy", &Root::host(), &json!({}));
    // Other tests' processes have the same servers, and are of the same pool.
    let pool = looked.found.iter().find(|pool| {
        let (_, sockets) = &pool.keys[0];
        sockets == &json!(socket)
            || sockets
                .as_array()
                .is_some_and(|all| all.contains(&json!(socket)))
    });
    let pool = pool.unwrap_or_else(|| panic!("{socket} is not found: {looked:?}"));
    assert_eq!((pool.name.as_str(), pool.kind()), ("haproxy", "haproxy"));
    assert_eq!(pool.keys[1], ("servers".to_owned(), json!(["fleet/app1"])));
    let alone = format!("{socket}: HAProxy sends the backend web to this host alone");
    assert!(
        looked
            .remarks
            .iter()
            .any(|remark| remark.starts_with(&alone)),
        "{looked:?}"
    );
}

#[test]
fn settings_are_checked_with_their_lines() {
    let read = |text: &str| read("haproxy", None, text);
    assert_eq!(
        read("servers = [\"web/app1\"]"),
        r#"{"leave":"drain","servers":["web/app1"],"socket":"/run/haproxy/admin.sock"}"#
    );
    assert!(read("").contains("servers: must name this host's servers"));
    for (text, what) in [
        (
            "\nservers = [\"app1\"]",
            "text:2: servers: must be \"backend/server\"",
        ),
        (
            "\nservers = [\"web/a; shutdown sessions server web/b\"]",
            "text:2: servers: must be \"backend/server\"",
        ),
        (
            "servers = [\"a/b/c\"]",
            "text:1: servers: must be \"backend/server\"",
        ),
        (
            "servers = [\"a/b\"]\nsocket = \"admin.sock\"",
            "text:2: socket: must be the absolute path of a socket, or host:port",
        ),
        (
            "servers = [\"a/b\"]\nsocket = [\n\"/a\",\n\"/a\"]",
            "text:4: socket: is named twice; remove one",
        ),
        (
            "servers = [\"a/b\"]\nsocket = 7",
            "text:2: socket: must be a socket's path or host:port, or a list of them",
        ),
    ] {
        assert!(read(text).contains(what), "{}", read(text));
    }
}

#[test]
fn who_is_out_and_the_level_of_a_socket_are_told() {
    let Some((dir, process, settings)) = one("web/app1") else {
        return;
    };
    let pool = pool("haproxy", settings);
    let out = || {
        let out = pool.absent(&cx(dir.path())).unwrap().into_iter();
        out.map(|one| (one.name, one.here)).collect::<Vec<_>>()
    };
    // `app2` fails its check.
    let named = |name: &str| (name.to_owned(), false);
    eventually("app2 is down", || {
        out() == [named("web/app2"), named("web/off")]
    });
    process.ask("set server web/app1 state drain");
    assert!(out().contains(&("web/app1".to_owned(), true)));
    let missing = |socket: &str| {
        let settings = json!({ "socket": socket, "servers": ["web/app1"] });
        let pool = crate::support::pool("haproxy", settings);
        pool.missing_rights(&cx(dir.path())).unwrap()
    };
    assert!(missing("/one.sock").is_empty());
    for socket in [&process.operator(), "/one.user"] {
        let told = missing(socket);
        assert!(told[0].contains("level admin"), "{told:?}");
    }
}
