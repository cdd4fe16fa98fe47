//! What a signal means for the program. Pure.

/// How far the program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has asked it to end.
    Serving,
    /// It is drained; this signal is passed on afterwards.
    Draining(i32),
    /// The signal was passed on.
    Ending,
}

/// What to do about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Pass it on.
    Forward(i32),
    /// Drain first.
    Drain,
    /// Somebody is in a hurry: end the drain, and pass it on at once.
    Hurry(i32),
}

impl Stage {
    /// What `signal` means, where those in `drain_on` drain. `drained` tells whether there is nothing left to drain, since the whole
    /// host is drained; it is asked only where that counts.
    pub(super) fn signal(
        &mut self,
        signal: i32,
        drain_on: &[i32],
        drained: impl FnOnce() -> bool,
    ) -> Act {
        if !drain_on.contains(&signal) {
            return Act::Forward(signal);
        }
        match self {
            Self::Serving if drained() => {
                *self = Self::Ending;
                Act::Forward(signal)
            }
            Self::Serving => {
                *self = Self::Draining(signal);
                Act::Drain
            }
            Self::Draining(_) => {
                *self = Self::Ending;
                Act::Hurry(signal)
            }
            Self::Ending => Act::Forward(signal),
        }
    }

    /// The drain has ended, however it did: the signal to pass on, once.
    pub(super) fn drained(&mut self) -> Option<i32> {
        let Self::Draining(signal) = *self else {
            return None;
        };
        *self = Self::Ending;
        Some(signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: i32 = 15;
    const QUIT: i32 = 3;
    const HUP: i32 = 1;

    #[test]
    fn the_first_drains_and_the_second_is_passed_on_at_once() {
        let mut stage = Stage::Serving;
        let signal = |stage: &mut Stage, n| stage.signal(n, &[TERM, QUIT], || false);
        assert_eq!(signal(&mut stage, HUP), Act::Forward(HUP));
        assert_eq!(signal(&mut stage, TERM), Act::Drain);
        assert_eq!(signal(&mut stage, HUP), Act::Forward(HUP));
        assert_eq!(signal(&mut stage, QUIT), Act::Hurry(QUIT));
        assert_eq!(signal(&mut stage, TERM), Act::Forward(TERM));
        assert_eq!(stage.drained(), None);
    }

    #[test]
    fn the_end_of_the_drain_passes_its_signal_on_once() {
        let mut stage = Stage::Serving;
        assert_eq!(stage.drained(), None);
        assert_eq!(stage.signal(QUIT, &[QUIT], || false), Act::Drain);
        assert_eq!(stage.drained(), Some(QUIT));
        assert_eq!(stage.drained(), None);
    }

    #[test]
    fn on_a_drained_host_nothing_is_waited_for() {
        let mut stage = Stage::Serving;
        assert_eq!(stage.signal(HUP, &[TERM], || true), Act::Forward(HUP));
        assert_eq!(stage, Stage::Serving);
        assert_eq!(stage.signal(TERM, &[TERM], || true), Act::Forward(TERM));
        assert_eq!(stage, Stage::Ending);
    }
}
