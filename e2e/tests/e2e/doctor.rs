use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::command::{both, poll};
use e2e::consul::Tokens;
use e2e::enter::Parts;
use e2e::figures;
use e2e::host::{Ended, Host};
use e2e::product::{self, CONFIG, HOOK};
use e2e::programs::{self, Program::Plain};
use e2e::site::{CONVERGE_LIMIT, SECOND, Site};
use serde_json::Value;

use crate::Case;
use crate::breakages::{Broken, ERRORS, PLACES, WARNINGS};
use crate::drill::{SUPERVISOR, end, installed};
use crate::kinds::USES;
use crate::seldom;

/// What `doctor` says of a host that is well, and of one that is not.
pub(crate) const CASES: &[(&str, Case)] = &[
    (
        "doctor_names_what_is_broken_and_its_own_remedy_mends_it",
        doctor,
    ),
    (
        "doctor_names_what_is_broken_and_its_own_remedy_mends_it_with_systemd_257",
        |case, parts| doctor(case, &parts.newer()),
    ),
    (
        "doctor_names_what_is_met_seldom_and_its_own_remedy_mends_it",
        seldom,
    ),
    (
        "doctor_names_what_is_met_seldom_and_its_own_remedy_mends_it_with_systemd_257",
        |case, parts| seldom(case, &parts.newer()),
    ),
    ("doctor_mends_what_is_ours_and_nothing_else", fix),
    (
        "doctor_sees_the_rights_of_a_token_and_who_else_is_out",
        pools,
    ),
];

/// What speaks as it is told to.
const SPEAKS: &str = include_str!("../../programs/speaks.py");
/// The exit code of errors.
const UNSOUND: i32 = 6;
/// A unit of the host for each of the 200 of a large one.
const MANY: &str = "[Unit]\nDescription=One of many\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";

/// What is met more seldom, or needs more of a host.
fn seldom(case: &str, parts: &Parts) -> Result<()> {
    let site = installed(parts, &[Plain])?;
    let host = &site.hosts[0];
    host.write("/opt/lab/speaks.py", SPEAKS)?;
    programs::lay_identity(host)?;
    let count = all_mended(&site, seldom::ERRORS, seldom::WARNINGS)?;
    figures::note(case, &format!("{count} hosts named and mended"));
    Ok(())
}

/// Breaks the host in each of these ways, and mends it. How many they are.
fn all_mended(site: &Site, errors: &[Broken], warnings: &[Broken]) -> Result<usize> {
    let all = errors.iter().map(|broken| (broken, UNSOUND));
    let all = all.chain(warnings.iter().map(|broken| (broken, 0)));
    let mut faults = String::new();
    for (broken, expected) in all {
        // The rest is worth knowing, too.
        if let Err(error) = mended(site, broken, expected) {
            faults += &format!("\n{}: {error:#}", broken.how);
        }
    }
    ensure!(faults.is_empty(), "{faults}");
    Ok(errors.len() + warnings.len())
}

fn doctor(case: &str, parts: &Parts) -> Result<()> {
    let mut site = Site::start(parts, &[Plain], Tokens::Ignored)?;
    let host = site.first();
    host.write("/etc/systemd/system/many@.service", MANY)?;
    host.write("/opt/lab/uses.py", USES)?;
    host.exec(&[
        "sh",
        "-c",
        "systemctl daemon-reload; systemctl start $(seq -f many@%g 200)",
    ])?;
    product::install(host, parts)?;
    let host = &site.hosts[0];
    let begun = Instant::now();
    host.exec(&["systemctl", "show", "*"])?;
    let show = begun.elapsed();
    let begun = Instant::now();
    let (code, healthy) = examine(host)?;
    let took = begun.elapsed();
    let findings = healthy["findings"].as_array().context("no findings")?;
    ensure!(
        code == 0 && findings.is_empty(),
        "a healthy host: exit code {code}, {findings:#?}"
    );
    let count = all_mended(&site, ERRORS, WARNINGS)?;
    let (held, early) = predicted(&mut site)?;
    figures::note(
        case,
        &format!(
            "{count} hosts named and mended; a healthy one with 200 units more in {:.2} s (`systemctl show '*'`: {:.2} s); {held} units outlived the drain as predicted, {early} did not",
            took.as_secs_f64(),
            show.as_secs_f64(),
        ),
    );
    Ok(())
}

/// Breaks the host, reads what doctor says, does what it says, and looks again.
fn mended(site: &Site, broken: &Broken, expected: i32) -> Result<()> {
    let host = &site.hosts[0];
    let shell = |line: &str| host.exec(&["sh", "-c", &format!("{PLACES}{line}")]);
    shell(broken.how)?;
    let out_of = broken.check;
    let (code, report) = examine(host)?;
    let findings = &report["findings"];
    ensure!(code == expected, "{out_of}: exit code {code}: {findings:#}");
    ensure!(
        says(&report, broken.check, broken.says),
        "{out_of} ({}) is not among the findings: {findings:#}",
        broken.says
    );
    for finding in report["findings"].as_array().into_iter().flatten() {
        let mends = finding["mend"].as_array().map_or(0, Vec::len);
        ensure!(mends > 0, "without a remedy: {finding:#}");
    }
    if broken.by_hand.is_empty() {
        mend(host, &report)?;
    } else {
        shell(broken.by_hand)?;
    }
    // A pool takes a moment to say that the host is back.
    let clean = || {
        poll("a clean report", CONVERGE_LIMIT, || {
            let (code, report) = examine(host)?;
            let left = report["findings"].as_array().context("no findings")?;
            ensure!(code == 0 && left.is_empty(), "{left:#?}");
            Ok(Some(()))
        })
    };
    clean().with_context(|| format!("{out_of}: after its remedy"))?;
    if broken.afterwards.is_empty() {
        return Ok(());
    }
    shell(broken.afterwards)?;
    clean().with_context(|| format!("{out_of}: as it was before"))
}

