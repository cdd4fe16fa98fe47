//! Which pools are left, and who stands in for those that can't be. Pure.
//!
//! A stand-in that has traffic sent elsewhere begins at once. One that turns it away is a last resort: what arrives while requests are in flight
//! anyway can be served.

use crate::config::{PoolSpec, StandIn};

/// The ways out of this host, and how far each is.
#[derive(Debug)]
pub struct Ways {
    pools: Vec<Way>,
    stand_ins: Vec<Standby>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Leave by the stand-in of this name, for the pool of the second.
    Start(String, String),
    /// One that was given up is being left after all.
    More,
    /// One pool is done with: nothing more comes by it, or it is given up.
    Settled {
        /// Whether nothing more is known to come.
        left: bool,
    },
}

#[derive(Debug)]
struct Way {
    name: String,
    state: State,
    /// Its last call failed.
    failing: bool,
    /// It had been left, and is being left once more: what comes of it says how it is with all.
    again: bool,
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A stand-in that is not needed yet.
    Idle,
    Trying,
    /// It agreed, and has not said yet that it holds.
    Asked,
    /// It has not even agreed after some time.
    Slow,
    Left,
    Failed,
}

#[derive(Debug)]
struct Standby {
    name: String,
    covers: Option<Vec<String>>,
    refuses: bool,
    state: State,
    /// Started because traffic went on: it counts by itself.
    counts: bool,
}

impl Way {
    /// It could not be left, or not yet.
    fn is_in_need(&self) -> bool {
        matches!(self.state, State::Failed | State::Slow)
    }
}

impl Standby {
    fn covers(&self, pool: &str) -> bool {
        let named = |names: &Vec<String>| names.iter().any(|name| name == pool);
        self.covers.as_ref().is_none_or(named)
    }
}

impl Ways {
    /// All of `pools` are to be left; `stand_ins` in the order in which they are preferred. `refuses` tells those that turn traffic away.
    #[must_use]
    pub fn new(
        pools: &[PoolSpec],
        stand_ins: &[StandIn],
        refuses: impl Fn(&PoolSpec) -> bool,
    ) -> Self {
        Self {
            pools: pools
                .iter()
                .map(|spec| Way {
                    name: spec.name.clone(),
                    state: State::Trying,
                    failing: false,
                    again: false,
                    told: false,
                })
                .collect(),
            stand_ins: stand_ins
                .iter()
                .map(|one| Standby {
                    name: one.pool.name.clone(),
                    covers: one.covers.clone(),
                    refuses: refuses(&one.pool),
                    state: State::Idle,
                    counts: false,
                })
                .collect(),
        }
    }

    /// Whether somebody could turn traffic away in the end.
    #[must_use]
    pub fn has_last_resort(&self) -> bool {
        self.stand_ins.iter().any(|one| one.refuses)
    }

    /// Whether somebody would stand in for the pool.
    #[must_use]
    pub fn has_stand_in(&self, pool: &str) -> bool {
        self.stand_ins.iter().any(|one| one.covers(pool))
    }

    /// A pool agreed to send nothing more.
    pub fn asked(&mut self, pool: &str) {
        if let Some(way) = self.pools.iter_mut().find(|way| way.name == pool)
            && matches!(way.state, State::Trying | State::Slow)
        {
            way.state = State::Asked;
            way.failing = false;
        }
    }

    /// A call to a pool ended.
    pub fn called(&mut self, pool: &str, fine: bool) {
        if let Some(way) = self.pools.iter_mut().find(|way| way.name == pool) {
            way.failing = !fine;
        }
    }

    /// Whether the pool's last call failed.
    #[must_use]
    pub fn is_failing(&self, pool: &str) -> bool {
        self.pools.iter().any(|way| way.name == pool && way.failing)
    }

    /// Enough time has passed for a pool to agree.
    pub fn slow(&mut self, pool: &str) -> Vec<Next> {
        if let Some(way) = self.pools.iter_mut().find(|way| way.name == pool)
            && way.state == State::Trying
        {
            way.state = State::Slow;
        }
        self.review()
    }

