//! The predicted order of a shutdown as a picture: time goes from left to right, and an arrow says that systemd waits. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use crate::systemd::order::{Order, Units};
use crate::systemd::{HOOK, view};

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For Graphviz.
    Dot,
    /// For a browser.
    Svg,
}

impl Form {
    /// By the file's name; `None` for others than `.dot` and `.svg`.
    #[must_use]
    pub fn of(file: &Path) -> Option<Self> {
        match file.extension()?.to_str()? {
            "dot" => Some(Self::Dot),
            "svg" => Some(Self::Svg),
            _ => None,
        }
    }
}

/// Draws what a shutdown does, in which `targets` are drained.
#[must_use]
pub fn draw(all: &Units, order: &Order, targets: &[String], form: Form) -> String {
    let picture = Picture::new(all, order, targets);
    match form {
        Form::Dot => picture.dot(),
        Form::Svg => picture.svg(),
    }
}

/// What becomes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Drain,
    Target,
    Outlives,
    AtOnce,
    Unsure,
}

impl Fate {
    /// Fill and border.
    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Drain => ("#cfe3fb", "#1c5fb0"),
            Self::Target => ("#bfe8c8", "#14692b"),
            Self::Outlives => ("#eaf7ed", "#5aa06c"),
            Self::AtOnce => ("#fdeceb", "#c2564d"),
            Self::Unsure => ("#fff3d6", "#b98310"),
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Drain => "the drain",
            Self::Target => "drained",
            Self::Outlives => "outlives the drain",
            Self::AtOnce => "may stop at once",
            Self::Unsure => "in or behind a circle: may stop at once",
        }
    }
}

struct Picture<'a> {
    /// Each unit with its fate and its column.
    units: BTreeMap<&'a str, (Fate, usize)>,
    /// Who stops first, and whom systemd keeps until then; without those that follow from others.
    waits: Vec<(&'a str, &'a str)>,
}

impl<'a> Picture<'a> {
    fn new(all: &'a Units, order: &'a Order, targets: &[String]) -> Self {
        let mut units = BTreeMap::from([(HOOK, (Fate::Drain, 0))]);
        for unit in order.outlive.iter().chain(&order.may_stop) {
            let fate = if targets.contains(unit) && order.outlive.contains(unit) {
                Fate::Target
            } else if order.outlive.contains(unit) {
                Fate::Outlives
            } else if order.unsure.contains(unit) {
                Fate::Unsure
            } else {
                Fate::AtOnce
            };
            // Slices hold no processes of their own.
            if !unit.ends_with(".slice") {
                units.insert(unit, (fate, 0));
            }
        }
        let held = |unit: &str| {
            let fate = units.get(unit).map(|(fate, _)| *fate);
            matches!(fate, Some(Fate::Drain | Fate::Target | Fate::Outlives))
        };
        let mut waits = Vec::new();
        for unit in units.keys().copied().filter(|unit| held(unit)) {
            let after = view::property(all, unit, "After").split_whitespace();
            waits.extend(
                after
                    .filter(|one| held(one) && *one != unit)
                    .map(|one| (unit, one)),
            );
        }
        let mut picture = Self { units, waits };
        picture.place();
        picture.thin();
        picture
    }

