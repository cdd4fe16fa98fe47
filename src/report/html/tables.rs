//! What the timeline does not say in words: phases, pools, requests, notes.

use super::escape;
use crate::drain::event::Report;
use crate::report::full;
use crate::report::words::{bytes, short};

/// So many requests are named in each table.
const MOST: usize = 50;

pub(super) fn tables(report: &Report) -> String {
    [
        table(
            "Phases",
            &["Phase", "Began after", "Took"],
            phases(report),
            String::new(),
        ),
        table(
            "Pools",
            &["Pool", "Asked after", "Out after"],
            pools(report),
            String::new(),
        ),
        cut(report),
        waited(report),
        notes(report),
    ]
    .concat()
}

/// One cell: its class, and what is in it.
type Cell = (&'static str, String);

fn text(value: &str) -> Cell {
    ("", escape(value))
}

fn number(value: &str) -> Cell {
    ("n", escape(value))
}

fn table(title: &str, heads: &[&str], rows: Vec<Vec<Cell>>, more: String) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head: String = heads
        .iter()
        .zip(&rows[0])
        .map(|(head, (class, _))| format!("<th scope=\"col\" class=\"{class}\">{head}</th>"))
        .collect();
    let body: String = rows
        .iter()
        .map(|row| {
            let cells: String = row
                .iter()
                .zip(heads)
                .map(|((class, value), head)| {
                    format!("<td class=\"{class}\" data-head=\"{head}\">{value}</td>")
                })
                .collect();
            format!("<tr>{cells}</tr>\n")
        })
        .collect();
    let more = if more.is_empty() {
        more
    } else {
        format!("<p class=\"more\">{}</p>\n", escape(&more))
    };
    let many = if heads.len() > 3 {
        " class=\"many\""
    } else {
        ""
    };
    format!(
        "<section>\n<h2>{title}</h2>\n<table{many}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n{more}</section>\n"
    )
}

fn phases(report: &Report) -> Vec<Vec<Cell>> {
    full::phases(report)
        .iter()
        .map(|(at, (phase, took))| {
            vec![
                text(&phase.to_string()),
                number(&short(*at)),
                number(&short(*took)),
            ]
        })
        .collect()
}

fn pools(report: &Report) -> Vec<Vec<Cell>> {
    report
        .pools
        .iter()
        .map(|pool| {
            let out = match (&pool.out, &pool.error) {
                (Some(out), _) => short(*out),
                (None, Some(error)) => format!("not left: {error}"),
                (None, None) => "not left".to_owned(),
            };
            let name = if pool.name == pool.kind {
                pool.name.clone()
            } else {
                format!("{} ({})", pool.name, pool.kind)
            };
            vec![
                text(&name),
                number(&pool.asked.map_or("never".to_owned(), short)),
                if pool.out.is_some() {
                    number(&out)
                } else {
                    ("n failed", escape(&out))
                },
            ]
        })
        .collect()
}

const HEADS: [&str; 6] = ["Program", "Peer", "Under way", "In", "Out", "Why it held"];

fn cut(report: &Report) -> String {
    let rows: Vec<Vec<Cell>> = report
        .cut
        .iter()
        .take(MOST)
        .map(|held| {
            vec![
                text(&held.program),
                text(&held.peer.to_string()),
                number(&short(held.age)),
                number(&bytes(held.received)),
                number(&bytes(held.sent)),
                text(&held.verdict.to_string()),
            ]
        })
        .collect();
    let named = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let more = match report.in_flight.known().saturating_sub(named) {
        0 => String::new(),
        more => format!(
            "and {more} more that were younger; drainctl report --json names those that are kept"
        ),
    };
    table("In flight at the end", &HEADS, rows, more)
}

fn waited(report: &Report) -> String {
    let rows: Vec<Vec<Cell>> = report
        .waited
        .iter()
        .take(MOST)
        .map(|wait| {
            vec![
                text(&wait.program),
                text(&wait.peer.to_string()),
                number(&short(wait.held())),
                number(&bytes(wait.received)),
                number(&bytes(wait.sent)),
                text(&wait.verdict.to_string()),
            ]
        })
        .collect();
    let kept = u64::try_from(report.waited.len() - rows.len()).unwrap_or(u64::MAX);
    let more = match kept.saturating_add(report.waited_more) {
        0 => String::new(),
        more => format!(
            "and {more} more, each for less long; drainctl report --json names those that are kept"
        ),
    };
    let heads = [
        "Program",
        "Peer",
        "Waited",
        "In",
        "Out",
        "Why it held, last",
    ];
    table("Waited for longest", &heads, rows, more)
}

fn notes(report: &Report) -> String {
    if report.notes.is_empty() && report.units.is_empty() {
        return String::new();
    }
    let mut items: Vec<String> = report
        .notes
        .iter()
        .map(|note| format!("<li>{}</li>\n", escape(note)))
        .collect();
    if !report.units.is_empty() {
        items.push(format!(
            "<li>Watched: {}</li>\n",
            escape(&report.units.join(", "))
        ));
    }
    format!(
        "<section>\n<h2>Notes</h2>\n<ul class=\"notes\">\n{}</ul>\n</section>\n",
        items.concat()
    )
}
