use super::*;
use proptest::prelude::*;

const LIMITS: SettleSettings = SettleSettings {
    min: Duration::from_secs(1),
    quiet: Duration::from_secs(2),
    max: Duration::from_secs(20),
};

struct Story {
    start: Instant,
    machine: Machine,
    done: Option<Outcome>,
    /// Whether the pools say at once, when they are asked, that they are left.
    still_left: bool,
}

impl Story {
    fn new(pools: usize) -> Self {
        let start = Instant::now();
        let machine = Machine::new(start, start + Duration::from_secs(60), LIMITS, pools);
        Self {
            start,
            machine,
            done: None,
            still_left: true,
        }
    }

    fn at(&mut self, ms: u64, input: Input) -> Vec<Action> {
        let now = self.start + Duration::from_millis(ms);
        let mut actions = self.machine.handle(now, input);
        if self.still_left && actions.contains(&Action::Recheck) {
            actions.retain(|action| *action != Action::Recheck);
            actions.extend(self.machine.handle(now, Input::Joined { pools: 0 }));
        }
        for action in &actions {
            if let Action::Finish(outcome) = action {
                assert!(self.done.is_none(), "finished twice");
                self.done = Some(*outcome);
            }
        }
        actions
    }
}

fn whole(busy: u64, arrived: bool, oldest_ms: u64) -> Input {
    // Whatever arrives may go on for an hour.
    let later = || Instant::now() + Duration::from_secs(3600);
    Input::Whole {
        busy,
        silent_at: arrived.then(later),
        oldest: (busy > 0).then(|| Duration::from_millis(oldest_ms)),
        cost: Duration::from_millis(1),
    }
}

