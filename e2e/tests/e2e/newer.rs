use anyhow::{Context, Result, ensure};
use e2e::enter::Parts;
use e2e::host::Ended;
use e2e::product::Report;
use e2e::programs::Program::{Gunicorn, Plain};
use e2e::site::FIRST;

use crate::Case;
use crate::drill::{SUPERVISOR, end, installed, under_load};

/// The main job on hosts with systemd 257, and what only such hosts can: a soft reboot.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("systemd_257_poweroff_drops_nothing", poweroff),
    ("systemd_257_reboot_drops_nothing_and_comes_back", reboot),
    ("systemd_257_restart_of_supervisor_drops_nothing", restart),
    (
        "systemd_257_soft_reboot_drops_nothing_and_comes_back",
        soft_reboot,
    ),
];

fn poweroff(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(&parts.newer(), &[Plain, Gunicorn])?;
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

fn reboot(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(&parts.newer(), &[Gunicorn, Plain])?;
    under_load(case, &mut site, |site| {
        end(site, "reboot", Ended::Reboot)?;
        site.first().boot()?;
        site.wait_serving(FIRST)
    })
}

fn restart(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(&parts.newer(), &[Plain, Gunicorn])?;
    under_load(case, &mut site, |site| {
        site.first().exec(&["systemctl", "restart", SUPERVISOR])?;
        site.wait_serving(FIRST)
    })
}

/// All of user space goes and comes again, under the same first process.
fn soft_reboot(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(&parts.newer(), &[Plain, Gunicorn])?;
    under_load(case, &mut site, |site| {
        site.first().exec(&["systemctl", "soft-reboot"])?;
        site.first().wait_again()?;
        site.wait_serving(FIRST)
    })?;
    let report = Report::last(&site.hosts[0]).context("no report")?;
    ensure!(
        report.text("cause") == "soft-reboot",
        "the cause was {}",
        report.text("cause")
    );
    Ok(())
}
