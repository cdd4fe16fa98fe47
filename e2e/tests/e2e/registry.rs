use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::command::poll;
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Ended;
use e2e::load::{Load, Summary};
use e2e::product::{self, CONFIG, HOOK, RECEIPTS, Report};
use e2e::programs::Program::{Gunicorn, Plain};
use e2e::site::{CONVERGE_LIMIT, FIRST, Site};

use crate::Case;
use crate::drill::{LEAD, end, evidence, installed};

/// The registry does not do as asked, or does as somebody else asked.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("consul_agent_dead_cuts_nothing", agent_dead),
    ("consul_agent_hanging_cuts_nothing", agent_hanging),
    ("consul_refusing_the_token_cuts_nothing", token_refused),
    (
        "an_operators_maintenance_survives_a_reboot",
        operators_maintenance,
    ),
];

/// Longer than the pool's limit, the longest settle, and any request of the load together: none of these drains needs it all.
const DEADLINE: Duration = Duration::from_secs(90);
const AGENT: &str = "consul.service";
const TOKEN: &str = "/etc/drainctl/consul.token";

fn agent_dead(case: &str, parts: &Parts) -> Result<()> {
    unable_to_leave(case, parts, Tokens::Ignored, &["systemctl", "stop", AGENT])
}

fn agent_hanging(case: &str, parts: &Parts) -> Result<()> {
    unable_to_leave(
        case,
        parts,
        Tokens::Ignored,
        &["systemctl", "kill", "-s", "STOP", AGENT],
    )
}

fn token_refused(case: &str, parts: &Parts) -> Result<()> {
    unable_to_leave(case, parts, Tokens::Checked, &["test", "-s", TOKEN])
}

/// Breaks the way to the pool on the first host, and shuts it down at once.
fn unable_to_leave(case: &str, parts: &Parts, tokens: Tokens, breaking: &[&str]) -> Result<()> {
    let mut site = Site::start(parts, &[Plain, Gunicorn], tokens)?;
    let host = site.first();
    let mut config = format!(
        "[deadline]\nshutdown = \"{}s\"\n\n[pool.consul]\n",
        DEADLINE.as_secs()
    );
    if tokens == Tokens::Checked {
        // A token that Consul does not know.
        host.write(TOKEN, "11111111-2222-3333-4444-555555555555\n")?;
        host.exec(&["chmod", "600", TOKEN])?;
        config.push_str(&format!("token_file = \"{TOKEN}\"\n"));
    }
    host.write(CONFIG, &config)?;
    product::install(host, parts)?;
    let load = Load::start(&site.client, &site.balancer.url);
    thread::sleep(LEAD);
    site.first().exec(breaking)?;
    let asked = SystemTime::now();
    let ended = end(&mut site, "poweroff", Ended::Off);
    let load = load.stop()?;
    ended
        .and_then(|()| nothing_cut(case, &site, &load, asked))
        .with_context(|| evidence(&site, &load, asked))
}

/// What was in flight at the stop was finished, within the deadline, and the report says what could not be done.
fn nothing_cut(case: &str, site: &Site, load: &Summary, asked: SystemTime) -> Result<()> {
    let journal = site.hosts[0].journal()?.since(asked);
    let report = Report::last(&site.hosts[0])?;
    let begun = journal.stopping(HOOK)?;
    let took = journal.stopped(HOOK)?.duration_since(begun)?;
    let cut = load.failed().filter(|request| request.sent < begun).count();
    let later = load.failed().count() - cut;
    figures::note(
        case,
        &format!(
            "{} requests, {cut} cut of those in flight, {later} failed that came later, drain {:.1} s of {} s",
            load.requests.len(),
            took.as_secs_f64(),
            DEADLINE.as_secs()
        ),
    );
    ensure!(
        cut == 0,
        "{cut} requests were cut that were in flight at the stop"
    );
    ensure!(
        took < DEADLINE,
        "it waited for what could not be waited for: {:.1} s",
        took.as_secs_f64()
    );
    let error = report
        .pool_error("consul")
        .context("the report does not say that the pool was not left")?;
    ensure!(report.exit() == Some(4), "exit code {:?}", report.exit());
    ensure!(
        report.to_string().contains("firewall stands in for it"),
        "nobody stood in for it: {report}"
    );
    let told = journal
        .of_unit(HOOK)
        .any(|entry| entry.message().contains("consul"));
    ensure!(
        told && !error.is_empty(),
        "the journal says nothing of Consul"
    );
    Ok(())
}

fn operators_maintenance(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain])?;
    site.first()
        .exec(&["consul", "maint", "-enable", "-reason", "a new disk"])?;
    site.consul.wait_passing(FIRST, false, CONVERGE_LIMIT)?;
    end(&mut site, "reboot", Ended::Reboot)?;
    site.first().boot()?;
    poll(
        "the agent in Consul, and the end of rejoin",
        CONVERGE_LIMIT,
        || {
            let waits = site.hosts[0].path(RECEIPTS).exists();
            Ok((site.consul.alive(FIRST)? && !waits).then_some(()))
        },
    )?;
    let marks = site.consul.maintenance(FIRST)?;
    figures::note(case, &format!("after the reboot: {marks:?}"));
    ensure!(marks == ["a new disk"], "maintenance: {marks:?}");
    ensure!(
        site.consul.passing()?.is_empty(),
        "{FIRST} is back in the pool"
    );
    Ok(())
}
