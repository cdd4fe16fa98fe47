//! A kept report as people read it on a terminal, and the list of all. Pure.

use std::time::Duration;

use super::words::{age, bytes, cause, headline, short};
use crate::drain::curve::Curve;
use crate::drain::event::{Phase, Report};
use crate::drain::waits::Wait;

/// So many of what was waited for, and of what was cut, are named; `--json` has all that is kept.
const NAMED: usize = 20;
/// The curve of what was in flight has so many columns.
const COLUMNS: usize = 56;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The whole story, a line each. `running`: the drain goes on.
#[must_use]
pub fn lines(report: &Report, running: bool) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}  {}",
            report.began.strftime("%Y-%m-%d %H:%M:%S UTC"),
            report.id
        ),
        first(report, running),
        String::new(),
    ];
    for (at, phase) in phases(report) {
        let arrived = match phase {
            (Phase::Settling, _) => format!(", {} new", report.arrived_in_settle),
            _ => String::new(),
        };
        lines.push(format!(
            "{:<9} {:<9} from {:>9}{arrived}",
            phase.0.to_string(),
            short(phase.1),
            short(at)
        ));
    }
    lines.extend(pools(report));
    let curve = sparkline(&report.curve, report.took);
    if !curve.is_empty() {
        let last = report.last_busy.map(short).unwrap_or_default();
        lines.push(format!(
            "in flight {curve} at most {}",
            report.most_in_flight
        ));
        lines.push(match report.last_busy {
            Some(_) => format!("          the last seen after {last}"),
            None => "          none was seen".to_owned(),
        });
    }
    lines.extend(waited(report));
    lines.extend(cut(report));
    lines.extend(report.notes.iter().map(|note| format!("note      {note}")));
    lines
}

fn first(report: &Report, running: bool) -> String {
    let why = cause(report.cause);
    let (took, limit) = (short(report.took), age(report.limit));
    if report.is_finished() {
        format!("{} in {took} of at most {limit} ({why})", headline(report))
    } else if running {
        format!("still running; this is what was known after {took} of at most {limit} ({why})")
    } else {
        format!(
            "{}, after at least {took} of at most {limit} ({why})",
            headline(report)
        )
    }
}

/// Each phase with when it began and how long it took.
#[must_use]
pub fn phases(report: &Report) -> Vec<(Duration, (Phase, Duration))> {
    let ends = report.phases.iter().skip(1).map(|(_, at)| *at);
    report
        .phases
        .iter()
        .zip(ends.chain([report.took]))
        .map(|((phase, at), end)| (*at, (*phase, end.saturating_sub(*at))))
        .collect()
}

fn pools(report: &Report) -> impl Iterator<Item = String> {
    report.pools.iter().map(|pool| {
        let asked = pool.asked.map_or("never asked".to_owned(), |at| {
            format!("asked after {}", short(at))
        });
        let out = match (&pool.out, &pool.error) {
            (Some(at), _) => format!("out after {}, it says so itself", short(*at)),
            (None, Some(error)) => format!("NOT LEFT: {error}"),
            (None, None) => "NOT LEFT".to_owned(),
        };
        format!("pool      {} ({}): {asked}, {out}", pool.name, pool.kind)
    })
}

fn waited(report: &Report) -> Vec<String> {
    let named: Vec<&Wait> = report.waited.iter().take(NAMED).collect();
    let mut lines: Vec<String> = named
        .iter()
        .map(|wait| {
            let cut = if wait.open { ", not finished" } else { "" };
            format!(
                "waited    {:<9} {}  {}: {}{cut}",
                short(wait.held()),
                wait.program,
                wait.peer,
                wait.verdict
            )
        })
        .collect();
    let kept = u64::try_from(report.waited.len() - named.len()).unwrap_or(u64::MAX);
    let more = kept.saturating_add(report.waited_more);
    if more > 0 {
        lines.push(format!("          and {more} for less long"));
    }
    lines
}

fn cut(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report
        .cut
        .iter()
        .take(NAMED)
        .map(|held| {
            format!(
                "cut       {}  {}  {}, {} in, {} out: {}",
                held.program,
                held.peer,
                age(held.age),
                bytes(held.received),
                bytes(held.sent),
                held.verdict
            )
        })
        .collect();
    let named = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    let more = report.in_flight.known().saturating_sub(named);
    if !lines.is_empty() && more > 0 {
        lines.push(format!("          and {more} more"));
    }
    lines
}

/// What was in flight, from the beginning to the end: `▇▇█▃▁ ` with a space for none and `?` for unknown.
fn sparkline(curve: &Curve, took: Duration) -> String {
    let most = curve.points.iter().filter_map(|point| point.busy).max();
    let Some(most) = most.filter(|most| *most > 0) else {
        return String::new();
    };
    let columns = u32::try_from(COLUMNS).unwrap_or(u32::MAX);
    let width = took / columns;
    (0..columns)
        .map(|column| {
            let (from, to) = (width * column, width * (column + 1));
            // What held at its beginning, and what came in it.
            let before = curve.points.iter().rev().find(|point| point.at <= from);
            let within = curve
                .points
                .iter()
                .filter(|point| point.at > from && point.at < to);
            let seen: Vec<Option<u64>> = before.into_iter().chain(within).map(|p| p.busy).collect();
            match seen.iter().copied().collect::<Option<Vec<u64>>>() {
                None => '?',
                Some(busy) => match busy.into_iter().max().unwrap_or_default() {
                    0 => ' ',
                    busy => {
                        let top = u128::from(busy) * 8;
                        let step = usize::try_from(top.div_ceil(u128::from(most))).unwrap_or(8);
                        BARS[step.clamp(1, 8) - 1]
                    }
                },
            }
        })
        .collect()
}

/// The list of reports, a line each, newest first.
#[must_use]
pub fn list(reports: &[Report]) -> Vec<String> {
    let row = |id: &str, took: &str, outcome: &str, cause: &str| {
        format!("{id:<26} {took:>10}  {outcome:<22} {cause}")
    };
    let mut lines = vec![row("ID, BY TIME (UTC)", "TOOK", "OUTCOME", "CAUSE")];
    lines.extend(reports.iter().rev().map(|report| {
        let outcome = match report.requests_cut().known() {
            0 => report.outcome.to_string(),
            cut => format!("{}, {cut} cut", report.outcome),
        };
        row(
            &report.id,
            &short(report.took),
            &outcome,
            &report.cause.to_string(),
        )
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Outcome;
    use crate::report::sample::{largest, ms, sample};

    #[test]
    fn the_whole_story_on_a_terminal() {
        insta::assert_snapshot!(lines(&sample(), false).join("\n"));
    }

    #[test]
    fn a_killed_drain_is_said_to_have_ended_without_a_word_and_a_running_one_to_run() {
        let report = Report {
            outcome: Outcome::Unfinished,
            took: ms(9_000),
            ..sample()
        };
        let said = lines(&report, false)[1].clone();
        assert_eq!(
            said,
            "ENDED WITHOUT A WORD: killed, or the power went, after at least 9.0 s of at most 1 min 0 s (poweroff)"
        );
        assert!(lines(&report, true)[1].starts_with("still running"));
    }

    #[test]
    fn the_largest_is_short_enough_to_be_read() {
        assert!(lines(&largest(), false).len() < 250);
    }

    #[test]
    fn a_list_has_the_newest_first() {
        let old = Report {
            id: "20250101T000000000-1".to_owned(),
            outcome: Outcome::Drained,
            in_flight: crate::drain::outcome::Count::Exactly(0),
            ..sample()
        };
        insta::assert_snapshot!(list(&[old, sample()]).join("\n"));
    }
}