    /// A pool, or a stand-in, is done with.
    pub fn resolved(&mut self, name: &str, left: bool) -> Vec<Next> {
        let state = if left { State::Left } else { State::Failed };
        let mut next = Vec::new();
        if let Some(one) = self.stand_ins.iter_mut().find(|one| one.name == name) {
            one.state = state;
            if std::mem::take(&mut one.counts) {
                let left = left && self.all_well();
                next.push(Next::Settled { left });
            }
        } else if let Some(way) = self.pools.iter_mut().find(|way| way.name == name) {
            let was_given_up = way.told && way.state == State::Slow;
            way.state = state;
            if was_given_up && left {
                let left = self.all_well();
                next.extend([Next::More, Next::Settled { left }]);
            }
        }
        next.extend(self.review());
        next
    }

    /// Whether no pool sends traffic here, as far as is known: each is left, or is stood in for.
    fn all_well(&self) -> bool {
        self.pools.iter().all(|way| {
            let covering = self.stand_ins.iter().filter(|one| one.covers(&way.name));
            let mut left = covering.filter(|one| one.state == State::Left);
            !way.is_in_need() || left.next().is_some()
        })
    }

    /// A pool that had been left takes traffic again, and is being left once more.
    pub fn again(&mut self, name: &str) {
        if let Some(way) = self.pools.iter_mut().find(|way| way.name == name) {
            way.state = State::Trying;
            way.again = true;
            way.told = false;
        } else if let Some(one) = self.stand_ins.iter_mut().find(|one| one.name == name) {
            one.state = State::Trying;
            one.counts = true;
        }
    }

    /// Traffic goes on although every pool says that it sends none: the next stand-in, if there is one for any of them.
    pub fn traffic_goes_on(&mut self) -> Option<Next> {
        self.next(|one| !one.refuses, |_| true)
    }

    /// What is in flight is done, and traffic goes on: whoever can turn it away; for a pool that could not be left, if there is one.
    pub fn last_resort(&mut self) -> Option<Next> {
        self.next(|one| one.refuses, Way::is_in_need)
            .or_else(|| self.next(|one| one.refuses, |_| true))
    }

    /// Whether a pool could not be left, or not yet.
    #[must_use]
    pub fn is_in_need(&self, pool: &str) -> bool {
        self.pools
            .iter()
            .any(|way| way.name == pool && way.is_in_need())
    }

    /// The next stand-in of those, for one of these pools; it counts as one more to be left.
    fn next(
        &mut self,
        those: impl Fn(&Standby) -> bool,
        these: impl Fn(&Way) -> bool,
    ) -> Option<Next> {
        let pools = &self.pools;
        let covered = |one: &Standby| pools.iter().find(|way| these(way) && one.covers(&way.name));
        let mut idle = self
            .stand_ins
            .iter_mut()
            .filter(|one| one.state == State::Idle && those(one));
        let (one, way) = idle.find_map(|one| covered(one).map(|way| (one, way)))?;
        one.state = State::Trying;
        one.counts = true;
        Some(Next::Start(one.name.clone(), way.name.clone()))
    }

    /// The pools and stand-ins that are left.
    pub fn left(&self) -> impl Iterator<Item = &str> {
        let pools = self.pools.iter().map(|way| (&way.name, way.state));
        let others = self.stand_ins.iter().map(|one| (&one.name, one.state));
        pools
            .chain(others)
            .filter(|(_, state)| *state == State::Left)
            .map(|(name, _)| name.as_str())
    }

