//! Templates of HTTP requests, against a real server with an API and a memory: Consul's key-value store and its agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use drainctl::pools::{Membership, PoolErrorKind, Rejoined};
use drainctl::world::Root;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bad_server::{Answer, BadServer};
use crate::conformance::Fixture;
use crate::consul_agent::{ConsulAgent, MASTER};
use crate::support::{cx, pool, read, said};

const SECRET: &str = "5ec4e700-dead-4000-8000-00000000beef";

/// Values in a document, which tell whose they are; or nothing but the status of a health check.
struct Api {
    agent: ConsulAgent,
    dir: TempDir,
    values: bool,
}

pub(crate) fn fixtures() -> Vec<Box<dyn Fixture>> {
    [true, false]
        .into_iter()
        .filter_map(|values| {
            let api = Api {
                agent: ConsulAgent::start(false)?,
                dir: tempfile::tempdir().unwrap(),
                values,
            };
            api.put_back();
            Some(Box::new(api) as Box<dyn Fixture>)
        })
        .collect()
}

fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

impl Api {
    fn receipt(&self) -> Value {
        let text = if self.values {
            include_str!("receipts/http-values-0.1.json")
        } else {
            include_str!("receipts/http-statuses-0.1.json")
        };
        serde_json::from_str(&text.replace("ADDRESS", &self.agent.address())).unwrap()
    }

    fn set(&self, value: &str) {
        if self.values {
            let document = json!({ "instance": { "status": value } });
            let path = format!("/v1/kv/hosts/{}", host());
            self.agent.call("PUT", &path, Some(&document)).unwrap();
        } else {
            let enable = value != "UP";
            let path =
                format!("/v1/agent/service/maintenance/app-1?enable={enable}&reason={value}");
            self.agent.put(&path);
        }
    }
}

impl Fixture for Api {
    fn name(&self) -> &'static str {
        if self.values { "values" } else { "statuses" }
    }

    fn settings(&self) -> Value {
        let mut receipt = self.receipt();
        receipt["settings"]["a key of a later version"] = 1.into();
        receipt["settings"].take()
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn state(&self) -> Value {
        if self.values {
            self.agent.get(&format!("/v1/kv/hosts/{}?raw", host()))
        } else {
            let checks = self.agent.get("/v1/agent/checks");
            let checks = checks.as_object().unwrap().values();
            checks
                .map(|check| json!([check["CheckID"], check["Notes"]]))
                .collect()
        }
    }

    fn take_out(&self) {
        self.set("DOWN");
    }

    fn put_back(&self) {
        self.set("UP");
    }

    fn is_taken_out(&self) -> bool {
        self.state().to_string().contains("\"DOWN\"")
    }

    fn mark_is_absence(&self) -> bool {
        // One status says as little of who made it as a file that is gone.
        !self.values
    }

    fn mark_is_anonymous(&self) -> bool {
        true
    }

    fn restart(&mut self) {
        self.agent.restart();
        self.agent.put("/v1/agent/check/pass/service:app-1");
    }

    fn receipt_0_1(&self) -> Value {
        self.set("OUT_OF_SERVICE");
        self.receipt()
    }
}

#[test]
fn a_header_from_a_file_is_sent_and_read_anew_each_time() {
    let Some(agent) = ConsulAgent::start(true) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let document = json!({ "status": "UP" });
    agent.call("PUT", "/v1/kv/host", Some(&document)).unwrap();
    let pool = pool(
        "http",
        json!({
            "address": agent.address(), "header_files": { "X-Consul-Token": "/token" },
            "status": "GET /v1/kv/host?raw", "leave": "PUT /v1/kv/host", "leave_body": "{\"status\":\"OUT\"}",
            "rejoin": "DELETE /v1/kv/host", "pointer": "/status", "out": ["OUT"],
        }),
    );
    let error = pool.prepare(&cx(dir.path())).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Local);
    assert!(error.to_string().contains("/token"), "{error}");
    fs::write(dir.path().join("token"), SECRET).unwrap();
    let error = pool.prepare(&cx(dir.path())).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Refused);
    said(&error, SECRET);
    fs::write(dir.path().join("token"), format!("{MASTER}\n")).unwrap();
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    assert_eq!(pool.status(&cx(dir.path())).unwrap(), Membership::Out);
    assert_eq!(
        pool.rejoin(&cx(dir.path()), &before).unwrap(),
        Rejoined::Restored
    );
    let error = pool.status(&cx(dir.path())).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::NotMember, "{error}");
}