    /// A unit stands to the right of all that it outlives. Bounded where others than the drain make a circle.
    fn place(&mut self) {
        for _ in 0..self.units.len() {
            let mut moved = false;
            for (first, then) in &self.waits {
                let column = self.units.get(first).map_or(0, |unit| unit.1) + 1;
                if let Some(unit) = self.units.get_mut(then)
                    && unit.1 < column
                {
                    unit.1 = column;
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Leaves out every arrow that other arrows say already.
    fn thin(&mut self) {
        let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (first, then) in &self.waits {
            next.entry(first).or_default().insert(then);
        }
        // From the right: whatever stands behind a unit is known by then.
        let mut behind: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut by_column: Vec<&str> = self.units.keys().copied().collect();
        by_column.sort_by_key(|unit| std::cmp::Reverse(self.units.get(unit).map(|unit| unit.1)));
        for unit in by_column {
            let mut all = BTreeSet::new();
            for then in next.get(unit).into_iter().flatten() {
                all.insert(*then);
                all.extend(behind.get(then).into_iter().flatten().copied());
            }
            behind.insert(unit, all);
        }
        self.waits.retain(|(first, then)| {
            let others = next.get(first).into_iter().flatten();
            !others.filter(|other| *other != then).any(|other| {
                behind
                    .get(other)
                    .is_some_and(|behind| behind.contains(then))
            })
        });
    }

    fn dot(&self) -> String {
        let mut text = String::from(
            "// A unit begins to stop once all that point to it have stopped.\n\
             digraph shutdown {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n",
        );
        for (unit, (fate, _)) in &self.units {
            let (fill, border) = fate.colours();
            let _ = writeln!(
                text,
                "  {unit:?} [fillcolor=\"{fill}\", color=\"{border}\", tooltip=\"{}\"];",
                fate.says()
            );
        }
        for (first, then) in &self.waits {
            let _ = writeln!(text, "  {first:?} -> {then:?};");
        }
        text + "}\n"
    }

    fn svg(&self) -> String {
        let boxes = self.boxes();
        let right = boxes.values().map(|at| at.x + at.width).max().unwrap_or(0) + GAP;
        let bottom = boxes.values().map(|at| at.y).max().unwrap_or(0) + ROW + GAP;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {right} {bottom}\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <title>What a shutdown stops, and when</title>\n\
             <text x=\"{GAP}\" y=\"{GAP}\">Left to right: a unit begins to stop once all that lead to it have stopped. Blue: the drain; green: \
             outlives it; red: may stop at once; amber: in or behind a circle.</text>"
        );
        for (first, then) in &self.waits {
            if let (Some(from), Some(to)) = (boxes.get(first), boxes.get(then)) {
                let (x1, y1) = (from.x + from.width, from.y + HEIGHT / 2);
                let (x2, y2) = (to.x, to.y + HEIGHT / 2);
                let _ = writeln!(
                    text,
                    "<path d=\"M{x1} {y1} C{} {y1} {} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#9aa4ad\"/>",
                    x1 + GAP,
                    x2.saturating_sub(GAP),
                );
            }
        }
        for (unit, (fate, _)) in &self.units {
            let Some(at) = boxes.get(unit) else { continue };
            let (fill, border) = fate.colours();
            let _ = writeln!(
                text,
                "<g><title>{name}: {}</title><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{HEIGHT}\" rx=\"3\" fill=\"{fill}\" stroke=\"{border}\"/>\
                 <text x=\"{}\" y=\"{}\">{name}</text></g>",
                fate.says(),
                at.x,
                at.y,
                at.width,
                at.x + 6,
                at.y + HEIGHT - 6,
                name = escaped(unit),
            );
        }
        text + "</svg>\n"
    }

    /// Where each unit stands: a column for each step, and those that nothing holds below the drain.
    fn boxes(&self) -> BTreeMap<&'a str, Box> {
        let mut columns: BTreeMap<usize, Vec<&'a str>> = BTreeMap::new();
        for (unit, (fate, column)) in &self.units {
            let list = columns.entry(*column).or_default();
            if *fate == Fate::Drain {
                list.insert(0, unit);
            } else {
                list.push(unit);
            }
        }
        let mut boxes = BTreeMap::new();
        let mut x = GAP;
        for list in columns.values() {
            let longest = list.iter().map(|unit| unit.len()).max().unwrap_or(0);
            let width = longest * LETTER + 12;
            for (row, unit) in list.iter().enumerate() {
                let y = TOP + row * ROW;
                boxes.insert(*unit, Box { x, y, width });
            }
            x += width + 3 * GAP;
        }
        boxes
    }
}

/// Pixels.
const GAP: usize = 20;
const TOP: usize = 36;
const ROW: usize = 26;
const HEIGHT: usize = 20;
const LETTER: usize = 7;

struct Box {
    x: usize,
    y: usize,
    width: usize,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(form: Form) -> String {
        let after = |names: &str| BTreeMap::from([("After".to_owned(), names.to_owned())]);
        let all = Units::from([
            (
                HOOK.to_owned(),
                after("app.service network.target system.slice"),
            ),
            ("app.service".to_owned(), after("network.target db.service")),
            ("db.service".to_owned(), after("")),
            ("network.target".to_owned(), after("")),
        ]);
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let order = Order {
            outlive: set(&[
                "app.service",
                "db.service",
                "network.target",
                "system.slice",
            ]),
            may_stop: set(&["a\\x2db.mount", "cron.service", "late.service"]),
            circle: set(&["late.service"]),
            unsure: set(&["late.service"]),
        };
        draw(&all, &order, &["app.service".to_owned()], form)
    }

    #[test]
    fn a_picture_for_graphviz_has_each_unit_and_only_the_arrows_that_say_something() {
        insta::assert_snapshot!(drawn(Form::Dot));
    }

    #[test]
    fn a_picture_for_a_browser_puts_later_to_the_right() {
        let svg = drawn(Form::Svg);
        let x = |unit: &str| -> usize {
            let at = svg.find(&format!("<title>{unit}: ")).unwrap();
            let rest = svg[at..].split_once("x=\"").unwrap().1;
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        assert!(x(HOOK) < x("app.service") && x("app.service") < x("db.service"));
        assert_eq!(x("cron.service"), x(HOOK));
        assert_eq!(svg.matches("<rect").count(), 7);
        assert_eq!(svg.matches("<path").count(), 3);
    }

    #[test]
    fn the_files_name_says_the_form() {
        assert_eq!(Form::of(Path::new("/tmp/a.svg")), Some(Form::Svg));
        assert_eq!(Form::of(Path::new("a.dot")), Some(Form::Dot));
        assert_eq!(Form::of(Path::new("a.png")), None);
        assert_eq!(Form::of(Path::new("svg")), None);
    }
}
