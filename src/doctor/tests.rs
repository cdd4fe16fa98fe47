//! Each check: a host broken in exactly that way, and a healthy one on which nothing is found.

use std::time::Duration;

use super::around::{Cloud, Cut, Longest};
use super::grace::Grace;
use super::*;
use crate::config::PoolSpec;
use crate::evidence::spoken::{Flight, Handshake, Transport};
use crate::evidence::{Listener, Role, Spoken};
use crate::pools::{Absent, Closely, Membership, Peers, PeersSaid, PoolErrorKind, Said};
use crate::probes::Counted;
use crate::receipts::{Book, Receipt};
use crate::supervisord::Stop;
use crate::systemd::find;
use crate::systemd::hold::{Matters, Newcomer};
use crate::systemd::logind::{Inhibitor, Login};
use crate::systemd::units::Held;

const HOOK: &str = crate::systemd::HOOK;
const REJOIN: &str = crate::systemd::REJOIN;
const HOLD: &str = crate::systemd::HOLD;
const HOLD_TIMER: &str = crate::systemd::HOLD_TIMER;

/// Properties of one unit, a line each.
fn unit(facts: &mut Facts, name: &str, lines: &str) {
    let properties = facts.units.entry(name.to_owned()).or_default();
    for line in lines.lines().map(str::trim) {
        if let Some((key, value)) = line.split_once('=') {
            properties.insert(key.to_owned(), value.to_owned());
        }
    }
}

fn found(unit: &str, why: &str) -> find::Found {
    find::Found {
        unit: unit.to_owned(),
        why: why.to_owned(),
    }
}

fn consul() -> PoolSpec {
    PoolSpec {
        name: "consul".to_owned(),
        kind: "consul".to_owned(),
        limit: Duration::from_secs(15),
        settings: serde_json::json!({}),
    }
}

fn others(healthy: u64) -> PeersSaid {
    PeersSaid {
        name: "consul".to_owned(),
        peers: Some(Peers::Others {
            healthy,
            known: 2,
            of: "app".to_owned(),
        }),
        error: None,
        fault: None,
    }
}

fn absent(name: &str, why: &str) -> Absent {
    Absent {
        name: name.to_owned(),
        why: why.to_owned(),
        on_purpose: true,
        here: false,
        by_drainctl: false,
    }
}

/// What a host sees on which all is well.
fn sight() -> Sight {
    Sight {
        listeners: vec![("web".to_owned(), 8000)],
        pools: vec![("consul".to_owned(), None)],
        ..Sight::default()
    }
}

