use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::command::poll;
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Ended;
use e2e::load::{Done, Kind, agent, send};
use e2e::net::Port;
use e2e::product::{self, CONFIG, HOOK, Report};
use e2e::programs::{PORT, Program};
use e2e::site::{CONVERGE_LIMIT, Site};

use crate::Case;
use crate::drill::{SUPERVISOR, end, installed};

/// Requests that last longer than others have patience.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("a_request_of_25_s_completes", twenty_five_seconds),
    ("a_request_that_never_ends_is_cut_and_named", never_ends),
];

/// supervisord kills a program 10 s after the signal, by default.
const LONG: Kind = Kind::Slow(25);

fn twenty_five_seconds(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Program::Plain])?;
    let request = in_flight(&site.client, &site.balancer.url, LONG);
    wait_connected(&site, &site.balancer.address, 1)?;
    let asked = SystemTime::now();
    end(&mut site, "poweroff", Ended::Off)?;
    let request = request
        .join()
        .map_err(|_| anyhow!("the request panicked"))??;
    let host = &site.hosts[0];
    let journal = host.journal()?.since(asked);
    let tail = || format!("{request:?}\n{}", journal.tail(HOOK, 40));
    ensure!(request.fault.is_none(), "the request failed\n{}", tail());
    ensure!(
        journal.stopping(SUPERVISOR)? >= request.ended,
        "supervisord was stopped before the answer\n{}",
        tail()
    );
    let (report, after) = (
        Report::last(host)?,
        journal.stopped(HOOK)?.duration_since(request.ended)?,
    );
    let (took, after) = (report.took()?.as_secs_f64(), after.as_secs_f64());
    figures::note(
        case,
        &format!("1 request, 0 failed, drain {took:.1} s, over {after:.2} s after the last answer"),
    );
    ensure!(
        after <= report.settle()?.as_secs_f64() + 1.0,
        "the drain went on for {after:.2} s\n{}",
        tail()
    );
    Ok(())
}

fn never_ends(case: &str, parts: &Parts) -> Result<()> {
    let mut site = Site::start(parts, &[Program::Plain], Tokens::Ignored)?;
    site.first()
        .write(CONFIG, "[deadline]\nshutdown = \"6s\"\n\n[pool.consul]\n")?;
    product::install(site.first(), parts)?;
    // One that is silent and one that goes on sending, both without HAProxy: the peer is the client.
    let direct = format!("http://{}:{PORT}", site.first().port.address);
    let silent = in_flight(&site.client, &direct, Kind::Slow(3600));
    let sending = in_flight(&site.client, &direct, Kind::Forever);
    wait_connected(&site, &site.client.address, 2)?;
    let asked = SystemTime::now();
    end(&mut site, "poweroff", Ended::Off)?;
    for request in [silent, sending] {
        let request = request
            .join()
            .map_err(|_| anyhow!("the request panicked"))??;
        ensure!(request.fault.is_some(), "it ended: {request:?}");
    }
    let host = &site.hosts[0];
    let journal = host.journal()?.since(asked);
    let report = Report::last(host)?;
    let tail = || format!("{report}\n{}", journal.tail(HOOK, 40));
    let took = journal.stopped(HOOK)?.duration_since(asked)?;
    let cut = report.cut(&site.client.address).with_context(tail)?;
    figures::note(
        case,
        &format!(
            "drain {:.2} s of a deadline of 6 s, {} cut and named",
            took.as_secs_f64(),
            cut.len()
        ),
    );
    ensure!(
        report.text("outcome") == "deadline-hit" && report.exit() == Some(3),
        "not said\n{}",
        tail()
    );
    ensure!(
        journal.exit_status(HOOK) == Some("3"),
        "exit code {:?}\n{}",
        journal.exit_status(HOOK),
        tail()
    );
    ensure!(
        took <= Duration::from_secs(7) + Duration::from_secs(1),
        "the deadline was not kept\n{}",
        tail()
    );
    ensure!(cut.len() == 2, "cut: {cut:?}\n{}", tail());
    for (program, age) in &cut {
        ensure!(
            program.contains("app") && *age >= Duration::from_secs(5),
            "{program}, {age:?}\n{}",
            tail()
        );
    }
    let told = journal
        .of_unit(HOOK)
        .any(|entry| entry.message().contains(&site.client.address));
    ensure!(told, "the journal does not name the peer\n{}", tail());
    Ok(())
}

/// A request that begins now.
pub(crate) fn in_flight(client: &Port, url: &str, kind: Kind) -> JoinHandle<Result<Done>> {
    let (client, url) = (client.clone(), url.to_owned());
    thread::spawn(move || {
        client.enter()?;
        Ok(send(&agent(), &url, kind))
    })
}

/// Waits until the first host's program holds as many connections of a peer.
pub(crate) fn wait_connected(site: &Site, peer: &str, count: usize) -> Result<()> {
    let host = &site.hosts[0];
    poll("the requests at the host", CONVERGE_LIMIT, || {
        let filter = format!("sport = :{PORT} and dst {peer}");
        let rows = host.exec(&["ss", "-Htn", "state", "established", &filter])?;
        Ok((rows.lines().count() >= count).then_some(()))
    })
}
