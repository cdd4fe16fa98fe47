//! The pools, and what earlier drains left.

use super::Severity::{Error, Info, Warning};
use super::{Facts, Finding};
use crate::config;
use crate::pools::{Membership, PoolErrorKind, Said};
use crate::probes::Counted;
use crate::receipts::{RECEIPTS, STATE_DIR};
use crate::systemd::REJOIN;

pub(super) fn answer(facts: &Facts) -> Vec<Finding> {
    let finding = |pool: &Said| {
        let error = pool.error.as_ref()?;
        let what = format!(
            "{} can't be asked, so the host can't leave it: traffic goes on and is cut",
            pool.name
        );
        let finding = Finding::new(Error, what).seen(&pool.name, "", error);
        let table = format!("[pool.{}] in {}", pool.name, config::MAIN);
        Some(match pool.fault {
            Some(PoolErrorKind::Refused) => finding.hand(format!(
                "give it a token or right that it takes: see {table}"
            )),
            Some(PoolErrorKind::Local) => finding.hand(format!(
                "mend what the message names: it is on this host, or in {table}"
            )),
            Some(PoolErrorKind::NotMember) => return None,
            _ => finding.hand(format!(
                "start what answers there, or correct its address: see {table}"
            )),
        })
    };
    facts.pools.iter().filter_map(finding).collect()
}

/// A stand-in that could not do its part; what it says beyond that does not matter before it is needed.
pub(super) fn stand_in(facts: &Facts) -> Vec<Finding> {
    let finding = |pool: &Said| {
        let error = pool.error.as_ref()?;
        let name = &pool.name;
        let what = format!(
            "{name} can't stand in for a pool that can't be left: traffic would go on then, and be cut"
        );
        Some(Finding::new(Warning, what).seen(name, "", error).hand(format!(
            "mend what the message names; to do without, set `stand_in_for = []` in [pool.{name}] of {}, and run `drainctl install`",
            config::MAIN
        )))
    };
    facts.stand_ins.iter().filter_map(finding).collect()
}

pub(super) fn member(facts: &Facts) -> Vec<Finding> {
    let misnamed = |pool: &Said| pool.fault == Some(PoolErrorKind::NotMember);
    let unknown = |pool: &&Said| misnamed(pool) || pool.membership == Some(Membership::NotMember);
    let finding = |pool: &Said| {
        let name = &pool.name;
        if misnamed(pool) {
            let what = format!(
                "{name} does not know what the config names there, so the host can't leave it: traffic goes on and is cut"
            );
            let error = pool.error.as_deref().unwrap_or_default();
            return Finding::new(Error, what)
                .seen(name, "", error)
                .hand(format!(
                    "correct the name in [pool.{name}] of {}, or register this host there",
                    config::MAIN
                ));
        }
        let what = format!(
            "{name} does not know this host: there is nothing to leave, and traffic that comes by it goes on"
        );
        Finding::new(Warning, what)
            .seen(
                &pool.name,
                "",
                pool.error.as_deref().unwrap_or("does not know this host"),
            )
            .hand(format!(
                "register this host there, or take [pool.{}] out of {}",
                pool.name,
                config::MAIN
            ))
    };
    facts.pools.iter().filter(unknown).map(finding).collect()
}

/// Unknown is busy: a probe that does not answer holds a drain to its deadline.
pub(super) fn probes(facts: &Facts) -> Vec<Finding> {
    let finding = |probe: &Counted| {
        let error = probe.count.as_ref().err()?;
        let what = format!(
            "the probe {} does not say how many requests are in flight: a drain would wait until its deadline",
            probe.name
        );
        let table = format!("[probe.{}] of {}", probe.name, config::MAIN);
        Some(
            Finding::new(Error, what)
                .seen(format!("probe.{}", probe.name), "", error)
                .hand(format!(
                    "start what answers there, correct {table}, or take it out"
                )),
        )
    };
    facts.probes.iter().filter_map(finding).collect()
}

/// Whether a drain's receipt says how to come back into a pool.
pub(super) fn has_receipt(facts: &Facts, pool: &str) -> bool {
    facts.receipts.as_ref().is_some_and(|book| {
        book.receipts
            .iter()
            .any(|receipt| receipt.pool.name == pool)
    })
}

/// Out, though no drain of ours says so.
pub(super) fn out(facts: &Facts) -> Vec<Finding> {
    let own = |at: usize| {
        let closely = facts.around.closely.get(at).into_iter().flatten();
        closely.flat_map(|said| &said.absent).find(|one| one.here)
    };
    let is_out = |(at, pool): &(usize, &Said)| {
        matches!(pool.membership, Some(Membership::Out | Membership::Leaving))
            && !has_receipt(facts, &pool.name)
            // That is a finding of its own.
            && !own(*at).is_some_and(|one| one.by_drainctl)
    };
    let finding = |(at, pool): (usize, &Said)| {
        let what = format!(
            "{} sends this host nothing, and that was not us: no drain will take it back",
            pool.name
        );
        let why = own(at).map_or("out", |one| &one.why);
        Finding::new(Info, what)
            .seen(&pool.name, "", why)
            .hand("ask who took it out, or look at its health checks")
    };
    let pools = facts.pools.iter().enumerate();
    pools.filter(is_out).map(finding).collect()
}

