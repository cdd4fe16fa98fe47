use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::command::{both, poll};
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::load::{Kind, Load};
use e2e::net::Port;
use e2e::product::{HOOK, RECEIPTS, Report};
use e2e::programs::{PORT, Program};
use e2e::site::FIRST;
use serde_json::Value;

use crate::Case;
use crate::drill::{END_LIMIT, LEAD, SUPERVISOR, installed};
use crate::long::{in_flight, wait_connected};

/// A drain is steered while it runs, and rehearsed.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("a_poweroff_is_extended_and_then_skipped", extend_and_skip),
    ("a_rehearsal_drops_nothing_and_stops_nothing", rehearse),
];

fn extend_and_skip(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Program::Plain])?;
    let direct = format!("http://{}:{PORT}", site.first().port.address);
    let request = in_flight(&site.client, &direct, Kind::Slow(3600));
    wait_connected(&site, &site.client.address, 1)?;
    let asked = SystemTime::now();
    let host = site.first();
    host.exec(&["systemctl", "poweroff"])?;
    let now = poll("the drain to wait", END_LIMIT, || {
        Ok(running(host)?.filter(|now| now["phase"] == "waiting"))
    })?;
    ensure!(now["cause"] == "poweroff", "{now:#}");
    ensure!(now["looked"]["busy"] == 1, "{now:#}");
    for words in [&["drainctl", "abort"][..], &["drainctl", "extend", "31m"]] {
        let output = host.try_exec(words)?;
        ensure!(
            output.status.code() == Some(1) && both(&output).contains("refused"),
            "{words:?}: {}",
            both(&output)
        );
    }
    host.exec(&["drainctl", "extend", "2m"])?;
    let longer = running(host)?.context("the drain ended by itself")?;
    let left = |now: &Value| now["left"]["secs"].as_u64().unwrap_or_default();
    ensure!(left(&longer) > left(&now) + 100, "{longer:#}");
    let skipped = SystemTime::now();
    let said = host.try_exec(&["drainctl", "skip"])?;
    let ended = site.first().wait_end(END_LIMIT)?;
    ensure!(ended == Ended::Off, "ended as {ended:?}");
    let request = request
        .join()
        .map_err(|_| anyhow!("the request panicked"))??;
    ensure!(request.fault.is_some(), "it ended: {request:?}");
    let host = &site.hosts[0];
    let journal = host.journal()?.since(asked);
    let report = Report::last(host)?;
    let tail = || format!("{report}\n{}\n{}", both(&said), journal.tail(HOOK, 40));
    ensure!(
        report.text("outcome") == "skipped" && report.exit() == Some(5),
        "not said\n{}",
        tail()
    );
    ensure!(host.path(RECEIPTS).exists(), "no receipt\n{}", tail());
    let entry = journal.drain(report.text("id"))?;
    ensure!(
        entry.field("DRAINCTL_OUTCOME") == Some("skipped")
            && entry.field("DRAINCTL_CAUSE") == Some("poweroff")
            && entry.field("DRAINCTL_IN_FLIGHT") == Some("1"),
        "{entry:?}"
    );
    let stopped = journal.stopped(HOOK)?;
    ensure!(
        journal.stopping(SUPERVISOR)? >= stopped,
        "supervisord was stopped before the hook had ended\n{}",
        tail()
    );
    let after = stopped.duration_since(skipped).unwrap_or_default();
    figures::note(
        case,
        &format!("the hook had ended {:.2} s after skip", after.as_secs_f64()),
    );
    ensure!(after < Duration::from_secs(5), "{after:?}\n{}", tail());
    Ok(())
}

/// What a running drain sees, once it answers.
fn running(host: &Host) -> Result<Option<Value>> {
    let output = host.try_exec(&["drainctl", "status", "--json"])?;
    let seen: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    Ok(seen
        .map(|seen| seen["drain"].clone())
        .filter(Value::is_object))
}

fn rehearse(case: &str, parts: &Parts) -> Result<()> {
    let site = installed(parts, &[Program::Plain, Program::Gunicorn])?;
    let client: &Port = &site.client;
    let load = Load::start(client, &site.balancer.url);
    std::thread::sleep(LEAD);
    let host = &site.hosts[0];
    let output = host.try_exec(&["drainctl", "rehearse"]);
    let back = site.wait_serving(FIRST);
    let load = load.stop()?;
    let (output, failed) = (output?, load.failed().count());
    ensure!(
        output.status.success() && failed == 0,
        "{failed} failed\n{}",
        both(&output)
    );
    back?;
    let report = Report::last(host)?;
    ensure!(report.text("outcome") == "drained", "{report}");
    ensure!(!host.path(RECEIPTS).exists(), "a receipt is left");
    let journalctl = ["journalctl", "-u", "drain-connections", "-o", "verbose"];
    let said = host.exec(&journalctl)?;
    let id = format!("DRAINCTL_ID={}", report.text("id"));
    ensure!(
        said.matches(&id).count() == 1 && said.contains("DRAINCTL_OUTCOME=drained"),
        "{said}"
    );
    figures::note(
        case,
        &format!("{} requests, {failed} failed", load.requests.len()),
    );
    Ok(())
}
