//! Pools and requests, a bar each on the same line of time. In pieces, so that paper can be turned between them.

use std::time::Duration;

use super::plot::{axis, bands};
use super::{Scale, escape};
use crate::drain::event::{Phase, PoolReport, Report};
use crate::drain::waits::Wait;
use crate::report::words::{bytes, short};
use crate::text::middle_cut;

/// So many requests have a bar.
const MOST_ROWS: usize = 100;
/// So many pools.
const MOST_POOLS: usize = 16;
/// So many rows hang together on paper.
const PIECE: usize = 12;
/// A row's height in pixels: a line of text, and the bar below it.
const ROW: u32 = 34;
const AXIS: u32 = 26;
/// What fits beside the time on a page of 400 pixels, and on one of 640 or on paper, in characters.
const NARROW: usize = 36;
const WIDE: usize = 60;

/// The figures, with what they leave out.
pub(super) fn rows(report: &Report, scale: &Scale) -> String {
    let mut html = String::new();
    let pools: Vec<String> = report
        .pools
        .iter()
        .take(MOST_POOLS)
        .map(|pool| pool_row(pool, report, scale))
        .collect();
    if !pools.is_empty() {
        html.push_str(&figure(
            "Pools: from being asked until out",
            &pools,
            report,
            scale,
        ));
        let more = report.pools.len() - pools.len();
        if more > 0 {
            html.push_str(&format!(
                "<p class=\"more\">and {more} more pools, named below</p>\n"
            ));
        }
    }
    let mut shown: Vec<&Wait> = report.waited.iter().take(MOST_ROWS).collect();
    shown.sort_by_key(|wait| (wait.from(), wait.until));
    let settled = report
        .phases
        .iter()
        .find(|(phase, _)| *phase == Phase::Settling)
        .map(|(_, at)| *at);
    let waits: Vec<String> = shown
        .iter()
        .map(|wait| wait_row(wait, settled, report, scale))
        .collect();
    if !waits.is_empty() {
        let title = "Requests that were waited for, by their beginning";
        html.push_str(&figure(title, &waits, report, scale));
        html.push_str(&format!(
            "<p class=\"more\">{}</p>\n",
            escape(&remainder(report, shown.len()))
        ));
    }
    html
}

/// What the bars mean, and which requests have none.
fn remainder(report: &Report, shown: usize) -> String {
    let kept = u64::try_from(report.waited.len() - shown).unwrap_or(u64::MAX);
    let more = kept.saturating_add(report.waited_more);
    let mut text =
        "A diamond: it began after the pools were left. A stop in red: it was cut.".to_owned();
    if more > 0 {
        text.push_str(&format!(
            " These {shown} were waited for longest; {more} more were followed, each for less long."
        ));
    }
    let named = u64::try_from(report.waited.len()).unwrap_or(u64::MAX);
    if report.most_in_flight > named.saturating_add(report.waited_more) {
        text.push_str(&format!(
            " At most {} were in flight at once: only the oldest are followed one by one.",
            report.most_in_flight
        ));
    }
    text
}

fn figure(title: &str, rows: &[String], report: &Report, scale: &Scale) -> String {
    let mut html = format!("<h3>{title}</h3>\n<div class=\"rows\">\n");
    let pieces = rows.chunks(PIECE).count();
    for (n, piece) in rows.chunks(PIECE).enumerate() {
        let body = u32::try_from(piece.len()).unwrap_or_default() * ROW + 6;
        let last = n + 1 == pieces;
        let height = if last { body + AXIS } else { body };
        html.push_str(&format!(
            "<svg class=\"plot\" height=\"{height}\" role=\"img\" aria-label=\"{title}, part {} of {pieces}\">\n{}{}{}</svg>\n",
            n + 1,
            bands(report, scale, body),
            placed(piece),
            if last { axis(scale, body) } else { String::new() }
        ));
    }
    html + "</div>\n"
}