/// A host on which all is well.
fn healthy() -> Facts {
    let mut facts = Facts {
        version: 252,
        targets: vec!["supervisor.service".to_owned()],
        supervisors: vec![found("supervisor.service", "supervisord is its process 30")],
        agent: Some(found(
            "consul.service",
            "its process 40 is the Consul agent",
        )),
        stop_limits: vec![(
            "supervisor.service".to_owned(),
            "web".to_owned(),
            Duration::from_secs(10),
        )],
        pools: vec![Said {
            name: "consul".to_owned(),
            kind: "consul".to_owned(),
            membership: Some(Membership::In),
            error: None,
            fault: None,
        }],
        ..Facts::default()
    };
    facts.settings.pools = vec![consul()];
    facts.around.peers = vec![others(2)];
    facts.around.closely = vec![Some(Closely::default())];
    facts.around.sight = sight();
    facts.around.inside = Some(Ok(sight()));
    facts.around.login = Some(Login {
        delay_max: Duration::from_secs(5),
        inhibitors: vec![Inhibitor {
            who: "Unattended Upgrades".to_owned(),
            why: "to finish".to_owned(),
            mode: "delay".to_owned(),
            pid: 9,
        }],
    });
    facts.around.graces = vec![Grace {
        program: "web".to_owned(),
        server: "gunicorn",
        time: Duration::from_secs(30),
        set: "--graceful-timeout, at its default".to_owned(),
    }];
    let last_word = "/etc/supervisor/conf.d/zz-drainctl.conf".to_owned();
    let words = [("supervisor.service".to_owned(), last_word)];
    facts.around.last_words = words.into();
    let names = [
        "supervisor.service",
        "consul.service",
        "networking.service",
        HOLD,
    ];
    facts.order.outlive = names.map(str::to_owned).into();
    facts.order.may_stop = ["cron.service".to_owned()].into();
    unit(
        &mut facts,
        HOOK,
        "LoadState=loaded
         ActiveState=active
         SubState=exited
         UnitFileState=enabled
         NeedDaemonReload=no
         DropInPaths=/etc/systemd/system/drain-connections.service.d/10-order.conf
         After=supervisor.service consul.service network.target
         PartOf=supervisor.service
         WantedBy=supervisor.service
         Type=oneshot
         RemainAfterExit=yes
         ExecStop={ path=/usr/bin/drainctl ; argv[]=/usr/bin/drainctl drain ; status=0/0 }
         NotifyAccess=exec
         TimeoutStopUSec=1min 30s
         CapabilityBoundingSet=cap_dac_override cap_dac_read_search cap_sys_ptrace
         RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
         PrivateNetwork=no
         PrivateUsers=no
         ProcSubset=all
         DynamicUser=no",
    );
    unit(
        &mut facts,
        REJOIN,
        "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\nResult=success",
    );
    unit(
        &mut facts,
        "supervisor.service",
        "LoadState=loaded\nActiveState=active\nTimeoutStopUSec=1min 30s\nControlGroup=/system.slice/supervisor.service\n\
         Restart=on-failure\nRestartUSec=50s",
    );
    unit(&mut facts, "consul.service", "ActiveState=active");
    let active = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled";
    for name in [HOLD, HOLD_TIMER, "multi-user.target"] {
        unit(&mut facts, name, active);
    }
    for end in ["poweroff.target", "reboot.target"] {
        unit(&mut facts, end, "JobTimeoutUSec=30min");
    }
    facts
}

