//! One journal entry for each drain, with fields (`journalctl -u drain-connections -o verbose`).

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::words;
use crate::drain::Report;
use crate::drain::waits::Wait;
use crate::systemd;

/// Where journald listens (systemd's "Native Journal Protocol").
const SOCKET: &str = "/run/systemd/journal/socket";
/// Names this kind of entry; chosen once, at random.
const MESSAGE_ID: &str = "5f6d5f1d0c3b4b0f9a3f6a3f0f2f7c11";

/// So many of what was cut are named there, a field each.
const MOST_CUT: usize = 20;

/// Keeps it; whether a journal took it. Never waits: the datagram is dropped when journald does not read.
pub(super) fn keep(report: &Report) -> bool {
    UnixDatagram::unbound().is_ok_and(|socket| {
        socket.set_nonblocking(true).is_ok() && socket.send_to(&entry(report), SOCKET).is_ok()
    })
}

fn entry(report: &Report) -> Vec<u8> {
    let message = words::report(report).into_iter().next().unwrap_or_default();
    let word = |value: serde_json::Result<serde_json::Value>| {
        value
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let priority = if report.exit == crate::exit::OK {
        "6"
    } else {
        "4"
    };
    let longest = report.waited.first().map_or(Duration::ZERO, Wait::held);
    let pools = |out: bool| {
        let pools = report.pools.iter().filter(|pool| pool.out.is_some() == out);
        pools
            .map(|pool| pool.name.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut fields = vec![
        ("MESSAGE", message),
        ("MESSAGE_ID", MESSAGE_ID.to_owned()),
        ("PRIORITY", priority.to_owned()),
        ("SYSLOG_IDENTIFIER", "drainctl".to_owned()),
        // journald may look up our unit only once we are gone; and a drain by hand belongs there too (`journalctl -u` takes what root
        // says about a unit).
        ("OBJECT_SYSTEMD_UNIT", systemd::HOOK.to_owned()),
        ("DRAINCTL_ID", report.id.clone()),
        ("DRAINCTL_CAUSE", word(serde_json::to_value(report.cause))),
        ("DRAINCTL_OUTCOME", report.outcome.to_string()),
        ("DRAINCTL_EXIT", report.exit.to_string()),
        ("DRAINCTL_TOOK_MS", report.took.as_millis().to_string()),
        ("DRAINCTL_LIMIT_MS", report.limit.as_millis().to_string()),
        ("DRAINCTL_IN_FLIGHT", report.in_flight.to_string()),
        ("DRAINCTL_MOST_IN_FLIGHT", report.most_in_flight.to_string()),
        (
            "DRAINCTL_ARRIVED_IN_SETTLE",
            report.arrived_in_settle.to_string(),
        ),
        ("DRAINCTL_LONGEST_WAIT_MS", longest.as_millis().to_string()),
        ("DRAINCTL_UNITS", report.units.join(" ")),
        ("DRAINCTL_POOLS_LEFT", pools(true)),
        ("DRAINCTL_POOLS_NOT_LEFT", pools(false)),
    ];
    // A field may come several times.
    let cut = report.cut.iter().take(MOST_CUT);
    fields.extend(cut.map(|held| ("DRAINCTL_CUT", words::held(held))));
    let mut bytes = Vec::new();
    for (name, value) in fields {
        // A value of one line; the protocol has another form for more, which none of these needs.
        let value = value.replace('\n', " ");
        bytes.extend_from_slice(format!("{name}={value}\n").as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{largest, sample};

    #[test]
    fn one_entry_with_fields() {
        insta::assert_snapshot!(String::from_utf8(entry(&sample())).unwrap());
    }

    /// A datagram that is larger than the socket's buffer would not be sent (`net.core.wmem_default`, 208 KiB).
    #[test]
    fn the_largest_entry_fits_a_datagram() {
        assert!(entry(&largest()).len() < 100_000);
    }
}
