//! When the arrivals after leaving are over. Pure.

use std::time::Instant;

use crate::config::SettleSettings;

/// The time in which traffic may still arrive, although every pool was left.
#[derive(Clone, Copy, Debug)]
pub struct Settle {
    limits: SettleSettings,
    began: Instant,
    last_arrival: Option<Instant>,
    looked: Option<Instant>,
}

impl Settle {
    /// Begins at `now`.
    #[must_use]
    pub fn new(limits: SettleSettings, now: Instant) -> Self {
        Self {
            limits,
            began: now,
            last_arrival: None,
            looked: None,
        }
    }

    /// A look that succeeded, at `now`, and whether anything new had arrived since the look before.
    pub fn looked(&mut self, now: Instant, arrived: bool) {
        if arrived {
            self.last_arrival = Some(now);
        }
        self.looked = Some(now);
    }

    /// A look that failed, at `now`: what may have arrived is unknown, so the quiet period starts again.
    pub fn blind(&mut self, now: Instant) {
        self.last_arrival = Some(now);
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
        let quiet_since = self.last_arrival.unwrap_or(self.began);
        // Without a look since, silence is only assumed.
        self.looked.is_some_and(|looked| {
            looked >= self.began + self.limits.min && looked >= quiet_since + self.limits.quiet
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
        settle.looked(at(5), false);
        assert!(settle.is_over(at(5)));
    }

    #[test]
    fn an_arrival_or_a_failed_look_starts_the_quiet_period_again() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut settle = Settle::new(seconds(1, 2, 20), start);
        settle.looked(at(1), true);
        settle.looked(at(2), false);
        assert!(!settle.is_over(at(2)));
        settle.looked(at(3), false);
        assert!(settle.is_over(at(3)));
        settle.blind(at(3));
        assert!(!settle.is_over(at(4)));
        settle.looked(at(4), false);
        assert!(!settle.is_over(at(4)));
        settle.looked(at(5), false);
        assert!(settle.is_over(at(5)));
    }

    #[test]
    fn it_is_bounded_since_health_checks_never_stop() {
        let start = Instant::now();
        let mut settle = Settle::new(seconds(1, 2, 20), start);
        for s in 0..20 {
            settle.looked(start + Duration::from_secs(s), true);
            assert!(!settle.is_over(start + Duration::from_secs(s)));
        }
        assert!(settle.is_over(start + Duration::from_secs(20)));
    }
}
