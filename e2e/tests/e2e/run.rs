use std::fs;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::command::poll;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::load::{Kind, Load, Summary};
use e2e::programs::{self, Program};
use e2e::site::{CONVERGE_LIMIT, FIRST, Site};

use crate::Case;
use crate::drill::{END_LIMIT, LEAD, end, installed};
use crate::long::in_flight;

/// One program is restarted by its supervisor, which systemd knows nothing of.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("restarts_of_a_wrapped_plain_server", |case, parts| {
        restarts(case, parts, Program::Plain)
    }),
    ("restarts_of_a_wrapped_gunicorn", |case, parts| {
        restarts(case, parts, Program::Gunicorn)
    }),
    ("restarts_of_a_wrapped_uvicorn", |case, parts| {
        restarts(case, parts, Program::Uvicorn)
    }),
    ("restarts_of_a_wrapped_node", |case, parts| {
        restarts(case, parts, Program::Node)
    }),
    ("restarts_of_a_wrapped_native_server", |case, parts| {
        restarts(case, parts, Program::Native)
    }),
    ("a_wrapped_service_of_systemd_is_ready_and_drained", service),
];

const ROUNDS: u32 = 20;
/// A busy machine is no more exact. supervisord looks once a second when nothing wakes it: that would show.
const SLACK: Duration = Duration::from_millis(800);
/// What the wrapper may take in memory, in KiB.
const MEMORY: u64 = 2048;
/// What supervisord writes to.
const LOG: &str = "/var/log/supervisor/supervisord.log";

/// The same loop without and with `run`; then a poweroff of a host with and one without it.
fn restarts(case: &str, parts: &Parts, program: Program) -> Result<()> {
    let mut site = installed(parts, &[program, program])?;
    let bare = rounds(&site)?;
    programs::wrap(site.first(), program)?;
    site.wait_serving(FIRST)?;
    let began = SystemTime::now();
    let wrapped = rounds(&site)?;
    let (sent, failed) = (wrapped.requests.len(), wrapped.failed().count());
    let memory = memory(&site.hosts[0])?;
    let asked = SystemTime::now();
    let load = Load::start(&site.client, &site.balancer.url);
    thread::sleep(LEAD);
    let ended = end(&mut site, "poweroff", Ended::Off);
    let load = load.stop()?;
    ended.with_context(|| site.evidence(&load, asked))?;
    let off = load.failed().count();
    site.hosts[1].exec(&["systemctl", "poweroff"])?;
    site.hosts[1].wait_end(END_LIMIT)?;
    let (with, without) = (took(&site.hosts[0])?, took(&site.hosts[1])?);
    figures::note(
        case,
        &format!(
            "{ROUNDS} restarts: wrapped {failed} of {sent} failed, bare {} of {}; poweroff {off} of {} failed, \
             the program's end {:.2} s, bare {:.2} s; {memory} KiB",
            bare.failed().count(),
            bare.requests.len(),
            load.requests.len(),
            with.as_secs_f64(),
            without.as_secs_f64(),
        ),
    );
    ensure!(
        program != Program::Plain || bare.failed().count() > 0,
        "nothing was dropped without it: the lab is blind"
    );
    ensure!(
        failed == 0,
        "{failed} failed in the loop\n{}",
        site.evidence(&wrapped, began)
    );
    ensure!(
        off == 0,
        "{off} failed at the poweroff\n{}",
        site.evidence(&load, asked)
    );
    ensure!(
        with < without + SLACK,
        "the wrapper held the poweroff up: {with:?} and {without:?} without it"
    );
    ensure!(memory < MEMORY, "{memory} KiB beside the program");
    Ok(())
}

/// How long supervisord waited for the program when the host went down, by its own log. When it looked at its SIGTERM is chance.
fn took(host: &Host) -> Result<Duration> {
    let log = fs::read_to_string(host.path(LOG))?;
    let at = |what: &str| -> Result<jiff::civil::DateTime> {
        let line = log.lines().rfind(|line| line.contains(what));
        let line = line.with_context(|| format!("no {what:?} in\n{log}"))?;
        let stamp: String = line.split(' ').take(2).collect::<Vec<_>>().join("T");
        Ok(stamp.replace(',', ".").parse()?)
    };
    let took = at("stopped: app ")?.duration_since(at("waiting for app to die")?);
    Ok(took.try_into()?)
}

/// A service that says when it is ready, under `run` and without any supervisor.
const NOTED: &str = "[Service]
Type=notify
NotifyAccess=all
KillMode=mixed
ExecStart=/usr/bin/drainctl run -- /bin/sh -c 'systemd-notify --ready && exec /usr/bin/python3 /opt/lab/app.py 8001'
";

fn service(case: &str, parts: &Parts) -> Result<()> {
    let site = installed(parts, &[Program::Plain])?;
    let host = &site.hosts[0];
    host.write("/etc/systemd/system/noted.service", NOTED)?;
    host.exec(&["systemctl", "daemon-reload"])?;
    host.exec(&["systemctl", "start", "noted"])?;
    let url = format!("http://{}:8001", host.port.address);
    let listens = ["ss", "-Hltn", "sport = :8001"];
    let connected = ["ss", "-Htn", "state", "established", "sport = :8001"];
    let seen = |words: &[&str]| {
        poll("the service's socket", CONVERGE_LIMIT, || {
            Ok((!host.exec(words)?.is_empty()).then_some(()))
        })
    };
    seen(&listens)?;
    let request = in_flight(&site.client, &url, Kind::Slow(4));
    seen(&connected)?;
    host.exec(&["systemctl", "stop", "noted"])?;
    let stopped = SystemTime::now();
    let request = request
        .join()
        .map_err(|_| anyhow!("the request panicked"))??;
    let result = host.exec(&["systemctl", "show", "-P", "Result", "noted"])?;
    let said = host.exec(&["journalctl", "-u", "noted", "-n", "30"])?;
    ensure!(
        request.fault.is_none() && request.ended < stopped && result.trim() == "success",
        "{request:?} {result}\n{said}"
    );
    let after = stopped.duration_since(request.ended)?.as_secs_f64();
    figures::note(
        case,
        &format!("1 request, 0 failed, stopped {after:.2} s after the answer"),
    );
    Ok(())
}

/// Restarts the program under load. Every second round comes before it is back in its pool.
fn rounds(site: &Site) -> Result<Summary> {
    let load = Load::brief(&site.client, &site.balancer.url);
    let done = (0..ROUNDS).try_for_each(|round| {
        site.hosts[0].exec(&["supervisorctl", "restart", "app"])?;
        if round % 2 == 1 {
            site.wait_serving(FIRST)?;
        }
        Ok(())
    });
    let load = load.stop()?;
    done.map(|()| load)
}

/// What the processes beside the program take in all, once the one that sees to its start is gone; in KiB.
fn memory(host: &Host) -> Result<u64> {
    poll("the wrapper to be alone", CONVERGE_LIMIT, || {
        let helpers = host.try_exec(&["pgrep", "-f", "drainctl run --part"])?;
        if helpers.status.success() {
            return Ok(None);
        }
        let pids = host.exec(&["pgrep", "-f", "^drainctl run"])?;
        let mut total = 0;
        for pid in pids.split_whitespace() {
            let path = host.live_path(&format!("/proc/{pid}/smaps_rollup"))?;
            let text = fs::read_to_string(path)?;
            let line = text.lines().find(|line| line.starts_with("Pss:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            total += kib.context("no memory")?.parse::<u64>()?;
        }
        Ok(Some(total))
    })
}
