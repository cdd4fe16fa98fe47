//! Hosts broken in one way each, at least one a check.

use std::time::Duration;

use super::super::around::{Cloud, Cut, Longest};
use super::super::*;
use super::healthy::{absent, consul, found, others, unit};
use super::{HOLD, HOLD_TIMER, HOOK, REJOIN};
use crate::evidence::spoken::{Flight, Handshake, Transport};
use crate::evidence::{Listener, Role, Spoken};
use crate::pools::{Absent, Membership, PoolErrorKind, Said};
use crate::probes::Counted;
use crate::receipts::{Book, Receipt};
use crate::supervisord::Stop;
use crate::systemd::find::Outside;
use crate::systemd::hold::{Matters, Newcomer};
use crate::systemd::units::Held;

/// `db.service`, which is not held.
pub(super) fn newcomer(facts: &mut Facts, matters: Matters, why: &str) {
    let held = Held::new("db.service".to_owned(), why);
    facts.newcomers.push(Newcomer { held, matters });
    facts.order.may_stop.insert("db.service".to_owned());
}

/// No supervisord, and these services that listen.
fn without(facts: &mut Facts, serving: &[&str]) {
    facts.no_target = Some("there is no unit gone.service on this host".to_owned());
    facts.supervisors.clear();
    facts.targets.clear();
    let serving = serving.iter();
    facts.serving = serving
        .map(|unit| ((*unit).to_owned(), [80, 443].into()))
        .collect();
}

/// A check's name, what the host is broken by, and how.
pub(super) type Broken = (&'static str, &'static str, fn(&mut Facts));

/// At least one a check.
pub(super) const BROKEN: &[Broken] = &[
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
        unit(f, HOOK, "Type=notify")
    }),
    ("hook-stop", "does not remain", |f| {
        unit(f, HOOK, "RemainAfterExit=no")
    }),
    ("hook-stop", "its program is gone", |f| {
        let program = "/opt/gone/drainctl".to_owned();
        f.around.unrunnable = Some((program, "no such file or directory".to_owned()));
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
        let target = f.order.outlive.take("supervisor.service");
        f.order.may_stop.extend(target);
    }),
    ("order-target", "wrong name, and held by the hold", |f| {
        unit(f, HOOK, "After=supervisord.service consul.service");
    }),
    ("order-target", "wrong name in the config", |f| {
        f.no_target = Some("there is no unit supervisord.service on this host".to_owned());
    }),
    ("order-target", "no supervisord, one that listens", |f| {
        without(f, &["web.service"]);
    }),
    ("order-target", "no supervisord, two that listen", |f| {
        without(f, &["api.service", "web.service"]);
    }),
    ("order-target", "nothing at all", |f| without(f, &[])),
    ("order-target", "supervisord is not started", |f| {
        without(f, &[]);
        f.usual = Some("supervisor.service".to_owned());
    }),
    ("order-target", "one of two left out", |f| {
        f.supervisors
            .push(found("shop.service", "supervisord is its process 77"));
    }),
    ("order-target", "gone after the next boot", |f| {
        let transient = [("Transient".to_owned(), "yes".to_owned())];
        f.all
            .insert("supervisor.service".to_owned(), transient.into());
    }),
    ("order-outside", "by hand", |f| {
        f.outside = vec![Outside {
            pid: 13,
            why: "supervisord (process 13) runs outside any service".to_owned(),
        }];
    }),
    ("order-elsewhere", "a session of su", |f| {
        let group = "/user.slice/user-0.slice/session-c1.scope";
        let place = ["supervisor.service", "web", group].map(str::to_owned);
        f.elsewhere = vec![place.into()];
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
    ("limit-shutdown", "no time for any drain", |f| {
        unit(f, "reboot.target", "JobTimeoutUSec=1min 40s");
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
    ("port-none", "no program runs", |f| {
        f.around.sight.silent = true;
    }),
    ("port-unknown", "silent", |f| spoken(f, Spoken::default())),
    ("port-certificates", "asks for them", |f| {
        let handshake = Handshake {
            newer: true,
            asks_certificate: true,
            early_data: false,
            hybrid_keys: false,
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
    ("hook-conflicts", "with another unit", |f| {
        let conflicts = ("Conflicts".to_owned(), "shutdown.target".to_owned());
        let other = ("ConflictedBy".to_owned(), "fight.service".to_owned());
        f.all.insert(HOOK.to_owned(), [conflicts, other].into());
    }),
    ("hook-names", "no interface", |f| {
        f.around.sight.names = Some("its config names no interface".to_owned());
    }),
    ("hook-why", "nobody answers", |f| {
        f.around.answers.bus = Some("system bus: no answer in time".to_owned());
        f.around.answers.own = Some("systemctl: timed out".to_owned());
    }),
    ("hook-why", "the bus is dead", |f| {
        f.around.answers.bus = Some("system bus: no answer in time".to_owned());
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
    ("state-rejoin", "again and again", |f| {
        unit(
            f,
            REJOIN,
            "ActiveState=activating\nSubState=auto-restart\nResult=exit-code",
        );
    }),
    ("state-leftovers", "after a crash", |f| {
        f.leftovers = vec![("supervisor.service".to_owned(), 77, "python3".to_owned())];
    }),
    ("state-lasting", "in memory", |f| f.volatile = true),
    ("state-scheduled", "in a minute", |f| {
        f.scheduled = Some("USEC=1795394400000000\nWARN_WALL=1\nMODE=poweroff\n".to_owned());
    }),
];

pub(super) fn spoken(facts: &mut Facts, spoken: Spoken) {
    let listener = Listener {
        local: "0.0.0.0:8443".parse().unwrap(),
        program: "web:api".to_owned(),
        process: None,
        role: Role::Own,
    };
    facts.ports = vec![(listener, spoken)];
}

pub(super) fn drop_in(facts: &mut Facts, name: &str) {
    let path = format!("/etc/systemd/system/{name}.d/x.conf");
    unit(facts, name, &format!("DropInPaths={path}"));
    let text = "[Service]\nTimeoutStopSec=5s\n".to_owned();
    facts.around.drop_ins.insert(path, text);
}

pub(super) fn inside(facts: &mut Facts) -> &mut Sight {
    facts.around.inside.as_mut().unwrap().as_mut().unwrap()
}

pub(super) fn wrapped(facts: &mut Facts, change: fn(&mut Stop)) {
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

pub(super) fn said(facts: &mut Facts, kind: PoolErrorKind) {
    facts.pools[0].membership = None;
    facts.pools[0].error = Some("what it says".to_owned());
    facts.pools[0].fault = Some(kind);
}
