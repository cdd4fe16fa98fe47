//! The chain of time limits: which one would cut the drain short?

use std::time::Duration;

use super::Severity::{Error, Warning};
use super::hook::restore;
use super::{Facts, Finding};
use crate::report::age;
use crate::systemd::HOOK;

/// What a shutdown takes besides: stopping the rest, and some slack.
const MARGIN: Duration = Duration::from_secs(30);
/// The first that knows `EXTEND_TIMEOUT_USEC`.
pub(super) const OLDEST: u32 = 236;
/// A file of its own, which wins over every other.
pub(super) const LAST_WORD: &str = "/etc/drainctl/conf.d/zz-deadline.toml";
/// What systemd ships: the limit of a stop (`DefaultTimeoutStopSec=` in systemd-system.conf(5)), and that of a poweroff or reboot.
pub(super) const SHIPPED: Duration = Duration::from_secs(90);
const SHIPS: Duration = Duration::from_mins(30);
/// The targets of shutdowns; others have no limit.
pub(super) const ENDS: [&str; 2] = ["poweroff.target", "reboot.target"];

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it limits.
    pub what: String,
    /// How long; [`Duration::MAX`] for no limit, `None` where it can't be told.
    pub time: Option<Duration>,
    /// Where it is set.
    pub set: String,
}

/// The chain, in the order in which a shutdown meets it.
#[must_use]
pub fn chain(facts: &Facts) -> Vec<Limit> {
    let mut all = Vec::new();
    let mut add =
        |what: String, time: Option<Duration>, set: String| all.push(Limit { what, time, set });
    let deadline = &facts.settings.deadline;
    let around = &facts.around;
    if let Some(login) = &around.login {
        add(
            "the beginning of a shutdown".to_owned(),
            Some(login.delay_max),
            "InhibitDelayMaxSec= of logind.conf, while somebody delays it".to_owned(),
        );
    }
    if let Some(cloud) = &around.cloud {
        add(
            format!("the host, at {}", cloud.name),
            cloud.always,
            "its documentation; counted from its order to stop".to_owned(),
        );
        add(
            format!("a spot host, at {}", cloud.name),
            Some(cloud.spot),
            "its documentation; counted from its notice".to_owned(),
        );
    }
    for pool in &facts.settings.pools {
        add(
            format!("leaving {}", pool.name),
            Some(pool.limit),
            format!("limit of [pool.{}]", pool.name),
        );
    }
    for (pool, took) in &around.pool_delays {
        add(
            format!("{pool}'s own delay"),
            Some(*took),
            "as the last drain saw it".to_owned(),
        );
    }
    add(
        "settling".to_owned(),
        Some(facts.settings.settle.max),
        "[settle] max".to_owned(),
    );
    add(
        "the whole drain before a shutdown".to_owned(),
        Some(deadline.shutdown),
        "[deadline] shutdown".to_owned(),
    );
    add(
        "the whole drain before a restart".to_owned(),
        Some(deadline.restart),
        "[deadline] restart".to_owned(),
    );
    add(
        "the drain without a sign of life".to_owned(),
        facts.span(HOOK, "TimeoutStopUSec"),
        format!(
            "TimeoutStopSec= of {HOOK}, NotifyAccess={}",
            facts.get(HOOK, "NotifyAccess")
        ),
    );
    for grace in &around.graces {
        add(
            format!("requests of {}, by {}", grace.program, grace.server),
            Some(grace.time),
            grace.set.clone(),
        );
    }
    for (unit, program, limit) in &facts.stop_limits {
        add(
            format!("the end of {program}"),
            Some(*limit),
            format!("stopwaitsecs in the configuration of {unit}"),
        );
    }
    for target in &facts.targets {
        add(
            format!("the end of {target}"),
            facts.span(target, "TimeoutStopUSec"),
            format!("TimeoutStopSec= of {target}"),
        );
    }
    for end in ENDS {
        add(
            format!("a shutdown by {end}"),
            facts.span(end, "JobTimeoutUSec"),
            format!("JobTimeoutSec= of {end}"),
        );
    }
    for found in &facts.supervisors {
        add(
            format!("{} after a crash", found.unit),
            facts.span(&found.unit, "RestartUSec"),
            format!("RestartSec= of {}", found.unit),
        );
    }
    all
}