/// One below the other.
fn placed(rows: &[String]) -> String {
    (0..)
        .step_by(ROW as usize)
        .zip(rows)
        .map(|(y, row)| {
            format!(
                "<svg y=\"{y}\" width=\"100%\" height=\"{ROW}\" overflow=\"visible\">{row}</svg>\n"
            )
        })
        .collect()
}

/// The text of a row and its bar; `right` is a time.
fn row(title: &str, name: (&str, &str), right: &str, bar: &str) -> String {
    let text = |class: &str, most: usize| {
        let end = middle_cut(
            name.1,
            most.saturating_sub(name.0.chars().count().min(most / 3) + 1),
        );
        let begin = middle_cut(name.0, most.saturating_sub(end.chars().count() + 1));
        format!(
            "<text class=\"{class}\" x=\"0\" y=\"17\"><tspan class=\"who\">{}</tspan> {}</text>",
            escape(&begin),
            escape(&end)
        )
    };
    format!(
        "<title>{}</title>{}{}\
         <text class=\"time\" x=\"100%\" y=\"17\" text-anchor=\"end\">{}</text>{bar}",
        escape(title),
        text("label wide", WIDE),
        text("label narrow", NARROW),
        escape(right)
    )
}

fn wait_row(wait: &Wait, settled: Option<Duration>, report: &Report, scale: &Scale) -> String {
    let (from, until) = (wait.from(), wait.until);
    let late = settled.is_some_and(|settled| from > settled);
    let open = if !wait.open {
        ""
    } else if report.cuts() {
        "; cut"
    } else if report.is_finished() {
        "; not finished then"
    } else {
        "; last seen in flight"
    };
    let before = match wait.age.saturating_sub(wait.until) {
        Duration::ZERO => String::new(),
        before => format!(", begun {} before the drain", short(before)),
    };
    let title = format!(
        "{} {} → {}: {} under way{before}, {} in, {} out, {}{open}",
        wait.program,
        wait.peer,
        wait.local,
        short(wait.age),
        bytes(wait.received),
        bytes(wait.sent),
        wait.verdict
    );
    let (x1, x2) = (scale.at(from), scale.at(until));
    let mut bar = format!(
        "<line class=\"bar {}\" x1=\"{x1}\" x2=\"{x2}\" y1=\"27\" y2=\"27\"/>",
        scale.colour(&wait.program)
    );
    if late {
        bar.push_str(&format!(
            "<svg x=\"{x1}\" y=\"27\" overflow=\"visible\"><path class=\"late\" d=\"M0-5L5 0L0 5L-5 0Z\"/></svg>"
        ));
    }
    if wait.open && report.cuts() {
        bar.push_str(&format!(
            "<line class=\"cut\" x1=\"{x2}\" x2=\"{x2}\" y1=\"21\" y2=\"33\"/>"
        ));
    }
    let name = (wait.program.as_str(), wait.peer.to_string());
    row(&title, (name.0, &name.1), &short(wait.held()), &bar)
}

fn pool_row(pool: &PoolReport, report: &Report, scale: &Scale) -> String {
    let asked = pool.asked.unwrap_or_default();
    let (right, end, class) = match (pool.out, pool.asked) {
        (Some(out), _) => (short(out), out, "pool"),
        (None, _) => ("not left".to_owned(), report.took, "pool failed"),
    };
    let error = pool.error.as_deref().unwrap_or_default();
    let title = match (pool.asked, pool.out) {
        (_, Some(out)) => format!(
            "{}: asked after {}, out after {}",
            pool.name,
            short(asked),
            short(out)
        ),
        (asked, None) => {
            let asked = asked.map_or("never asked".to_owned(), |at| {
                format!("asked after {}", short(at))
            });
            format!("{}: {asked}, not left: {error}", pool.name)
        }
    };
    let bar = format!(
        "<line class=\"bar {class}\" x1=\"{}\" x2=\"{}\" y1=\"27\" y2=\"27\"/>",
        scale.at(asked),
        scale.at(end)
    );
    row(&title, (&pool.name, &pool.kind), &right, &bar)
}
