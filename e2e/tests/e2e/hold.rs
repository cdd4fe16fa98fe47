use std::thread;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::bare::Bare;
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Ended;
use e2e::load::Load;
use e2e::product;
use e2e::programs::Program::{Plain, WithDatabase};
use e2e::site::Site;

use crate::Case;
use crate::drill::{END_LIMIT, LEAD, end, evidence, installed, under_load};

/// What the programs need outlives the drain, and nothing else is slower for it.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("poweroff_with_a_database_drops_nothing", held),
    (
        "poweroff_with_a_database_found_by_its_connections_drops_nothing",
        found,
    ),
    ("poweroff_with_a_database_not_held_fails", not_held),
    ("the_hold_delays_nothing_where_nothing_is_drained", idle),
    ("a_drain_that_hangs_holds_no_longer_than_its_limit", hangs),
];

fn held(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[WithDatabase, Plain])?;
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

/// Without the hold of everything: by what was found while requests came.
fn found(case: &str, parts: &Parts) -> Result<()> {
    let mut site = configured(parts, "[hold]\neverything = false\n")?;
    let load = Load::start(&site.client, &site.balancer.url);
    let installed = site
        .hosts
        .iter()
        .map(|host| product::install(host, parts))
        .collect::<Result<Vec<_>>>();
    load.stop()?;
    let installed = installed?.concat();
    ensure!(
        installed.contains("postgresql@15-main.service"),
        "the database was not found: {installed}"
    );
    under_load(case, &mut site, |site| end(site, "poweroff", Ended::Off))
}

/// The same host, told to leave the database out.
fn not_held(case: &str, parts: &Parts) -> Result<()> {
    let config = "[hold]\neverything = false\nexcept = [\"postgresql@15-main.service\"]\n";
    let mut site = configured(parts, config)?;
    for host in &site.hosts {
        product::install(host, parts)?;
    }
    let load = Load::start(&site.client, &site.balancer.url);
    thread::sleep(LEAD);
    let asked = SystemTime::now();
    let ended = end(&mut site, "poweroff", Ended::Off);
    let load = load.stop()?;
    ended.with_context(|| evidence(&site, &load, asked))?;
    let failed = load.failed().count();
    figures::note(
        case,
        &format!("{} requests, {failed} failed", load.requests.len()),
    );
    ensure!(failed > 0, "no request failed without its database");
    Ok(())
}

/// A site whose hosts have this config, and the product's binary alone.
fn configured(parts: &Parts, config: &str) -> Result<Site> {
    let site = Site::start(parts, &[WithDatabase, Plain], Tokens::Ignored)?;
    for host in &site.hosts {
        product::copy(host, parts)?;
        host.write(
            "/etc/drainctl/conf.d/lab.toml",
            &format!("{config}[pool.consul]\n"),
        )?;
    }
    Ok(site)
}

/// How long a poweroff of an idle host takes: with the hold, without it, without the product.
fn idle(case: &str, parts: &Parts) -> Result<()> {
    let mut took = Vec::new();
    for config in [Some(""), Some("[hold]\neverything = false\n"), None] {
        let mut bare = Bare::new(parts)?;
        let host = &mut bare.host;
        host.boot()?;
        if let Some(config) = config {
            host.write("/etc/drainctl/conf.d/lab.toml", config)?;
            product::install(host, parts)?;
        }
        let begun = Instant::now();
        host.exec(&["systemctl", "poweroff"])?;
        ensure!(host.wait_end(END_LIMIT)? == Ended::Off, "no poweroff");
        took.push(begun.elapsed().as_secs_f64());
    }
    let [held, alone, bare] = took[..] else {
        unreachable!("three hosts")
    };
    figures::note(
        case,
        &format!(
            "poweroff of an idle host: {held:.1} s held, {alone:.1} s not held, {bare:.1} s without the product"
        ),
    );
    Ok(())
}

fn hangs(case: &str, parts: &Parts) -> Result<()> {
    let mut bare = Bare::new(parts)?;
    let host = &mut bare.host;
    host.boot()?;
    product::install(host, parts)?;
    host.write(
        "/etc/systemd/system/drain-connections.service.d/hangs.conf",
        "[Service]\nExecStop=\nExecStop=/bin/sleep infinity\nTimeoutStopSec=3s\n",
    )?;
    host.exec(&["systemctl", "daemon-reload"])?;
    let begun = Instant::now();
    host.exec(&["systemctl", "poweroff"])?;
    ensure!(host.wait_end(END_LIMIT)? == Ended::Off, "no poweroff");
    figures::note(
        case,
        &format!(
            "off {:.1} s after the request, 3 s of them the limit",
            begun.elapsed().as_secs_f64()
        ),
    );
    Ok(())
}
