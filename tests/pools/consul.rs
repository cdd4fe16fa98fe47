//! Consul, for real: one agent with its own data for each test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use drainctl::pools::{Health, Membership, PoolErrorKind, Rejoined};
use drainctl::world::Root;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conformance::Fixture;
use crate::consul_agent::ConsulAgent;
use crate::support::{becomes, cx, eventually, free_port, pool, read};

struct Consul {
    agent: ConsulAgent,
    dir: TempDir,
    services: bool,
}

pub(crate) fn fixtures() -> Vec<Box<dyn Fixture>> {
    [false, true]
        .into_iter()
        .filter_map(|services| {
            Some(Box::new(Consul {
                agent: ConsulAgent::start(false)?,
                dir: tempfile::tempdir().unwrap(),
                services,
            }) as Box<dyn Fixture>)
        })
        .collect()
}

impl Consul {
    fn maintain(&self, query: &str) {
        let path = if self.services {
            "/v1/agent/service/maintenance/app-1"
        } else {
            "/v1/agent/maintenance"
        };
        self.agent.put(&format!("{path}?{query}"));
    }
}

impl Fixture for Consul {
    fn name(&self) -> &'static str {
        if self.services { "services" } else { "node" }
    }

    fn settings(&self) -> Value {
        let services: &[&str] = if self.services { &["app"] } else { &[] };
        json!({ "address": self.agent.address(), "services": services, "a key of a later version": 1 })
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The agent's checks; the output of a TTL check is not kept across restarts.
    fn state(&self) -> Value {
        let checks = self.agent.get("/v1/agent/checks");
        let checks = checks.as_object().unwrap().values();
        checks
            .map(|check| json!([check["CheckID"], check["Notes"]]))
            .collect()
    }

    fn take_out(&self) {
        self.maintain("enable=true&reason=new+disk");
    }

    fn put_back(&self) {
        self.maintain("enable=false");
    }

    fn is_taken_out(&self) -> bool {
        self.state().to_string().contains("\"new disk\"")
    }

    fn restart(&mut self) {
        self.agent.restart();
        self.agent.put("/v1/agent/check/pass/service:app-1");
    }

    fn receipt_0_1(&self) -> Value {
        let text = if self.services {
            include_str!("receipts/consul-services-0.1.json")
        } else {
            include_str!("receipts/consul-node-0.1.json")
        };
        let receipt: Value =
            serde_json::from_str(&text.replace("ADDRESS", &self.agent.address())).unwrap();
        let mark = receipt["before"]["mark"].as_str().unwrap();
        self.maintain(&format!(
            "enable=true&reason={}",
            drainctl::world::http::encode(mark)
        ));
        receipt
    }
}

#[test]
fn health_is_that_of_the_services_and_not_of_maintenance() {
    let Some(agent) = ConsulAgent::start(false) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pool = pool("consul", json!({ "address": agent.address() }));
    let cx = || cx(dir.path());
    let before = pool.prepare(&cx()).unwrap();
    assert_eq!(before["services"]["app-1"]["passing"], true);
    pool.leave(&cx(), &before).unwrap();
    assert_eq!(pool.health(&cx(), &before).unwrap(), Health::Passing);
    agent.put("/v1/agent/check/warn/service:app-1");
    assert_eq!(pool.health(&cx(), &before).unwrap(), Health::Passing);
    agent.put("/v1/agent/check/fail/service:app-1?note=starting%0Aand+more");
    assert_eq!(
        pool.health(&cx(), &before).unwrap(),
        Health::Failing("app answers: starting".to_owned())
    );
    // Maintenance is the pool's answer as long as it stands; afterwards the check that fails is.
    becomes(pool.as_ref(), dir.path(), Membership::Out);
    pool.rejoin(&cx(), &before).unwrap();
    // `plain` has no check and is in at once.
    becomes(pool.as_ref(), dir.path(), Membership::In);
    agent.put("/v1/agent/check/pass/service:app-1");
    eventually("passing", || {
        pool.health(&cx(), &before).unwrap() == Health::Passing
    });
}

