//! Many hosts told to drain at once.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};
use crate::host::{ROLE, job};
use crate::lock_server::LockServer;

/// No run takes longer, on the busiest machine.
const GENEROUS: Duration = Duration::from_secs(200);
/// What a host asks for until it is refused.
const WAIT: Duration = Duration::from_secs(180);
/// The shortest that Consul knows.
const EXPIRE: Duration = Duration::from_secs(10);

struct Host {
    dir: PathBuf,
    child: Child,
    killed: Option<i64>,
}

impl Host {
    fn start(mut command: Command, dir: PathBuf) -> Self {
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let child = command
            .args(["host::be_a_host", "--exact", "--nocapture"])
            .env(ROLE, &dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            dir,
            child,
            killed: None,
        }
    }

    /// When each thing happened, in ms.
    fn story(&self) -> Vec<(i64, String)> {
        let text = std::fs::read_to_string(self.dir.join("story")).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(at, what)| (at.parse().unwrap(), what.to_owned()))
            .collect()
    }

    fn when(&self, wanted: &str) -> Option<i64> {
        let story = self.story();
        story
            .iter()
            .find(|(_, what)| what == wanted)
            .map(|(at, _)| *at)
    }

    fn is_out(&self) -> bool {
        self.killed.is_none() && self.when("out").is_some() && self.when("in").is_none()
    }

    fn is_done(&self) -> bool {
        self.killed.is_some() || self.when("done").is_some()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.killed = Some(jiff::Timestamp::now().as_millisecond());
    }

    /// From when to when it was out. One that was killed is, as long as its slot can't have ended.
    fn out(&self) -> Option<(i64, i64)> {
        let from = self.when("out")?;
        let expire = i64::try_from(EXPIRE.as_millis()).unwrap();
        let until = match self.killed {
            // Its last word came with the slot, before it left.
            Some(_) => from + expire,
            None => self.when("in").unwrap_or(i64::MAX),
        };
        Some((from, until))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most that were out at one moment.
fn most_out(hosts: &[Host]) -> usize {
    let spans: Vec<(i64, i64)> = hosts.iter().filter_map(Host::out).collect();
    let at = |moment: i64| {
        let there = spans
            .iter()
            .filter(|(from, until)| *from <= moment && moment < *until);
        there.count()
    };
    spans
        .iter()
        .map(|(from, _)| at(*from))
        .max()
        .unwrap_or_default()
}

fn done(hosts: &[Host]) -> usize {
    hosts.iter().filter(|host| host.is_done()).count()
}

fn wait_until(hosts: &[Host], what: &str, seen: impl Fn(&[Host]) -> bool) {
    let began = Instant::now();
    while !seen(hosts) {
        if began.elapsed() > GENEROUS {
            let stories: Vec<_> = hosts.iter().map(Host::story).collect();
            assert!(
                began.elapsed() < GENEROUS,
                "not in time: {what}: {stories:#?}"
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn holders(cluster: &Cluster, ask: &[usize]) -> Option<Vec<Value>> {
    let found = ask
        .iter()
        .find_map(|n| cluster.get(*n, "/v1/kv/drainctl/fleet/web/?recurse"))?;
    Some(found.as_array()?.clone())
}

#[test]
fn twenty_hosts_share_two_slots_whatever_happens_to_the_cluster() {
    let Some(mut cluster) = Cluster::start() else {
        return;
    };
    let me = std::env::current_exe().unwrap();
    let mut hosts: Vec<Host> = (0..20)
        .map(|n| {
            let dir = cluster.path().join(format!("host{n:02}"));
            let settings = json!({ "address": Cluster::address(1 + n % 3), "group": "web", "slots": 2, "expire": "10s" });
            job(&dir, "consul", &settings, Duration::from_millis(1000), WAIT);
            Host::start(cluster.hub.command(&me), dir)
        })
        .collect();
    let began = Instant::now();
    let told = |what: &str, hosts: &[Host]| {
        let after = began.elapsed().as_secs_f64();
        println!(
            "{after:6.1} s: {what}; {} of {} done",
            done(hosts),
            hosts.len()
        );
    };
    wait_until(&hosts, "some are done", |hosts| done(hosts) >= 3);
    let leader = cluster.kill_leader();
    told(&format!("the leader, server{leader}, is killed"), &hosts);
    let before = done(&hosts);
    wait_until(&hosts, "more are done without it", |hosts| {
        done(hosts) >= before + 2
    });
    told("the others have elected one", &hosts);
    cluster.revive(leader);
    cluster.wait_for_leader();

    wait_until(&hosts, "a holder", |hosts| hosts.iter().any(Host::is_out));
    let at = hosts.iter().position(Host::is_out).unwrap();
    hosts[at].kill();
    told(
        &format!("host{at:02} is killed while it holds a slot"),
        &hosts,
    );

    let before = done(&hosts);
    wait_until(&hosts, "one more is done", |hosts| done(hosts) > before);
    let cut = 1 + leader % 3;
    cluster.link(cut, false);
    told(&format!("server{cut} is cut off"), &hosts);
    let before = done(&hosts);
    wait_until(&hosts, "more are done beside it", |hosts| {
        done(hosts) >= (before + 2).min(hosts.len())
    });
    cluster.link(cut, true);
    told(&format!("server{cut} is back"), &hosts);

    wait_until(&hosts, "all are done", |hosts| done(hosts) == hosts.len());
    let most = most_out(&hosts);
    told(
        &format!("all are done, at most {most} were out at once"),
        &hosts,
    );
    assert_eq!(most, 2, "never more than the slots, and both in use");
    // The one that died frees its slot too, and nothing is left behind.
    let others: Vec<usize> = vec![1, 2, 3];
    eventually("its slot ends", || {
        holders(&cluster, &others).is_some_and(|pairs| {
            pairs
                .iter()
                .all(|pair| pair["Key"] == "drainctl/fleet/web/.lock")
        })
    });
}

#[test]
fn a_fleetlock_server_lets_no_more_go_than_it_has_slots() {
    let server = LockServer::start(2);
    let dir = tempfile::tempdir().unwrap();
    let me = std::env::current_exe().unwrap();
    let hosts: Vec<Host> = (0..6)
        .map(|n| {
            let dir = dir.path().join(format!("host{n}"));
            let settings =
                json!({ "address": server.address, "group": "web", "id": format!("host{n}") });
            job(
                &dir,
                "fleetlock",
                &settings,
                Duration::from_millis(300),
                WAIT,
            );
            Host::start(Command::new(&me), dir)
        })
        .collect();
    wait_until(&hosts, "all are done", |hosts| done(hosts) == hosts.len());
    let most = most_out(&hosts);
    println!("fleetlock: at most {most} of 6 out at once");
    assert_eq!(most, 2);
    assert!(server.holders().is_empty(), "{:?}", server.holders());
}

#[test]
fn who_gets_no_slot_in_time_is_refused_and_leaves_nothing_behind() {
    let server = LockServer::start(0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("host");
    let settings = json!({ "address": server.address, "group": "web", "id": "host" });
    job(
        &path,
        "fleetlock",
        &settings,
        Duration::ZERO,
        Duration::from_secs(1),
    );
    let host = Host::start(Command::new(std::env::current_exe().unwrap()), path);
    let hosts = [host];
    wait_until(&hosts, "refused", |hosts| {
        hosts[0].when("ended Refused").is_some()
    });
    assert_eq!(hosts[0].when("out"), None);
    assert!(!hosts[0].dir.join("draining").exists());
    eventually("nothing is left", || {
        !hosts[0].dir.join("var/lib/drainctl/receipts.json").exists()
    });
}