    fn review(&mut self) -> Vec<Next> {
        let mut next = Vec::new();
        let all_well = self.all_well();
        for way in self.pools.iter_mut().filter(|way| !way.told) {
            let settled = match way.state {
                State::Left => Some(!way.again || all_well),
                State::Failed | State::Slow => {
                    let given_up = way.state == State::Failed;
                    let mut covering = self
                        .stand_ins
                        .iter_mut()
                        .filter(|one| one.covers(&way.name) && one.state != State::Failed)
                        .peekable();
                    // Those that turn traffic away come last, and wait for their time.
                    let later = covering.peek().is_some();
                    match covering.find(|one| !one.refuses) {
                        Some(one) if one.state == State::Left => Some(true),
                        Some(one) => {
                            if one.state == State::Idle {
                                one.state = State::Trying;
                                next.push(Next::Start(one.name.clone(), way.name.clone()));
                            }
                            None
                        }
                        None => (given_up || later).then_some(false),
                    }
                }
                State::Idle | State::Trying | State::Asked => None,
            };
            if let Some(left) = settled {
                way.told = true;
                next.push(Next::Settled { left });
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn spec(name: &str) -> PoolSpec {
        PoolSpec {
            name: name.to_owned(),
            kind: String::new(),
            limit: Duration::ZERO,
            settings: serde_json::Value::Null,
        }
    }

    fn stand_in(name: &str, covers: Option<&[&str]>) -> StandIn {
        StandIn {
            pool: spec(name),
            covers: covers.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
        }
    }

    fn start(name: &str, pool: &str) -> Next {
        Next::Start(name.to_owned(), pool.to_owned())
    }

    fn made(pools: &[PoolSpec], stand_ins: &[StandIn]) -> Ways {
        Ways::new(pools, stand_ins, |spec| spec.name == "door")
    }

    const LEFT: Next = Next::Settled { left: true };
    const GIVEN_UP: Next = Next::Settled { left: false };

    #[test]
    fn a_dead_registry_is_stood_in_for_in_order_of_preference() {
        let stand_ins = [stand_in("file", Some(&["consul"])), stand_in("wall", None)];
        let mut ways = made(&[spec("consul"), spec("edge")], &stand_ins);
        assert_eq!(ways.slow("consul"), [start("file", "consul")]);
        assert_eq!(ways.resolved("edge", true), [LEFT]);
        assert_eq!(ways.resolved("consul", false), []);
        assert_eq!(ways.resolved("file", false), [start("wall", "consul")]);
        assert_eq!(ways.resolved("wall", true), [LEFT]);
        assert_eq!(ways.left().collect::<Vec<_>>(), ["edge", "wall"]);
    }

    #[test]
    fn a_pool_that_recovers_needs_no_stand_in_and_one_that_agreed_is_not_slow() {
        let stand_ins = [stand_in("wall", None)];
        let mut ways = made(&[spec("consul")], &stand_ins);
        ways.asked("consul");
        assert_eq!(ways.slow("consul"), []);
        assert_eq!(ways.resolved("consul", true), [LEFT]);
        let mut ways = made(&[spec("consul")], &stand_ins);
        assert_eq!(ways.slow("consul"), [start("wall", "consul")]);
        assert_eq!(ways.resolved("consul", true), [LEFT]);
        assert_eq!(ways.resolved("wall", true), []);
    }

    #[test]
    fn a_pool_fails_from_its_last_call_until_it_agrees() {
        let mut ways = made(&[spec("consul")], &[stand_in("wall", None)]);
        assert!(!ways.is_failing("consul"));
        ways.called("consul", false);
        assert!(ways.is_failing("consul") && !ways.is_failing("wall"));
        ways.called("consul", true);
        assert!(!ways.is_failing("consul"));
        ways.called("consul", false);
        ways.asked("consul");
        assert!(!ways.is_failing("consul"));
    }

    #[test]
    fn who_turns_traffic_away_waits_for_its_time() {
        let stand_ins = [stand_in("door", None), stand_in("file", Some(&["edge"]))];
        let mut ways = made(&[spec("consul"), spec("edge")], &stand_ins);
        assert!(ways.has_last_resort());
        assert_eq!(ways.slow("consul"), [GIVEN_UP]);
        // Another way out comes first, wherever it is named.
        assert_eq!(ways.resolved("edge", false), [start("file", "edge")]);
        assert_eq!(ways.resolved("file", false), [GIVEN_UP]);
        assert_eq!(ways.traffic_goes_on(), None);
        assert_eq!(ways.last_resort(), Some(start("door", "consul")));
        assert_eq!(ways.last_resort(), None);
        assert_eq!(ways.resolved("door", true), [LEFT]);
        assert_eq!(ways.resolved("consul", false), []);
    }

    #[test]
    fn one_that_is_left_after_it_was_given_up_is_settled_again() {
        let mut ways = made(&[spec("consul"), spec("edge")], &[stand_in("door", None)]);
        assert_eq!(ways.slow("consul"), [GIVEN_UP]);
        assert_eq!(ways.resolved("edge", true), [LEFT]);
        assert_eq!(ways.resolved("consul", true), [Next::More, LEFT]);
        // Should it turn out not to be true.
        assert_eq!(ways.last_resort(), Some(start("door", "consul")));
        assert!(!ways.is_in_need("consul"));
    }

    #[test]
    fn what_somebody_puts_back_does_not_make_good_what_failed_beside_it() {
        let mut ways = made(&[spec("consul"), spec("edge")], &[]);
        assert_eq!(ways.resolved("consul", false), [GIVEN_UP]);
        assert_eq!(ways.resolved("edge", true), [LEFT]);
        ways.again("edge");
        assert_eq!(ways.resolved("edge", true), [GIVEN_UP]);
    }

    #[test]
    fn without_a_stand_in_it_is_given_up() {
        let mut ways = made(&[spec("consul")], &[stand_in("file", Some(&["edge"]))]);
        assert_eq!(ways.slow("consul"), []);
        assert_eq!(ways.resolved("consul", false), [GIVEN_UP]);
    }

    #[test]
    fn a_pool_that_does_nothing_is_stood_in_for_once() {
        let mut ways = made(&[spec("file")], &[stand_in("wall", Some(&["file"]))]);
        assert_eq!(ways.resolved("file", true), [LEFT]);
        assert_eq!(ways.traffic_goes_on(), Some(start("wall", "file")));
        assert_eq!(ways.traffic_goes_on(), None);
        assert_eq!(ways.resolved("wall", true), [LEFT]);
        ways.again("file");
        assert_eq!(ways.resolved("file", true), [LEFT]);
        let mut others = made(&[spec("edge")], &[stand_in("wall", Some(&["file"]))]);
        assert_eq!(others.traffic_goes_on(), None);
    }

    proptest! {
        /// However pools and stand-ins end, each pool is told once, and left only if it or one that stands in for it is left.
        #[test]
        fn each_pool_is_told_once_and_never_better_than_it_is(
            ends in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..5),
            walls in proptest::collection::vec(any::<bool>(), 0..3),
        ) {
            let names: Vec<String> = (0..ends.len()).map(|n| format!("p{n}")).collect();
            let specs: Vec<PoolSpec> = names.iter().map(|name| spec(name)).collect();
            let stand_ins: Vec<StandIn> = (0..walls.len()).map(|n| stand_in(&format!("s{n}"), None)).collect();
            let mut ways = made(&specs, &stand_ins);
            let mut todo = Vec::new();
            for (name, (slow, _)) in names.iter().zip(&ends) {
                if *slow {
                    todo.extend(ways.slow(name));
                }
            }
            for (name, (_, left)) in names.iter().zip(&ends) {
                todo.extend(ways.resolved(name, *left));
            }
            let mut told = Vec::new();
            let mut any_left = false;
            while let Some(next) = todo.pop() {
                match next {
                    Next::Settled { left } => told.push(left),
                    Next::More => prop_assert!(false, "none was given up before"),
                    Next::Start(name, _) => {
                        let left = walls[name[1..].parse::<usize>().unwrap()];
                        any_left |= left;
                        todo.extend(ways.resolved(&name, left));
                    }
                }
            }
            prop_assert_eq!(told.len(), ends.len());
            let own = ends.iter().filter(|(_, left)| *left).count();
            let left = told.iter().filter(|left| **left).count();
            prop_assert!(left >= own);
            prop_assert!(any_left || left == own);
            prop_assert!(!any_left || left == ends.len());
        }
    }
}
