//! Can the requests on each port be seen?

use super::Severity::Info;
use super::{Facts, Finding};
use crate::config::MAIN;
use crate::config::duration::Friendly;
use crate::evidence::spoken::{Handshake, Transport};
use crate::evidence::{Listener, Spoken};

/// Those ports on which something is spoken that `which` picks.
fn ports(
    facts: &Facts,
    which: impl Fn(&Spoken) -> bool,
) -> impl Iterator<Item = &(Listener, Spoken)> {
    facts.ports.iter().filter(move |(_, spoken)| which(spoken))
}

fn note(listener: &Listener, spoken: &Spoken, what: String) -> Finding {
    let port = listener.local.to_string();
    Finding::new(Info, what).seen(&listener.program, port, spoken.to_string())
}

pub(super) fn unknown(facts: &Facts) -> Vec<Finding> {
    let hold = Friendly(facts.settings.watch.uncertain_hold);
    ports(facts, |spoken| spoken.transport == Transport::Unknown)
        .map(|(listener, spoken)| {
            let what = format!(
                "{} did not answer when its port {} was asked what it speaks: rarely used connections hold a drain for up to {hold}",
                listener.program,
                listener.local.port()
            );
            note(listener, spoken, what).run("drainctl doctor")
        })
        .collect()
}

pub(super) fn certificates(facts: &Facts) -> Vec<Finding> {
    let hold = Friendly(facts.settings.watch.uncertain_hold);
    let asks = |spoken: &Spoken| {
        matches!(
            spoken.transport,
            Transport::Tls(Handshake {
                asks_certificate: true,
                ..
            })
        )
    };
    ports(facts, asks)
        .map(|(listener, spoken)| {
            let what = format!(
                "{} asks for clients' certificates on port {}: a connection's first request may be taken for answered after {hold}",
                listener.program,
                listener.local.port()
            );
            let lines = ["[watch]", "uncertain_hold = \"1m\"  # the longest first request"];
            note(listener, spoken, what).set(MAIN, &lines)
        })
        .collect()
}

pub(super) fn streams(facts: &Facts) -> Vec<Finding> {
    let settings = &facts.settings.watch;
    let limit = Friendly(settings.stream_deadline);
    let is_set = |port| {
        settings
            .ports
            .get(&port)
            .is_some_and(|port| port.rule.is_some())
    };
    ports(facts, |spoken| spoken.http2)
        .filter(|(listener, _)| !is_set(listener.local.port()))
        .map(|(listener, spoken)| {
            let port = listener.local.port();
            let what = format!(
                "{} speaks HTTP/2 on port {port}: its streams are waited for {limit} at most",
                listener.program
            );
            let finding = note(listener, spoken, what);
            if spoken.http1 {
                let lines = [
                    &format!("[watch.ports.{port}]"),
                    "rule = \"requests\"  # where balancers use HTTP/1.1 alone",
                ];
                finding.set(MAIN, &lines)
            } else {
                let lines = ["[watch]", "stream_deadline = \"1m\"  # the longest stream"];
                finding.set(MAIN, &lines)
            }
        })
        .collect()
}
