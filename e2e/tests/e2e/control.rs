use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::command::{both, poll};
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::load::{Kind, Load};
use e2e::net::Port;
use e2e::product::{CONFIG, HOOK, RECEIPTS, Report};
use e2e::programs::{PORT, Program};
use e2e::site::{CONVERGE_LIMIT, FIRST};
use serde_json::Value;

use crate::Case;
use crate::drill::{END_LIMIT, LEAD, SUPERVISOR, installed};
use crate::long::{in_flight, wait_connected};

/// A drain is steered while it runs, and rehearsed.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("a_poweroff_is_extended_and_then_skipped", extend_and_skip),
    ("each_phase_is_steered_by_root_alone", each_phase),
    ("each_phase_of_a_reboot_is_steered_and_none_undone", reboots),
    ("what_is_called_off_is_undone_by_itself", called_off),
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

/// A shutdown and a restart that are called off while they are drained for: the host is back as if nothing had been.
fn called_off(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Program::Plain])?;
    let direct = format!("http://{}:{PORT}", site.first().port.address);
    let request = in_flight(&site.client, &direct, Kind::Slow(3600));
    wait_connected(&site, &site.client.address, 1)?;
    let main = |host: &Host| host.exec(&["systemctl", "show", "-P", "MainPID", SUPERVISOR]);
    let before = main(&site.hosts[0])?;
    let mut took = Vec::new();
    for (asks, stops) in [
        (&["systemctl", "poweroff"][..], &["systemctl", "cancel"][..]),
        (
            &["systemctl", "restart", "--no-block", SUPERVISOR],
            &["systemctl", "cancel"],
        ),
        (
            &["systemctl", "restart", "--no-block", SUPERVISOR],
            &["drainctl", "abort"],
        ),
        (
            &["systemctl", "stop", "--no-block", HOOK],
            &["drainctl", "abort"],
        ),
    ] {
        let host = &site.hosts[0];
        host.exec(asks)?;
        let begun = poll("the drain to wait", END_LIMIT, || {
            Ok(running(host)?.filter(|now| now["phase"] == "waiting"))
        })?;
        site.consul.wait_passing(FIRST, false, CONVERGE_LIMIT)?;
        let asked = SystemTime::now();
        let said = host.try_exec(stops)?;
        let back = site.wait_serving(FIRST);
        took.push(asked.elapsed()?);
        let report = Report::last(host)?;
        let told = || -> Result<String> {
            let journal = host.journal()?.since(asked);
            let state = both(&host.try_exec(&["systemctl", "status", HOOK, SUPERVISOR])?);
            let jobs = both(&host.try_exec(&["systemctl", "list-jobs"])?);
            let tail = format!("{}\n{state}\n{jobs}", journal.tail(HOOK, 40));
            Ok(format!(
                "{asks:?} {stops:?}: {}\n{report}\n{tail}",
                both(&said)
            ))
        };
        let again = back.and_then(|()| {
            poll("the hook to be active again", CONVERGE_LIMIT, || {
                let active = host.try_exec(&["systemctl", "is-active", "--quiet", HOOK])?;
                Ok(active.status.success().then_some(()))
            })
        });
        if let Err(error) = again {
            return Err(error.context(told()?));
        }
        ensure!(
            said.status.success()
                && Some(report.text("id")) == begun["id"].as_str()
                && report.text("outcome") == "aborted"
                && report.exit() == Some(5)
                && report.cut(&site.client.address)?.is_empty()
                && !host.path(RECEIPTS).exists()
                && main(host)? == before,
            "{}",
            told()?
        );
    }
    ensure!(!request.is_finished(), "the request was cut");
    // A restart on the way, and then the host goes down: that can't be undone any more.
    let host = &site.hosts[0];
    host.exec(&["systemctl", "restart", "--no-block", SUPERVISOR])?;
    poll("the drain to wait", END_LIMIT, || {
        Ok(running(host)?.filter(|now| now["phase"] == "waiting"))
    })?;
    host.exec(&["systemctl", "poweroff"])?;
    let refused = host.try_exec(&["drainctl", "abort"])?;
    ensure!(
        refused.status.code() == Some(1) && both(&refused).contains("going down"),
        "{}",
        both(&refused)
    );
    let asked = SystemTime::now();
    host.try_exec(&["drainctl", "skip"])?;
    site.first().wait_end(END_LIMIT)?;
    let host = &site.hosts[0];
    let journal = host.journal()?.since(asked);
    ensure!(
        Report::last(host)?.text("outcome") == "skipped"
            && journal.stopping(SUPERVISOR)? >= journal.stopped(HOOK)?,
        "{}",
        journal.tail(HOOK, 40)
    );
    let took: Vec<String> = took
        .iter()
        .map(|took| format!("{:.1} s", took.as_secs_f64()))
        .collect();
    figures::note(
        case,
        &format!(
            "poweroff and restart cancelled, restart and stop aborted: back after {}",
            took.join(", ")
        ),
    );
    drop(request);
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

