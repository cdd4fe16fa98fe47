//! A gauge of requests in flight that a program exports for Prometheus.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::page::Page;
use super::{Kind, Probe};
use crate::config::Section;
use crate::world::{Deadline, Root};

/// Prometheus' line in the table of probes.
pub(super) const KIND: Kind = Kind {
    name: "prometheus",
    about: "a gauge that a program exports for Prometheus",
    settings,
    build,
};

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    url: String,
    metric: String,
    labels: BTreeMap<String, String>,
    own: u64,
}

fn settings(section: &mut Section<'_>) -> Option<Value> {
    let settings: Settings = section.read()?;
    if settings.url.is_empty() {
        section.fault(
            "url",
            "must name the page, like \"http://127.0.0.1:8000/metrics\"",
        );
    } else if let Err(error) = Page::of_url(&settings.url) {
        section.fault("url", error);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if settings.metric.is_empty() || !settings.metric.chars().all(plain) {
        section.fault(
            "metric",
            "must be the name of a gauge, like \"http_requests_in_flight\"",
        );
    }
    section.keep(&settings)
}

fn build(settings: &Value) -> anyhow::Result<Box<dyn Probe>> {
    let settings = Settings::deserialize(settings)?;
    Ok(Box::new(Gauge {
        page: Page::of_url(&settings.url)?,
        settings,
    }))
}

struct Gauge {
    page: Page,
    settings: Settings,
}

impl Probe for Gauge {
    fn count(&self, _: &Root, deadline: Deadline) -> anyhow::Result<u64> {
        self.page.count(deadline, |text| sum(text, &self.settings))
    }
}

/// The sum of all samples of the metric that carry the labels, less the question's own share.
fn sum(text: &str, wanted: &Settings) -> anyhow::Result<u64> {
    let mut sum: Option<f64> = None;
    for line in text.lines().map(str::trim) {
        let Some(rest) = line.strip_prefix(wanted.metric.as_str()) else {
            continue;
        };
        // Another metric whose name only begins alike.
        if !rest.starts_with(['{', ' ', '\t']) {
            continue;
        }
        let (labels, value) = sample(rest).ok_or_else(|| anyhow!("not a sample: {line:?}"))?;
        if wanted
            .labels
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value))
        {
            let value: f64 = value.parse().with_context(|| format!("{line:?}"))?;
            *sum.get_or_insert(0.0) += value;
        }
    }
    let sum = sum.with_context(|| format!("no sample of {} with these labels", wanted.metric))?;
    ensure!(
        (0.0..1e15).contains(&sum),
        "{} is {sum}: no number of requests",
        wanted.metric
    );
    // A share of a request is one.
    let whole: u64 = format!("{:.0}", sum.ceil()).parse()?;
    Ok(whole.saturating_sub(wanted.own))
}

/// The labels and the value of what follows a metric's name: `{a="b",c="d"} 3 1700000000`, in the text format 0.0.4.
fn sample(rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = rest.trim_start();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            let (name, value) = rest.split_once("=\"")?;
            let (value, behind) = quoted(value)?;
            labels.insert(name.trim().to_owned(), value);
            rest = behind;
        }
    }
    Some((labels, rest.split_ascii_whitespace().next()?))
}

/// The text up to the closing quote, with `\\`, `\"` and `\n` resolved, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, next)) = characters.next() {
        match next {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP app_in_flight Requests.\n# TYPE app_in_flight gauge\n\
        app_in_flight{handler=\"a\",code=\"x\\\"}y\"} 2\napp_in_flight{handler=\"b\"} 3 1700000000000\n\
        app_in_flight_peak 99\nother 7\nplain 1.0\nstrange NaN\nbelow -1\n";

    fn count(metric: &str, labels: &[(&str, &str)], own: u64) -> anyhow::Result<u64> {
        let labels = labels
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        let settings = Settings {
            metric: metric.to_owned(),
            labels: labels.collect(),
            own,
            ..Settings::default()
        };
        sum(PAGE, &settings)
    }

    #[test]
    fn samples_of_one_metric_are_added_up() {
        assert_eq!(count("app_in_flight", &[], 0).unwrap(), 5);
        assert_eq!(count("app_in_flight", &[("handler", "b")], 0).unwrap(), 3);
        assert_eq!(count("app_in_flight", &[("code", "x\"}y")], 0).unwrap(), 2);
        assert_eq!(count("plain", &[], 1).unwrap(), 0);
    }

    #[test]
    fn what_is_not_there_or_no_number_is_unknown() {
        for metric in ["missing", "strange", "below"] {
            count(metric, &[], 0).unwrap_err();
        }
        count("app_in_flight", &[("handler", "c")], 0).unwrap_err();
    }
}
