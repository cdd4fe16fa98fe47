//! What the Consul pool makes of a server that misbehaves.

use std::fs;

use drainctl::pools::{Context, Membership, Pool, PoolError, PoolErrorKind};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bad_server::{Answer, BadServer};
use crate::support::{cx, pool, said};

const SECRET: &str = "5ec4e700-dead-4000-8000-00000000beef";

fn before() -> Value {
    json!({
        "mark": "drainctl: draining this host (x, 1)",
        "services": { "app-1": { "name": "app", "passing": true, "maintenance": null } },
    })
}

/// Each operation once; `None` where it did not fail.
fn errors(pool: &dyn Pool, cx: impl Fn() -> Context) -> [Option<PoolError>; 5] {
    [
        pool.prepare(&cx()).err(),
        pool.leave(&cx(), &before()).err(),
        pool.status(&cx()).err(),
        pool.health(&cx(), &before()).err(),
        pool.rejoin(&cx(), &before()).err(),
    ]
}

#[test]
fn a_token_that_comes_back_in_an_answer_goes_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), SECRET).unwrap();
    let check = |id: &str, service: &str| {
        json!({ "Node": SECRET, "CheckID": id, "Name": SECRET, "Status": "critical", "Notes": SECRET,
                "Output": SECRET, "ServiceID": service })
    };
    let checks =
        json!({ "a": check("a", "app-1"), "_node_maintenance": check("_node_maintenance", "") });
    let services = json!({ "app-1": { "Service": SECRET } });
    let server = BadServer::start(Answer::Bodies(vec![
        ("/v1/agent/checks", checks.to_string().into_bytes()),
        ("/v1/agent/services", services.to_string().into_bytes()),
        ("/v1/health", json!([SECRET]).to_string().into_bytes()),
    ]));
    let pool = pool(
        "consul",
        json!({ "address": server.address(), "token_file": "/token" }),
    );
    let cx = || cx(dir.path());
    let told = [
        pool.prepare(&cx()).unwrap().to_string(),
        said(&pool.status(&cx()).unwrap_err(), SECRET),
        format!("{:?}", pool.health(&cx(), &before()).unwrap()),
        format!("{:?}", pool.rejoin(&cx(), &before()).unwrap()),
    ];
    for told in told {
        assert!(!told.contains(SECRET), "{told}");
    }
}

#[test]
fn a_token_that_cannot_be_had_is_a_local_fault_that_names_its_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("empty"), " \n").unwrap();
    fs::write(dir.path().join("lines"), format!("{SECRET}\n{SECRET}")).unwrap();
    fs::write(dir.path().join("large"), SECRET.repeat(1000)).unwrap();
    let server = BadServer::start(Answer::Echo(403));
    let cases = [
        (json!({ "token_file": "/missing" }), "/missing"),
        (json!({ "token_file": "/empty" }), "/empty"),
        (json!({ "token_file": "/large" }), "/large"),
        (json!({ "token_file": "/lines" }), ""),
        (
            json!({ "token_env": "DRAINCTL_TEST_NOT_SET" }),
            "$DRAINCTL_TEST_NOT_SET",
        ),
    ];
    for (mut settings, named) in cases {
        settings["address"] = server.address().into();
        let pool = pool("consul", settings);
        for error in errors(pool.as_ref(), || cx(dir.path())) {
            let error = error.unwrap();
            assert_eq!(error.kind(), PoolErrorKind::Local, "{error}");
            assert!(said(&error, SECRET).contains(named), "{error}");
        }
    }
}

#[test]
fn a_token_from_the_environment_is_sent_and_not_told() {
    let dir = tempfile::tempdir().unwrap();
    // Set by cargo for every test.
    let token = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let server = BadServer::start(Answer::Bodies(vec![]));
    server.set(Answer::Echo(200));
    let pool = pool(
        "consul",
        json!({ "address": server.address(), "token_env": "CARGO_MANIFEST_DIR" }),
    );
    for error in errors(pool.as_ref(), || cx(dir.path()))
        .into_iter()
        .flatten()
    {
        said(&error, &token);
    }
    server.set(Answer::Echo(403));
    // Named by the echo: the header was there, and its value is not.
    let error = pool.prepare(&cx(dir.path())).unwrap_err();
    said(&error, &token);
}

