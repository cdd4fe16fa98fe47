use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::product::HOOK;
use e2e::programs::Program::Plain;
use e2e::site::Site;
use serde_json::Value;

use crate::Case;
use crate::drill::{SUPERVISOR, end, installed};

/// What `doctor` says of a host that is well, and of one that is not.
pub(crate) const CASES: &[(&str, Case)] = &[(
    "doctor_names_what_is_broken_and_its_own_remedy_mends_it",
    doctor,
)];

/// The exit code of errors.
const UNSOUND: i32 = 6;

/// A host broken by a line of a shell, and the check that has to say so with an error.
const BROKEN: [(&str, &str); 5] = [
    // A stop of the hook drains the host, and leaves it out of its pools.
    ("systemctl stop drain-connections.service", "hook-active"),
    (
        "systemctl disable drain-connections.service",
        "hook-enabled",
    ),
    (
        "sed -i 's/supervisor[.]service/supervisord.service/' /etc/systemd/system/drain-connections.service; \
         systemctl daemon-reload",
        "order-target",
    ),
    (
        "systemctl stop drain-connections-hold.service; \
         sed -i 's/consul[.]service//' /etc/systemd/system/drain-connections.service; \
         rm -r /etc/systemd/system/drain-connections.service.d; systemctl daemon-reload",
        "order-registry",
    ),
    (
        "mkdir -p /etc/drainctl/conf.d; printf '[deadline]\\nshutdown = \"29m\"\\n' > /etc/drainctl/conf.d/deadline.toml",
        "limit-shutdown",
    ),
];

fn doctor(case: &str, parts: &Parts) -> Result<()> {
    let mut site = installed(parts, &[Plain])?;
    let host = &site.hosts[0];
    let begun = Instant::now();
    let (code, healthy) = examine(host)?;
    let took = begun.elapsed();
    let findings = healthy["findings"].as_array().context("no findings")?;
    ensure!(
        code == 0 && findings.is_empty(),
        "a healthy host: exit code {code}, {findings:#?}"
    );
    for (how, check) in BROKEN {
        host.exec(&["sh", "-c", how])?;
        let (code, report) = examine(host)?;
        ensure!(code == UNSOUND, "{check}: exit code {code}: {report:#}");
        ensure!(
            finds(&report, check),
            "{check} is not among the findings of {how:?}: {report:#}"
        );
        mend(host, &report)?;
        let (code, report) = examine(host)?;
        let left = report["findings"].as_array().context("no findings")?;
        ensure!(
            code == 0 && left.is_empty(),
            "{check}: after its remedy: {left:#?}"
        );
    }
    let (held, early) = predicted(&mut site)?;
    figures::note(
        case,
        &format!(
            "{} hosts named and mended; a healthy one in {:.2} s; {held} units outlived the drain as predicted, {early} did not",
            BROKEN.len(),
            took.as_secs_f64(),
        ),
    );
    Ok(())
}

/// Powers the host off: what was said to outlive the drain does. How many of them did, and how many of the others did not.
fn predicted(site: &mut Site) -> Result<(usize, usize)> {
    let (_, report) = examine(&site.hosts[0])?;
    let asked = SystemTime::now();
    end(site, "poweroff", Ended::Off)?;
    let journal = site.hosts[0].journal()?.since(asked);
    let over = journal.stopped(HOOK)?;
    // The first that is told of a unit's stop; of some only their end is told.
    let told = |key: &str| -> Vec<(String, SystemTime)> {
        let units = report[key].as_array().into_iter().flatten();
        units
            .filter_map(Value::as_str)
            .filter_map(|unit| {
                let at = journal.stopping(unit).or_else(|_| journal.stopped(unit));
                Some((unit.to_owned(), at.ok()?))
            })
            .collect()
    };
    let outlive = told("outlive");
    let wrong: Vec<_> = outlive.iter().filter(|(_, at)| *at < over).collect();
    ensure!(
        wrong.is_empty(),
        "stopped before the drain was over: {wrong:?}"
    );
    for unit in [SUPERVISOR, "consul.service"] {
        ensure!(
            outlive.iter().any(|(name, _)| name == unit),
            "the journal does not tell when {unit} was stopped"
        );
    }
    let early = told("may_stop").iter().filter(|(_, at)| *at < over).count();
    ensure!(early > 0, "nothing was stopped while the drain ran");
    Ok((outlive.len(), early))
}

fn examine(host: &Host) -> Result<(i32, Value)> {
    let output = host.try_exec(&["drainctl", "doctor", "--json"])?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.code().unwrap_or(-1), report))
}

fn finds(report: &Value, check: &str) -> bool {
    let findings = report["findings"].as_array().into_iter().flatten();
    findings
        .filter(|finding| finding["severity"] == "error")
        .any(|finding| finding["check"] == check)
}

/// Does all that the report says, as an operator would paste it.
fn mend(host: &Host, report: &Value) -> Result<()> {
    let findings = report["findings"].as_array().into_iter().flatten();
    for mend in findings
        .filter_map(|finding| finding["mend"].as_array())
        .flatten()
    {
        if let Some(command) = mend["run"].as_str() {
            host.exec(&["sh", "-c", command])?;
        }
        if let Some(file) = mend["set"]["file"].as_str() {
            let lines = mend["set"]["lines"].as_array().into_iter().flatten();
            let lines: Vec<&str> = lines.filter_map(Value::as_str).collect();
            host.write(file, &format!("{}\n", lines.join("\n")))?;
        }
    }
    Ok(())
}
