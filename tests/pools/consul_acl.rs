//! Consul with ACLs: which rights a token needs, and what is done without them.

use std::fs;

use drainctl::pools::{Membership, PoolErrorKind, Rejoined};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::consul_agent::{ConsulAgent, MASTER};
use crate::support::{becomes, cx, pool, said};

/// An agent, a directory for the token, and settings that read it from there.
fn with_acl() -> Option<(ConsulAgent, TempDir, Value)> {
    let agent = ConsulAgent::start(true)?;
    let dir = tempfile::tempdir().unwrap();
    let settings = json!({ "address": agent.address(), "token_file": "/token" });
    Some((agent, dir, settings))
}

fn use_token(dir: &TempDir, token: &str) {
    fs::write(dir.path().join("token"), format!("{token}\n")).unwrap();
}

const DRAINER: &str = "d4a10e40-0000-4000-8000-000000000002";
/// What the documentation says that a token needs.
const DRAINER_RULES: &str = r#"
    agent "host1" { policy = "read" }
    node "host1" { policy = "write" }
    service_prefix "" { policy = "read" }
"#;

#[test]
fn a_token_with_the_documented_rights_drains_a_node_and_may_be_rotated() {
    let Some((agent, dir, settings)) = with_acl() else {
        return;
    };
    agent.token(DRAINER, DRAINER_RULES);
    let pool = pool("consul", settings);
    use_token(&dir, DRAINER);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::Out);
    let next = "d4a10e40-0000-4000-8000-000000000003";
    agent.token(next, DRAINER_RULES);
    use_token(&dir, next);
    for _ in 0..2 {
        assert_eq!(
            pool.rejoin(&cx(dir.path()), &before).unwrap(),
            Rejoined::Restored
        );
    }
    becomes(pool.as_ref(), dir.path(), Membership::In);
    assert!(!before.to_string().contains(DRAINER));
}

#[test]
fn a_token_with_rights_to_one_service_drains_it() {
    let Some((agent, dir, mut settings)) = with_acl() else {
        return;
    };
    agent.token(
        DRAINER,
        r#"service "app" { policy = "write" } node "host1" { policy = "read" }"#,
    );
    settings["services"] = json!(["app-1"]);
    let pool = pool("consul", settings);
    use_token(&dir, DRAINER);
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::Out);
    // The other service of the node goes on.
    let passing = agent.get("/v1/health/service/plain?passing=1");
    assert_eq!(passing.as_array().unwrap().len(), 1);
    pool.rejoin(&cx(dir.path()), &before).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::In);
}

#[test]
fn a_token_that_is_not_taken_is_refused_and_never_told() {
    let Some((_agent, dir, settings)) = with_acl() else {
        return;
    };
    let pool = pool("consul", settings);
    let before = json!({ "mark": "drainctl: draining this host (x, 1)", "services": {} });
    let unknown = "0badf00d-0000-4000-8000-000000000004";
    use_token(&dir, unknown);
    let cx = || cx(dir.path());
    let errors = [
        pool.prepare(&cx()).unwrap_err(),
        pool.leave(&cx(), &before).unwrap_err(),
        pool.status(&cx()).unwrap_err(),
        pool.health(&cx(), &before).unwrap_err(),
        pool.rejoin(&cx(), &before).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), PoolErrorKind::Refused, "{error}");
        let told = said(&error, unknown);
        assert!(told.contains("ACL not found"), "{told}");
    }
}

#[test]
fn what_a_token_may_not_see_is_neither_out_nor_gone() {
    let Some((agent, dir, settings)) = with_acl() else {
        return;
    };
    agent.token(DRAINER, DRAINER_RULES);
    let blind = "b11d0000-0000-4000-8000-000000000005";
    agent.token(blind, "");
    let node_only = "b11d0000-0000-4000-8000-000000000006";
    agent.token(node_only, r#"node "host1" { policy = "write" }"#);
    let pool = pool("consul", settings.clone());
    use_token(&dir, DRAINER);
    let cx = || cx(dir.path());
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    becomes(pool.as_ref(), dir.path(), Membership::Out);

    // The right to write the node is enough to see that it is out, services or not.
    use_token(&dir, node_only);
    assert_eq!(pool.status(&cx()).unwrap(), Membership::Out);
    // Without any right the lists are empty, and every answer would be 200.
    for token in [blind, ""] {
        let settings = if token.is_empty() {
            json!({ "address": agent.address() })
        } else {
            settings.clone()
        };
        let pool = crate::support::pool("consul", settings);
        use_token(&dir, blind);
        for error in [
            pool.status(&cx()).unwrap_err(),
            pool.rejoin(&cx(), &before).unwrap_err(),
            pool.health(&cx(), &before).unwrap_err(),
            pool.leave(&cx(), &before).unwrap_err(),
        ] {
            assert_eq!(error.kind(), PoolErrorKind::Refused, "{error}");
            said(&error, blind);
        }
    }
    // Nothing of it has changed anything.
    use_token(&dir, DRAINER);
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
    becomes(pool.as_ref(), dir.path(), Membership::In);

    // A service that is hidden is not one that nobody registered.
    let mut one = settings;
    one["services"] = json!(["app"]);
    let pool = crate::support::pool("consul", one);
    use_token(&dir, MASTER);
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    use_token(&dir, blind);
    assert_eq!(
        pool.rejoin(&cx(), &before).unwrap_err().kind(),
        PoolErrorKind::Refused
    );
    assert_eq!(
        pool.status(&cx()).unwrap_err().kind(),
        PoolErrorKind::Refused
    );
    use_token(&dir, MASTER);
    assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
}

#[test]
fn the_rights_that_a_token_lacks_are_named_and_nothing_is_changed_to_find_out() {
    let Some((agent, dir, mut settings)) = with_acl() else {
        return;
    };
    let reader = "4ead0000-0000-4000-8000-000000000007";
    agent.token(
        reader,
        r#"node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }"#,
    );
    agent.token(DRAINER, DRAINER_RULES);
    let missing = |settings: &Value, token: &str| {
        use_token(&dir, token);
        let pool = crate::support::pool("consul", settings.clone());
        pool.missing_rights(&cx(dir.path())).unwrap()
    };
    assert_eq!(missing(&settings, reader), [r#"node:write on "host1""#]);
    assert!(missing(&settings, DRAINER).is_empty());
    settings["services"] = json!(["app"]);
    assert_eq!(missing(&settings, DRAINER), [r#"service:write on "app""#]);
    assert!(missing(&settings, MASTER).is_empty());
    let checks = agent.get("/v1/agent/checks").to_string();
    assert!(!checks.contains("maintenance"), "{checks}");
    // Without ACLs nobody lacks anything.
    let agent = ConsulAgent::start(false).unwrap();
    let pool = crate::support::pool("consul", json!({ "address": agent.address() }));
    assert!(pool.missing_rights(&cx(dir.path())).unwrap().is_empty());
}
