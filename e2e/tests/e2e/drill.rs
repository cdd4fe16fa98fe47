use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Ended;
use e2e::load::{Load, Summary};
use e2e::product::{self, HOOK, Report};
use e2e::programs::Program;
use e2e::site::{FIRST, Site};

/// Load before the event, so that requests of all kinds are in flight then.
pub(crate) const LEAD: Duration = Duration::from_secs(8);
/// Load after the end: a balancer that still sends to the host would show.
const TAIL: Duration = Duration::from_secs(1);
/// The unit that the hook protects.
pub(crate) const SUPERVISOR: &str = "supervisor.service";
/// How long any stop may take here; the product's own deadlines are shorter.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(90);
/// The longest settle; it comes to that only where traffic goes on arriving.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// What a drain may take after the last answer, beside the settle time that it reports.
const AFTER_LAST: Duration = Duration::from_secs(1);

/// A site whose hosts have the product, and nothing but it.
pub(crate) fn installed(parts: &Parts, programs: &[Program]) -> Result<Site> {
    let site = Site::start(parts, programs, Tokens::Ignored)?;
    for host in &site.hosts {
        product::install(host, parts)?;
    }
    Ok(site)
}

/// Asks the first host to end in some way, and waits until it has.
pub(crate) fn end(site: &mut Site, verb: &str, expected: Ended) -> Result<()> {
    site.first().exec(&["systemctl", verb])?;
    let ended = site.first().wait_end(END_LIMIT)?;
    ensure!(ended == expected, "{verb} ended as {ended:?}");
    Ok(())
}

/// Runs `event` on the first host under load, and checks the drain that it brings.
pub(crate) fn under_load(
    case: &str,
    site: &mut Site,
    event: impl FnOnce(&mut Site) -> Result<()>,
) -> Result<()> {
    let load = Load::start(&site.client, &site.balancer.url);
    thread::sleep(LEAD);
    let asked = SystemTime::now();
    let done = event(site);
    thread::sleep(TAIL);
    let load = load.stop()?;
    done.and_then(|()| drained(case, site, &load, asked))
        .with_context(|| evidence(site, &load, asked))
}

/// Nothing failed; supervisord was stopped after the last answer; and the drain did not last longer than it had to.
fn drained(case: &str, site: &Site, load: &Summary, asked: SystemTime) -> Result<()> {
    let host = &site.hosts[0];
    let journal = host.journal()?.since(asked);
    let report = Report::last(host)?;
    let (stopping, ended) = (journal.stopping(SUPERVISOR)?, journal.stopped(HOOK)?);
    let last = load
        .last_answer(FIRST, stopping)
        .context("the host never answered")?;
    let (failed, settle) = (load.failed().count(), report.settle()?);
    let after = ended.duration_since(last).unwrap_or_default();
    figures::note(
        case,
        &format!(
            "{} requests, {failed} failed, drain {:.1} s, over {:.2} s after the last answer, settle {:.2} s",
            load.requests.len(),
            report.took()?.as_secs_f64(),
            after.as_secs_f64(),
            settle.as_secs_f64(),
        ),
    );
    ensure!(failed == 0, "{failed} requests failed");
    ensure!(
        last <= stopping,
        "supervisord was stopped before the last answer: {}",
        gap(stopping, last)
    );
    ensure!(
        settle < SETTLE_MAX,
        "settled to its very end: something kept arriving"
    );
    ensure!(
        after <= settle + AFTER_LAST,
        "the drain ended {:.2} s after the last answer",
        after.as_secs_f64()
    );
    ensure!(
        report.text("outcome") == "drained" && report.exit() == Some(0),
        "outcome {}, exit code {:?}",
        report.text("outcome"),
        report.exit()
    );
    ensure!(journal.exit_status(HOOK).is_none(), "the hook failed");
    Ok(())
}

/// What a failed case shows of requests, balancer, hook, and the product's own report.
pub(crate) fn evidence(site: &Site, load: &Summary, asked: SystemTime) -> String {
    let mut text = site.evidence(load, asked);
    if let Ok(report) = Report::last(&site.hosts[0]) {
        let _infallible = write!(text, "\nreport: {report}");
    }
    text
}

fn gap(from: SystemTime, to: SystemTime) -> String {
    format!(
        "{:.3} s",
        to.duration_since(from).unwrap_or_default().as_secs_f64()
    )
}