fn fix(case: &str, parts: &Parts) -> Result<()> {
    let site = installed(parts, &[Plain])?;
    let host = &site.hosts[0];
    let foreign = "/etc/systemd/system/drain-connections.service.d/mine.conf";
    host.write(foreign, "[Service]\nTimeoutStopSec=40s\n")?;
    let config = host.exec(&["cat", CONFIG])?;
    let shell = "systemctl disable drain-connections-rejoin.service; sed -i '/^PartOf=/d; s/consul[.]service//' \
                 /etc/systemd/system/drain-connections.service; rm /etc/systemd/system/drain-connections.service.d/10-order.conf; \
                 systemctl daemon-reload; systemctl stop drain-connections.service; drainctl rejoin";
    host.exec(&["sh", "-c", shell])?;
    let (code, before) = examine(host)?;
    ensure!(code == UNSOUND, "not broken: {before:#}");
    let output = host.try_exec(&["drainctl", "doctor", "--fix"])?;
    let told = both(&output);
    ensure!(
        output.status.code() == Some(0) && told.contains("fix     drainctl install"),
        "{told}"
    );
    let (_, after) = examine(host)?;
    let left: Vec<_> = after["findings"].as_array().into_iter().flatten().collect();
    ensure!(
        left.len() == 1 && left[0]["check"] == "hook-drop-ins",
        "{left:#?}"
    );
    ensure!(
        host.path(foreign).exists() && host.exec(&["cat", CONFIG])? == config,
        "the administrator's files were touched"
    );
    let found = before["findings"].as_array().map_or(0, Vec::len);
    figures::note(case, &format!("{} of {found} findings mended", found - 1));
    Ok(())
}

fn pools(case: &str, parts: &Parts) -> Result<()> {
    let mut site = Site::start(parts, &[Plain, Plain], Tokens::Checked)?;
    // One token that may only read, one that may also write the node.
    let acl = "set -e; export CONSUL_HTTP_ADDR=http://10.77.0.2:8500; \
               M=$(consul acl bootstrap | sed -n 's/^SecretID: *//p'); export CONSUL_HTTP_TOKEN=$M; \
               for right in read write; do \
                 consul acl policy create -name $right -rules \"node_prefix \\\"\\\" { policy = \\\"$right\\\" } \
                   service_prefix \\\"\\\" { policy = \\\"read\\\" }\" >/dev/null; \
                 consul acl token create -policy-name $right | sed -n 's/^SecretID: *//p' > /etc/drainctl/$right; \
               done; chmod 600 /etc/drainctl/*; cp -p /etc/drainctl/write /etc/drainctl/token";
    let host = site.first();
    host.write(
        CONFIG,
        "[pool.consul]\ntoken_file = \"/etc/drainctl/token\"\n",
    )?;
    host.exec(&["sh", "-c", acl])?;
    product::install(host, parts)?;
    let use_token = |host: &Host, right: &str| {
        host.exec(&[
            "cp",
            "-p",
            &format!("/etc/drainctl/{right}"),
            "/etc/drainctl/token",
        ])
    };
    let host = &site.hosts[0];
    let clean = |host: &Host| {
        let (code, report) = examine(host)?;
        let left = report["findings"].as_array().context("no findings")?;
        ensure!(code == 0 && left.is_empty(), "exit code {code}: {left:#?}");
        Ok(Some(()))
    };
    poll("a healthy host", CONVERGE_LIMIT, || clean(host))?;
    use_token(host, "read")?;
    let (code, report) = examine(host)?;
    ensure!(
        code == UNSOUND && finds(&report, "pool-rights"),
        "{code}: {report:#}"
    );
    let text = report.to_string();
    ensure!(text.contains("node:write"), "{report:#}");
    use_token(host, "write")?;
    poll("mended", CONVERGE_LIMIT, || clean(host))?;
    site.hosts[1].exec(&["sh", "-c", "consul maint -enable -reason 'a new disk'"])?;
    site.consul.wait_passing(SECOND, false, CONVERGE_LIMIT)?;
    let (_, report) = examine(host)?;
    ensure!(
        finds(&report, "pool-last") && report.to_string().contains("a new disk"),
        "{report:#}"
    );
    let output = host.try_exec(&["drainctl", "rehearse"])?;
    ensure!(
        both(&output).contains("last healthy one"),
        "{}",
        both(&output)
    );
    site.hosts[1].exec(&["consul", "maint", "-disable"])?;
    site.consul.wait_passing(SECOND, true, CONVERGE_LIMIT)?;
    poll("mended", CONVERGE_LIMIT, || clean(host))?;
    figures::note(
        case,
        "a token without rights, and the last healthy host, named and mended",
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
    says(report, check, "")
}

/// Whether a check has found something that it tells in words of which `part` is one.
fn says(report: &Value, check: &str, part: &str) -> bool {
    let mut findings = report["findings"].as_array().into_iter().flatten();
    let what = |finding: &Value| finding["what"].as_str().unwrap_or_default().to_owned();
    findings.any(|finding| finding["check"] == check && what(finding).contains(part))
}

/// Does all that the report says, as an operator would paste it: what stands there twice once.
fn mend(host: &Host, report: &Value) -> Result<()> {
    let mut done = Vec::new();
    let findings = report["findings"].as_array().into_iter().flatten();
    for mend in findings
        .filter_map(|finding| finding["mend"].as_array())
        .flatten()
    {
        if done.contains(&mend) {
            continue;
        }
        done.push(mend);
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
