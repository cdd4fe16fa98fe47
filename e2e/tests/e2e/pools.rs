use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use e2e::command::poll;
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::host::Ended;
use e2e::product::{self, CONFIG, RECEIPTS};
use e2e::programs::Program::{Gunicorn, Plain};
use e2e::site::{CONVERGE_LIMIT, FIRST, Site};

use crate::Case;
use crate::drill::{SUPERVISOR, end, installed, under_load};

/// Other ways to be sent traffic than Consul's DNS behind HAProxy: each balancer has nothing to go by but the pool that is left.
pub(crate) const CASES: &[(&str, Case)] = &[
    (
        "haproxys_runtime_socket_alone_drops_nothing_at_a_poweroff",
        runtime_socket,
    ),
    (
        "haproxys_runtime_socket_alone_drops_nothing_at_a_restart",
        runtime_socket_and_back,
    ),
    (
        "envoy_following_consuls_dns_drops_nothing_at_a_poweroff",
        envoy,
    ),
    ("two_pools_at_once_drop_nothing_at_a_poweroff", two_pools),
    (
        "two_pools_at_once_drop_nothing_at_a_reboot",
        two_pools_and_back,
    ),
    (
        "a_balancer_that_goes_on_for_17_s_drops_nothing_at_a_poweroff",
        late,
    ),
];

/// A site whose balancer obeys its runtime socket; with `consul`, half of its requests follow Consul.
fn obeying(parts: &Parts, consul: bool) -> Result<Site> {
    let mut site = Site::start(parts, &[Plain, Gunicorn], Tokens::Ignored)?;
    let servers = site.servers();
    if consul {
        site.balancer.rely_on_both(&servers)?;
    } else {
        site.balancer.rely_on_orders(&servers)?;
    }
    let (socket, server) = site.balancer.orders(FIRST);
    let mut config = format!("[pool.haproxy]\nsocket = \"{socket}\"\nservers = [\"{server}\"]\n");
    if consul {
        config.push_str("\n[pool.consul]\n");
    }
    let host = &site.hosts[0];
    host.write(CONFIG, &config)?;
    product::install(host, parts)?;
    site.wait_serving(FIRST)?;
    Ok(site)
}

fn runtime_socket(case: &str, parts: &Parts) -> Result<()> {
    let mut site = obeying(parts, false)?;
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

fn runtime_socket_and_back(case: &str, parts: &Parts) -> Result<()> {
    let mut site = obeying(parts, false)?;
    under_load(case, &mut site, |site| {
        site.first().exec(&["systemctl", "restart", SUPERVISOR])?;
        site.wait_serving(FIRST)
    })
}

fn envoy(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain, Gunicorn])?;
    site.balancer.become_envoy(parts)?;
    site.wait_serving(FIRST)?;
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

fn two_pools(case: &str, parts: &Parts) -> Result<()> {
    let mut site = obeying(parts, true)?;
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

fn two_pools_and_back(case: &str, parts: &Parts) -> Result<()> {
    let mut site = obeying(parts, true)?;
    under_load(case, &mut site, |site| {
        end(site, "reboot", Ended::Reboot)?;
        site.first().boot()?;
        site.wait_serving(FIRST)?;
        poll("the end of rejoin", CONVERGE_LIMIT, || {
            Ok((!site.hosts[0].path(RECEIPTS).exists()).then_some(()))
        })
    })?;
    ensure!(
        site.consul.maintenance(FIRST)?.is_empty(),
        "maintenance is left"
    );
    Ok(())
}

/// As long as balancers are known to go on after they have said that a host drains.
const LATE: Duration = Duration::from_secs(17);
/// What the balancer's keeper looks for.
const DRAINING: &str = "/srv/balancer/draining";

/// The pool says at once that the host is out; the balancer hears of it late.
fn late(case: &str, parts: &Parts) -> Result<()> {
    let mut site = Site::start(parts, &[Plain, Gunicorn], Tokens::Ignored)?;
    let servers = site.servers();
    site.balancer.rely_on_orders(&servers)?;
    let host = &site.hosts[0];
    host.exec(&["mkdir", "-p", "/srv/balancer"])?;
    let config = format!("[pool.health-file]\npath = \"{DRAINING}\"\nleave = \"create\"\n");
    host.write(CONFIG, &config)?;
    product::install(host, parts)?;
    site.wait_serving(FIRST)?;
    let (socket, server) = site.balancer.orders(FIRST);
    let order = format!(
        "exec 3<>/dev/tcp/{}; echo 'set server {server} state drain' >&3; cat <&3",
        socket.replace(':', "/")
    );
    let (client, mark) = (site.client.clone(), host.path(DRAINING));
    let keeper = thread::spawn(move || {
        poll("the mark", CONVERGE_LIMIT, || {
            Ok(mark.exists().then_some(()))
        })?;
        thread::sleep(LATE);
        let told = client.command(&["bash", "-c", &order]).output()?;
        ensure!(told.stdout == b"\n", "HAProxy says {told:?}");
        Ok(())
    });
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))?;
    keeper
        .join()
        .map_err(|_| anyhow!("the balancer's keeper panicked"))?
}
