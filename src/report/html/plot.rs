//! The phases as bands, what was in flight by program, and what arrived: one SVG as wide as the page.

use std::time::Duration;

use super::{COLOURS, Scale, escape};
use crate::drain::curve::Point;
use crate::drain::event::Report;
use crate::report::full;
use crate::report::words::short;

/// Heights in pixels, from the top: the phases' band, the area, the arrivals, the axis.
const BAND: u32 = 24;
const AREA: u32 = 168;
const ARRIVALS: u32 = 30;
const AXIS: u32 = 26;
/// Room above the area, for the topmost number.
const GAP: u32 = 18;
/// The coordinates of the area, which is stretched to the page's width.
const WIDE: f64 = 10_000.0;
const HIGH: f64 = 1_000.0;
/// What arrived is drawn in so many columns.
const COLUMNS: usize = 120;

/// The SVG; nothing where there is nothing to be drawn.
pub(super) fn plot(report: &Report, scale: &Scale) -> String {
    if report.phases.is_empty() {
        return String::new();
    }
    let arrivals = columns(&report.curve.points, scale);
    let most_arrived = arrivals.iter().copied().max().unwrap_or_default();
    let top = BAND + GAP;
    let strip = if most_arrived > 0 { ARRIVALS } else { 0 };
    let bottom = top + AREA + strip;
    let height = bottom + AXIS;
    let mut svg = format!(
        "<figure>\n<svg class=\"plot\" height=\"{height}\" role=\"img\" aria-labelledby=\"plot-title plot-desc\">\n\
         <title id=\"plot-title\">Requests in flight over the time of the drain</title>\n\
         <desc id=\"plot-desc\">{}</desc>\n{}",
        escape(&described(report)),
        bands(report, scale, bottom)
    );
    svg.push_str(&band_names(report, scale));
    let most = report.most_in_flight.max(1);
    let steps = steps(most);
    let full = steps.last().copied().unwrap_or(1).max(1);
    for step in &steps {
        let y = f64::from(top + AREA) - share(*step, full) * f64::from(AREA);
        svg.push_str(&format!(
            "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick\" x=\"-8\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            y + 4.0,
            compact(*step)
        ));
    }
    svg.push_str(&format!(
        "<svg x=\"0\" y=\"{top}\" width=\"100%\" height=\"{AREA}\" viewBox=\"0 0 {WIDE} {HIGH}\" preserveAspectRatio=\"none\">\n{}</svg>\n",
        areas(report, scale, full)
    ));
    svg.push_str(&unseen(report, scale, top));
    if most_arrived > 0 {
        let base = f64::from(top + AREA + strip);
        svg.push_str(&format!(
            "<text class=\"tick\" x=\"-8\" y=\"{:.1}\" text-anchor=\"end\">new</text>\n<g class=\"new\">",
            base - 6.0
        ));
        let columns = f64::from(u32::try_from(COLUMNS).unwrap_or(1));
        for (at, count) in arrivals.iter().enumerate().filter(|(_, count)| **count > 0) {
            let height = (share(*count, most_arrived) * f64::from(ARRIVALS - 8)).max(2.0);
            let x = f64::from(u32::try_from(at).unwrap_or_default()) / columns * 100.0;
            svg.push_str(&format!(
                "<rect x=\"{x:.3}%\" y=\"{:.1}\" width=\"{:.3}%\" height=\"{height:.1}\"><title>{count} new</title></rect>",
                base - height,
                80.0 / columns
            ));
        }
        svg.push_str("</g>\n");
    }
    svg.push_str(&axis(scale, bottom));
    svg.push_str("</svg>\n<figcaption>In flight at once, by program; below it what is new. The time counts from the beginning of the drain.</figcaption>\n</figure>\n");
    svg
}

fn described(report: &Report) -> String {
    let phases: Vec<String> = full::phases(report)
        .iter()
        .map(|(at, (phase, took))| format!("{phase} from {} for {}", short(*at), short(*took)))
        .collect();
    format!(
        "{}. At most {} in flight at once, {} at the end; {} new while settling.",
        phases.join(", "),
        report.most_in_flight,
        report.in_flight,
        report.arrived_in_settle
    )
}