#[test]
fn checks_by_ttl_and_by_script_are_waited_for_and_never_end_the_maintenance() {
    let dir = tempfile::tempdir().unwrap();
    let well = dir.path().join("well");
    fs::write(&well, "").unwrap();
    let script = json!({ "id": "script", "name": "the script", "args": ["sh", "-c", "test -e \"$0\" || exit 2", well], "interval": "100ms" });
    let ttl = json!({ "id": "ttl", "name": "the heartbeat", "ttl": "2s", "status": "passing" });
    let jobs = json!([{ "name": "jobs", "port": 18082, "checks": [script, ttl] }]);
    let Some(agent) = ConsulAgent::with(false, &jobs) else {
        return;
    };
    let beat = || agent.put("/v1/agent/check/pass/ttl");
    let pool = pool(
        "consul",
        json!({ "address": agent.address(), "services": ["jobs"] }),
    );
    let cx = || cx(dir.path());
    eventually("both checks pass", || {
        beat();
        pool.status(&cx()).is_ok_and(|is| is == Membership::In)
    });
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::Out);
    // The program that beats is down, as at a boot, and the script finds nothing.
    fs::remove_file(&well).unwrap();
    let failing = |what: &str| {
        let health = pool.health(&cx(), &before).unwrap();
        matches!(health, Health::Failing(why) if why.starts_with(what))
    };
    eventually("the script fails", || {
        beat();
        failing("the script")
    });
    fs::write(&well, "").unwrap();
    eventually("the heartbeat is missed", || failing("the heartbeat"));
    eventually("both pass again", || {
        beat();
        pool.health(&cx(), &before).unwrap() == Health::Passing
    });
    assert_eq!(pool.status(&cx()).unwrap(), Membership::Out);
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    eventually("it is in again", || {
        beat();
        pool.status(&cx()).is_ok_and(|is| is == Membership::In)
    });
}

#[test]
fn several_agents_are_several_pools() {
    let (Some(one), Some(other)) = (ConsulAgent::start(false), ConsulAgent::start(false)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pools = [&one, &other].map(|agent| pool("consul", json!({ "address": agent.address() })));
    let befores = pools
        .each_ref()
        .map(|pool| pool.prepare(&cx(dir.path())).unwrap());
    pools[0].leave(&cx(dir.path()), &befores[0]).unwrap();
    becomes(pools[0].as_ref(), dir.path(), Membership::Out);
    becomes(pools[1].as_ref(), dir.path(), Membership::In);
    pools[1].leave(&cx(dir.path()), &befores[1]).unwrap();
    becomes(pools[1].as_ref(), dir.path(), Membership::Out);
    for (pool, before) in pools.iter().zip(&befores) {
        assert_eq!(
            pool.rejoin(&cx(dir.path()), before).unwrap(),
            Rejoined::Restored
        );
        becomes(pool.as_ref(), dir.path(), Membership::In);
    }
}

#[test]
fn an_operators_maintenance_of_the_rest_is_left_alone_and_not_waited_for() {
    let Some(agent) = ConsulAgent::start(false) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let cx = || cx(dir.path());
    let alone = |reason: &str| Rejoined::LeftAlone(reason.to_owned());
    for (services, theirs) in [
        (json!(["app"]), &["/v1/agent/maintenance"][..]),
        (
            json!([]),
            &[
                "/v1/agent/service/maintenance/app-1",
                "/v1/agent/service/maintenance/plain",
            ],
        ),
    ] {
        let address = agent.address();
        let pool = pool(
            "consul",
            json!({ "address": address, "services": services }),
        );
        becomes(pool.as_ref(), dir.path(), Membership::In);
        let before = pool.prepare(&cx()).unwrap();
        pool.leave(&cx(), &before).unwrap();
        for path in theirs {
            agent.put(&format!("{path}?enable=true&reason=new+disk"));
        }
        let reasons = vec!["new disk"; theirs.len()].join("; ");
        assert_eq!(pool.rejoin(&cx(), &before).unwrap(), alone(&reasons));
        for path in theirs {
            agent.put(&format!("{path}?enable=false"));
        }
        becomes(pool.as_ref(), dir.path(), Membership::In);
    }
}

#[test]
fn services_that_are_gone_are_no_hindrance_and_missing_ones_are_named() {
    let Some(agent) = ConsulAgent::start(false) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let cx = || cx(dir.path());
    let of = |services: Value| {
        pool(
            "consul",
            json!({ "address": agent.address(), "services": services }),
        )
    };
    let error = of(json!(["ap"])).prepare(&cx()).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::NotMember);
    assert!(error.to_string().contains("\"ap\""), "{error}");

    // One is there and one is not: the one leaves, and the other is not passed over.
    let half = of(json!(["app", "ap"]));
    let before = half.prepare(&cx()).unwrap();
    let error = half.leave(&cx(), &before).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::NotMember);
    becomes(of(json!(["app"])).as_ref(), dir.path(), Membership::Out);
    assert_eq!(half.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);

    let both = of(json!(["app", "plain"]));
    let before = both.prepare(&cx()).unwrap();
    both.leave(&cx(), &before).unwrap();
    agent.put("/v1/agent/service/deregister/app-1");
    assert_eq!(both.health(&cx(), &before).unwrap(), Health::Passing);
    assert_eq!(both.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    becomes(of(json!(["plain"])).as_ref(), dir.path(), Membership::In);
}

