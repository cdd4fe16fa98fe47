//! The report, for people.

use std::io::{self, Write};
use std::time::Duration;

use super::{Facts, Found, Mend, Section, Severity, chain};
use crate::report::age;

/// Writes the findings, and one line for each section without any; with `all` also the time limits and the order of the stop.
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
        for found in own {
            finding(name, found, out)?;
        }
        if all && section == Section::Limits {
            limits(facts, out)?;
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
    Ok(())
}
