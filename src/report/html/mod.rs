//! A kept report as one page that needs nothing else: no script, no request, light and dark, readable on paper. Pure.

#[cfg(test)]
mod browser;
mod plot;
mod rows;
mod tables;

use std::time::Duration;

use super::words::{age, headline, short};
use crate::drain::Outcome;
use crate::drain::event::Report;
use crate::drain::outcome::Count;
use crate::text::one_line;

const STYLE: &str = include_str!("style.css");
/// So many programs have a colour of their own; the others share one.
const COLOURS: usize = 6;
/// A text is no longer, in characters.
const MOST_TEXT: usize = 600;

/// The whole page. `running`: the drain goes on.
#[must_use]
pub fn page(report: &Report, running: bool) -> String {
    let scale = Scale::of(report);
    let host = if report.host.is_empty() {
        "this host"
    } else {
        &report.host
    };
    let (mood, verdict) = verdict(report, running);
    [
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <link rel=\"icon\" href=\"data:,\">\n<title>{}: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
            escape(host),
            escape(&verdict)
        ),
        format!(
            "<header class=\"{mood}\">\n<p class=\"eyebrow\">Drain of <b>{}</b></p>\n<h1>{}</h1>\n<p class=\"when\">{} · <time datetime=\"{}\">{}</time></p>\n</header>\n",
            escape(host),
            escape(&verdict),
            escape(super::words::cause(report.cause)),
            report.began,
            report.began.strftime("%-d %B %Y, %H:%M:%S UTC"),
        ),
        figures(report),
        format!(
            "<section>\n<h2>Timeline</h2>\n{}{}{}</section>\n",
            legend(report, &scale),
            plot::plot(report, &scale),
            rows::rows(report, &scale)
        ),
        tables::tables(report),
        format!(
            "</main>\n<footer>{} · drainctl {} · exit code {} · <code>drainctl report {}</code></footer>\n</body>\n</html>\n",
            escape(headline(report)),
            env!("CARGO_PKG_VERSION"),
            report.exit,
            escape(&report.id)
        ),
    ]
    .concat()
}

/// Where a time lies from left to right, and which colour a program has.
struct Scale {
    took: Duration,
    programs: Vec<String>,
}

impl Scale {
    fn of(report: &Report) -> Self {
        Self {
            took: report.took.max(Duration::from_millis(1)),
            programs: report.curve.programs.clone(),
        }
    }

    /// In thousandths of the whole, which are what an SVG's percentages are written in.
    fn at(&self, time: Duration) -> String {
        let share = time.min(self.took).as_secs_f64() / self.took.as_secs_f64();
        format!("{:.3}%", share * 100.0)
    }

    /// The share of the whole that lies between, from 0 to 1.
    fn share(&self, from: Duration, to: Duration) -> f64 {
        to.min(self.took).saturating_sub(from).as_secs_f64() / self.took.as_secs_f64()
    }

    /// The class of its colour.
    fn colour(&self, program: &str) -> String {
        let place = self.programs.iter().position(|name| name == program);
        match place {
            Some(place) if place < COLOURS => format!("c{place}"),
            _ => "cx".to_owned(),
        }
    }
}

/// How it ended: the tone of the page, and a sentence.
fn verdict(report: &Report, running: bool) -> (&'static str, String) {
    // A time is not broken over two lines.
    let took = short(report.took).replace(' ', "\u{a0}");
    let cut = report.in_flight.known();
    let requests = |n: u64| {
        if n == 1 {
            "1 request".to_owned()
        } else {
            format!("{} requests", grouped(n))
        }
    };
    match report.outcome {
        Outcome::Drained if report.exit == crate::exit::OK => {
            ("good", format!("Drained in {took}"))
        }
        Outcome::Drained => ("fair", format!("Drained in {took}, but traffic went on")),
        Outcome::DeadlineHit if cut > 0 => (
            "bad",
            format!("Deadline hit after {took}: {} cut", requests(cut)),
        ),
        Outcome::DeadlineHit => ("bad", format!("Deadline hit after {took}")),
        Outcome::Skipped if cut > 0 => (
            "fair",
            format!("Skipped after {took}: {} in flight", requests(cut)),
        ),
        Outcome::Skipped => ("fair", format!("Skipped after {took}")),
        Outcome::Aborted => ("fair", format!("Aborted after {took}, back in every pool")),
        Outcome::Refused => (
            "fair",
            "Refused: nobody else would have taken the traffic".to_owned(),
        ),
        Outcome::NothingToDo => ("good", "Nothing to drain".to_owned()),
        Outcome::Unfinished if running => ("fair", format!("Still running after {took}")),
        Outcome::Unfinished => ("bad", format!("Ended without a word after {took} or later")),
    }
}

