use super::*;
use std::net::Ipv4Addr;

const LIMITS: SettleSettings = SettleSettings {
    min: Duration::from_secs(1),
    quiet: Duration::from_secs(4),
    max: Duration::from_secs(20),
};

/// Requests of one peer, each at so many milliseconds and of so many bytes.
struct Lab {
    start: Instant,
    arrivals: Arrivals,
    ms: u64,
}

impl Lab {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            arrivals: Arrivals::new(LIMITS),
            ms: 0,
        }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn arrive(&mut self, ms: u64, peer: u8, size: u32) {
        self.ms = ms;
        self.arrivals.add(Arrival {
            from: Origin::Address(Ipv4Addr::new(10, 0, 0, peer).into()),
            port: 8000,
            size,
            cookie: ms,
            at: self.at(ms),
            slack: Duration::from_millis(50),
            live: true,
        });
        self.arrivals.end_look(self.at(ms));
    }

    fn all(&mut self, times: impl IntoIterator<Item = u64>, peer: u8, size: u32) {
        for ms in times {
            self.arrive(ms, peer, size);
        }
    }

    /// Milliseconds from the last arrival, of anybody, until silence is proven.
    fn needed(&self) -> u64 {
        let silent_at = self.arrivals.judge(self.at(self.ms)).silent_at.unwrap();
        let needed = silent_at.duration_since(self.at(self.ms));
        u64::try_from(needed.as_millis()).unwrap()
    }

    fn apart(&self, ms: u64) -> usize {
        let pollers = self.arrivals.judge(self.at(ms)).pollers;
        pollers.iter().filter(|poller| poller.told_apart).count()
    }
}

#[test]
fn without_arrivals_it_is_silent() {
    let lab = Lab::new();
    assert_eq!(lab.arrivals.judge(lab.at(0)), Traffic::default());
}

#[test]
fn a_busy_pool_is_silent_after_the_minimum() {
    let mut lab = Lab::new();
    for ms in (0..1500).step_by(50) {
        lab.arrive(ms, 1, 100 + u32::try_from(ms % 7).unwrap());
    }
    assert_eq!(lab.needed(), 1000);
}

#[test]
fn what_is_sparse_needs_longer_than_its_longest_gap() {
    let mut lab = Lab::new();
    lab.arrive(0, 1, 100);
    assert_eq!(lab.needed(), 4000);
    lab.arrive(3000, 1, 200);
    assert_eq!(lab.needed(), 6000);
    lab.arrive(4500, 1, 300);
    assert_eq!(lab.needed(), 6000);
    lab.arrive(19_500, 1, 300);
    assert_eq!(lab.needed(), 20_000, "bounded by the maximum");
}

#[test]
fn a_burst_is_no_dense_traffic() {
    let mut lab = Lab::new();
    for burst in [0, 3000] {
        lab.all((burst..burst + 500).step_by(50), 1, 100);
    }
    assert!(lab.needed() > 3000);
    let mut lab = Lab::new();
    lab.all((0..600).step_by(50), 1, 100);
    assert_eq!(lab.needed(), 4000);
    let mut lab = Lab::new();
    // All at once, and each a stream of its own.
    (0..60).for_each(|size| lab.arrive(0, 1, 100 + size));
    assert_eq!(lab.needed(), 4000);
}

#[test]
fn a_slow_balancer_does_not_hide_among_busy_ones() {
    let mut lab = Lab::new();
    lab.arrive(0, 2, 300);
    lab.arrive(2500, 2, 310);
    for ms in (0..3000).step_by(50) {
        lab.arrive(ms, 1, 100 + u32::try_from(ms % 7).unwrap());
    }
    assert_eq!(lab.needed(), 2500 + 5000 - 2950);
}

#[test]
fn clients_without_a_balancer_are_judged_as_one() {
    let mut lab = Lab::new();
    for n in 0..60u8 {
        lab.arrive(u64::from(n) * 60, n, 100 + u32::from(n));
    }
    assert_eq!(lab.needed(), 1000);
}

#[test]
fn a_poller_that_goes_on_after_the_others_stopped_counts_no_more() {
    let mut lab = Lab::new();
    for ms in (0..6000).step_by(50) {
        if ms <= 3000 {
            lab.arrive(ms, 1, 100 + u32::try_from(ms % 7).unwrap());
        }
        if ms % 1000 == 0 {
            // A look sees a closed connection up to its own pace late.
            lab.arrive(ms + ms % 3000 / 50, 9, 80);
        }
    }
    assert_eq!(lab.apart(3100), 0, "the others have not stopped");
    assert_eq!(lab.apart(5100), 1);
    let traffic = lab.arrivals.judge(lab.at(5100));
    assert_eq!(traffic.silent_at, Some(lab.at(4000)));
    assert_eq!(traffic.pollers[0].period.as_millis() / 10, 100);
}

#[test]
fn one_client_every_second_is_no_poller_while_nobody_else_stopped() {
    let mut lab = Lab::new();
    lab.all((0..17_000).step_by(1000), 1, 80);
    assert_eq!(lab.apart(16_500), 0);
    assert_eq!(lab.arrivals.judge(lab.at(16_500)).pollers.len(), 1);
    assert_eq!(lab.needed(), 3000);
    // Nor when a single request came from elsewhere.
    lab.arrive(3000, 2, 70);
    assert_eq!(lab.apart(16_500), 0);
}

#[test]
fn a_rhythm_is_broken_by_any_other_size_or_time() {
    let others = |lab: &mut Lab| {
        for ms in (0..2000).step_by(50) {
            lab.arrive(ms, 1, 100 + u32::try_from(ms % 7).unwrap());
        }
    };
    for (times, sizes) in [
        ([0, 1000, 2000, 3400, 4400], [80; 5]),
        ([0, 400, 800, 1200, 1600], [80; 5]),
        ([0, 1000, 2000, 3000, 4000], [80, 81, 82, 83, 84]),
        ([0, 1000, 2000, 3000, 4000], [5000; 5]),
    ] {
        let mut lab = Lab::new();
        others(&mut lab);
        for (ms, size) in times.into_iter().zip(sizes) {
            lab.arrive(ms, 9, size);
        }
        assert_eq!(lab.apart(4100), 0, "{times:?} {sizes:?}");
    }
}

#[test]
fn what_came_before_the_first_look_only_says_when_it_came() {
    let mut lab = Lab::new();
    let mut arrival = Arrival {
        from: Origin::Unknown,
        port: 8000,
        size: 0,
        cookie: 1,
        at: lab.at(0),
        slack: Duration::ZERO,
        live: false,
    };
    lab.arrivals.add(arrival);
    arrival.at = lab.at(3000);
    lab.arrivals.add(arrival);
    assert_eq!(lab.arrivals.end_look(lab.at(3000)), 0);
    lab.ms = 3000;
    assert_eq!(lab.needed(), 4000);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut lab = Lab::new();
    for size in 0..40_000 {
        lab.arrive(u64::from(size) / 100, 1, size);
    }
    assert!(lab.arrivals.kept.len() <= MOST);
    lab.arrive(500_000, 1, 1);
    assert_eq!(lab.arrivals.kept.len(), 1);
}