/// What would cut a request that never ends, at a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstCut {
    /// When, from the order to stop.
    pub after: Duration,
    /// What does it.
    pub by: String,
    /// The setting that makes it later.
    pub set: String,
}

/// The first of all limits to cut a request at a shutdown; `None` where none does.
#[must_use]
pub fn first_to_cut(facts: &Facts) -> Option<FirstCut> {
    let mut all = Vec::new();
    let mut add = |after: Duration, by: String, set: String| {
        if after != Duration::MAX {
            all.push(FirstCut { after, by, set });
        }
    };
    if let Some((cloud, always)) = facts
        .around
        .cloud
        .as_ref()
        .and_then(|c| Some((c, c.always?)))
    {
        let set = "the cloud's own settings; [deadline] shutdown should be shorter";
        add(always, cloud.name.to_owned(), set.to_owned());
    }
    for end in ENDS {
        let limit = facts.span(end, "JobTimeoutUSec").unwrap_or(Duration::MAX);
        add(limit, end.to_owned(), format!("JobTimeoutSec= of {end}"));
    }
    let mut drain = facts.settings.deadline.shutdown;
    let mut drain_set = "[deadline] shutdown".to_owned();
    if !hears(facts) {
        let limit = facts.span(HOOK, "TimeoutStopUSec").unwrap_or(Duration::MAX);
        if limit < drain {
            drain = limit;
            drain_set = format!("TimeoutStopSec= of {HOOK}");
        }
    }
    for target in &facts.targets {
        let stop = facts
            .span(target, "TimeoutStopUSec")
            .unwrap_or(Duration::MAX);
        let own = facts.stop_limits.iter().filter(|(unit, ..)| unit == target);
        let programs = own.map(|(_, program, limit)| {
            let graces = facts.around.graces.iter();
            let graces = graces.filter(|grace| grace.program == *program);
            let patience = graces.map(|grace| (grace.time, grace.set.clone()));
            let killed = (*limit, format!("stopwaitsecs of {program}"));
            let first = patience.chain([killed]).min_by_key(|(time, _)| *time);
            let (time, set) = first.unwrap_or_default();
            (time, program.clone(), set)
        });
        let whole = (stop, target.clone(), format!("TimeoutStopSec= of {target}"));
        let first = programs.chain([whole]).min_by_key(|(time, ..)| *time);
        if let Some((time, by, set)) = first {
            add(
                drain.saturating_add(time),
                format!("the end of {by}"),
                format!("{drain_set}, then {set}"),
            );
        }
    }
    all.into_iter().min_by_key(|cut| cut.after)
}

/// Whether systemd hears the drain's signs of life.
fn hears(facts: &Facts) -> bool {
    matches!(facts.get(HOOK, "NotifyAccess"), "exec" | "all") && facts.version >= OLDEST
}

pub(super) fn heartbeat(facts: &Facts) -> Vec<Finding> {
    if facts.get(HOOK, "LoadState") != "loaded" {
        return Vec::new();
    }
    let limit = facts.span(HOOK, "TimeoutStopUSec").unwrap_or(Duration::MAX);
    let deadline = facts.settings.deadline.shutdown;
    if hears(facts) || limit >= deadline + MARGIN {
        return Vec::new();
    }
    let what = format!(
        "systemd kills the drain after {}, though it may take {}",
        age(limit),
        age(deadline)
    );
    let finding = Finding::new(Error, what)
        .unit(facts, HOOK, "TimeoutStopUSec")
        .unit(facts, HOOK, "NotifyAccess")
        .seen("systemd", "Version", facts.version.to_string());
    if facts.version >= OLDEST {
        return vec![restore(facts, finding)];
    }
    let needed = format!("TimeoutStopSec={}s", (deadline + MARGIN).as_secs());
    let finding = finding
        .set(
            format!("/etc/systemd/system/{HOOK}.d/zz-limit.conf"),
            &["[Service]", &needed],
        )
        .run("systemctl daemon-reload");
    vec![finding]
}

