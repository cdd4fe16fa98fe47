use anyhow::{Result, ensure};
use e2e::enter::Parts;
use e2e::host::Ended;
use e2e::programs::Program::{Gunicorn, Plain, Tls};
use e2e::site::FIRST;

use crate::Case;
use crate::drill::{SUPERVISOR, end, installed, under_load};

/// The main job: the host goes, or its supervisor does, and no request is dropped.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("poweroff_drops_nothing", poweroff),
    ("reboot_drops_nothing_and_comes_back", reboot),
    ("halt_drops_nothing", halt),
    ("poweroff_drops_no_first_request_over_tls", over_tls),
    ("restart_of_supervisor_drops_nothing", restart),
    ("stop_and_start_of_supervisor_drop_nothing", stop_and_start),
];

fn poweroff(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain, Gunicorn])?;
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

/// The programs end TLS themselves, and every request is the first one on its connection.
fn over_tls(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Tls, Tls])?;
    let spoken = site
        .first()
        .exec(&["cat", "/var/lib/drainctl/ports.json"])?;
    ensure!(
        spoken.contains("\"newer\": true") && spoken.contains("\"program\": \"app"),
        "TLS 1.3 was not found: {spoken}"
    );
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

fn halt(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain, Gunicorn])?;
    under_load(case, &mut site, |site| end(site, "halt", Ended::Off))
}

fn reboot(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Gunicorn, Plain])?;
    under_load(case, &mut site, |site| {
        end(site, "reboot", Ended::Reboot)?;
        site.first().boot()?;
        site.wait_serving(FIRST)
    })
}

fn restart(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain, Gunicorn])?;
    under_load(case, &mut site, |site| {
        site.first().exec(&["systemctl", "restart", SUPERVISOR])?;
        site.wait_serving(FIRST)
    })
}

fn stop_and_start(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Gunicorn, Plain])?;
    under_load(case, &mut site, |site| {
        site.first().exec(&["systemctl", "stop", SUPERVISOR])?;
        site.first().exec(&["systemctl", "start", SUPERVISOR])?;
        site.wait_serving(FIRST)
    })
}