fn settings(address: &str) -> Value {
    json!({
        "address": address, "header_files": { "Authorization": "/token" },
        "status": "GET /", "leave": "PUT /", "rejoin": "PUT /", "pointer": "/v", "in": [true, 1], "out": [false, "0"],
    })
}

#[test]
fn only_a_value_that_the_config_names_is_in_or_out() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), format!("Bearer {SECRET}")).unwrap();
    let server = BadServer::start(Answer::Hang);
    let pool = pool("http", settings(server.address()));
    for (body, is) in [
        (r#"{"v":true}"#, Ok(Membership::In)),
        (r#"{"v":1.0}"#, Ok(Membership::In)),
        (r#"{"v":false}"#, Ok(Membership::Out)),
        (r#"{"v":"0"}"#, Ok(Membership::Out)),
        (r#"{"v":0}"#, Err(PoolErrorKind::BadAnswer)),
        (r#"{"v":"false"}"#, Err(PoolErrorKind::BadAnswer)),
        (r#"{"v":null}"#, Err(PoolErrorKind::BadAnswer)),
        (r#"{"v":{}}"#, Err(PoolErrorKind::BadAnswer)),
        (r#"{"w":1}"#, Err(PoolErrorKind::BadAnswer)),
        ("[]", Err(PoolErrorKind::BadAnswer)),
        ("out", Err(PoolErrorKind::BadAnswer)),
        ("", Err(PoolErrorKind::BadAnswer)),
    ] {
        server.set(Answer::Bodies(vec![("/", body.as_bytes().to_vec())]));
        let status = pool.status(&cx(dir.path())).map_err(|error| error.kind());
        assert_eq!(status, is, "{body}");
    }
    // A server that echoes, in clear or as JSON may write it.
    for body in [
        format!(r#"{{"v":"{SECRET}"}}"#),
        format!(r#"{{"v":"\u0035{}"}}"#, &SECRET[1..]),
    ] {
        server.set(Answer::Bodies(vec![("/", body.into_bytes())]));
        said(&pool.status(&cx(dir.path())).unwrap_err(), SECRET);
    }
    let mut settings = settings(server.address());
    settings["in"] = json!([]);
    let all = crate::support::pool("http", settings);
    let before = all.prepare(&cx(dir.path())).unwrap();
    assert_eq!(before, json!({ "value": "[secret]", "out": false }));
}

#[test]
fn settings_are_checked_with_their_lines() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    let read = |text: &str| read("http", Some(&root), text);
    let sound = "address = \"http://a\"\nstatus = \"GET /{host}\"\nleave = \"PUT /\"\nrejoin = \"PUT /?w={before}\"\nout = [503]\n";
    assert!(read(sound).starts_with('{'), "{}", read(sound));
    for key in ["address", "status", "leave", "rejoin", "out"] {
        assert!(
            read("").contains(&format!("text:1: {key}: ")),
            "{}",
            read("")
        );
    }
    fs::write(dir.path().join("open"), SECRET).unwrap();
    fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o644)).unwrap();
    for (line, what) in [
        (
            "headers = { Authorization = \"Bearer x\" }",
            "headers: a secret has no place in the config",
        ),
        (
            "headers = { X-Api-Key = \"x\" }",
            "headers: a secret has no place in the config",
        ),
        (
            "headers = { \"a b\" = \"x\" }",
            "headers: holds what can't be sent",
        ),
        (
            "header_files = { A = \"token\" }",
            "header_files: must be an absolute path",
        ),
        (
            "header_files = { A = \"/missing\" }",
            "header_files: No such file",
        ),
        (
            "header_files = { A = \"/open\" }",
            "header_files: can be read by every user",
        ),
        ("ca_file = \"x\"", "ca_file: must be an absolute path"),
        ("pointer = \"status\"", "pointer: must begin with a slash"),
        (
            "in = [\"UP\"]",
            "in: must be an HTTP status, as no pointer is set",
        ),
        ("in = [503]", "in: is named in out too"),
        ("accept = [20]", "accept: must be an HTTP status"),
    ] {
        let text = read(&format!("{sound}{line}"));
        assert!(text.contains(&format!("text:6: {what}")), "{text}");
    }
    let braces = sound.replace("GET /{host}", "GET /{before}");
    assert!(read(&braces).contains("text:2: status: only {host} may stand in braces"));
    let lower = sound.replace("PUT /\"", "put /\"");
    assert!(read(&lower).contains("text:3: leave: must be a request like"));
}
