//! Drop-ins that change how our units run, and units of ours that are masked.

use super::super::Severity::{Error, Warning};
use super::super::hook::{foreign, set_aside};
use super::super::{Facts, Finding};
use crate::systemd::{HOOK, REJOIN};

/// What an administrator may well add: it takes nothing away from the drain.
const HARMLESS: [&str; 12] = [
    "After",
    "Wants",
    "Requires",
    "Description",
    "Documentation",
    "Environment",
    "EnvironmentFile",
    "PassEnvironment",
    "LoadCredential",
    "ReadWritePaths",
    "Slice",
    "Nice",
];

pub(in crate::doctor) fn find(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    if facts.get(REJOIN, "LoadState") == "masked" {
        let what = "after a drain nothing takes this host back into its pools";
        found.push(
            Finding::new(Error, what)
                .unit(facts, REJOIN, "LoadState")
                .run(format!("systemctl unmask {REJOIN}"))
                .run("drainctl install"),
        );
    }
    for (unit, when) in [(HOOK, "shutdown"), (REJOIN, "start")] {
        for path in foreign(facts, unit) {
            let text = facts.around.drop_ins.get(path);
            let lines: Vec<&str> = text.iter().flat_map(|text| changes(text)).collect();
            // Without heartbeats there has to be one, which another check asks for.
            if lines.is_empty() || facts.version < super::super::limits::OLDEST {
                continue;
            }
            let what = format!(
                "a drop-in changes how {unit} runs: what was tested is not what would run at the next {when}"
            );
            let mut finding = Finding::new(Warning, what);
            for line in lines {
                finding = finding.seen(path, "", line);
            }
            found.push(finding.run(set_aside(unit, path)));
        }
    }
    found
}

/// The lines of a drop-in that are more than harmless: other settings, and empty ones, which take away what stood before.
fn changes(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| {
        let Some((key, value)) = line.split_once('=') else {
            return false;
        };
        let harmless = HARMLESS.contains(&key.trim()) && !value.trim().is_empty();
        !line.starts_with(['#', ';']) && !harmless && !key.starts_with("X-")
    })
}

#[cfg(test)]
mod tests {
    use super::changes;

    #[test]
    fn what_only_adds_is_no_change() {
        let text = "[Unit]\nAfter=a.service\n# ExecStop=\n[Service]\nEnvironment=A=b\nX-Owner=me\n";
        assert_eq!(changes(text).count(), 0);
        let text = "[Unit]\nAfter=\n[Service]\nExecStop=\nTimeoutStopSec=5s\n";
        assert_eq!(
            changes(text).collect::<Vec<_>>(),
            ["After=", "ExecStop=", "TimeoutStopSec=5s"]
        );
    }
}