fn figures(report: &Report) -> String {
    let longest = report
        .waited
        .first()
        .map_or("none".to_owned(), |wait| short(wait.held()));
    let figure = |name: &str, value: &str, more: &str| {
        format!(
            "<div><dt>{name}</dt><dd>{}<small>{}</small></dd></div>\n",
            escape(value),
            escape(more)
        )
    };
    [
        "<dl class=\"figures\">\n".to_owned(),
        figure(
            "Took",
            &short(report.took),
            &format!("of at most {}", age(report.limit)),
        ),
        figure(
            "In flight at once",
            &grouped(report.most_in_flight),
            "at most",
        ),
        figure(
            "New after leaving",
            &grouped(report.arrived_in_settle),
            "connections, requests",
        ),
        figure("Longest wait", &longest, "for one request"),
        figure(
            "Cut",
            &match report.in_flight {
                Count::Exactly(n) => grouped(n),
                Count::Unknown => "unknown".to_owned(),
            },
            "in flight at the end",
        ),
        "</dl>\n".to_owned(),
    ]
    .concat()
}

fn legend(report: &Report, scale: &Scale) -> String {
    let mut items = String::new();
    for (_, (phase, took)) in super::full::phases(report) {
        items.push_str(&format!(
            "<li><i class=\"band {phase}\"></i>{phase} <span>{}</span></li>\n",
            short(took)
        ));
    }
    for program in scale.programs.iter().take(COLOURS) {
        items.push_str(&format!(
            "<li><i class=\"{}\"></i>{}</li>\n",
            scale.colour(program),
            escape(&crate::text::middle_cut(program, 32))
        ));
    }
    let others = scale.programs.len() > COLOURS
        || report
            .curve
            .points
            .iter()
            .any(|point| point.busy.unwrap_or_default() > point.by.iter().sum());
    if others {
        items.push_str("<li><i class=\"cx\"></i>other programs</li>\n");
    }
    if report.curve.points.iter().any(|point| point.busy.is_none()) {
        items.push_str("<li><i class=\"unseen\"></i>could not be seen</li>\n");
    }
    format!("<ul class=\"legend\">\n{items}</ul>\n")
}

/// `12 345`, with spaces that are narrow and don't break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 4 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `text` as the content of an element or the value of an attribute, on one line.
fn escape(text: &str) -> String {
    let mut safe = String::new();
    for c in one_line(text, MOST_TEXT).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::event::End;
    use crate::report::sample::{largest, ms, sample};

    #[test]
    fn the_largest_page_is_less_than_a_megabyte_and_says_what_it_leaves_out() {
        let page = page(&largest(), false);
        assert!(page.len() < 1_000_000, "{}", page.len());
        assert!(page.contains("more"), "no remainder is said");
    }

    #[test]
    fn everything_that_others_wrote_is_escaped() {
        const EVIL: &str = "</style><script>alert(1)</script>\"'&<svg onload=x>";
        let mut report = sample();
        report.host = EVIL.to_owned();
        report.id = EVIL.to_owned();
        report.units = vec![EVIL.to_owned()];
        report.notes = vec![EVIL.to_owned()];
        report.curve.programs[0] = EVIL.to_owned();
        for pool in &mut report.pools {
            pool.name = EVIL.to_owned();
            pool.kind = EVIL.to_owned();
            pool.error = Some(EVIL.to_owned());
        }
        for wait in &mut report.waited {
            wait.program = EVIL.to_owned();
            wait.peer = End::Unix(EVIL.to_owned());
        }
        for held in &mut report.cut {
            held.program = EVIL.to_owned();
            held.local = End::Unix(EVIL.to_owned());
        }
        let page = page(&report, false);
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<svg onload"));
        assert_eq!(page.matches("</style>").count(), 1);
        assert!(page.contains("&lt;script&gt;alert(1)"));
    }

    #[test]
    fn it_asks_for_nothing_from_elsewhere() {
        let page = page(&sample(), false);
        for word in ["http://", "https://", "url(", "@import", " src=", "<script"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1296), "1296");
        assert_eq!(grouped(10_000), "10\u{202f}000");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn a_drain_that_did_nothing_has_a_page_too() {
        let report = Report {
            outcome: Outcome::NothingToDo,
            took: ms(0),
            phases: Vec::new(),
            pools: Vec::new(),
            waited: Vec::new(),
            cut: Vec::new(),
            curve: Default::default(),
            ..sample()
        };
        let page = page(&report, false);
        assert!(page.contains("Nothing to drain"));
        assert!(!page.contains("NaN"), "{page}");
    }
}