/// Sends what nobody understands to the socket of a running drain, and what an ordinary user asks.
const HOSTILE: &str = "import os, socket
for data in (b'\\0' * 9000, os.urandom(4096), b'{\"ask\":\"sk', b'[' * 5000, b'{\"ask\":\"extend\",\"by\":\"-1s\"}\\n'):
    client = socket.socket(socket.AF_UNIX)
    client.connect('/run/drainctl/control.sock')
    try:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        client.recv(4096)
    except OSError:
        pass
";

/// What keeps a drain in its first phase, where an agent does not answer, and in its second.
const HELD: &str =
    "[settle]\nmin = \"40s\"\nquiet = \"40s\"\nmax = \"60s\"\n\n[pool.consul]\nlimit = \"40s\"\n";

/// Nobody but root steers a drain, and nobody ends it by what he sends.
fn only_root(host: &Host) -> Result<()> {
    host.exec(&["python3", "-c", HOSTILE])?;
    for verb in ["skip", "abort"] {
        let user = ["runuser", "-u", "nobody", "--", "drainctl", verb];
        let refused = host.try_exec(&user)?;
        ensure!(
            !refused.status.success(),
            "nobody may {verb}: {}",
            both(&refused)
        );
    }
    ensure!(running(host)?.is_some(), "somebody ended the drain");
    Ok(())
}

/// A host that goes down is held in each phase but the last, and steered there. What comes of it is what the report says, and it is back
/// after its boot.
fn reboots(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Program::Plain])?;
    for phase in ["leaving", "settling"] {
        let host = site.first();
        host.write(CONFIG, HELD)?;
        if phase == "leaving" {
            host.exec(&["systemctl", "kill", "-s", "STOP", "consul.service"])?;
        }
        let asked = SystemTime::now();
        host.exec(&["systemctl", "reboot"])?;
        let before = poll(&format!("the drain to be {phase}"), END_LIMIT, || {
            Ok(running(host)?.filter(|now| now["phase"] == phase))
        })?;
        ensure!(before["cause"] == "reboot", "{before:#}");
        only_root(host)?;
        for words in [&["drainctl", "abort"][..], &["drainctl", "extend", "31m"]] {
            let refused = host.try_exec(words)?;
            ensure!(
                refused.status.code() == Some(1) && both(&refused).contains("refused"),
                "{words:?}: {}",
                both(&refused)
            );
        }
        host.exec(&["drainctl", "extend", "2m"])?;
        let now = running(host)?.context("the drain ended by itself")?;
        ensure!(
            now["phase"] == phase && now["id"] == before["id"],
            "{now:#}"
        );
        host.try_exec(&["drainctl", "skip"])?;
        let ended = host.wait_end(END_LIMIT)?;
        let report = Report::last(host)?;
        let journal = host.journal()?.since(asked);
        ensure!(
            ended == Ended::Reboot
                && report.text("outcome") == "skipped"
                && report.exit() == Some(5)
                && Some(report.text("id")) == before["id"].as_str()
                && journal.stopping(SUPERVISOR)? >= journal.stopped(HOOK)?,
            "{ended:?}\n{report}\n{}",
            journal.tail(HOOK, 40)
        );
        host.boot()?;
        site.wait_serving(FIRST)?;
        ensure!(!site.hosts[0].path(RECEIPTS).exists(), "a receipt is left");
    }
    figures::note(
        case,
        "leaving and settling: extended, not undone, skipped, back after the boot",
    );
    Ok(())
}

