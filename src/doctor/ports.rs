//! Can the requests on each port be seen? A note that somebody has answered, by a setting for that port, is not told again.

use super::Severity::Info;
use super::{Facts, Finding};
use crate::config::duration::Friendly;
use crate::evidence::spoken::{Handshake, Transport};
use crate::evidence::{Listener, Spoken};

/// Those ports on which something is spoken that `which` picks, each once: a program may listen on two families of addresses.
fn ports<'a>(
    facts: &'a Facts,
    which: impl Fn(u16, &Spoken) -> bool + 'a,
) -> impl Iterator<Item = &'a (Listener, Spoken)> {
    let same = |one: &Listener, other: &Listener| {
        (&one.program, one.local.port()) == (&other.program, other.local.port())
    };
    let all = facts.ports.iter().enumerate();
    let first = all.filter(move |(at, (listener, _))| {
        let before = &facts.ports[..*at];
        !before.iter().any(|(other, _)| same(listener, other))
    });
    first
        .map(|(_, port)| port)
        .filter(move |(listener, spoken)| which(listener.local.port(), spoken))
}

fn note(listener: &Listener, spoken: &Spoken, what: String) -> Finding {
    let port = listener.local.to_string();
    Finding::new(Info, what).seen(&listener.program, port, spoken.to_string())
}

/// A file a port and key: two notes about one port are two files.
fn set(finding: Finding, port: u16, key: &str, lines: &[&str]) -> Finding {
    let table = format!("[watch.ports.{port}]");
    let lines = [&[table.as_str()], lines].concat();
    finding.set(
        format!("/etc/drainctl/conf.d/zz-port-{port}-{key}.toml"),
        &lines,
    )
}

pub(super) fn unknown(facts: &Facts) -> Vec<Finding> {
    let watch = &facts.settings.watch;
    let unanswered = |port, spoken: &Spoken| {
        let set = watch.port(port);
        spoken.transport == Transport::Unknown && set.rule.is_none() && set.uncertain_hold.is_none()
    };
    let hold = Friendly(watch.uncertain_hold);
    ports(facts, unanswered)
        .map(|(listener, spoken)| {
            let port = listener.local.port();
            let what = format!(
                "{} did not answer when its port {port} was asked what it speaks: rarely used connections hold a drain for up to {hold}",
                listener.program,
            );
            let line = format!("uncertain_hold = \"{hold}\"  # so long, or shorter: then this is not said again");
            set(note(listener, spoken, what), port, "hold", &[&line])
        })
        .collect()
}

pub(super) fn certificates(facts: &Facts) -> Vec<Finding> {
    let watch = &facts.settings.watch;
    let asks = |port, spoken: &Spoken| {
        let asked = matches!(
            spoken.transport,
            Transport::Tls(Handshake {
                asks_certificate: true,
                ..
            })
        );
        asked && watch.port(port).uncertain_hold.is_none()
    };
    let hold = Friendly(watch.uncertain_hold);
    ports(facts, asks)
        .map(|(listener, spoken)| {
            let port = listener.local.port();
            let what = format!(
                "{} asks for clients' certificates on port {port}: a connection's first request may be taken for answered after {hold}",
                listener.program,
            );
            let line = "uncertain_hold = \"1m\"  # the longest first request";
            set(note(listener, spoken, what), port, "hold", &[line])
        })
        .collect()
}

pub(super) fn streams(facts: &Facts) -> Vec<Finding> {
    let watch = &facts.settings.watch;
    let unset = |port, spoken: &Spoken| {
        let set = watch.port(port);
        spoken.http2 && set.rule.is_none() && set.stream_deadline.is_none()
    };
    let limit = Friendly(watch.stream_deadline);
    ports(facts, unset)
        .map(|(listener, spoken)| {
            let port = listener.local.port();
            let what = format!(
                "{} speaks HTTP/2 on port {port}: its streams are waited for {limit} at most",
                listener.program
            );
            let mut lines = vec!["stream_deadline = \"1m\"  # the longest stream"];
            if spoken.http1 {
                lines.push("#rule = \"requests\"  # instead, where balancers use HTTP/1.1 alone");
            }
            set(note(listener, spoken, what), port, "streams", &lines)
        })
        .collect()
}