pub(super) fn shutdown(facts: &Facts) -> Vec<Finding> {
    let deadline = facts.settings.deadline.shutdown;
    let stops = facts.targets.iter().map(|target| {
        (
            facts
                .span(target, "TimeoutStopUSec")
                .unwrap_or(Duration::ZERO),
            target,
        )
    });
    let Some((stop, target)) = stops.max() else {
        return Vec::new();
    };
    let ends = ENDS
        .iter()
        .filter_map(|end| Some((facts.span(end, "JobTimeoutUSec")?, *end)));
    let Some((end, unit)) = ends.min() else {
        return Vec::new();
    };
    let needed = deadline.saturating_add(stop).saturating_add(MARGIN);
    if end == Duration::MAX || needed <= end {
        return Vec::new();
    }
    let first = if stop == Duration::MAX {
        "as long as it likes".to_owned()
    } else {
        age(stop)
    };
    let what = format!(
        "systemd ends a shutdown by force after {}, but the drain may take {} and then {target} {first}: what is left is cut",
        age(end),
        age(deadline),
    );
    let finding = Finding::new(Error, what)
        .seen("the config", "deadline.shutdown", age(deadline))
        .unit(facts, target, "TimeoutStopUSec")
        .unit(facts, unit, "JobTimeoutUSec");
    // Whole minutes, which is how people think of it.
    let left = |stop: Duration| end.saturating_sub(stop).saturating_sub(MARGIN).as_secs() / 60;
    let drop_in = |unit: &str| format!("/etc/systemd/system/{unit}.d/zz-limit.conf");
    let reload = "systemctl daemon-reload";
    vec![if left(stop) > 0 {
        let line = format!("shutdown = \"{}m\"", left(stop));
        finding.set(LAST_WORD, &["[deadline]", &line])
    } else if left(SHIPPED) > 0 {
        let lines = ["[Service]", "TimeoutStopSec=90s"];
        finding.set(drop_in(target), &lines).run(reload)
    } else {
        // Too short for any drain.
        let short = |end: &&&str| {
            facts
                .span(end, "JobTimeoutUSec")
                .is_some_and(|time| time < SHIPS)
        };
        let finding = ENDS.iter().filter(short).fold(finding, |finding, end| {
            finding.set(drop_in(end), &["[Unit]", "JobTimeoutSec=30min"])
        });
        finding.run(reload)
    }]
}

pub(super) fn programs(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for target in &facts.targets {
        let own = facts.stop_limits.iter().filter(|(unit, ..)| unit == target);
        let Some((_, program, limit)) = own.max_by_key(|(_, _, limit)| *limit) else {
            continue;
        };
        let stop = facts
            .span(target, "TimeoutStopUSec")
            .unwrap_or(Duration::MAX);
        if *limit < stop {
            continue;
        }
        let what = format!(
            "supervisord gives {program} {} to end, but is itself killed after {}: the program lives on until everything it needs is gone",
            age(*limit),
            age(stop)
        );
        let needed = format!("TimeoutStopSec={}s", limit.saturating_add(MARGIN).as_secs());
        found.push(
            Finding::new(Warning, what)
                .seen(program, "stopwaitsecs", limit.as_secs().to_string())
                .unit(facts, target, "TimeoutStopUSec")
                .set(
                    format!("/etc/systemd/system/{target}.d/zz-limit.conf"),
                    &["[Service]", &needed],
                )
                .run("systemctl daemon-reload"),
        );
    }
    found
}