#[test]
fn an_idle_host_ends_with_its_settle() {
    let mut story = Story::new(1);
    assert_eq!(story.at(0, Input::Tick), [Action::Look(Depth::Whole)]);
    story.at(1, whole(0, false, 0));
    assert_eq!(
        story.at(5, Input::PoolResolved { left: true })[0],
        Action::Enter(Phase::Settling)
    );
    story.at(900, whole(0, false, 0));
    assert_eq!(story.done, None);
    story.at(1010, whole(0, false, 0));
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn nothing_in_flight_while_a_pool_is_not_left_is_not_drained() {
    let mut story = Story::new(2);
    story.at(0, Input::PoolResolved { left: true });
    for ms in (0..59_000).step_by(1000) {
        story.at(ms, whole(0, false, 0));
    }
    assert_eq!(story.done, None);
    assert_eq!(story.machine.phase(), Phase::Leaving);
}

#[test]
fn a_look_that_failed_holds_until_the_deadline_and_is_called_so() {
    let mut story = Story::new(0);
    for ms in (0..60_000).step_by(500) {
        story.at(ms, Input::Blind);
    }
    assert_eq!(story.done, None);
    story.at(60_000, Input::Tick);
    assert_eq!(story.done, Some(Outcome::DeadlineHit));
}

#[test]
fn without_a_settle_what_is_in_flight_at_the_first_look_is_owed_and_nothing_later() {
    let mut story = Story::new(0);
    let limits = SettleSettings {
        min: Duration::ZERO,
        quiet: Duration::ZERO,
        max: Duration::ZERO,
    };
    let deadline = story.start + Duration::from_secs(60);
    story.machine = Machine::new(story.start, deadline, limits, 0);
    story.at(0, Input::Tick);
    assert_eq!(story.machine.phase(), Phase::Waiting);
    // An upload that began before the drain; its last piece has just come.
    story.at(400, whole(1, false, 0));
    let oldest = Duration::from_millis(600);
    story.at(1000, Input::StillBusy { oldest });
    assert_eq!(story.done, None);
    story.at(2000, whole(1, false, 300));
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn a_look_that_hangs_until_the_settle_is_over_counts_as_unknown() {
    let mut story = Story::new(0);
    story.at(0, Input::Tick);
    story.at(1, whole(0, true, 0));
    story.at(51, Input::Tick);
    story.at(52, whole(0, true, 0));
    assert_eq!(story.at(200, Input::Tick), [Action::Look(Depth::Whole)]);
    story.at(20_000, Input::Tick);
    assert_eq!(story.machine.phase(), Phase::Waiting);
    assert_eq!(story.done, None, "the last answer is twenty seconds old");
    story.at(21_000, whole(0, false, 0));
    assert_eq!(story.done, None);
    story.at(21_001, whole(0, false, 0));
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn while_waiting_only_the_oldest_are_looked_at_between_whole_looks() {
    let mut story = Story::new(0);
    story.at(0, Input::Tick);
    story.at(1000, whole(3, false, 1000));
    story.at(2500, whole(3, false, 2500));
    assert_eq!(story.machine.phase(), Phase::Waiting);
    assert_eq!(story.at(2600, Input::Tick), [Action::Look(Depth::Oldest)]);
    story.at(
        2601,
        Input::StillBusy {
            oldest: Duration::from_millis(2600),
        },
    );
    assert_eq!(story.at(7600, Input::Tick), [Action::Look(Depth::Whole)]);
    assert_eq!(
        story.at(7601, whole(0, false, 0)),
        [Action::Look(Depth::Whole)]
    );
    assert_eq!(story.done, None, "one look may have skipped a socket");
    story.at(7602, whole(0, false, 0));
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn with_a_pool_that_could_not_be_left_only_older_requests_are_waited_for() {
    let mut story = Story::new(1);
    story.at(15_000, Input::PoolResolved { left: false });
    for ms in (15_000..35_000).step_by(1000) {
        story.at(ms, whole(5, true, 20_000));
        assert_eq!(story.done, None);
    }
    story.at(35_000, whole(5, true, 20_000));
    assert_eq!(story.machine.phase(), Phase::Waiting);
    story.at(36_000, whole(5, true, 2_000));
    assert_eq!(story.done, None);
    story.at(38_000, whole(5, true, 2_900));
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn a_poller_that_never_stops_holds_no_longer_than_the_settle() {
    let mut story = Story::new(0);
    for ms in (0..=20_000).step_by(500) {
        story.at(ms, whole(1, true, 100));
        assert_eq!(story.done, None);
    }
    assert_eq!(story.machine.phase(), Phase::Waiting);
    story.at(20_500, whole(1, true, 100));
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn a_host_that_was_put_back_leaves_again_and_settles_again() {
    let mut story = Story::new(1);
    story.still_left = false;
    story.at(0, Input::PoolResolved { left: true });
    story.at(1000, whole(0, false, 0));
    assert!(
        story
            .at(2100, whole(0, false, 0))
            .contains(&Action::Recheck)
    );
    assert_eq!(story.done, None);
    let actions = story.at(2200, Input::Joined { pools: 1 });
    assert!(
        actions.contains(&Action::Enter(Phase::Leaving)),
        "{actions:?}"
    );
    story.at(3000, whole(1, true, 10));
    story.at(3100, Input::PoolResolved { left: true });
    story.at(3200, whole(1, true, 10));
    story.at(5000, whole(0, false, 0));
    assert_eq!(story.done, None);
    assert!(
        story
            .at(5300, whole(0, false, 0))
            .contains(&Action::Recheck)
    );
    story.at(5310, Input::Joined { pools: 0 });
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn pools_that_do_not_say_whether_they_are_still_left_hold_nothing_up() {
    let mut story = Story::new(1);
    story.still_left = false;
    story.at(0, Input::PoolResolved { left: true });
    story.at(1000, whole(0, false, 0));
    assert!(
        story
            .at(2100, whole(0, false, 0))
            .contains(&Action::Recheck)
    );
    assert!(story.machine.wake() <= story.start + Duration::from_millis(2100) + PATIENCE);
    story.at(3000, whole(0, false, 0));
    assert_eq!(story.done, None);
    story.at(3601, Input::Tick);
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn a_look_under_way_is_waited_for_when_the_pools_have_answered() {
    let mut story = Story::new(1);
    story.still_left = false;
    story.at(0, Input::PoolResolved { left: true });
    story.at(1000, whole(0, false, 0));
    story.at(2100, whole(0, false, 0));
    let looks = story.at(2200, Input::Tick);
    assert!(looks.contains(&Action::Look(Depth::Whole)), "{looks:?}");
    story.at(2900, Input::Joined { pools: 0 });
    assert_eq!(story.done, None);
    story.at(3000, whole(1, false, 700));
    assert_eq!(story.done, None);
    story.at(3100, Input::Blind);
    assert_eq!(story.done, None);
}

#[test]
fn a_long_wait_asks_the_pools_from_time_to_time() {
    let mut story = Story::new(1);
    story.still_left = false;
    story.at(0, Input::PoolResolved { left: true });
    let mut asked = 0;
    for ms in (0..59_000).step_by(500) {
        let actions = story.at(ms, whole(1, false, ms));
        if actions.contains(&Action::Recheck) {
            asked += 1;
            story.at(ms, Input::Joined { pools: 0 });
        }
    }
    assert_eq!(asked, 5);
}

#[test]
fn traffic_that_goes_on_calls_for_a_stand_in() {
    let mut story = Story::new(1);
    story.at(0, Input::PoolResolved { left: true });
    let mut called = 0;
    for ms in (0..=20_500).step_by(500) {
        let actions = story.at(ms, whole(1, true, ms));
        called += actions.iter().filter(|a| **a == Action::StandIn).count();
    }
    assert_eq!(called, 1);
    story.at(20_500, Input::Joined { pools: 1 });
    assert_eq!(story.machine.phase(), Phase::Leaving);
    story.at(20_600, Input::PoolResolved { left: true });
    story.at(21_000, whole(1, false, 21_000));
    story.at(22_700, whole(0, false, 0));
    story.at(22_800, whole(0, false, 0));
    assert_eq!(story.done, Some(Outcome::Drained));
}

/// What is done with a last resort at hand, where traffic of `ms` age is always in flight from the moment of `owed` on.
fn resort(story: &mut Story, from: u64, until: u64, owed: impl Fn(u64) -> u64) -> Option<u64> {
    (from..=until).step_by(500).find(|ms| {
        let actions = story.at(*ms, whole(1, true, owed(*ms)));
        actions.contains(&Action::LastResort)
    })
}

#[test]
fn what_can_not_be_left_is_served_until_what_is_in_flight_is_done_and_then_turned_away() {
    let mut story = Story::new(1);
    story.machine = story.machine.with_last_resort(true);
    let actions = story.at(1000, Input::PoolResolved { left: false });
    assert!(
        actions.contains(&Action::Enter(Phase::Waiting)),
        "no settle: {actions:?}"
    );
    // One long request until 9 s; after that only ever new ones.
    let oldest = |ms: u64| if ms < 9000 { ms } else { 300 };
    assert_eq!(resort(&mut story, 1000, 30_000, oldest), Some(9000));
    story.at(9000, Input::Joined { pools: 1 });
    story.at(9100, Input::PoolResolved { left: true });
    assert_eq!(story.machine.phase(), Phase::Settling);
    for ms in [10_000, 10_200, 10_300] {
        story.at(ms, whole(0, false, 0));
    }
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn the_last_resort_leaves_time_to_see_what_comes_of_it_and_is_none_where_nobody_can() {
    let mut story = Story::new(1);
    story.machine = story.machine.with_last_resort(true);
    story.at(1000, Input::PoolResolved { left: false });
    assert_eq!(resort(&mut story, 1000, 59_000, |ms| ms), Some(40_000));
    // Nobody could: what is owed is waited for as before.
    assert_eq!(resort(&mut story, 40_500, 50_000, |ms| ms), None);
    story.at(50_500, whole(1, true, 100));
    assert_eq!(story.done, Some(Outcome::Drained));
}

#[test]
fn traffic_that_goes_on_though_every_pool_is_left_is_turned_away_once_what_is_owed_is_done() {
    let mut story = Story::new(1);
    story.machine = story.machine.with_last_resort(true);
    story.at(0, Input::PoolResolved { left: true });
    let oldest = |ms: u64| if ms < 25_000 { ms } else { 300 };
    assert_eq!(resort(&mut story, 0, 40_000, oldest), Some(25_000));
}

#[test]
fn skip_and_abort_end_it_at_once_and_nothing_happens_afterwards() {
    for (input, outcome) in [
        (Input::Skip, Outcome::Skipped),
        (Input::Abort, Outcome::Aborted),
    ] {
        let mut story = Story::new(3);
        story.at(0, input);
        assert_eq!(story.done, Some(outcome));
        assert_eq!(story.at(1, whole(0, false, 0)), []);
    }
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        any::<bool>().prop_map(|left| Input::PoolResolved { left }),
        (0u64..3, any::<bool>(), 0u64..70_000)
            .prop_map(|(busy, arrived, oldest)| whole(busy, arrived, oldest)),
        (0u64..70_000).prop_map(|ms| Input::StillBusy {
            oldest: Duration::from_millis(ms)
        }),
        Just(Input::Blind),
        Just(Input::Tick),
    ]
}

proptest! {
    #[test]
    fn never_drained_while_the_last_look_is_unknown_or_busy(
        steps in proptest::collection::vec((0u64..3000, inputs()), 1..200), pools in 0usize..3,
    ) {
        let mut story = Story::new(pools);
        let mut ms = 0;
        let mut resolved = 0;
        let mut all_left = true;
        let mut zero = false;
        for (gap, input) in steps {
            ms += gap;
            match input {
                Input::PoolResolved { left } => {
                    resolved += 1;
                    all_left &= left;
                }
                Input::Whole { busy, .. } => zero = busy == 0,
                Input::StillBusy { .. } | Input::Blind => zero = false,
                _ => {}
            }
            story.at(ms, input);
            if let Some(outcome) = story.done {
                match outcome {
                    Outcome::Drained => {
                        prop_assert!(resolved >= pools);
                        // Only where traffic goes on without an end may something be in flight.
                        prop_assert!(zero || !all_left || Duration::from_millis(ms) >= LIMITS.max);
                    }
                    Outcome::DeadlineHit => prop_assert!(ms >= 60_000),
                    other => prop_assert!(false, "{other:?}"),
                }
                break;
            }
            prop_assert!(ms < 60_000, "the deadline passed");
            prop_assert!(story.machine.wake() <= story.machine.deadline());
        }
    }
}
