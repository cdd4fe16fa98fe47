//! Each check: a host broken in exactly that way, and a healthy one on which nothing is found.

mod broken;
mod healthy;

use std::time::Duration;

use super::*;
use crate::pools::{Absent, Membership, Peers};
use broken::BROKEN;
use healthy::{absent, found, healthy, unit};

const HOOK: &str = crate::systemd::HOOK;
const REJOIN: &str = crate::systemd::REJOIN;
const HOLD: &str = crate::systemd::HOLD;
const HOLD_TIMER: &str = crate::systemd::HOLD_TIMER;

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

/// A unit without `DefaultDependencies=` runs until systemd has stopped all others.
#[test]
fn a_target_that_no_shutdown_stops_is_not_cut() {
    let text = report(|f| {
        f.order.outlive.remove("supervisor.service");
    });
    assert_eq!(text, "");
}

#[test]
fn a_drop_in_that_keeps_another_away_is_not_moved_away() {
    let text = report(|f| {
        let path = format!("/etc/systemd/system/{HOOK}.d/all.conf");
        unit(f, HOOK, &format!("DropInPaths={path}\nType=notify"));
        f.around.drop_ins.insert(path, String::new());
    });
    assert!(
        text.contains("drainctl install") && !text.contains("mv "),
        "{text}"
    );
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