pub(super) fn receipts(facts: &Facts) -> Vec<Finding> {
    let finding = match (&facts.unreadable, &facts.receipts) {
        (Some(error), _) => {
            let what = "what earlier drains took this host out of can't be read: nothing takes it back there";
            Finding::new(Error, what)
                .seen(RECEIPTS, "", error)
                .hand("take the host back into its pools by hand, then run the next line")
                .run(format!("mv {RECEIPTS} {RECEIPTS}.damaged"))
        }
        (None, Some(book)) if !facts.draining && !book.receipts.is_empty() => {
            let pools: Vec<&str> = book
                .receipts
                .iter()
                .map(|receipt| receipt.pool.name.as_str())
                .collect();
            let what = format!(
                "this host is still out of {} since an earlier drain",
                pools.join(", ")
            );
            Finding::new(Warning, what)
                .seen(RECEIPTS, "drain", &book.drain)
                .unit(facts, REJOIN, "ActiveState")
                .run("drainctl rejoin")
        }
        _ => return Vec::new(),
    };
    vec![finding]
}

pub(super) fn rejoin(facts: &Facts) -> Vec<Finding> {
    let get = |property| facts.get(REJOIN, property);
    let again = get("SubState") == "auto-restart";
    if get("ActiveState") != "failed" && !again {
        return Vec::new();
    }
    let is_out = facts
        .receipts
        .as_ref()
        .is_some_and(|book| !book.receipts.is_empty());
    let (severity, what) = if again {
        (
            Warning,
            "the way back into the pools failed, and systemd tries it again",
        )
    } else if is_out {
        (
            Error,
            "the way back into the pools failed, and nobody tries it again: this host stays out",
        )
    } else {
        (
            Warning,
            "the way back into the pools failed at its last try",
        )
    };
    let finding = Finding::new(severity, what)
        .unit(facts, REJOIN, "ActiveState")
        .unit(facts, REJOIN, "Result")
        .hand(format!("mend what it says: `journalctl -u {REJOIN} -n 20`"))
        .run(format!(
            "systemctl reset-failed {REJOIN} && systemctl restart {REJOIN}"
        ));
    vec![finding]
}

pub(super) fn leftovers(facts: &Facts) -> Vec<Finding> {
    let finding = |unit: &String| {
        let own: Vec<_> = facts
            .leftovers
            .iter()
            .filter(|left| left.0 == *unit)
            .collect();
        if own.is_empty() {
            return None;
        }
        let what = format!(
            "processes of {unit} are no programs of its supervisord, which won't stop them: they live until everything they need is gone, and may \
             hold the ports of those that were started in their place"
        );
        let finding = own
            .iter()
            .fold(Finding::new(Warning, what), |finding, (_, pid, name)| {
                finding.seen(unit, "", format!("process {pid}: {name}"))
            });
        let pids: Vec<String> = own.iter().map(|(_, pid, _)| pid.to_string()).collect();
        // supervisord may have given up what found its port taken: it starts everything anew.
        Some(finding.run(format!(
            "drainctl drain && kill {} && systemctl restart {unit}; drainctl rejoin",
            pids.join(" ")
        )))
    };
    facts.targets.iter().filter_map(finding).collect()
}

pub(super) fn lasting(facts: &Facts) -> Vec<Finding> {
    if !facts.volatile {
        return Vec::new();
    }
    let what = "what a drain has to remember is lost at a reboot: nothing takes this host back into its pools";
    let finding = Finding::new(Warning, what)
        .seen(STATE_DIR, "", "lies in memory")
        .hand(format!("mount a disk at {STATE_DIR}"));
    vec![finding]
}

pub(super) fn scheduled(facts: &Facts) -> Vec<Finding> {
    let Some(text) = &facts.scheduled else {
        return Vec::new();
    };
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let mode = value("MODE").unwrap_or("shutdown");
    let at = value("USEC").and_then(|usec| usec.parse::<i64>().ok());
    let at = at.and_then(|usec| jiff::Timestamp::from_microsecond(usec).ok());
    let at = at.map_or_else(
        || "some time".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    );
    let finding = Finding::new(Info, format!("a {mode} is asked for at {at}"))
        .seen("/run/systemd/shutdown/scheduled", "MODE", mode)
        .run("shutdown -c");
    vec![finding]
}