/// The phases, behind everything, `height` pixels high.
pub(super) fn bands(report: &Report, scale: &Scale, height: u32) -> String {
    full::phases(report)
        .iter()
        .map(|(at, (phase, took))| {
            format!(
                "<rect class=\"phase {phase}\" x=\"{}\" y=\"0\" width=\"{:.3}%\" height=\"{height}\"/>\n",
                scale.at(*at),
                scale.share(*at, *at + *took) * 100.0
            )
        })
        .collect()
}

/// The phases' names, where there is room: always in a third of the page, and in a tenth where the page is wide.
fn band_names(report: &Report, scale: &Scale) -> String {
    full::phases(report)
        .iter()
        .map(|(at, (phase, took))| {
            let class = match scale.share(*at, *at + *took) {
                share if share >= 0.3 => "name",
                share if share >= 0.1 => "name wide",
                _ => return String::new(),
            };
            format!(
                "<text class=\"{class}\" x=\"{}\" dx=\"6\" y=\"16\">{phase}</text>\n",
                scale.at(*at)
            )
        })
        .collect()
}

/// The stacked areas, the first program at the bottom.
fn areas(report: &Report, scale: &Scale, full: u64) -> String {
    let points = &report.curve.points;
    let named = report.curve.programs.len().min(COLOURS);
    let mut paths = String::new();
    // From the top down, so that each covers what is not its own.
    for layer in (0..=named).rev() {
        let height = |point: &Point| match (point.busy, layer) {
            (None, _) => 0,
            (Some(busy), layer) if layer == named => busy,
            (Some(_), layer) => point.by.iter().take(layer + 1).sum(),
        };
        let below = |point: &Point| match layer {
            0 => 0,
            layer => point.by.iter().take(layer).sum::<u64>(),
        };
        if points.iter().all(|point| height(point) <= below(point)) {
            continue;
        }
        let class = match report.curve.programs.get(layer).filter(|_| layer < named) {
            Some(program) => scale.colour(program),
            None => "cx".to_owned(),
        };
        let mut path = String::new();
        for point in points {
            let x = scale.share(Duration::ZERO, point.at) * WIDE;
            let y = HIGH - share(height(point), full) * HIGH;
            if path.is_empty() {
                path.push_str(&format!("M{x:.0} {HIGH}V{y:.0}"));
            } else {
                path.push_str(&format!("H{x:.0}V{y:.0}"));
            }
        }
        path.push_str(&format!("H{WIDE}V{HIGH}Z"));
        paths.push_str(&format!("<path class=\"{class}\" d=\"{path}\"/>\n"));
    }
    paths
}

/// Where nothing could be seen.
fn unseen(report: &Report, scale: &Scale, top: u32) -> String {
    let points = &report.curve.points;
    let ends = points.iter().skip(1).map(|point| point.at);
    points
        .iter()
        .zip(ends.chain([report.took]))
        .filter(|(point, _)| point.busy.is_none())
        .map(|(point, end)| {
            format!(
                "<rect class=\"unseen\" x=\"{}\" y=\"{top}\" width=\"{:.3}%\" height=\"{AREA}\"><title>could not be seen</title></rect>\n",
                scale.at(point.at),
                scale.share(point.at, end) * 100.0
            )
        })
        .collect()
}

/// The line of time at `y`.
pub(super) fn axis(scale: &Scale, y: u32) -> String {
    let step = time_step(scale.took);
    let mut axis = format!("<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"{y}\" y2=\"{y}\"/>\n");
    let mut at = Duration::ZERO;
    while at <= scale.took {
        let x = scale.at(at);
        let anchor = if scale.share(Duration::ZERO, at) > 0.94 {
            "end"
        } else if at.is_zero() {
            "start"
        } else {
            "middle"
        };
        axis.push_str(&format!(
            "<line class=\"axis\" x1=\"{x}\" x2=\"{x}\" y1=\"{y}\" y2=\"{}\"/><text class=\"tick\" x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>\n",
            y + 5,
            y + 19,
            clock(at, step)
        ));
        at += step;
    }
    axis
}

