//! What the hook sees inside its own sandbox, tried out there, beside what is seen without one.

use super::super::Severity::{Error, Warning};
use super::super::hook::restore;
use super::super::sight::Sight;
use super::super::{Facts, Finding, Severity};
use crate::systemd::HOOK;

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let Some(inside) = &facts.around.inside else {
        return Vec::new();
    };
    let differences = match inside {
        Ok(inside) => differences(inside, &facts.around.sight),
        Err(why) => vec![(
            Warning,
            "the hook's sandbox could not be tried out: what it sees there is not known".to_owned(),
            why.clone(),
        )],
    };
    let finding = |(severity, what, value): (Severity, String, String)| {
        let mut finding = Finding::new(severity, what).seen("in the sandbox", "", value);
        for line in &facts.around.hardened {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            finding = finding.seen(HOOK, key, value);
        }
        if facts.changed.is_empty() && super::super::hook::foreign(facts, HOOK).is_empty() {
            return finding.hand(format!(
                "see what forbids it: `systemctl cat {HOOK}`, the system's security modules, a full disk"
            ));
        }
        restore(facts, finding)
    };
    differences.into_iter().map(finding).collect()
}

/// What is worse inside: how bad, what it means, what was seen.
fn differences(inside: &Sight, outside: &Sight) -> Vec<(Severity, String, String)> {
    let mut found = Vec::new();
    let mut worse = |severity, what: &str, inside: &Option<String>, outside: &Option<String>| {
        if let (Some(why), None) = (inside, outside) {
            found.push((severity, what.to_owned(), why.clone()));
        }
    };
    worse(
        Error,
        "the hook can't see the connections of the programs, and waits until its deadline for what it can't see",
        &inside.blind,
        &outside.blind,
    );
    worse(
        Error,
        "the hook can't read its config",
        &inside.config,
        &outside.config,
    );
    worse(
        Warning,
        "the hook can't ask systemd why it runs: a restart by hand is waited for as long as a poweroff",
        &inside.systemd,
        &outside.systemd,
    );
    worse(
        Warning,
        "the hook can't tell the programs by their names",
        &inside.names,
        &outside.names,
    );
    // Wherever it is looked from: without its state it changes nothing in a pool.
    for why in [&inside.state, &inside.run].into_iter().flatten() {
        let what = "the hook can't write down what it changes, and so leaves no pool: traffic goes on and is cut";
        found.push((Error, what.to_owned(), why.clone()));
    }
    for (program, port) in &outside.listeners {
        if inside.blind.is_none() && !inside.listeners.iter().any(|(_, seen)| seen == port) {
            let what =
                format!("the hook does not see port {port} of {program}: requests there are cut");
            let seen = format!("{:?}", inside.listeners);
            found.push((Error, what, seen));
        }
    }
    let other = |one: &Sight, (name, _): &(String, Option<String>)| {
        !one.pools.iter().any(|(known, _)| known == name)
    };
    if let Some((name, _)) = outside.pools.iter().find(|pool| other(inside, pool)) {
        let what = "the hook reads another config: it would not leave every pool".to_owned();
        found.push((Error, what, format!("{name} is not in it")));
    }
    for (name, error) in &inside.pools {
        let fine_outside =
            |(other, error): &&(String, Option<String>)| other == name && error.is_none();
        if let Some(error) = error
            && outside.pools.iter().any(|pool| fine_outside(&pool))
        {
            let what = format!("the hook can't reach {name}: traffic goes on and is cut");
            found.push((Error, what, error.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> Sight {
        Sight {
            listeners: vec![("web".to_owned(), 80)],
            pools: vec![("consul".to_owned(), None)],
            ..Sight::default()
        }
    }

    #[test]
    fn only_what_is_worse_inside_is_told() {
        assert!(differences(&sight(), &sight()).is_empty());
        let broken = Sight {
            pools: vec![("consul".to_owned(), Some("refused".to_owned()))],
            blind: Some("no".to_owned()),
            ..sight()
        };
        assert!(differences(&broken, &broken.clone()).is_empty());
        // Blind, and so without any port: told once.
        let blind = Sight {
            listeners: Vec::new(),
            ..broken
        };
        assert_eq!(differences(&blind, &sight()).len(), 2);
        let partly = Sight {
            listeners: Vec::new(),
            ..sight()
        };
        let [(severity, what, _)] = differences(&partly, &sight()).try_into().unwrap();
        assert_eq!(severity, Error);
        assert!(what.contains("port 80 of web"), "{what}");
    }

    #[test]
    fn a_state_that_can_not_be_written_is_told_wherever_it_is_seen() {
        let full = Sight {
            state: Some("no space left".to_owned()),
            ..sight()
        };
        assert_eq!(differences(&full, &full.clone()).len(), 1);
    }
}
