use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Ended;
use e2e::load::Load;
use e2e::programs::Program;
use e2e::seed::Seed;
use e2e::site::{FIRST, Site};

use crate::Case;

/// What others do, in the same lab: it proves that the lab sees a dropped request.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("bare_poweroff_drops_requests", bare_poweroff),
    ("seed_verbatim_drops_requests", |case, parts| seed_drops(case, parts, Seed::Verbatim)),
    ("seed_with_the_right_name_drops_requests", |case, parts| seed_drops(case, parts, Seed::RightName)),
];

/// Load before the end, so that requests of all kinds are in flight.
const LEAD: Duration = Duration::from_secs(7);

fn bare_poweroff(case: &str, parts: &Parts) -> Result<()> {
    let mut site = Site::start(parts, &[Program::Plain, Program::Gunicorn], Tokens::Ignored)?;
    poweroff_drops(case, &mut site)
}

fn seed_drops(case: &str, parts: &Parts, seed: Seed) -> Result<()> {
    let mut site = Site::start(parts, &[Program::Plain, Program::Gunicorn], Tokens::Ignored)?;
    seed.install(site.first())?;
    poweroff_drops(case, &mut site)
}

fn poweroff_drops(case: &str, site: &mut Site) -> Result<()> {
    let load = Load::start(&site.client, &site.balancer.url)?;
    std::thread::sleep(LEAD);
    let asked = SystemTime::now();
    site.first().exec(&["systemctl", "poweroff"])?;
    let ended = site.first().wait_end(Duration::from_secs(60));
    let took = asked.elapsed().unwrap_or_default();
    let load = load.stop()?;
    let evidence = site.evidence(&load, asked);
    ensure!(ended? == Ended::Off, "no poweroff\n{evidence}");
    let failed = load.failed().count();
    figures::note(case, &format!("{} requests, {failed} failed, host off after {:.1} s", load.requests.len(), took.as_secs_f64()));
    ensure!(failed > 0, "nothing was dropped: the lab is blind\n{evidence}");
    ensure!(load.last_answer(FIRST, asked).is_some(), "{FIRST} never answered\n{evidence}");
    if std::env::var_os("E2E_SHOW").is_some() { eprintln!("{evidence}"); }
    Ok(())
}
