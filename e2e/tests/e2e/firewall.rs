use anyhow::{Result, ensure};
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::host::Ended;
use e2e::product::{self, CONFIG};
use e2e::programs::{PORT, Program};
use e2e::site::{FIRST, Site};

use crate::Case;
use crate::drill::{SUPERVISOR, end, under_load};

/// No registry is told anything: the kernel refuses, and the balancer finds out by itself.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("firewall_alone_drops_nothing_at_a_poweroff", poweroff),
    ("firewall_alone_drops_nothing_at_a_restart", restart),
];

/// A site whose balancer checks its servers itself, and whose first host has no pool but the firewall. Its distribution's own rules are in use,
/// whose unit throws all rules away when it stops.
fn site(parts: &Parts) -> Result<Site> {
    let mut site = Site::start(parts, &[Program::Plain, Program::Gunicorn], Tokens::Ignored)?;
    let servers = site.servers();
    site.balancer.rely_on_checks(&servers)?;
    let host = &site.hosts[0];
    host.exec(&["systemctl", "enable", "--now", "nftables.service"])?;
    host.write(CONFIG, &format!("[pool.firewall]\nports = [{PORT}]\n"))?;
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
