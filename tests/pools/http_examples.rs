//! The examples of `docs/pools.md`, as they stand there, against places that keep a status as the real ones do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use drainctl::config::{Source, from_sources};
use drainctl::pools::{Membership, Pool, PoolErrorKind, Rejoined};
use serde_json::Value;

use crate::support::{cx, pool, said};

const TOKEN: &str = "Bearer 5ec4e700-dead-4000-8000-00000000beef";

/// What one instance has, and how a request changes it: the method, the path, the head and the body in; the status and the body out.
type Place = fn(&mut String, &str, &str, &str, &str) -> (u16, String);

fn host() -> String {
    let host = rustix::system::uname();
    host.nodename().to_string_lossy().into_owned()
}

/// An override stands until it is taken away; then the instance has the status that was suggested, else none until its next heartbeat.
fn eureka(status: &mut String, method: &str, path: &str, head: &str, _: &str) -> (u16, String) {
    let instance = format!("/eureka/apps/WEB/{}", host());
    let value = path.split_once("value=").map(|(_, value)| value.to_owned());
    match (method, path.strip_prefix(&instance)) {
        ("GET", Some("")) if head.contains("application/json") => {
            return (
                200,
                format!(r#"{{"instance":{{"app":"WEB","status":"{status}"}}}}"#),
            );
        }
        ("GET", Some("")) => {
            return (
                200,
                format!("<instance><status>{status}</status></instance>"),
            );
        }
        ("PUT", Some(rest)) if rest.starts_with("/status?") => *status = value.unwrap(),
        ("DELETE", Some(rest)) if rest.starts_with("/status") => {
            *status = value.unwrap_or_else(|| "UNKNOWN".to_owned());
        }
        _ => return (404, String::new()),
    }
    (200, String::new())
}

/// Weights are decimals.
fn nacos(weight: &mut String, method: &str, path: &str, _: &str, _: &str) -> (u16, String) {
    let known = "/nacos/v1/ns/instance?serviceName=web&ip=10.0.0.7&port=8080";
    match (method, path.strip_prefix(known)) {
        ("GET", Some("")) => {
            let weight: f64 = weight.parse().unwrap();
            let answer =
                format!(r#"{{"ip":"10.0.0.7","port":8080,"weight":{weight:?},"healthy":true}}"#);
            return (200, answer);
        }
        ("PUT", Some(rest)) => rest.strip_prefix("&weight=").unwrap().clone_into(weight),
        _ => return (404, "caused: no ips found".to_owned()),
    }
    (200, "ok".to_owned())
}

/// Asked twice, it says so.
fn deploy(state: &mut String, method: &str, path: &str, head: &str, body: &str) -> (u16, String) {
    if !head.contains(TOKEN) {
        return (401, format!("not with {head}"));
    }
    let rest = path.strip_prefix(&format!("/api/hosts/{}", host()));
    let wanted = match (method, rest) {
        ("GET", Some("")) => return (200, format!(r#"{{"state":"{state}"}}"#)),
        ("POST", Some("/drain")) => {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["reason"], format!("{} stops", host()));
            "draining"
        }
        ("POST", Some("/activate")) => "active",
        _ => return (404, String::new()),
    };
    if state == wanted {
        return (409, "it is".to_owned());
    }
    wanted.clone_into(state);
    (202, String::new())
}

/// A server for one such place; it lives as long as the test's process.
struct Server {
    address: String,
    value: Arc<Mutex<String>>,
}

impl Server {
    fn start(place: Place, value: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let value = Arc::new(Mutex::new(value.to_owned()));
        let shared = value.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that is gone needs no answer.
                let _ = serve(&stream.unwrap(), place, &shared);
            }
        });
        Self { address, value }
    }

    fn value(&self) -> String {
        self.value.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, place: Place, value: &Mutex<String>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let words: Vec<&str> = head.split(' ').collect();
    let body = String::from_utf8_lossy(&body);
    let (status, answer) = place(&mut value.lock().unwrap(), words[0], words[1], &head, &body);
    let length = answer.len();
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n\r\n{answer}"
    )
}

/// The example of that name, at `address`.
fn example(name: &str, address: &str) -> Box<dyn Pool> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pools.md");
    let page = std::fs::read_to_string(page).unwrap();
    let head = format!("[pool.{name}]");
    let block = page
        .split("```toml\n")
        .find(|block| block.starts_with(&head))
        .unwrap();
    let source = Source {
        path: "docs/pools.md".to_owned(),
        text: block.split("```").next().unwrap().to_owned(),
    };
    let mut settings = from_sources(&[source]).unwrap();
    let mut spec = settings.pools.remove(0);
    spec.settings["address"] = address.into();
    pool("http", spec.settings)
}

#[test]
fn each_example_leaves_and_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("etc/drainctl/deploy.header");
    std::fs::create_dir_all(secret.parent().unwrap()).unwrap();
    std::fs::write(&secret, TOKEN).unwrap();
    let cx = || cx(dir.path());
    let places: [(&str, Place, &str, &str, &str); 3] = [
        ("eureka", eureka, "UP", "OUT_OF_SERVICE", "DOWN"),
        ("nacos", nacos, "1.5", "0", "0"),
        ("deploy", deploy, "active", "draining", "drained"),
    ];
    for (name, place, serving, left, by_others) in places {
        let server = Server::start(place, serving);
        let pool = example(name, &server.address);
        assert_eq!(pool.status(&cx()).unwrap(), Membership::In, "{name}");
        let before = pool.prepare(&cx()).unwrap();
        for _ in 0..2 {
            pool.leave(&cx(), &before).unwrap();
            assert_eq!(server.value(), left, "{name}");
            assert_eq!(pool.status(&cx()).unwrap(), Membership::Out, "{name}");
        }
        for _ in 0..2 {
            assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
            assert_eq!(server.value(), serving, "{name}");
        }
        // Somebody else's will stays.
        by_others.clone_into(&mut server.value.lock().unwrap());
        let before = pool.prepare(&cx()).unwrap();
        pool.leave(&cx(), &before).unwrap();
        assert!(matches!(
            pool.rejoin(&cx(), &before).unwrap(),
            Rejoined::LeftAlone(_)
        ));
        assert_eq!(server.value(), by_others, "{name}");
    }
}

#[test]
fn a_deploy_api_that_repeats_the_token_it_refuses_tells_it_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = TOKEN.replace("beef", "b00f");
    let secret = dir.path().join("etc/drainctl/deploy.header");
    std::fs::create_dir_all(secret.parent().unwrap()).unwrap();
    std::fs::write(&secret, &wrong).unwrap();
    let server = Server::start(deploy, "active");
    let error = example("deploy", &server.address)
        .prepare(&cx(dir.path()))
        .unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Refused);
    said(&error, wrong.trim_start_matches("Bearer "));
}
