//! The last drain, and what all of them came to, as an OpenMetrics text that node_exporter's textfile collector reads too. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::full::phases;
use crate::drain::Outcome;
use crate::drain::event::Report;
use crate::drain::outcome::Count;
use crate::receipts::Totals;

/// Collects the text, family by family.
#[derive(Default)]
struct Text(String);

impl Text {
    /// A family's head. `unit` is the end of its name, or nothing.
    fn family(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", escape(value)))
            .collect();
        let labels = match labels.join(",") {
            none if none.is_empty() => none,
            some => format!("{{{some}}}"),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, unit: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", unit, help);
        self.sample(name, &[], value);
    }
}

/// The text. `last`: the newest drain that has ended.
#[must_use]
pub fn text(last: Option<&Report>, totals: &Totals) -> String {
    let mut text = Text::default();
    text.family(
        "drainctl_drains",
        "counter",
        "",
        "Drains that have ended, by outcome.",
    );
    for outcome in ended() {
        let name = outcome.to_string();
        let count = totals.drains.get(&name).copied().unwrap_or_default();
        text.sample("drainctl_drains_total", &[("outcome", &name)], count);
    }
    text.family(
        "drainctl_requests_cut",
        "counter",
        "",
        "Requests that were in flight when a drain ended, as far as they could be seen.",
    );
    text.sample("drainctl_requests_cut_total", &[], totals.cut);
    if let Some(last) = last {
        last_drain(&mut text, last);
    }
    text.0.push_str("# EOF\n");
    text.0
}

fn ended() -> impl Iterator<Item = Outcome> {
    Outcome::ALL
        .into_iter()
        .filter(|outcome| *outcome != Outcome::Unfinished)
}

fn last_drain(text: &mut Text, last: &Report) {
    text.gauge(
        "drainctl_last_drain_timestamp_seconds",
        "seconds",
        "When the last drain began, since the epoch.",
        millis(
            Duration::try_from(last.began.duration_since(jiff::Timestamp::UNIX_EPOCH))
                .unwrap_or_default(),
        ),
    );
    text.gauge(
        "drainctl_last_drain_duration_seconds",
        "seconds",
        "How long it took.",
        millis(last.took),
    );
    text.gauge(
        "drainctl_last_drain_limit_seconds",
        "seconds",
        "The most it might have taken.",
        millis(last.limit),
    );
    let name = "drainctl_last_drain_phase_seconds";
    text.family(
        name,
        "gauge",
        "seconds",
        "How long each of its phases took.",
    );
    let mut sums: Vec<(String, Duration)> = Vec::new();
    for (_, (phase, took)) in phases(last) {
        // A drain that was taken over has some of them twice.
        match sums.iter_mut().find(|(name, _)| *name == phase.to_string()) {
            Some((_, sum)) => *sum += took,
            None => sums.push((phase.to_string(), took)),
        }
    }
    for (phase, took) in &sums {
        text.sample(name, &[("phase", phase)], millis(*took));
    }
    let name = "drainctl_last_drain_outcome";
    text.family(
        name,
        "gauge",
        "",
        "1 for how it ended, 0 for every other way.",
    );
    let cause = last.cause.to_string();
    for outcome in ended() {
        let labels = [("cause", cause.as_str()), ("outcome", &outcome.to_string())];
        text.sample(name, &labels, u8::from(outcome == last.outcome));
    }
    text.gauge(
        "drainctl_last_drain_exit_code",
        "",
        "Its exit code: 0 is good, 3 the deadline, 4 a pool that could not be left.",
        last.exit,
    );
    let cut = match last.requests_cut() {
        Count::Exactly(n) => n.to_string(),
        Count::Unknown => "NaN".to_owned(),
    };
    text.gauge(
        "drainctl_last_drain_requests_cut",
        "",
        "Requests in flight when it ended, but where it was undone; NaN where they could not be seen.",
        cut,
    );
    text.gauge(
        "drainctl_last_drain_requests_in_flight_max",
        "",
        "The most that were in flight at once.",
        last.most_in_flight,
    );
    text.gauge(
        "drainctl_last_drain_arrivals",
        "",
        "Connections and requests that arrived after the pools were left.",
        last.arrived_in_settle,
    );
    let longest = last
        .waited
        .first()
        .map_or(Duration::ZERO, |wait| wait.held());
    text.gauge(
        "drainctl_last_drain_longest_wait_seconds",
        "seconds",
        "The longest that it waited for one request.",
        millis(longest),
    );
    let name = "drainctl_last_drain_pool_out";
    if !last.pools.is_empty() {
        text.family(
            name,
            "gauge",
            "",
            "1 where the pool itself said that this host is out.",
        );
    }
    for pool in &last.pools {
        let labels = [("pool", pool.name.as_str()), ("type", pool.kind.as_str())];
        text.sample(name, &labels, u8::from(pool.out.is_some()));
    }
}

/// Seconds, to the millisecond.
fn millis(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

/// A label's value.
fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', r#"\""#)
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::report::sample::{largest, sample};

    fn totals() -> Totals {
        let mut totals = Totals::default();
        totals.drains.insert("drained".to_owned(), 7);
        totals.cut = 3;
        totals
    }

    #[test]
    fn the_last_drain_and_all_of_them() {
        insta::assert_snapshot!(text(Some(&sample()), &totals()));
    }

    #[test]
    fn nothing_is_known_before_the_first() {
        let text = text(None, &Totals::default());
        assert!(
            text.contains("drainctl_drains_total{outcome=\"drained\"} 0\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    /// What the reference parser of OpenMetrics, and the one of the older format that node_exporter reads, make of it.
    #[test]
    fn both_parsers_take_it() {
        const PARSE: &str = "\
import sys
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as new
    from prometheus_client.parser import text_string_to_metric_families as old
except ImportError:
    print('missing'); sys.exit(0)
text = sys.stdin.read()
for family in new(text):
    print(family.name, family.type, family.unit or '-', len(family.samples))
print(sum(len(family.samples) for family in old(text)), 'in the older format')
";
        let mut evil = sample();
        evil.pools[0].name = "a\"b\\c\nd{}".to_owned();
        evil.in_flight = Count::Unknown;
        let mut nothing = sample();
        nothing.pools.clear();
        nothing.phases.clear();
        for (name, report) in [
            ("sample", sample()),
            ("largest", largest()),
            ("evil", evil),
            ("nothing", nothing),
        ] {
            let text = text(Some(&report), &totals());
            let parser = Command::new("/usr/bin/python3")
                .args(["-c", PARSE])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            let Ok(mut parser) = parser else {
                eprintln!("SKIPPED both_parsers_take_it: needs python3");
                return;
            };
            let mut input = parser.stdin.take().unwrap();
            input.write_all(text.as_bytes()).unwrap();
            drop(input);
            let output = parser.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            if said.trim() == "missing" {
                eprintln!("SKIPPED both_parsers_take_it: needs python3-prometheus-client");
                return;
            }
            assert!(
                output.status.success(),
                "{name}: {}\n{text}",
                String::from_utf8_lossy(&output.stderr)
            );
            let drains = format!("drainctl_drains counter - {}\n", ended().count());
            assert!(said.contains(&drains), "{said}");
            assert!(
                said.contains("drainctl_last_drain_duration_seconds gauge seconds 1\n"),
                "{said}"
            );
            let samples = text.lines().filter(|line| !line.starts_with('#')).count();
            assert!(
                said.ends_with(&format!("{samples} in the older format\n")),
                "{said}"
            );
        }
    }
}
