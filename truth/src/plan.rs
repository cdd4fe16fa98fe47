//! What a request asks its server to do. Travels in the request's path, so proxies carry it unchanged.

use std::fmt;
use std::time::Duration;

/// How to answer one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Time between the whole request and the answer, milliseconds.
    pub(crate) wait: u64,
    /// Bytes of the answer's body, of each part if there are parts.
    pub(crate) size: usize,
    /// Parts of a chunked answer; 0: one answer with a length.
    pub(crate) parts: u64,
    /// Time between two parts, milliseconds; without parts, between the header and the body.
    pub(crate) gap: u64,
    /// Whether it is answered before its body was read.
    pub(crate) early: bool,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            wait,
            size,
            parts,
            gap,
            early,
        } = self;
        let early = u8::from(*early);
        write!(f, "/{wait}/{size}/{parts}/{gap}/{early}")
    }
}

impl Plan {
    /// Reads it back; none if a number is missing.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut numbers = path.strip_prefix('/')?.split('/').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            wait: next()?,
            size: usize::try_from(next()?).ok()?,
            parts: next()?,
            gap: next()?,
            early: next()? == 1,
        })
    }

    /// Answered in one piece after `wait` milliseconds.
    pub(crate) const fn after(wait: u64, size: usize) -> Self {
        Self {
            wait,
            size,
            parts: 0,
            gap: 0,
            early: false,
        }
    }

    /// The gap as a duration.
    pub(crate) const fn gap(&self) -> Duration {
        Duration::from_millis(self.gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_journey() {
        let plan = Plan {
            wait: 300,
            size: 7,
            parts: 3,
            gap: 50,
            early: true,
        };
        assert_eq!(Plan::parse(&plan.to_string()), Some(plan));
        assert_eq!(Plan::parse("/favicon.ico"), None);
    }
}
