//! The firewall, for real: the kernel's nftables, in a network of the test's own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use drainctl::pools::{Membership, PoolErrorKind, Rejoined};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::conformance::Fixture;
use crate::namespace::{Namespace, link, sh};
use crate::support::{GENEROUS, cx, pool, read};

struct Kernel {
    _namespace: Namespace,
    dir: TempDir,
}

/// Moves the calling thread into a network of its own.
pub(crate) fn fixtures() -> Vec<Box<dyn Fixture>> {
    let Some(namespace) = Namespace::new("firewall") else {
        return Vec::new();
    };
    namespace.enter();
    // Somebody else's rules, which must stay as they are.
    sh(
        "nft 'table inet filter { chain input { type filter hook input priority 0; tcp dport 22 accept; }; }'",
    );
    vec![Box::new(Kernel {
        _namespace: namespace,
        dir: tempfile::tempdir().unwrap(),
    })]
}

fn by_hand(rule: &str) {
    sh(&format!(
        "nft 'table inet drainctl {{ chain refuse {{ type filter hook input priority -5; {rule}; }}; }}'"
    ));
}

fn flush() {
    sh("nft 'delete table inet drainctl'");
}

fn ruleset() -> String {
    sh("nft -s list ruleset")
}

impl Fixture for Kernel {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn settings(&self) -> Value {
        json!({ "ports": [8080, 8081], "a key of a later version": 1 })
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn state(&self) -> Value {
        ruleset().into()
    }

    fn take_out(&self) {
        by_hand("tcp dport 8080-8081 reject with tcp reset comment \"new disk\"");
    }

    fn put_back(&self) {
        flush();
    }

    fn is_taken_out(&self) -> bool {
        ruleset().contains("\"new disk\"")
    }

    /// The kernel keeps nothing across its own restart.
    fn restart(&mut self) {}

    fn receipt_0_1(&self) -> Value {
        let receipt: Value =
            serde_json::from_str(include_str!("receipts/firewall-0.1.json")).unwrap();
        let mark = receipt["before"]["mark"].as_str().unwrap();
        by_hand(&format!(
            "iif != lo tcp dport {{ 8080, 8081 }} tcp flags & (fin | syn | rst | ack) == syn counter reject with tcp reset comment \"{mark}\""
        ));
        receipt
    }
}

/// Sends back what it gets, on every connection.
fn echo(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let bound = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(&byte);
                }
            });
        }
    });
    bound
}

fn speaks(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.set_read_timeout(Some(GENEROUS)).unwrap();
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok() && byte == *b"x"
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread in `namespace` that does what it is sent.
fn worker(namespace: &Namespace) -> Sender<Job> {
    let (send, jobs) = channel::<Job>();
    thread::scope(|scope| {
        scope.spawn(|| {
            namespace.enter();
            thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        });
    });
    send
}

/// The answer of `job`, done by the worker.
fn ask<T: Send + 'static>(worker: &Sender<Job>, job: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = channel();
    let job: Job = Box::new(move || send.send(job()).unwrap());
    worker.send(job).unwrap();
    receive.recv_timeout(GENEROUS).unwrap()
}

#[test]
fn new_connections_are_refused_and_old_ones_go_on() {
    let (Some(here), Some(there)) = (Namespace::new("firewall"), Namespace::new("firewall")) else {
        return;
    };
    here.enter();
    link(&there);
    let clients = worker(&there);
    let addresses: Vec<SocketAddr> = ["10.9.0.1:8080", "[fd09::1]:8081", "10.9.0.1:9090"]
        .into_iter()
        .map(echo)
        .collect();
    let connect = move |address: SocketAddr| {
        ask(&clients, move || {
            TcpStream::connect_timeout(&address, GENEROUS)
        })
        .map_err(|error| error.kind())
    };
    let mut old: Vec<TcpStream> = addresses.iter().map(|at| connect(*at).unwrap()).collect();
    assert!(old.iter_mut().all(speaks));

    let dir = tempfile::tempdir().unwrap();
    let pool = pool("firewall", json!({ "ports": [8080, 8081] }));
    let before = pool.prepare(&cx(dir.path())).unwrap();
    pool.leave(&cx(dir.path()), &before).unwrap();
    assert_eq!(pool.status(&cx(dir.path())).unwrap(), Membership::Out);
    for refused in &addresses[..2] {
        let error = connect(*refused).unwrap_err();
        assert_eq!(error, ErrorKind::ConnectionRefused, "{refused}");
        // This host itself sees its programs as they are.
        assert!(speaks(&mut TcpStream::connect(refused).unwrap()));
    }
    assert!(speaks(&mut connect(addresses[2]).unwrap()), "another port");
    assert!(old.iter_mut().all(speaks), "those that exist go on");

    pool.rejoin(&cx(dir.path()), &before).unwrap();
    for address in &addresses {
        assert!(speaks(&mut connect(*address).unwrap()));
    }
    assert!(old.iter_mut().all(speaks));
}

