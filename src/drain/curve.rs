//! What was in flight over the time of a drain, in a bounded number of points. No I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::Looked;

/// So many points are kept; with more, two become one.
pub const MOST_POINTS: usize = 512;
/// So many programs have a number of their own at each point; the others count in the sum alone.
pub const MOST_PROGRAMS: usize = 12;
/// Looks are this far apart at first, and so are points.
const FINEST: Duration = Duration::from_millis(50);

/// What was in flight, point by point: each holds until the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curve {
    /// The programs, in the order in which they were first seen busy; at most [`MOST_PROGRAMS`].
    pub programs: Vec<String>,
    /// At most [`MOST_POINTS`] and one, in the order of time. Where several looks share a point, it shows the most that was seen.
    pub points: Vec<Point>,
}

/// What was in flight from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Since the beginning of the drain.
    pub at: Duration,
    /// Connections that held the drain; nothing where they could not be seen.
    pub busy: Option<u64>,
    /// Connections and requests that were new, since the point before.
    pub arrived: u64,
    /// `busy` by program, in the order of [`Curve::programs`]; programs further on had none.
    pub by: Vec<u64>,
}

impl Point {
    /// Nothing to tell apart.
    fn same(&self, other: &Self) -> bool {
        self.busy == other.busy && self.by == other.by && other.arrived == 0
    }

    /// Both in one: the most of each; what could not be seen stays unknown.
    fn absorb(&mut self, later: &Self) {
        self.busy = match (self.busy, later.busy) {
            (Some(one), Some(other)) => Some(one.max(other)),
            _ => None,
        };
        self.arrived += later.arrived;
        if self.by.len() < later.by.len() {
            self.by.resize(later.by.len(), 0);
        }
        for (one, other) in self.by.iter_mut().zip(&later.by) {
            *one = (*one).max(*other);
        }
    }
}

/// Draws a [`Curve`] as the looks come in.
#[derive(Clone, Debug)]
pub struct Pen {
    curve: Curve,
    gap: Duration,
    last: Option<Point>,
}

impl Default for Pen {
    fn default() -> Self {
        Self {
            curve: Curve::default(),
            gap: FINEST,
            last: None,
        }
    }
}

impl Pen {
    /// Goes on where an earlier process stopped.
    #[must_use]
    pub fn resume(curve: Curve) -> Self {
        Self {
            last: curve.points.last().cloned(),
            curve,
            gap: FINEST,
        }
    }

    /// A look at all connections; nothing where it failed.
    pub fn take(&mut self, at: Duration, looked: Option<&Looked>) {
        let point = Point {
            at,
            busy: looked.map(|looked| looked.busy),
            arrived: looked.map_or(0, |looked| looked.arrived),
            by: looked.map(|looked| self.by(looked)).unwrap_or_default(),
        };
        self.push(&point);
        self.last = Some(point);
    }

    fn by(&mut self, looked: &Looked) -> Vec<u64> {
        let programs = &mut self.curve.programs;
        let mut by = Vec::new();
        for (name, count) in &looked.programs {
            let known = programs.iter().position(|known| known == name);
            let place = known.or_else(|| {
                (programs.len() < MOST_PROGRAMS).then(|| {
                    programs.push(name.clone());
                    programs.len() - 1
                })
            });
            let Some(place) = place else { continue };
            if by.len() <= place {
                by.resize(place + 1, 0);
            }
            by[place] = *count;
        }
        by
    }

    fn push(&mut self, point: &Point) {
        let gap = self.gap;
        let points = &mut self.curve.points;
        match points.last_mut() {
            Some(last) if last.same(point) => {}
            Some(last) if slot(last.at, gap) == slot(point.at, gap) => last.absorb(point),
            _ => points.push(point.clone()),
        }
        while self.curve.points.len() > MOST_POINTS {
            self.gap *= 2;
            self.thin();
        }
    }

    /// Makes one of the points that share a slot.
    fn thin(&mut self) {
        let gap = self.gap;
        let mut kept: Vec<Point> = Vec::with_capacity(MOST_POINTS);
        for point in self.curve.points.drain(..) {
            match kept.last_mut() {
                Some(last) if slot(last.at, gap) == slot(point.at, gap) => last.absorb(&point),
                _ => kept.push(point),
            }
        }
        self.curve.points = kept;
    }

    /// What was drawn, up to the last look.
    #[must_use]
    pub fn curve(&self) -> Curve {
        let mut curve = self.curve.clone();
        if let (Some(shown), Some(last)) = (curve.points.last(), &self.last)
            && (shown.busy, &shown.by) != (last.busy, &last.by)
        {
            curve.points.push(Point {
                arrived: 0,
                ..last.clone()
            });
        }
        curve
    }
}

fn slot(at: Duration, gap: Duration) -> u128 {
    at.as_millis() / gap.as_millis().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn looked(programs: &[(&str, u64)], arrived: u64) -> Looked {
        Looked {
            busy: programs.iter().map(|(_, count)| count).sum(),
            arrived,
            programs: programs
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
            ..Looked::default()
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_does_not_change_is_one_point_and_a_look_that_failed_is_unknown() {
        let mut pen = Pen::default();
        for at in (0..5000).step_by(50) {
            pen.take(ms(at), Some(&looked(&[("app", 2)], 0)));
        }
        pen.take(ms(5000), None);
        pen.take(ms(6000), Some(&looked(&[("api", 1), ("app", 2)], 1)));
        pen.take(ms(6010), Some(&looked(&[], 0)));
        let curve = pen.curve();
        assert_eq!(curve.programs, ["app", "api"]);
        let busy: Vec<_> = curve
            .points
            .iter()
            .map(|p| (p.at.as_millis(), p.busy))
            .collect();
        assert_eq!(
            busy,
            [(0, Some(2)), (5000, None), (6000, Some(3)), (6010, Some(0))]
        );
        assert_eq!(curve.points[2].by, [2, 1]);
    }

    #[test]
    fn programs_beyond_the_bound_count_in_the_sum() {
        let names: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
        let many: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let mut pen = Pen::default();
        pen.take(ms(0), Some(&looked(&many, 0)));
        let curve = pen.curve();
        assert_eq!(curve.programs.len(), MOST_PROGRAMS);
        assert_eq!(curve.points[0].busy, Some(40));
        assert_eq!(curve.points[0].by.iter().sum::<u64>(), 12);
    }

    proptest! {
        #[test]
        fn bounded_and_no_peak_or_arrival_is_lost(
            looks in proptest::collection::vec((1u64..2000, 0u64..50, 0u64..3), 1..3000),
        ) {
            let mut pen = Pen::default();
            let mut at = 0;
            for (gap, busy, arrived) in &looks {
                at += gap;
                pen.take(ms(at), Some(&looked(&[("app", *busy)], *arrived)));
            }
            let curve = pen.curve();
            prop_assert!(curve.points.len() <= MOST_POINTS + 1);
            prop_assert!(curve.points.is_sorted_by_key(|point| point.at));
            prop_assert_eq!(
                curve.points.iter().filter_map(|point| point.busy).max(),
                looks.iter().map(|(_, busy, _)| *busy).max()
            );
            prop_assert_eq!(
                curve.points.iter().map(|point| point.arrived).sum::<u64>(),
                looks.iter().map(|(_, _, arrived)| *arrived).sum::<u64>()
            );
            prop_assert_eq!(curve.points.last().unwrap().busy, looks.last().map(|(_, busy, _)| *busy));
        }
    }
}