/// The report of a host, on which `change` is all that is wrong.
fn report(change: impl FnOnce(&mut Facts)) -> String {
    let mut facts = healthy();
    change(&mut facts);
    let mut out = Vec::new();
    print(&facts, &examine(&facts), false, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let bad = text.lines().filter(|line| !line.contains(" ok       "));
    bad.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_healthy_host_has_a_line_for_each_section_and_nothing_else() {
    let mut out = Vec::new();
    print(&healthy(), &examine(&healthy()), false, &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
    hook     ok       ready to drain, and allowed to see what it has to
    order    ok       what the drain needs is stopped after it
    limits   ok       no time limit cuts the drain short
    pools    ok       each answers, and knows this host
    state    ok       nothing is left over
    "#);
}

#[test]
fn everything_that_was_looked_at_is_shown_on_request() {
    let mut out = Vec::new();
    print(&healthy(), &examine(&healthy()), true, &mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
    hook     ok       ready to drain, and allowed to see what it has to
    order    ok       what the drain needs is stopped after it
                      outlive the drain: consul.service drain-connections-hold.service networking.service supervisor.service
                      may stop at once:  cron.service
    limits   ok       no time limit cuts the drain short
                      the beginning of a shutdown            5 s            InhibitDelayMaxSec= of logind.conf, while somebody delays it
                      leaving consul                         15 s           limit of [pool.consul]
                      settling                               20 s           [settle] max
                      the whole drain before a shutdown      5 min 0 s      [deadline] shutdown
                      the whole drain before a restart       1 min 0 s      [deadline] restart
                      the drain without a sign of life       1 min 30 s     TimeoutStopSec= of drain-connections.service, NotifyAccess=exec
                      requests of web, by gunicorn           30 s           --graceful-timeout, at its default
                      the end of web                         10 s           stopwaitsecs in the configuration of supervisor.service
                      the end of supervisor.service          1 min 30 s     TimeoutStopSec= of supervisor.service
                      a shutdown by poweroff.target          30 min 0 s     JobTimeoutSec= of poweroff.target
                      a shutdown by reboot.target            30 min 0 s     JobTimeoutSec= of reboot.target
                      supervisor.service after a crash       50 s           RestartSec= of supervisor.service
                      first to cut a request: the end of web after 5 min 10 s ([deadline] shutdown, then stopwaitsecs of web)
    pools    ok       each answers, and knows this host
                      consul: 2 others serve app
    state    ok       nothing is left over
    "#);
}

/// `db.service`, which is not held.
fn newcomer(facts: &mut Facts, matters: Matters, why: &str) {
    let held = Held::new("db.service".to_owned(), why);
    facts.newcomers.push(Newcomer { held, matters });
    facts.order.may_stop.insert("db.service".to_owned());
}

/// A check's name, what the host is broken by, and how.
type Broken = (&'static str, &'static str, fn(&mut Facts));

/// At least one a check.
const BROKEN: &[Broken] = &[
    ("hook-loaded", "no hook", |f| {
        f.units.remove(HOOK);
        unit(f, HOOK, "LoadState=not-found");
    }),
    ("hook-loaded", "masked", |f| {
        unit(f, HOOK, "LoadState=masked")
    }),
    ("hook-stop", "no ExecStop", |f| unit(f, HOOK, "ExecStop=")),
    ("hook-stop", "two commands by a drop-in", |f| {
        unit(
            f,
            HOOK,
            "DropInPaths=/etc/systemd/system/drain-connections.service.d/x.conf",
        );
        let hook = f.units.get_mut(HOOK).unwrap();
        hook.get_mut("ExecStop")
            .unwrap()
            .push_str("\n{ path=/bin/sleep }");
    }),
    ("hook-stop", "another type", |f| {
        unit(f, HOOK, "Type=simple")
    }),
    ("hook-stop", "does not remain", |f| {
        unit(f, HOOK, "RemainAfterExit=no")
    }),
    ("hook-enabled", "disabled", |f| {
        unit(f, HOOK, "UnitFileState=disabled")
    }),
    ("hook-drop-ins", "no way back, masked", |f| {
        unit(f, REJOIN, "LoadState=masked\nUnitFileState=masked");
    }),
    ("hook-enabled", "no rejoin", |f| {
        f.units.remove(REJOIN);
    }),
    ("hook-active", "stopped", |f| {
        unit(f, HOOK, "ActiveState=inactive")
    }),
    ("hook-wanted", "by another", |f| {
        unit(f, HOOK, "WantedBy=multi-user.target")
    }),
    ("hook-restart", "part of another", |f| {
        unit(f, HOOK, "PartOf=supervisord.service")
    }),
    ("hook-sandbox", "no capability", |f| {
        unit(f, HOOK, "CapabilityBoundingSet=cap_sys_ptrace")
    }),
    ("hook-sandbox", "no netlink", |f| {
        unit(f, HOOK, "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6")
    }),
    ("hook-sandbox", "netlink denied", |f| {
        unit(f, HOOK, "RestrictAddressFamilies=~AF_NETLINK AF_PACKET")
    }),
    ("hook-sandbox", "own network", |f| {
        unit(f, HOOK, "PrivateNetwork=yes")
    }),
    ("hook-sandbox", "own users", |f| {
        unit(f, HOOK, "PrivateUsers=yes")
    }),
    ("hook-sandbox", "not root", |f| {
        unit(f, HOOK, "DynamicUser=yes")
    }),
    ("hook-sandbox", "no tables", |f| {
        unit(f, HOOK, "ProcSubset=pid")
    }),
    ("hook-files", "edited", |f| {
        f.changed = vec![crate::systemd::units::path(HOOK)]
    }),
    ("hook-reload", "not reloaded", |f| {
        unit(f, HOOK, "NeedDaemonReload=yes")
    }),
    ("order-target", "wrong name", |f| {
        f.order.outlive.remove("supervisor.service");
    }),
    ("order-target", "wrong name, and held by the hold", |f| {
        unit(f, HOOK, "After=supervisord.service consul.service");
    }),
    ("order-target", "wrong name in the config", |f| {
        f.no_target = Some("there is no unit supervisord.service on this host".to_owned());
    }),
    ("order-target", "one of two left out", |f| {
        f.supervisors
            .push(found("shop.service", "supervisord is its process 77"));
    }),
    ("order-outside", "by hand", |f| {
        f.outside = vec!["supervisord (process 13) runs outside any service".to_owned()];
    }),
    ("order-circle", "before and after", |f| {
        f.order.outlive.remove("supervisor.service");
        f.order.circle = ["supervisor.service".to_owned()].into();
        unit(f, "supervisor.service", "After=drain-connections.service");
    }),
    ("order-registry", "agent not held", |f| {
        f.order.outlive.remove("consul.service");
    }),
    ("order-circle", "a unit that turns the hold around", |f| {
        f.order.outlive.remove(HOLD);
        f.order.circle = [HOLD.to_owned(), "late.service".to_owned()].into();
        let late = [("After".to_owned(), "drain-connections.service".to_owned())];
        f.all.insert("late.service".to_owned(), late.into());
    }),
    ("order-hold", "not installed", |f| {
        unit(f, HOLD, "LoadState=not-found");
        f.order.outlive.remove(HOLD);
    }),
    ("order-hold", "stopped", |f| {
        unit(f, HOLD, "ActiveState=inactive");
        f.order.outlive.remove(HOLD);
    }),
    ("order-hold", "the hook does not name it", |f| {
        f.order.outlive.remove(HOLD);
    }),
    ("order-hold", "not after the next boot", |f| {
        unit(f, HOLD_TIMER, "UnitFileState=disabled");
    }),
    ("order-hold", "while the host boots", |f| {
        unit(f, HOLD, "ActiveState=inactive");
        unit(f, "multi-user.target", "ActiveState=inactive");
        f.order.outlive.remove(HOLD);
    }),
    ("order-used", "a database not held", |f| {
        newcomer(
            f,
            Matters::Used,
            "web of supervisor.service is connected to 127.0.0.1:5432",
        );
    }),
    ("order-used", "a database in the environment", |f| {
        newcomer(f, Matters::Named, "web was started with 127.0.0.1:5432");
    }),
    ("order-beside", "started by hand", |f| {
        newcomer(f, Matters::Runs, "runs");
    }),
    ("order-network", "network not held", |f| {
        f.order.may_stop = ["networking.service".to_owned()].into();
    }),
    ("order-mounts", "NFS not held", |f| {
        f.remote_mounts = vec!["srv-a\\x2db.mount".to_owned()];
        f.order.may_stop = ["srv-a\\x2db.mount".to_owned()].into();
    }),
    ("limit-heartbeat", "not heard", |f| {
        unit(f, HOOK, "NotifyAccess=none")
    }),
    ("limit-heartbeat", "old systemd", |f| f.version = 235),
    ("limit-shutdown", "too long", |f| {
        f.settings.deadline.shutdown = Duration::from_mins(29);
    }),
    ("limit-shutdown", "a stop without a limit", |f| {
        unit(f, "supervisor.service", "TimeoutStopUSec=infinity");
    }),
    ("limit-programs", "killed too early", |f| {
        f.stop_limits[0].2 = Duration::from_mins(5);
    }),
    ("limit-wrapped", "another signal", |f| {
        wrapped(f, |stop| stop.signal = 3);
    }),
    ("limit-wrapped", "killed too early", |f| {
        wrapped(f, |stop| stop.limit = Duration::from_secs(10));
    }),
    ("limit-wrapped", "a group of one", |f| {
        wrapped(f, |stop| stop.as_group = true);
    }),
    ("pool-answer", "agent gone", |f| {
        said(f, PoolErrorKind::Unreachable)
    }),
    ("pool-answer", "token refused", |f| {
        said(f, PoolErrorKind::Refused)
    }),
    ("pool-answer", "token file gone", |f| {
        said(f, PoolErrorKind::Local)
    }),
    ("probe-answer", "silent", |f| {
        f.probes = vec![Counted {
            name: "edge".to_owned(),
            count: Err("no answer in time".to_owned()),
            age: Duration::ZERO,
        }];
    }),
    ("pool-member", "unknown node", |f| {
        said(f, PoolErrorKind::NotMember)
    }),
    ("pool-member", "unknown host", |f| {
        f.pools[0].membership = Some(Membership::NotMember);
    }),
    ("pool-stand-in", "nft is missing", |f| {
        f.stand_ins = vec![Said {
            name: "firewall".to_owned(),
            kind: "firewall".to_owned(),
            membership: None,
            error: Some("what it says".to_owned()),
            fault: Some(PoolErrorKind::Local),
        }];
    }),
    ("pool-out", "by somebody", |f| {
        f.pools[0].membership = Some(Membership::Out);
    }),
    ("port-unknown", "silent", |f| spoken(f, Spoken::default())),
    ("port-certificates", "asks for them", |f| {
        let handshake = Handshake {
            newer: true,
            asks_certificate: true,
            early_data: false,
            full: Flight::default(),
            resumed: None,
        };
        spoken(
            f,
            Spoken {
                transport: Transport::Tls(handshake),
                ..Spoken::PLAIN
            },
        );
    }),
    ("port-streams", "HTTP/2 beside HTTP/1.1", |f| {
        spoken(
            f,
            Spoken {
                http2: true,
                ..Spoken::PLAIN
            },
        );
    }),
    ("port-streams", "HTTP/2 alone", |f| {
        spoken(
            f,
            Spoken {
                http1: false,
                http2: true,
                ..Spoken::PLAIN
            },
        );
    }),
    ("hook-drop-ins", "a shorter limit", |f| drop_in(f, HOOK)),
    ("hook-drop-ins", "on the way back", |f| drop_in(f, REJOIN)),
    ("hook-tried", "blind in its sandbox", |f| {
        inside(f).blind = Some("sock_diag: permission denied".to_owned());
    }),
    ("hook-tried", "a port not seen in it", |f| {
        inside(f).listeners.clear()
    }),
    ("hook-tried", "a pool not reached from it", |f| {
        inside(f).pools[0].1 = Some("connection refused".to_owned());
    }),
    ("hook-tried", "a state that can't be written", |f| {
        inside(f).state = Some("/var/lib/drainctl: read-only file system".to_owned());
    }),
    ("hook-tried", "not to be tried", |f| {
        f.around.inside = Some(Err("Failed to start transient service unit".to_owned()));
    }),
    ("hook-why", "nobody answers", |f| {
        f.around.answers.bus = Some("system bus: no answer in time".to_owned());
        f.around.answers.own = Some("systemctl: timed out".to_owned());
    }),
    ("hook-why", "the bus not held", |f| {
        f.order.may_stop.insert("dbus.service".to_owned());
    }),
    ("limit-requests", "longer than stopwaitsecs", |f| {
        f.around.longest = vec![Longest {
            drain: "20260101-000000-1".to_owned(),
            program: "web".to_owned(),
            age: Duration::from_secs(25),
        }];
    }),
    ("limit-requests", "cut by the deadline", |f| {
        f.around.cut = Some(Cut {
            drain: "20260101-000000-1".to_owned(),
            shutdown: true,
            limit: Duration::from_mins(5),
            count: 2,
            oldest: Duration::from_mins(7),
        });
    }),
    ("limit-notice", "a cloud in a hurry", |f| {
        f.around.cloud = Some(Cloud {
            name: "Google Compute Engine",
            seen: "Google".to_owned(),
            always: Some(Duration::from_secs(90)),
            spot: Duration::from_secs(30),
        });
    }),
    ("limit-delay", "somebody takes long", |f| {
        if let Some(login) = &mut f.around.login {
            login.delay_max = Duration::from_mins(10);
        }
    }),
    ("limit-delay", "blocked", |f| {
        if let Some(login) = &mut f.around.login {
            login.inhibitors[0].mode = "block".to_owned();
        }
    }),
    ("limit-default", "changed", |f| {
        let set = ("DefaultTimeoutStopUSec".to_owned(), "10s".to_owned());
        f.around.manager = [set].into();
    }),
    ("limit-crash", "not started again", |f| {
        unit(f, "supervisor.service", "Restart=no")
    }),
    ("limit-crash", "started again much later", |f| {
        unit(f, "supervisor.service", "RestartUSec=1h")
    }),
    ("pool-mark", "a receipt lost", |f| {
        f.pools[0].membership = Some(Membership::Out);
        let mark = Absent {
            here: true,
            by_drainctl: true,
            ..absent("alpha", "drainctl: draining this host (x, 1)")
        };
        f.around.closely[0].as_mut().unwrap().absent = vec![mark];
    }),
    ("pool-rights", "may only read", |f| {
        let missing = vec!["node:write on \"alpha\"".to_owned()];
        f.around.closely[0].as_mut().unwrap().missing_rights = missing;
    }),
    ("pool-last", "all others out", |f| {
        f.around.peers = vec![others(0)];
        let absent = vec![absent("beta", "a new disk")];
        f.around.closely[0].as_mut().unwrap().absent = absent;
    }),
    ("pool-readers", "linkerd without health", |f| {
        f.around.readers = vec![(7, "/etc/linkerd.yaml".to_owned())];
    }),
    ("state-receipts", "still out", |f| {
        f.pools[0].membership = Some(Membership::Out);
        f.receipts = Some(Book {
            version: 1,
            drain: "20260101-000000-1".to_owned(),
            target: crate::receipts::TargetMark::default(),
            receipts: vec![Receipt {
                pool: consul(),
                written: jiff::Timestamp::UNIX_EPOCH,
                before: serde_json::Value::Null,
            }],
            slot: None,
        });
    }),
    ("state-receipts", "damaged", |f| {
        f.unreadable = Some("expected value at line 1".to_owned())
    }),
    ("state-rejoin", "failed", |f| {
        unit(f, REJOIN, "ActiveState=failed\nResult=exit-code")
    }),
    ("state-leftovers", "after a crash", |f| {
        f.leftovers = vec![("supervisor.service".to_owned(), 77, "python3".to_owned())];
    }),
    ("state-lasting", "in memory", |f| f.volatile = true),
    ("state-scheduled", "in a minute", |f| {
        f.scheduled = Some("USEC=1795394400000000\nWARN_WALL=1\nMODE=poweroff\n".to_owned());
    }),
];

fn spoken(facts: &mut Facts, spoken: Spoken) {
    let listener = Listener {
        local: "0.0.0.0:8443".parse().unwrap(),
        program: "web:api".to_owned(),
        role: Role::Own,
    };
    facts.ports = vec![(listener, spoken)];
}

fn drop_in(facts: &mut Facts, name: &str) {
    let path = format!("/etc/systemd/system/{name}.d/x.conf");
    unit(facts, name, &format!("DropInPaths={path}"));
    let text = "[Service]\nTimeoutStopSec=5s\n".to_owned();
    facts.around.drop_ins.insert(path, text);
}

fn inside(facts: &mut Facts) -> &mut Sight {
    facts.around.inside.as_mut().unwrap().as_mut().unwrap()
}

fn wrapped(facts: &mut Facts, change: fn(&mut Stop)) {
    let mut stop = Stop {
        program: "web".to_owned(),
        command: "/usr/bin/drainctl run --service web -- gunicorn app:app".to_owned(),
        signal: 15,
        limit: Duration::from_secs(90),
        as_group: false,
    };
    change(&mut stop);
    facts.stops = vec![("supervisor.service".to_owned(), stop)];
}

fn said(facts: &mut Facts, kind: PoolErrorKind) {
    facts.pools[0].membership = None;
    facts.pools[0].error = Some("what it says".to_owned());
    facts.pools[0].fault = Some(kind);
}

#[test]
fn each_check_names_what_is_broken_and_only_that() {
    let mut text = String::new();
    for (name, how, change) in BROKEN {
        let mut facts = healthy();
        change(&mut facts);
        let checks: Vec<&str> = examine(&facts).iter().map(|found| found.check).collect();
        assert_eq!(checks, [*name], "{how}");
        text += &format!("--- {name}: {how}\n{}", report(change));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_check_has_a_host_broken_that_way() {
    for check in CHECKS {
        assert!(
            BROKEN.iter().any(|broken| broken.0 == check.name),
            "{}",
            check.name
        );
    }
}

#[test]
fn no_finding_is_without_evidence_and_remedy() {
    for (name, how, change) in BROKEN {
        let mut facts = healthy();
        change(&mut facts);
        for found in examine(&facts) {
            assert!(!found.finding.seen.is_empty(), "{name}: {how}");
            assert!(!found.finding.mend.is_empty(), "{name}: {how}");
        }
    }
}

#[test]
fn a_stopped_target_needs_no_active_hook() {
    let text = report(|facts| {
        unit(facts, HOOK, "ActiveState=inactive");
        unit(facts, "supervisor.service", "ActiveState=inactive");
        facts.supervisors.clear();
        facts.stop_limits.clear();
        facts.order.outlive.remove("supervisor.service");
    });
    assert_eq!(text, "");
}

#[test]
fn an_instance_that_was_always_alone_is_no_news_and_somebody_elses_mark_is_told_with_its_reason() {
    let text = report(|facts| {
        let of = "app".to_owned();
        facts.around.peers[0].peers = Some(Peers::Others {
            healthy: 0,
            known: 0,
            of,
        });
    });
    assert_eq!(text, "");
    let text = report(|facts| {
        facts.pools[0].membership = Some(Membership::Out);
        let mark = Absent {
            here: true,
            ..absent("alpha", "a new disk")
        };
        facts.around.closely[0].as_mut().unwrap().absent = vec![mark];
    });
    assert!(text.contains("a new disk"), "{text}");
}

#[test]
fn what_cuts_first_follows_from_the_whole_chain() {
    let cut = |change: fn(&mut Facts)| {
        let mut facts = healthy();
        change(&mut facts);
        let cut = first_to_cut(&facts).unwrap();
        (cut.after.as_secs(), cut.set)
    };
    // Five minutes of drain, then the shorter of gunicorn's 30 s, stopwaitsecs, and systemd's 90 s.
    let expected = "[deadline] shutdown, then stopwaitsecs of web".to_owned();
    assert_eq!(cut(|_| {}), (310, expected));
    let (after, set) = cut(|facts| facts.stop_limits[0].2 = Duration::from_secs(60));
    assert_eq!(after, 330);
    assert!(set.contains("graceful-timeout"), "{set}");
    let (after, set) = cut(|facts| unit(facts, HOOK, "NotifyAccess=none"));
    assert_eq!(after, 100);
    assert!(
        set.starts_with("TimeoutStopSec= of drain-connections"),
        "{set}"
    );
    let (after, _) = cut(|facts| unit(facts, "poweroff.target", "JobTimeoutUSec=1min"));
    assert_eq!(after, 60);
}

#[test]
fn an_agent_under_supervisord_and_one_that_no_pool_asks_need_no_order() {
    let text = report(|facts| {
        facts.agent = Some(found("supervisor.service", "its process"));
        facts.order.outlive.remove("consul.service");
    });
    assert_eq!(text, "");
    let text = report(|facts| {
        facts.settings.pools.clear();
        facts.order.outlive.remove("consul.service");
    });
    assert_eq!(text, "");
}

#[test]
fn a_finding_as_json() {
    let mut facts = healthy();
    unit(&mut facts, HOOK, "ActiveState=inactive");
    let json = serde_json::to_string_pretty(&examine(&facts)).unwrap();
    insta::assert_snapshot!(json, @r#"
    [
      {
        "check": "hook-active",
        "section": "hook",
        "severity": "error",
        "what": "the hook is not active, and only what is active is stopped: nothing is drained at the next shutdown, and requests in flight are cut",
        "seen": [
          {
            "of": "drain-connections.service",
            "property": "ActiveState",
            "value": "inactive"
          }
        ],
        "mend": [
          {
            "run": "systemctl start drain-connections.service"
          }
        ]
      }
    ]
    "#);
}