#[test]
fn what_is_not_ours_in_the_table_stays_and_what_refuses_only_some_is_not_out() {
    let Some(namespace) = Namespace::new("firewall") else {
        return;
    };
    namespace.enter();
    let dir = tempfile::tempdir().unwrap();
    let cx = || cx(dir.path());
    let pool = pool("firewall", json!({ "ports": [80, 443] }));
    for partly in [
        "tcp dport 80 reject with tcp reset",
        "ip saddr 10.0.0.1 tcp dport { 80, 443 } reject with tcp reset",
        "tcp dport { 80, 443 } accept",
    ] {
        by_hand(partly);
        let clean = ruleset();
        assert_eq!(pool.status(&cx()).unwrap(), Membership::In, "{partly}");
        let before = pool.prepare(&cx()).unwrap();
        pool.leave(&cx(), &before).unwrap();
        assert_eq!(pool.status(&cx()).unwrap(), Membership::Out, "{partly}");
        assert_eq!(pool.rejoin(&cx(), &before).unwrap(), Rejoined::Restored);
        assert_eq!(ruleset(), clean);
        flush();
    }
    // A chain that no packet comes by.
    sh("nft 'table inet drainctl { chain refuse { tcp dport { 80, 443 } reject; }; }'");
    assert_eq!(pool.status(&cx()).unwrap(), Membership::In);
    let before = pool.prepare(&cx()).unwrap();
    let error = pool.leave(&cx(), &before).unwrap_err();
    assert_eq!(error.kind(), PoolErrorKind::Local, "{error}");
    assert_eq!(pool.status(&cx()).unwrap(), Membership::In);
    flush();
    // A set of an operator's in our table.
    sh("nft 'table inet drainctl { set mine { type ipv4_addr; }; }'");
    let clean = ruleset();
    let before = pool.prepare(&cx()).unwrap();
    pool.leave(&cx(), &before).unwrap();
    pool.rejoin(&cx(), &before).unwrap();
    assert!(clean.contains("set mine") && ruleset().contains("set mine"));
    assert!(!ruleset().contains("reject"));
}

#[test]
fn two_pools_of_the_type_do_not_undo_each_other() {
    let Some(namespace) = Namespace::new("firewall") else {
        return;
    };
    namespace.enter();
    let dir = tempfile::tempdir().unwrap();
    let cx = || cx(dir.path());
    let (one, two) = (
        pool("firewall", json!({ "ports": [80] })),
        pool("firewall", json!({ "ports": [443] })),
    );
    let (before_one, before_two) = (one.prepare(&cx()).unwrap(), two.prepare(&cx()).unwrap());
    one.leave(&cx(), &before_one).unwrap();
    two.leave(&cx(), &before_two).unwrap();
    one.rejoin(&cx(), &before_one).unwrap();
    assert_eq!(one.status(&cx()).unwrap(), Membership::In);
    assert_eq!(two.status(&cx()).unwrap(), Membership::Out);
    two.rejoin(&cx(), &before_two).unwrap();
    assert_eq!(ruleset(), "");
}

#[test]
fn a_mark_that_is_no_comment_never_reaches_nft() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool("firewall", json!({ "ports": [80] }));
    for mark in [
        "a\" ; flush ruleset ; \"",
        "a\nflush ruleset",
        &"x".repeat(200),
    ] {
        let before = json!({ "mark": mark });
        for error in [
            pool.leave(&cx(dir.path()), &before).unwrap_err(),
            pool.rejoin(&cx(dir.path()), &before).unwrap_err(),
        ] {
            assert_eq!(error.kind(), PoolErrorKind::Local);
            assert!(error.to_string().contains("receipt"), "{error}");
        }
    }
}

#[test]
fn settings_are_checked_with_their_lines() {
    let read = |text: &str| read("firewall", None, text);
    assert_eq!(read("ports = [443, 80, 80]"), r#"{"ports":[80,443]}"#);
    assert_eq!(
        read("ports = [80, 0]"),
        "text:1: ports: must list ports, 1 to 65535; none: what the target listens on"
    );
    assert!(read("\nports = [80, 70000]").starts_with("text:2: ports: "));
}
