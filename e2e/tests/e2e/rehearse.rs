use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, ensure};
use e2e::command::{both, poll};
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::load::{Kind, Load};
use e2e::product::{RECEIPTS, Report, Running};
use e2e::programs::PORT;
use e2e::programs::Program::{Gunicorn, Plain};
use e2e::site::{CONVERGE_LIMIT, FIRST, Site};

use crate::Case;
use crate::drill::{LEAD, end, evidence, installed};
use crate::long::{in_flight, wait_connected};

/// A drain that is only tried.
pub(crate) const CASES: &[(&str, Case)] = &[
    (
        "rehearse_drops_nothing_also_interrupted_or_killed",
        rehearse,
    ),
    (
        "rehearse_refuses_to_take_out_the_last_healthy_host",
        last_healthy,
    ),
    (
        "a_reboot_ends_a_rehearsal_and_drains_for_real_at_once",
        reboot_in_between,
    ),
];

/// The exit code of what was undone.
const ABORTED: i32 = 5;

fn rehearse(case: &str, parts: &Parts) -> Result<()> {
    let site = installed(parts, &[Plain, Gunicorn])?;
    let load = Load::start(&site.client, &site.balancer.url);
    thread::sleep(LEAD);
    let asked = SystemTime::now();
    let tried = whole(&site)
        .context("to its end")
        .and_then(|()| interrupted(&site).context("interrupted"))
        .and_then(|()| killed(&site).context("killed"))
        .and_then(|()| whole(&site).context("once more"));
    let load = load.stop()?;
    let failed = load.failed().count();
    let check = || {
        tried?;
        figures::note(
            case,
            &format!(
                "{} requests, {failed} failed, in two rehearsals to their end, one interrupted, one killed",
                load.requests.len()
            ),
        );
        ensure!(failed == 0, "{failed} requests failed");
        Ok(())
    };
    check().with_context(|| evidence(&site, &load, asked))
}

fn whole(site: &Site) -> Result<()> {
    let host = &site.hosts[0];
    host.exec(&["drainctl", "rehearse"])?;
    let report = Report::last(host)?;
    ensure!(
        report.text("outcome") == "drained" && report.pool_error("consul").is_none(),
        "{report}"
    );
    is_back(site)
}

fn interrupted(site: &Site) -> Result<()> {
    let mut rehearsal = begin(&site.hosts[0])?;
    let pid = wait_phase(&site.hosts[0], "settling")?;
    ensure!(!site.consul.maintenance(FIRST)?.is_empty(), "it never left");
    site.hosts[0].exec(&["kill", "-INT", &pid.to_string()])?;
    let code = rehearsal.wait()?.code();
    ensure!(code == Some(ABORTED), "exit code {code:?}");
    is_back(site)
}

fn killed(site: &Site) -> Result<()> {
    let host = &site.hosts[0];
    let mut rehearsal = begin(host)?;
    let pid = wait_phase(host, "settling")?;
    host.exec(&["kill", "-KILL", &pid.to_string()])?;
    ensure!(!rehearsal.wait()?.success(), "it was not killed");
    ensure!(host.path(RECEIPTS).exists(), "no receipt is left");
    ensure!(
        site.consul.maintenance(FIRST)?.len() == 1,
        "nothing to restore"
    );
    host.exec(&["drainctl", "rejoin"])?;
    is_back(site)
}

/// The host serves, and nothing of the rehearsal is left.
fn is_back(site: &Site) -> Result<()> {
    site.wait_serving(FIRST)?;
    let marks = site.consul.maintenance(FIRST)?;
    ensure!(marks.is_empty(), "maintenance is left: {marks:?}");
    let host = &site.hosts[0];
    ensure!(!host.path(RECEIPTS).exists(), "receipts are left");
    Ok(())
}

fn begin(host: &Host) -> Result<Child> {
    let mut rehearse: Command = host.command(&["drainctl", "rehearse"])?;
    let quiet = rehearse.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(quiet.spawn()?)
}

fn wait_phase(host: &Host, phase: &str) -> Result<u64> {
    let run = poll(
        &format!("a rehearsal that is {phase}"),
        CONVERGE_LIMIT,
        || Ok(Running::read(host)?.filter(|run| run.phase == phase)),
    )?;
    Ok(run.pid)
}

fn last_healthy(case: &str, parts: &Parts) -> Result<()> {
    let site = installed(parts, &[Plain])?;
    let host = &site.hosts[0];
    let refused = |why: &str| {
        let output = host.try_exec(&["drainctl", "rehearse"])?;
        let text = both(&output);
        ensure!(output.status.code() == Some(1), "{}: {text}", output.status);
        ensure!(text.contains(why) && text.contains("--force"), "{text}");
        ensure!(
            Running::read(host)?.is_none() && !host.path(RECEIPTS).exists(),
            "it was begun all the same"
        );
        Ok(())
    };
    refused("last healthy one of app")?;
    host.exec(&["systemctl", "kill", "-s", "STOP", "consul.service"])?;
    let unknown = refused("does not say whether anybody else is left");
    host.exec(&["systemctl", "kill", "-s", "CONT", "consul.service"])?;
    unknown?;
    site.wait_serving(FIRST)?;
    host.exec(&["drainctl", "rehearse", "--force"])?;
    is_back(&site)?;
    figures::note(
        case,
        "refused alone and without an answer; forced, and back",
    );
    Ok(())
}

fn reboot_in_between(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain, Gunicorn])?;
    let load = Load::start(&site.client, &site.balancer.url);
    thread::sleep(LEAD);
    // It holds the rehearsal until after the reboot was asked for.
    let url = format!("http://{}:{PORT}", site.hosts[0].port.address);
    let request = in_flight(&site.client, &url, Kind::Slow(15));
    let asked = SystemTime::now();
    let done = (|| {
        wait_connected(&site, &site.client.address, 1)?;
        let mut rehearsal = begin(&site.hosts[0])?;
        wait_phase(&site.hosts[0], "waiting")?;
        end(&mut site, "reboot", Ended::Reboot)?;
        let _ended = rehearsal.wait()?;
        site.first().boot()?;
        site.wait_serving(FIRST)
    })();
    let load = load.stop()?;
    let failed = load.failed().count();
    let check = || {
        done?;
        let request = request
            .join()
            .map_err(|_| anyhow!("the request panicked"))??;
        ensure!(request.fault.is_none(), "the request failed: {request:?}");
        let reports = Report::all(&site.hosts[0])?;
        let [.., tried, real] = reports.as_slice() else {
            return Err(anyhow!("not two reports"));
        };
        ensure!(tried.text("outcome") == "skipped", "the rehearsal: {tried}");
        ensure!(
            real.text("cause") == "reboot" && real.text("outcome") == "drained",
            "the drain: {real}"
        );
        figures::note(
            case,
            &format!(
                "{} requests, {failed} failed; the rehearsal took {:.1} s, the drain after it {:.1} s",
                load.requests.len(),
                tried.took()?.as_secs_f64(),
                real.took()?.as_secs_f64()
            ),
        );
        ensure!(failed == 0, "{failed} requests failed");
        is_back(&site)
    };
    check().with_context(|| evidence(&site, &load, asked))
}
