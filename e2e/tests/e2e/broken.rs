use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::command::poll;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::load::{Kind, Load};
use e2e::product::{CONFIG, HOOK, RECEIPTS, Report, Running};
use e2e::programs::Program::{Gunicorn, Plain};
use e2e::site::{CONVERGE_LIMIT, FIRST, Site};
use serde_json::Value;

use crate::Case;
use crate::drill::{LEAD, SUPERVISOR, end, evidence, installed};
use crate::long::{in_flight, wait_connected};

/// Something on the host is broken before or in the drain.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("a_crash_of_supervisord_drains_nothing", crash),
    ("killed_in_each_phase_and_run_again_it_is_one_drain", killed),
    (
        "a_fault_in_the_config_does_not_cost_the_drain",
        config_fault,
    ),
];

fn crash(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain, Gunicorn])?;
    let host = site.first();
    // Debian's unit waits 50 s before it starts supervisord again.
    host.write(
        "/etc/systemd/system/supervisor.service.d/lab.conf",
        "[Service]\nRestartSec=2s\n",
    )?;
    host.exec(&["systemctl", "daemon-reload"])?;
    let load = Load::start(&site.client, &site.balancer.url);
    thread::sleep(LEAD);
    let asked = SystemTime::now();
    let restarted = site.first().exec(&[
        "systemctl",
        "kill",
        "-s",
        "KILL",
        "--kill-who=main",
        SUPERVISOR,
    ]);
    let back = restarted.and_then(|_| {
        poll("supervisord's restart", CONVERGE_LIMIT, || {
            let again = property(&site.hosts[0], SUPERVISOR, "NRestarts")? == "1";
            Ok(
                (again && active(&site.hosts[0], SUPERVISOR)? && active(&site.hosts[0], HOOK)?)
                    .then_some(()),
            )
        })?;
        site.wait_serving(FIRST)
    });
    let load = load.stop()?;
    let check = || {
        back?;
        let report = Report::last(&site.hosts[0])?;
        let (took, failed) = (report.took()?, load.failed().count());
        figures::note(
            case,
            &format!(
                "{} requests, {failed} failed, hook {:.2} s",
                load.requests.len(),
                took.as_secs_f64()
            ),
        );
        // The supervised program outlives supervisord (KillMode=process), and goes on serving.
        ensure!(failed == 0, "{failed} requests failed");
        ensure!(
            report.text("outcome") == "nothing-to-do",
            "outcome {}",
            report.text("outcome")
        );
        ensure!(
            took < Duration::from_secs(1),
            "a dead process was waited for: {:.2} s",
            took.as_secs_f64()
        );
        ensure!(
            site.consul.maintenance(FIRST)?.is_empty(),
            "the host was left in maintenance"
        );
        Ok(())
    };
    check().with_context(|| evidence(&site, &load, asked))
}

fn killed(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain])?;
    for phase in ["leaving", "settling", "waiting"] {
        killed_in(&mut site, phase).with_context(|| {
            let journal = site.hosts[0]
                .journal()
                .map(|journal| journal.tail(HOOK, 20))
                .unwrap_or_default();
            format!("killed while {phase}\n{journal}")
        })?;
    }
    figures::note(
        case,
        "leaving, settling, waiting: one drain each, receipts intact, back in the pool",
    );
    Ok(())
}

fn killed_in(site: &mut Site, phase: &str) -> Result<()> {
    let before = Report::all(&site.hosts[0])?.len();
    let request = in_flight(&site.client, &site.balancer.url, Kind::Slow(8));
    wait_connected(site, &site.balancer.address, 1)?;
    let host = &site.hosts[0];
    // Leaving lasts as long as Consul does not answer.
    let signal = |name| host.exec(&["systemctl", "kill", "-s", name, "consul.service"]);
    if phase == "leaving" {
        signal("STOP")?;
    }
    let mut drain = host.command(&["drainctl", "drain"])?;
    let mut drain = drain.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let run = poll(&format!("a drain that is {phase}"), CONVERGE_LIMIT, || {
        Ok(Running::read(host)?.filter(|run| run.phase == phase))
    })?;
    host.exec(&["kill", "-KILL", &run.pid.to_string()])?;
    ensure!(!drain.wait()?.success(), "it was not killed");
    if phase == "leaving" {
        signal("CONT")?;
    }
    let written = receipts(host)?;
    ensure!(
        phase == "leaving" || written.len() == 1,
        "receipts: {written:?}"
    );
    host.exec(&["drainctl", "drain"])?;
    let request = request
        .join()
        .map_err(|_| anyhow!("the request panicked"))??;
    ensure!(request.fault.is_none(), "the request failed: {request:?}");
    let reports = Report::all(host)?;
    let last = reports.last().context("no report")?;
    ensure!(
        reports.len() == before + 1 && last.text("id") == run.id,
        "not one drain: {last}"
    );
    let kept = receipts(host)?;
    ensure!(kept.len() == 1, "receipts after the second run: {kept:?}");
    ensure!(
        written.iter().all(|receipt| kept.contains(receipt)),
        "{written:?} became {kept:?}"
    );
    let marks = site.consul.maintenance(FIRST)?;
    ensure!(marks.len() == 1, "maintenance: {marks:?}");
    host.exec(&["drainctl", "rejoin"])?;
    site.wait_serving(FIRST)?;
    ensure!(
        site.consul.maintenance(FIRST)?.is_empty(),
        "rejoin left a mark"
    );
    ensure!(!host.path(RECEIPTS).exists(), "rejoin left the receipts");
    Ok(())
}

/// What rejoin would have to undo.
fn receipts(host: &Host) -> Result<Vec<Value>> {
    let path = host.path(RECEIPTS);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let book: Value = serde_json::from_slice(&fs::read(path)?)?;
    Ok(book["receipts"].as_array().cloned().unwrap_or_default())
}

fn config_fault(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain])?;
    site.first()
        .write(CONFIG, "[deadline]\nshutdwn = \"6s\"\n")?;
    let request = in_flight(&site.client, &site.balancer.url, Kind::Slow(8));
    wait_connected(&site, &site.balancer.address, 1)?;
    let asked = SystemTime::now();
    end(&mut site, "poweroff", Ended::Off)?;
    let request = request
        .join()
        .map_err(|_| anyhow!("the request panicked"))??;
    let journal = site.hosts[0].journal()?.since(asked);
    let tail = || format!("{request:?}\n{}", journal.tail(HOOK, 40));
    ensure!(request.fault.is_none(), "the request failed\n{}", tail());
    let told = journal
        .of_unit(HOOK)
        .any(|entry| entry.message().contains("drainctl.toml:2"));
    ensure!(
        told,
        "the journal does not name the fault's file and line\n{}",
        tail()
    );
    ensure!(
        site.consul.maintenance(FIRST)?.len() == 1,
        "the pool was not left\n{}",
        tail()
    );
    figures::note(case, "1 request, 0 failed, the fault named with its line");
    Ok(())
}

fn active(host: &Host, unit: &str) -> Result<bool> {
    Ok(property(host, unit, "ActiveState")? == "active")
}

fn property(host: &Host, unit: &str, name: &str) -> Result<String> {
    let value = host.exec(&["systemctl", "show", "-P", name, unit])?;
    Ok(value.trim().to_owned())
}
