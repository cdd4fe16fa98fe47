//! How many others there are, by the word of real servers.

use std::net::TcpListener;

use drainctl::pools::Peers;
use serde_json::{Value, json};

use crate::consul_agent::ConsulAgent;
use crate::haproxy_process::Haproxy;
use crate::support::{cx, eventually, pool};

fn others(healthy: u64, known: u64, of: &str) -> Peers {
    let of = of.to_owned();
    Peers::Others { healthy, known, of }
}

/// A node of the catalog with one instance of `service`, whose check has this status.
fn elsewhere(agent: &ConsulAgent, node: &str, service: &str, status: &str) {
    let body = json!({
        "Node": node, "Address": "192.0.2.7",
        "Service": { "Service": service, "ID": service },
        "Checks": [{ "Node": node, "CheckID": format!("{service}-check"), "Name": "answers", "Status": status, "ServiceID": service }],
    });
    agent
        .call("PUT", "/v1/catalog/register", Some(&body))
        .unwrap();
}

#[test]
fn consul_counts_the_healthy_instances_of_other_nodes() {
    let Some(agent) = ConsulAgent::start(false) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let whole = pool("consul", json!({ "address": agent.address() }));
    let app = pool(
        "consul",
        json!({ "address": agent.address(), "services": ["app"] }),
    );
    let cx = || cx(dir.path());
    assert_eq!(app.peers(&cx()).unwrap(), others(0, 0, "app"));
    elsewhere(&agent, "host2", "app", "passing");
    elsewhere(&agent, "host3", "app", "warning");
    elsewhere(&agent, "host4", "app", "critical");
    assert_eq!(app.peers(&cx()).unwrap(), others(2, 3, "app"));
    // `plain` is served here only.
    assert_eq!(whole.peers(&cx()).unwrap(), others(0, 0, "plain"));
    elsewhere(&agent, "host5", "plain", "passing");
    assert_eq!(whole.peers(&cx()).unwrap(), others(1, 1, "plain"));
    // A node in maintenance takes nothing.
    let maintenance = json!({
        "Node": "host5", "Address": "192.0.2.7",
        "Check": { "Node": "host5", "CheckID": "_node_maintenance", "Name": "Node Maintenance Mode", "Status": "critical" },
    });
    agent
        .call("PUT", "/v1/catalog/register", Some(&maintenance))
        .unwrap();
    assert_eq!(whole.peers(&cx()).unwrap(), others(0, 1, "plain"));
    // Once this host is out, nobody misses it.
    let before = whole.prepare(&cx()).unwrap();
    whole.leave(&cx(), &before).unwrap();
    eventually("out of the catalog", || {
        whole.peers(&cx()).unwrap() == Peers::Untold
    });
}

#[test]
fn haproxy_counts_the_other_servers_that_it_sends_to() {
    let dir = tempfile::tempdir().unwrap();
    let Some(process) = Haproxy::start(dir.path(), "one") else {
        return;
    };
    let pool = pool(
        "haproxy",
        json!({ "socket": "/one.sock", "servers": ["web/app1"] }),
    );
    let cx = || cx(dir.path());
    let is = |wanted: Peers| {
        eventually(&format!("{wanted:?}"), || {
            pool.peers(&cx()).unwrap() == wanted
        });
    };
    // `app2` fails its check, `off` is disabled.
    is(others(0, 2, "web"));
    let listener = TcpListener::bind(("127.0.0.1", process.app2)).unwrap();
    is(others(1, 2, "web"));
    process.ask("set server web/app2 state drain");
    is(others(0, 2, "web"));
    process.ask("set server web/app2 state ready");
    is(others(1, 2, "web"));
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    is(Peers::Untold);
    pool.rejoin(&cx(), &before).unwrap();
    is(others(1, 2, "web"));
    drop(listener);
}

#[test]
fn a_pool_that_knows_only_this_host_tells_nothing_and_one_that_is_gone_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = pool("health-file", json!({ "path": "/draining" }));
    assert_eq!(file.peers(&cx(dir.path())).unwrap(), Peers::Untold);
    let gone: [(&str, Value); 2] = [
        ("consul", json!({ "address": "http://127.0.0.1:1" })),
        (
            "haproxy",
            json!({ "socket": "/none.sock", "servers": ["web/app1"] }),
        ),
    ];
    for (kind, settings) in gone {
        assert!(pool(kind, settings).peers(&cx(dir.path())).is_err());
    }
}
