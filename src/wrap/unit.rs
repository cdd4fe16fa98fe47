//! A unit of systemd whose main process is a keeper: what in it would keep its program from being drained. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::systemd::view::time_span;

/// What [`faults`] asks of the unit.
pub const PROPERTIES: [&str; 3] = ["MainPID", "KillMode", "TimeoutStopUSec"];

/// What is wrong with a unit of these properties for the keeper with that process id, whose drains may take `limit`; each with its remedy.
/// Nothing where the keeper is not its main process.
#[must_use]
pub fn faults(unit: &BTreeMap<String, String>, keeper: u32, limit: Duration) -> Vec<String> {
    let get = |key: &str| unit.get(key).map_or("", String::as_str);
    if get("MainPID") != keeper.to_string() {
        return Vec::new();
    }
    let mut faults = Vec::new();
    // systemd.kill(5): every process of the unit gets the signal, the program beside us.
    if get("KillMode") == "control-group" {
        faults.push(
            "systemd ends the program itself when it stops the unit, undrained: set KillMode=mixed there".to_owned(),
        );
    }
    if let Some(stop) = time_span(get("TimeoutStopUSec")).filter(|stop| *stop < limit) {
        faults.push(format!(
            "systemd kills it {} s after it stops the unit, and a drain may take {} s: set TimeoutStopSec= there, or --deadline",
            stop.as_secs(),
            limit.as_secs()
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_ends_the_program_or_does_not_wait_is_told() {
        let told = |kill_mode: &str, stop: &str, pid| {
            let unit = [
                ("MainPID", "7"),
                ("KillMode", kill_mode),
                ("TimeoutStopUSec", stop),
            ];
            let unit = unit.map(|(key, value)| (key.to_owned(), value.to_owned()));
            faults(&unit.into(), pid, Duration::from_mins(1))
        };
        assert!(told("control-group", "1min 30s", 7)[0].contains("KillMode=mixed"));
        assert!(told("mixed", "30s", 7)[0].contains("TimeoutStopSec="));
        assert_eq!(told("control-group", "10s", 7).len(), 2);
        assert!(told("mixed", "1min", 7).is_empty());
        assert!(told("process", "infinity", 7).is_empty());
        assert!(told("control-group", "1s", 8).is_empty(), "not its own");
        assert!(faults(&BTreeMap::new(), 7, Duration::MAX).is_empty());
    }
}
