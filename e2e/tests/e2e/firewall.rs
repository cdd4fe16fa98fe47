use std::thread;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Ended;
use e2e::load::Load;
use e2e::product::{self, CONFIG, Report};
use e2e::programs::{PORT, Program};
use e2e::site::{FIRST, Site};

use crate::Case;
use crate::drill::{LEAD, SUPERVISOR, end, evidence, under_load};

/// No registry is told anything: the kernel refuses, and the balancer finds out by itself.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("firewall_alone_drops_nothing_at_a_poweroff", poweroff),
    ("firewall_alone_drops_nothing_at_a_restart", restart),
    ("firewall_stands_in_for_a_dead_registry", registry_dead),
    (
        "firewall_stands_in_where_nothing_is_configured",
        unconfigured,
    ),
];

/// A site whose balancer checks its servers itself, and whose first host has no pool but the firewall. Its distribution's own rules are in use,
/// whose unit throws all rules away when it stops.
fn site(parts: &Parts) -> Result<Site> {
    site_with(parts, &format!("[pool.firewall]\nports = [{PORT}]\n"))
}

fn site_with(parts: &Parts, config: &str) -> Result<Site> {
    let mut site = Site::start(parts, &[Program::Plain, Program::Gunicorn], Tokens::Ignored)?;
    let servers = site.servers();
    site.balancer.rely_on_checks(&servers)?;
    let host = &site.hosts[0];
    host.exec(&["systemctl", "enable", "--now", "nftables.service"])?;
    host.write(CONFIG, config)?;
    product::install(host, parts)?;
    site.wait_serving(FIRST)?;
    Ok(site)
}

fn poweroff(case: &str, parts: &Parts) -> Result<()> {
    let mut site = site(parts)?;
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

fn restart(case: &str, parts: &Parts) -> Result<()> {
    let mut site = site(parts)?;
    under_load(case, &mut site, |site| {
        site.first().exec(&["systemctl", "restart", SUPERVISOR])?;
        site.wait_serving(FIRST)
    })?;
    let tables = site.first().exec(&["nft", "list", "tables"])?;
    ensure!(
        !tables.contains("drainctl"),
        "rules are left behind: {tables}"
    );
    Ok(())
}

/// The agent is gone before the shutdown; which ports the programs listen on is found out.
fn registry_dead(case: &str, parts: &Parts) -> Result<()> {
    let config = "[pool.consul]\n[pool.firewall]\nstand_in_for = [\"consul\"]\n";
    let mut site = site_with(parts, config)?;
    site.first()
        .exec(&["systemctl", "stop", "consul.service"])?;
    stood_in(case, &mut site, Some(4))
}

/// Nobody looks at the file that says that the host drains: the sockets tell.
fn unconfigured(case: &str, parts: &Parts) -> Result<()> {
    let mut site = site_with(parts, "")?;
    stood_in(case, &mut site, Some(0))
}

fn stood_in(case: &str, site: &mut Site, exit: Option<u64>) -> Result<()> {
    let load = Load::start(&site.client, &site.balancer.url);
    thread::sleep(LEAD);
    let asked = SystemTime::now();
    let ended = end(site, "poweroff", Ended::Off);
    let load = load.stop()?;
    ended.with_context(|| evidence(site, &load, asked))?;
    let failed = load.failed().count();
    let report = Report::last(&site.hosts[0])?;
    figures::note(
        case,
        &format!("{} requests, {failed} failed", load.requests.len()),
    );
    ensure!(failed == 0, "{}", evidence(site, &load, asked));
    ensure!(
        report.to_string().contains("firewall stands in for it"),
        "not said: {report}"
    );
    ensure!(
        report.exit() == exit,
        "exit code {:?}: {report}",
        report.exit()
    );
    Ok(())
}
