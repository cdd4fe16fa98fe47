//! One journal entry for each drain, with fields (`journalctl -u drain-connections -o verbose`).

use std::os::unix::net::UnixDatagram;

use super::words;
use crate::drain::Report;

/// Where journald listens (systemd's "Native Journal Protocol").
const SOCKET: &str = "/run/systemd/journal/socket";
/// Names this kind of entry; chosen once, at random.
const MESSAGE_ID: &str = "5f6d5f1d0c3b4b0f9a3f6a3f0f2f7c11";

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
    let fields = [
        ("MESSAGE", message),
        ("MESSAGE_ID", MESSAGE_ID.to_owned()),
        (
            "PRIORITY",
            if report.exit == crate::exit::OK {
                "6"
            } else {
                "4"
            }
            .to_owned(),
        ),
        ("SYSLOG_IDENTIFIER", "drainctl".to_owned()),
        ("DRAIN_ID", report.id.clone()),
        ("DRAIN_CAUSE", word(serde_json::to_value(report.cause))),
        ("DRAIN_OUTCOME", word(serde_json::to_value(report.outcome))),
        ("DRAIN_EXIT", report.exit.to_string()),
        ("DRAIN_MS", report.took.as_millis().to_string()),
        ("DRAIN_IN_FLIGHT", report.in_flight.to_string()),
        ("DRAIN_MOST_IN_FLIGHT", report.most_in_flight.to_string()),
        (
            "DRAIN_ARRIVED_IN_SETTLE",
            report.arrived_in_settle.to_string(),
        ),
        ("DRAIN_UNITS", report.units.join(" ")),
    ];
    let mut bytes = Vec::new();
    for (name, value) in fields {
        // A value of one line; the protocol has another form for more, which none of these needs.
        let value = value.replace('\n', " ");
        bytes.extend_from_slice(format!("{name}={value}\n").as_bytes());
    }
    bytes
}
