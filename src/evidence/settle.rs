//! When the arrivals after leaving are over. Pure.

use std::time::Instant;

use crate::config::SettleSettings;

/// The time in which traffic may still arrive, although every pool was left.
#[derive(Clone, Copy, Debug)]
pub struct Settle {
    limits: SettleSettings,
    began: Instant,
    looked: Option<Instant>,
    /// When what has arrived is known to have stopped.
    silent_at: Option<Instant>,
    /// What arrived while nothing could be seen may go on until then.
    doubted_until: Option<Instant>,
}

impl Settle {
    /// Begins at `now`.
    #[must_use]
    pub fn new(limits: SettleSettings, now: Instant) -> Self {
        Self {
            limits,
            began: now,
            looked: None,
            silent_at: None,
            doubted_until: None,
        }
    }

    /// A look that succeeded, at `now`, and when silence is proven if nothing more arrives.
    pub fn looked(&mut self, now: Instant, silent_at: Option<Instant>) {
        self.looked = Some(now);
        self.silent_at = silent_at;
    }

    /// A look that failed, at `now`: what may have arrived is unknown, so the quiet period starts again.
    pub fn blind(&mut self, now: Instant) {
        self.doubted_until = Some(now + self.limits.quiet);
        self.looked = None;
    }

    /// Whether it is over: nothing arrives any more, or its limit has come.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.is_quiet() || now >= self.latest()
    }

    /// Whether nothing has arrived for long enough.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        // Without a look since, silence is only assumed.
        self.looked.is_some_and(|looked| {
            let past = |at: Option<Instant>| at.is_none_or(|at| looked >= at);
            looked >= self.began + self.limits.min
                && past(self.silent_at)
                && past(self.doubted_until)
        })
    }

    /// When it is over at the latest.
    #[must_use]
    pub fn latest(&self) -> Instant {
        self.began + self.limits.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn seconds(min: u64, quiet: u64, max: u64) -> SettleSettings {
        SettleSettings {
            min: Duration::from_secs(min),
            quiet: Duration::from_secs(quiet),
            max: Duration::from_secs(max),
        }
    }

    #[test]
    fn silence_ends_it_only_when_it_was_looked_at() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut settle = Settle::new(seconds(1, 2, 20), start);
        assert!(!settle.is_over(at(5)));
        settle.looked(at(5), None);
        assert!(settle.is_over(at(5)));
    }

    #[test]
    fn an_idle_host_settles_at_the_minimum() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut settle = Settle::new(seconds(1, 4, 20), start);
        settle.looked(at(0), None);
        assert!(!settle.is_over(at(0)));
        settle.looked(at(1), None);
        assert!(settle.is_over(at(1)));
    }

    #[test]
    fn an_arrival_or_a_failed_look_puts_it_off() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut settle = Settle::new(seconds(1, 2, 20), start);
        settle.looked(at(1), Some(at(3)));
        settle.looked(at(2), Some(at(3)));
        assert!(!settle.is_over(at(2)));
        settle.looked(at(3), Some(at(3)));
        assert!(settle.is_over(at(3)));
        settle.blind(at(3));
        assert!(!settle.is_over(at(4)));
        settle.looked(at(4), None);
        assert!(!settle.is_over(at(4)));
        settle.looked(at(5), None);
        assert!(settle.is_over(at(5)));
    }

    #[test]
    fn it_is_bounded() {
        let start = Instant::now();
        let mut settle = Settle::new(seconds(1, 2, 20), start);
        for s in 0..20 {
            let now = start + Duration::from_secs(s);
            settle.looked(now, Some(now + Duration::from_secs(1)));
            assert!(!settle.is_over(now));
        }
        assert!(settle.is_over(start + Duration::from_secs(20)));
    }
}
