use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::command::poll;
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Ended;
use e2e::load::Load;
use e2e::programs::Program;
use e2e::seed::Seed;
use e2e::site::{CONVERGE_LIMIT, FIRST, Site};

use crate::Case;
use crate::drill::LEAD;

/// What others do, in the same lab: it proves that the lab sees a dropped request.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("bare_host_drops_requests", bare),
    ("seed_verbatim_drops_requests", |case, parts| {
        seed_drops(case, parts, Seed::Verbatim)
    }),
    ("seed_with_the_right_name_drops_requests", |case, parts| {
        seed_drops(case, parts, Seed::RightName)
    }),
    ("seed_in_order_never_comes_back", seed_stays_out),
];

/// The seed's 300 s are not waited for: what was dropped is known long before.
const PATIENCE: Duration = Duration::from_secs(12);

fn bare(case: &str, parts: &Parts) -> Result<()> {
    let mut site = Site::start(parts, &[Program::Plain, Program::Gunicorn], Tokens::Ignored)?;
    poweroff_drops(case, &mut site)
}

fn seed_drops(case: &str, parts: &Parts, seed: Seed) -> Result<()> {
    let mut site = Site::start(parts, &[Program::Plain, Program::Gunicorn], Tokens::Ignored)?;
    seed.install(site.first())?;
    poweroff_drops(case, &mut site)
}

fn poweroff_drops(case: &str, site: &mut Site) -> Result<()> {
    let load = Load::start(&site.client, &site.balancer.url);
    std::thread::sleep(LEAD);
    let asked = SystemTime::now();
    site.first().exec(&["systemctl", "poweroff"])?;
    let ended = site.first().wait_end(PATIENCE);
    let took = asked.elapsed()?.as_secs_f64();
    let load = load.stop()?;
    let (sent, failed) = (load.requests.len(), load.failed().count());
    let ended = if ended.is_ok() { "off" } else { "still up" };
    figures::note(
        case,
        &format!("{sent} requests, {failed} failed, {ended} after {took:.1} s"),
    );
    let evidence = || site.evidence(&load, asked);
    ensure!(
        failed > 0,
        "nothing was dropped: the lab is blind\n{}",
        evidence()
    );
    ensure!(
        load.last_answer(FIRST, asked).is_some(),
        "{FIRST} never answered\n{}",
        evidence()
    );
    Ok(())
}

/// With every line put right by hand it drops nothing, waits its whole pause with or without traffic, and is out for good.
fn seed_stays_out(case: &str, parts: &Parts) -> Result<()> {
    let mut site = Site::start(parts, &[Program::Plain], Tokens::Ignored)?;
    Seed::Ordered(5).install(site.first())?;
    let asked = SystemTime::now();
    site.first().exec(&["systemctl", "reboot"])?;
    ensure!(
        site.first().wait_end(CONVERGE_LIMIT)? == Ended::Reboot,
        "no reboot"
    );
    let journal = site.first().journal()?.since(asked);
    let pause = journal
        .stopped("drain-connections.service")?
        .duration_since(asked)?
        .as_secs_f64();
    site.first().boot()?;
    // The agent is back when the server knows the mark that it kept on disk.
    let marks = poll("the node's maintenance mark", CONVERGE_LIMIT, || {
        let marks = site.consul.maintenance(FIRST)?;
        Ok((site.consul.alive(FIRST)? && !marks.is_empty()).then_some(marks))
    });
    let marks = marks.context("the seed lifted its maintenance")?;
    ensure!(
        site.consul.passing()?.is_empty(),
        "{FIRST} passes in spite of {marks:?}"
    );
    figures::note(
        case,
        &format!(
            "no traffic, waited {pause:.1} s of a 5 s pause; out of the pool after the reboot"
        ),
    );
    Ok(())
}
