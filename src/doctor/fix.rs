//! Which of the remedies this program may do by itself: those that touch nothing but its own units.

use super::{Found, Mend};
use crate::systemd::units;

/// A remedy that is ours to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// `drainctl install`: our own files as this host needs them.
    Install,
    /// `systemctl` with these arguments.
    Tell(Vec<String>),
}

/// What the findings ask for and is ours to do, each once, in the order of the report; an install reloads, enables and starts by itself and so
/// comes first.
#[must_use]
pub fn fixes(found: &[Found]) -> Vec<Fix> {
    let mends = found.iter().flat_map(|found| &found.finding.mend);
    let mut fixes: Vec<Fix> = Vec::new();
    for fix in mends.filter_map(own) {
        if !fixes.contains(&fix) {
            fixes.push(fix);
        }
    }
    fixes.sort_by_key(|fix| *fix != Fix::Install);
    fixes
}

fn own(mend: &Mend) -> Option<Fix> {
    let Mend::Run(command) = mend else {
        return None;
    };
    let words: Vec<&str> = command.split(' ').collect();
    match words.as_slice() {
        ["drainctl", "install"] => Some(Fix::Install),
        ["systemctl", "daemon-reload"] => Some(Fix::Tell(vec!["daemon-reload".to_owned()])),
        ["systemctl", verb @ ("start" | "enable" | "reenable"), unit]
            if units::UNITS.contains(unit) =>
        {
            Some(Fix::Tell(vec![(*verb).to_owned(), (*unit).to_owned()]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_touches_our_own_units_is_done() {
        let run = |command: &str| own(&Mend::Run(command.to_owned()));
        assert_eq!(run("drainctl install"), Some(Fix::Install));
        assert!(run("systemctl start drain-connections.service").is_some());
        assert!(run("systemctl daemon-reload").is_some());
        for other in [
            "drainctl rejoin",
            "systemctl start supervisor.service",
            "systemctl unmask drain-connections.service",
            "mv /etc/a /etc/a.off && systemctl daemon-reload",
            "drainctl install --keep a.service",
            "shutdown -c",
        ] {
            assert_eq!(run(other), None, "{other}");
        }
        let lines = vec!["x".to_owned()];
        let file = "/etc/x".to_owned();
        assert_eq!(own(&Mend::Set { file, lines }), None);
    }
}
