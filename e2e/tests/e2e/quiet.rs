use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::Ended;
use e2e::product::{HOOK, Report};
use e2e::programs::{PORT, Program};
use e2e::site::Site;

use crate::Case;
use crate::drill::{end, installed};

/// Nothing to wait for: no second is waited that is not needed.
pub(crate) const CASES: &[(&str, Case)] = &[
    ("no_traffic_ends_after_settle", no_traffic),
    ("idle_connections_end_after_settle", idle_connections),
];

/// Idle keep-alive connections.
const IDLE: usize = 50;
/// What the promise allows beside the settle.
const BESIDE: Duration = Duration::from_secs(1);

fn no_traffic(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Program::Plain])?;
    ends_soon(case, &mut site)
}

fn idle_connections(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Program::Plain])?;
    let connections = idle(&site)?;
    ends_soon(case, &mut site)?;
    ensure!(
        connections.len() == IDLE,
        "{} idle connections",
        connections.len()
    );
    Ok(())
}

/// Connections that have had their answer and stay open.
fn idle(site: &Site) -> Result<Vec<TcpStream>> {
    let address = (site.hosts[0].port.address.as_str(), PORT);
    site.client.inside(|| {
        (0..IDLE)
            .map(|_| {
                let mut connection = TcpStream::connect(address)?;
                connection.write_all(b"GET /short HTTP/1.1\r\nHost: lab\r\n\r\n")?;
                let mut answer = Vec::new();
                while !answer.ends_with(b"ok\n") {
                    let mut piece = [0; 512];
                    let count = connection.read(&mut piece)?;
                    ensure!(count > 0, "closed: {}", String::from_utf8_lossy(&answer));
                    answer.extend_from_slice(&piece[..count]);
                }
                Ok(connection)
            })
            .collect()
    })
}

fn ends_soon(case: &str, site: &mut Site) -> Result<()> {
    let asked = SystemTime::now();
    end(site, "poweroff", Ended::Off)?;
    let host = &site.hosts[0];
    let journal = host.journal()?.since(asked);
    let report = Report::last(host)?;
    let took = journal
        .stopped(HOOK)?
        .duration_since(journal.stopping(HOOK)?)?;
    figures::note(
        case,
        &format!(
            "drain {:.2} s, settle {:.2} s",
            took.as_secs_f64(),
            report.settle()?.as_secs_f64()
        ),
    );
    let tail = || format!("{report}\n{}", journal.tail(HOOK, 30));
    ensure!(
        took < report.settle()? + BESIDE,
        "the drain took {:.2} s\n{}",
        took.as_secs_f64(),
        tail()
    );
    ensure!(
        report.text("outcome") == "drained",
        "outcome {}\n{}",
        report.text("outcome"),
        tail()
    );
    Ok(())
}