#[test]
fn an_agent_is_reached_over_tls_with_its_own_authority_and_over_a_unix_socket() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let port = free_port();
    let mut socket = String::new();
    let agent = ConsulAgent::also(false, &json!([]), |config, dir| {
        let write = |name: &str, text: &str| {
            let file = dir.join(name);
            fs::write(&file, text).unwrap();
            file.display().to_string()
        };
        socket = dir.join("http.sock").display().to_string();
        config["cert_file"] = write("cert.pem", &made.cert.pem()).into();
        config["key_file"] = write("key.pem", &made.signing_key.serialize_pem()).into();
        config["ports"] = json!({ "https": port });
        config["addresses"] =
            json!({ "http": format!("127.0.0.1 unix://{socket}"), "https": "127.0.0.1" });
    });
    let Some(agent) = agent else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let cx = || cx(dir.path());
    fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
    let https = format!("https://127.0.0.1:{port}");
    for settings in [
        json!({ "address": https, "ca_file": "/ca.pem" }),
        json!({ "address": format!("unix://{socket}") }),
    ] {
        let pool = pool("consul", settings);
        becomes(pool.as_ref(), dir.path(), Membership::In);
        let before = pool.prepare(&cx()).unwrap();
        pool.leave(&cx(), &before).unwrap();
        becomes(pool.as_ref(), dir.path(), Membership::Out);
        assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    }
    assert!(
        !agent
            .get("/v1/agent/checks")
            .to_string()
            .contains("maintenance")
    );
    // Without the authority nobody is told anything.
    let error = pool("consul", json!({ "address": https }))
        .status(&cx())
        .unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::BadAnswer, "{error}");
}

#[test]
fn what_is_deployed_during_the_drain_leaves_too_and_comes_back() {
    let Some(agent) = ConsulAgent::start(false) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let cx = || cx(dir.path());
    let register = |id: &str| {
        let service = json!({ "Name": "app", "ID": id, "Port": 18080 });
        let path = "/v1/agent/service/register";
        agent.call("PUT", path, Some(&service)).unwrap();
    };
    for services in [json!(["app"]), json!([])] {
        let settings = json!({ "address": agent.address(), "services": services });
        let pool = pool("consul", settings);
        becomes(pool.as_ref(), dir.path(), Membership::In);
        let before = pool.prepare(&cx()).unwrap();
        pool.leave(&cx(), &before).unwrap();
        becomes(pool.as_ref(), dir.path(), Membership::Out);
        // The same one anew, and one beside it; what was said of a service is gone with it.
        agent.put("/v1/agent/service/deregister/app-1");
        register("app-1");
        register("app-2");
        pool.leave(&cx(), &before).unwrap();
        becomes(pool.as_ref(), dir.path(), Membership::Out);
        // An operator takes one more out meanwhile.
        register("app-3");
        agent.put("/v1/agent/service/maintenance/app-3?enable=true&reason=a%20new%20disk");
        pool.leave(&cx(), &before).unwrap();
        pool.rejoin(&cx(), &before).unwrap();
        let checks = agent.get("/v1/agent/checks");
        let marks = checks.as_object().unwrap().values();
        let marks: Vec<&str> = marks
            .filter(|check| check["CheckID"].as_str().unwrap().contains("maintenance"))
            .map(|check| check["Notes"].as_str().unwrap())
            .collect();
        assert_eq!(marks, ["a new disk"]);
        for id in ["app-2", "app-3"] {
            agent.put(&format!("/v1/agent/service/deregister/{id}"));
        }
    }
}