/// A time on the axis: `250 ms`, `30 s`, and from a minute on `1:30`, `1:00:00`.
fn clock(at: Duration, step: Duration) -> String {
    let seconds = at.as_secs();
    match (seconds, step.subsec_millis()) {
        (0, _) if at.is_zero() => "0".to_owned(),
        (0..60, 0) => format!("{seconds} s"),
        (0, _) => format!("{} ms", at.as_millis()),
        (1..60, _) => format!("{seconds}.{} s", at.subsec_millis() / 100),
        (60..3600, _) => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!(
            "{}:{:02}:{:02}",
            seconds / 3600,
            seconds % 3600 / 60,
            seconds % 60
        ),
    }
}

/// At most six marks fit a narrow page.
fn time_step(took: Duration) -> Duration {
    const STEPS: [u64; 24] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
        120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000,
    ];
    let fits = |step: &&u64| took.as_millis() / u128::from(**step) <= 5;
    let step = STEPS.iter().find(fits).copied().unwrap_or(86_400_000);
    Duration::from_millis(step)
}

/// The numbers beside the area, from zero, the last not less than `most`: at most five.
fn steps(most: u64) -> Vec<u64> {
    let mut step = 1_u64;
    let mut factors = [2, 5, 10].iter().cycle();
    let mut decade = 1_u64;
    while most.div_ceil(step) > 4 {
        let factor = factors.next().copied().unwrap_or(10);
        step = decade.saturating_mul(factor);
        if factor == 10 {
            decade = step;
        }
    }
    (0..=most.div_ceil(step))
        .map(|n| n.saturating_mul(step))
        .collect()
}

/// A round number in at most five characters: `8000`, `20k`, `5M`.
fn compact(number: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (1_000_000_000_000_000, "P"),
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    let unit = UNITS
        .iter()
        .find(|(unit, _)| number >= 10 * unit || number == *unit);
    unit.map_or(number.to_string(), |(unit, name)| {
        format!("{}{name}", number / unit)
    })
}

/// What arrived, column by column.
fn columns(points: &[Point], scale: &Scale) -> Vec<u64> {
    let mut columns = vec![0; COLUMNS];
    for point in points.iter().filter(|point| point.arrived > 0) {
        let place = point.at.as_millis() * COLUMNS as u128 / scale.took.as_millis().max(1);
        let place = usize::try_from(place).unwrap_or(COLUMNS).min(COLUMNS - 1);
        columns[place] += point.arrived;
    }
    columns
}

#[expect(clippy::cast_precision_loss, reason = "a height in pixels")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beside_the_area_are_few_and_round() {
        assert_eq!(steps(1), [0, 1]);
        assert_eq!(steps(3), [0, 1, 2, 3]);
        assert_eq!(steps(7), [0, 2, 4, 6, 8]);
        assert_eq!(steps(42), [0, 20, 40, 60]);
        assert_eq!(steps(10_000), [0, 5_000, 10_000]);
        for most in 1..5_000 {
            let steps = steps(most);
            assert!(steps.len() <= 5 && steps[steps.len() - 1] >= most, "{most}");
        }
        assert!(steps(u64::MAX).len() <= 5);
    }

    #[test]
    fn a_number_beside_the_area_is_short() {
        let said = [0, 999, 8_000, 20_000, 500_000, 20_000_000].map(compact);
        assert_eq!(said, ["0", "999", "8000", "20k", "500k", "20M"]);
    }

    #[test]
    fn marks_of_time_are_few() {
        for ms in [
            1, 999, 4_000, 59_000, 61_000, 300_000, 1_800_000, 80_000_000,
        ] {
            let took = Duration::from_millis(ms);
            let step = time_step(took);
            assert!(took.as_nanos() / step.as_nanos() <= 6, "{ms}");
        }
        let said = |ms, step| clock(Duration::from_millis(ms), Duration::from_millis(step));
        assert_eq!(said(0, 500), "0");
        assert_eq!(said(500, 500), "500 ms");
        assert_eq!(said(1_500, 500), "1.5 s");
        assert_eq!(said(30_000, 15_000), "30 s");
        assert_eq!(said(90_000, 30_000), "1:30");
        assert_eq!(said(5_400_000, 1_800_000), "1:30:00");
    }
}
