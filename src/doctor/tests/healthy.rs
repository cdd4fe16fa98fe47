//! A host on which all is well, piece by piece.

use std::time::Duration;

use super::super::grace::Grace;
use super::super::*;
use super::{HOLD, HOLD_TIMER, HOOK, REJOIN};
use crate::config::PoolSpec;
use crate::pools::{Absent, Closely, Membership, Peers, PeersSaid, Said};
use crate::systemd::find;
use crate::systemd::logind::{Inhibitor, Login};

/// Properties of one unit, a line each.
pub(super) fn unit(facts: &mut Facts, name: &str, lines: &str) {
    let properties = facts.units.entry(name.to_owned()).or_default();
    for line in lines.lines().map(str::trim) {
        if let Some((key, value)) = line.split_once('=') {
            properties.insert(key.to_owned(), value.to_owned());
        }
    }
}

pub(super) fn found(unit: &str, why: &str) -> find::Found {
    find::Found {
        unit: unit.to_owned(),
        why: why.to_owned(),
    }
}

pub(super) fn consul() -> PoolSpec {
    PoolSpec {
        name: "consul".to_owned(),
        kind: "consul".to_owned(),
        limit: Duration::from_secs(15),
        settings: serde_json::json!({}),
    }
}

pub(super) fn others(healthy: u64) -> PeersSaid {
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

pub(super) fn absent(name: &str, why: &str) -> Absent {
    Absent {
        name: name.to_owned(),
        why: why.to_owned(),
        on_purpose: true,
        here: false,
        by_drainctl: false,
    }
}

/// What a host sees on which all is well.
pub(super) fn sight() -> Sight {
    Sight {
        listeners: vec![("web".to_owned(), 8000)],
        pools: vec![("consul".to_owned(), None)],
        ..Sight::default()
    }
}

/// A host on which all is well.
pub(super) fn healthy() -> Facts {
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