/// A drain by hand that is held in each phase in turn, and steered there; what comes of it is what the report says.
fn each_phase(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Program::Plain])?;
    let host = site.first();
    host.write(CONFIG, HELD)?;
    // Leaving: its agent does not answer.
    host.exec(&["systemctl", "kill", "-s", "STOP", "consul.service"])?;
    let drain = by_hand(&site.hosts[0], "leaving")?;
    let host = &site.hosts[0];
    host.exec(&["drainctl", "extend", "5m"])?;
    only_root(host)?;
    host.exec(&["drainctl", "skip"])?;
    expect(host, drain, "skipped")?;
    host.exec(&["systemctl", "kill", "-s", "CONT", "consul.service"])?;
    host.exec(&["drainctl", "rejoin"])?;
    site.wait_serving(FIRST)?;
    // Settling: nothing is in flight, and it would last.
    let host = &site.hosts[0];
    let drain = by_hand(host, "settling")?;
    site.consul.wait_passing(FIRST, false, CONVERGE_LIMIT)?;
    host.exec(&["drainctl", "abort"])?;
    expect(host, drain, "aborted")?;
    site.wait_serving(FIRST)?;
    ensure!(!site.hosts[0].path(RECEIPTS).exists(), "a receipt is left");
    // Waiting: a request does not end.
    let host = &site.hosts[0];
    host.write(CONFIG, "[settle]\nmin = \"0s\"\nquiet = \"1s\"\n")?;
    let direct = format!("http://{}:{PORT}", host.port.address);
    let request = in_flight(&site.client, &direct, Kind::Slow(3600));
    wait_connected(&site, &site.client.address, 1)?;
    let drain = by_hand(host, "waiting")?;
    host.exec(&["drainctl", "skip"])?;
    let report = expect(host, drain, "skipped")?;
    let cut = report.cut(&site.client.address)?;
    ensure!(cut.len() == 1, "{cut:?} of {report}");
    host.exec(&["drainctl", "rejoin", "--now"])?;
    site.wait_serving(FIRST)?;
    figures::note(
        case,
        "skipped while leaving, aborted while settling, skipped while waiting",
    );
    site.first().exec(&["systemctl", "stop", SUPERVISOR])?;
    drop(request);
    Ok(())
}

/// Starts a drain on the host, and waits until it has come to `phase`.
fn by_hand(host: &Host, phase: &str) -> Result<std::process::Child> {
    let drain = host
        .command(&["drainctl", "drain", "--deadline", "5m"])?
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    poll(&format!("the drain to be {phase}"), END_LIMIT, || {
        Ok(running(host)?.filter(|now| now["phase"] == phase))
    })?;
    Ok(drain)
}

/// Waits for the drain's end: exit code and report must say `outcome`.
fn expect(host: &Host, mut drain: std::process::Child, outcome: &str) -> Result<Report> {
    let status = poll("the drain's end", END_LIMIT, || Ok(drain.try_wait()?))?;
    let report = Report::last(host)?;
    ensure!(
        status.code() == Some(5) && report.text("outcome") == outcome && report.exit() == Some(5),
        "{status}, not {outcome}: {report}"
    );
    Ok(report)
}
