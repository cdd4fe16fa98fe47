//! The report, for people.

use std::io::{self, Write};
use std::time::Duration;

use super::{Facts, Found, Mend, Section, Severity, chain, first_to_cut};
use crate::pools::Peers;
use crate::report::age;

/// Writes the findings, and one line for each section without any; with `all` also the time limits, which stand below a finding about them
/// anyway, who else is out of the pools, and the order of the stop.
///
/// # Errors
/// What the system says.
pub fn print(facts: &Facts, found: &[Found], all: bool, out: &mut dyn Write) -> io::Result<()> {
    for section in Section::ALL {
        let (name, about) = section.about();
        let mut own = found
            .iter()
            .filter(|found| found.section == section)
            .peekable();
        if own.peek().is_none() {
            writeln!(out, "{name:<8} ok       {about}")?;
        }
        let mut off = false;
        for found in own {
            finding(name, found, out)?;
            off |= found.finding.severity > Severity::Info;
        }
        if (all || off) && section == Section::Limits {
            limits(facts, out)?;
        }
        if all && section == Section::Pools {
            others(facts, out)?;
        }
        if all && section == Section::Order {
            let list = |names: &std::collections::BTreeSet<String>| {
                names.iter().cloned().collect::<Vec<_>>().join(" ")
            };
            writeln!(
                out,
                "{:17} outlive the drain: {}",
                "",
                list(&facts.order.outlive)
            )?;
            writeln!(
                out,
                "{:17} may stop at once:  {}",
                "",
                list(&facts.order.may_stop)
            )?;
        }
    }
    Ok(())
}

fn finding(section: &str, found: &Found, out: &mut dyn Write) -> io::Result<()> {
    let severity = match found.finding.severity {
        Severity::Error => "ERROR",
        Severity::Warning => "warning",
        Severity::Info => "note",
    };
    writeln!(out, "{section:<8} {severity:<8} {}", found.finding.what)?;
    for seen in &found.finding.seen {
        let equals = if seen.property.is_empty() {
            format!("{}: {}", seen.of, seen.value)
        } else {
            format!("{}: {}={}", seen.of, seen.property, seen.value)
        };
        writeln!(out, "{:17} seen  {}", "", equals.replace('\n', "; "))?;
    }
    for mend in &found.finding.mend {
        match mend {
            Mend::Run(command) => writeln!(out, "{:17} run   {command}", "")?,
            Mend::Set { file, lines } => {
                writeln!(out, "{:17} set   in {file}:", "")?;
                for line in lines {
                    writeln!(out, "{:17}       {line}", "")?;
                }
            }
            Mend::Hand(what) => writeln!(out, "{:17} mend  {what}", "")?,
        }
    }
    Ok(())
}

fn limits(facts: &Facts, out: &mut dyn Write) -> io::Result<()> {
    for limit in chain(facts) {
        let time = match limit.time {
            None => "unknown".to_owned(),
            Some(Duration::MAX) => "no limit".to_owned(),
            Some(time) => age(time),
        };
        writeln!(out, "{:17} {:<38} {time:<14} {}", "", limit.what, limit.set)?;
    }
    if let Some(cut) = first_to_cut(facts) {
        writeln!(
            out,
            "{:17} first to cut a request: {} after {} ({})",
            "",
            cut.by,
            age(cut.after),
            cut.set
        )?;
    }
    Ok(())
}

/// Who else is behind the pools.
fn others(facts: &Facts, out: &mut dyn Write) -> io::Result<()> {
    for (said, closely) in facts.around.peers.iter().zip(&facts.around.closely) {
        if let Some(Peers::Others { healthy, of, .. }) = &said.peers {
            writeln!(out, "{:17} {}: {healthy} others serve {of}", "", said.name)?;
        }
        let absent = closely.iter().flat_map(|closely| &closely.absent);
        for one in absent.filter(|one| !one.here) {
            let how = if one.on_purpose { "taken out" } else { "fails" };
            writeln!(
                out,
                "{:17} {}: {} {how}: {}",
                "", said.name, one.name, one.why
            )?;
        }
    }
    Ok(())
}