#[test]
fn a_node_without_services_is_judged_by_its_own_checks() {
    let Some(agent) = ConsulAgent::start(false) else {
        return;
    };
    for id in ["app-1", "plain"] {
        agent.put(&format!("/v1/agent/service/deregister/{id}"));
    }
    let dir = tempfile::tempdir().unwrap();
    let pool = pool("consul", json!({ "address": agent.address() }));
    let cx = || cx(dir.path());
    becomes(pool.as_ref(), dir.path(), Membership::In);
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::Out);
    pool.rejoin(&cx(), &before).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::In);
}

#[test]
fn an_agent_without_servers_leaves_and_is_not_taken_for_out() {
    let Some(mut agent) = ConsulAgent::start(false) else {
        return;
    };
    agent.lose_its_servers();
    let dir = tempfile::tempdir().unwrap();
    let pool = pool("consul", json!({ "address": agent.address() }));
    let cx = || cx(dir.path());
    // The agent will tell the servers once there are some; that they know is not certain until they say so.
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    let error = pool.status(&cx()).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Unreachable, "{error}");
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    // Nothing stands any more, as far as can be seen: that has to be certain too.
    let error = pool.rejoin(&cx(), &before).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Unreachable, "{error}");
}

#[test]
fn an_agent_that_is_gone_is_unreachable() {
    let Some(agent) = ConsulAgent::start(false) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pool = pool("consul", json!({ "address": agent.address() }));
    drop(agent);
    for error in [
        pool.prepare(&cx(dir.path())).unwrap_err(),
        pool.status(&cx(dir.path())).unwrap_err(),
    ] {
        assert_eq!(error.kind(), PoolErrorKind::Unreachable);
    }
}

#[test]
fn settings_are_checked_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("open"), "secret").unwrap();
    fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o644)).unwrap();
    let root = Root::at(dir.path());
    let read = |text: &str| read("consul", Some(&root), text);
    insta::assert_snapshot!(read(""), @r#"{"address":"http://127.0.0.1:8500","ca_file":null,"scope":null,"services":[],"token_env":null,"token_file":null}"#);
    let text = r#"
address = "http://me:hunter2@host"
scope = "node"
services = ["a", ""]
token_file = "/open"
token_env = "T"
ca_file = "/missing"
token = "hunter2"
"#;
    insta::assert_snapshot!(read(text), @"
    text:2: address: credentials do not belong into an address, which is stored and shown
    text:3: scope: the node and single services exclude each other; leave out one
    text:4: services: must not be empty
    text:5: token_file: can be read by every user; `chmod 600` it
    text:6: token_env: token_file is set too; leave out one
    text:7: ca_file: No such file or directory (os error 2)
    text:8: unknown key `token`; the keys are `address`, `scope`, `services`, `token_file`, `token_env`, `ca_file`
    ");
    insta::assert_snapshot!(read("scope = \"services\"\ntoken_env = \"5ec4e700-0000\""), @"
    text:1: scope: services has to name at least one
    text:2: token_env: must be the name of an environment variable
    ");
}

#[test]
fn who_is_out_is_told_with_the_reason() {
    let Some(agent) = ConsulAgent::start(false) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let pool = pool("consul", json!({ "address": agent.address() }));
    let out = || {
        let mut out = pool.absent(&cx(dir.path())).unwrap();
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out.into_iter()
            .map(|one| {
                assert!(one.on_purpose);
                (one.name, one.why, one.here, one.by_drainctl)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(out(), []);
    let entry = json!({
        "Node": "host2", "Address": "192.0.2.7",
        "Service": { "Service": "app", "ID": "app" },
        "Check": {
            "Node": "host2", "CheckID": "_node_maintenance", "Name": "Node Maintenance Mode", "Status": "critical",
            "Notes": "drainctl: draining this host (x, 1)",
        },
    });
    agent
        .call("PUT", "/v1/catalog/register", Some(&entry))
        .unwrap();
    agent.put("/v1/agent/maintenance?enable=true&reason=a+new+disk");
    eventually("both are told", || out().len() == 2);
    let text = |text: &str| text.to_owned();
    let ours = text("drainctl: draining this host (x, 1)");
    assert_eq!(
        out(),
        [
            (text("host1"), text("a new disk"), true, false),
            (text("host2"), ours, false, true)
        ]
    );
}