#[test]
fn only_the_catalog_says_out_and_only_of_what_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let server = BadServer::start(Answer::Hang);
    let pool = pool("consul", json!({ "address": server.address() }));
    let check = |id: &str, status: &str| {
        let service = if id == "app" { "app-1" } else { "" };
        json!({ "Node": "host1", "CheckID": id, "Name": id, "Status": status, "ServiceID": service })
    };
    let maintenance = check("_node_maintenance", "critical");
    let alive = check("serfHealth", "passing");
    let status = |told: bool, node: Value, instances: Value| {
        let mut own = json!({ "app": check("app", "passing") });
        if told {
            own["_node_maintenance"] = maintenance.clone();
        }
        let bodies = [
            ("/v1/agent/checks", own),
            (
                "/v1/agent/services",
                json!({ "app-1": { "Service": "app" } }),
            ),
            ("/v1/health/node/host1?consistent", node),
            ("/v1/health/service/app?consistent", instances),
        ];
        let bodies = bodies.map(|(path, body)| (path, body.to_string().into_bytes()));
        server.set(Answer::Bodies(bodies.to_vec()));
        pool.status(&cx(dir.path())).map_err(|error| error.kind())
    };
    let on = |node: &str, checks: Value| json!({ "Node": { "Node": node }, "Service": { "ID": "app-1" }, "Checks": checks });
    let ours = |checks: Value| json!([on("host2", json!([alive])), on("host1", checks)]);
    let failing = check("app", "critical");

    let node = json!([alive]);
    let out = json!([alive, maintenance]);
    let unknown = Err(PoolErrorKind::Refused);
    for (told, node, instances, is) in [
        (false, &node, ours(json!([alive])), Ok(Membership::In)),
        (false, &node, ours(json!(null)), Ok(Membership::In)),
        (
            false,
            &node,
            ours(json!([check("app", "warning")])),
            Ok(Membership::In),
        ),
        (false, &node, ours(json!([failing])), Ok(Membership::Out)),
        // The agent has been told, the catalog has not: what fails by chance may pass again.
        (true, &node, ours(json!([alive])), Ok(Membership::Leaving)),
        (true, &node, ours(json!([failing])), Ok(Membership::Leaving)),
        (true, &out, ours(json!([alive])), Ok(Membership::Leaving)),
        (true, &out, ours(out.clone()), Ok(Membership::Out)),
        // What an answer does not show is hidden or not there yet; neither is out.
        (true, &json!([]), ours(out.clone()), unknown),
        (true, &out, json!([]), unknown),
        (true, &out, json!([on("host2", out.clone())]), unknown),
    ] {
        assert_eq!(
            status(told, node.clone(), instances.clone()),
            is,
            "{told} {node} {instances}"
        );
    }
}

/// JSON in the vocabulary of Consul's answers, with every status but the one that means "out".
fn answer() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("passing".to_owned()),
        Just("warning".to_owned()),
        Just("_node_maintenance".to_owned()),
        Just("_service_maintenance:app-1".to_owned()),
        Just("app-1".to_owned()),
        Just("app".to_owned()),
        Just("host1".to_owned()),
        Just(String::new()),
        any::<String>().prop_filter("the one word that means out", |text| text != "critical"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    let check = (text.clone(), text.clone(), text.clone(), text.clone()).prop_map(
        |(node, id, status, service)| {
            json!({ "Node": node, "CheckID": id, "Name": "n", "Status": status, "ServiceID": service })
        },
    );
    let checks = prop::collection::vec(check.clone(), 0..4).prop_map(Value::from);
    let instance = (text.clone(), text.clone(), checks.clone()).prop_map(|(node, id, checks)| {
        json!({ "Node": { "Node": node }, "Service": { "ID": id, "Service": "app" }, "Checks": checks })
    });
    let inner = prop_oneof![
        leaf,
        check.clone(),
        checks,
        prop::collection::vec(instance, 0..3).prop_map(Value::from),
        prop::collection::btree_map(text.clone(), check, 0..4)
            .prop_map(|map| map.into_iter().collect()),
        text.clone()
            .prop_map(|name| json!({ "app-1": { "Service": name } })),
        text.clone()
            .prop_map(|name| json!({ "Config": { "NodeName": name } })),
    ];
    inner.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text.clone(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => answer().prop_map(|answer| answer.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

#[test]
fn no_answer_crashes_it_and_none_without_a_critical_check_is_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = BadServer::start(Answer::Hang);
    let pools = [json!([]), json!(["app"])].map(|services| {
        pool(
            "consul",
            json!({ "address": server.address(), "services": services }),
        )
    });
    proptest!(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() },
        |(own in body(), checks in body(), services in body(), health in body(), service in body())| {
        server.set(Answer::Bodies(vec![
            ("/v1/agent/self", own),
            ("/v1/agent/checks", checks),
            ("/v1/agent/services", services),
            ("/v1/health/node", health),
            ("/v1/health/service", service),
        ]));
        for pool in &pools {
            let _ = errors(pool.as_ref(), || cx(dir.path()));
            let status = pool.status(&cx(dir.path()));
            prop_assert!(!matches!(status, Ok(Membership::Out)), "{:?}", status);
        }
    });
}
