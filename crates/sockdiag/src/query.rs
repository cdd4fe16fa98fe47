//! What to ask for.

use crate::TcpState;

/// The family of a socket as the program created it; it says nothing about the packets of a v4-mapped one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`, and so also every IPv4 connection to a dual-stack listener ("v4-mapped").
    V6,
}

impl Family {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }
}

/// Which families a dump covers. The kernel keeps them apart: each is a dump of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Families {
    /// IPv4 sockets only. IPv4 clients of a dual-stack listener are missing from it.
    V4,
    /// IPv6 sockets only, v4-mapped ones included.
    V6,
    /// First the IPv4, then the IPv6 sockets.
    #[default]
    Both,
}

impl Families {
    pub(crate) const fn each(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Both => &[Family::V4, Family::V6],
        }
    }
}

/// A set of TCP states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct States(u32);

impl States {
    /// No state: a dump without rows.
    pub const NONE: Self = Self(0);
    /// Every state but [`TcpState::BoundInactive`], which costs a walk of its own and must be asked for.
    pub const ALL: Self = Self(0x1ffe);

    /// The set of the given states.
    #[must_use]
    pub fn of(states: &[TcpState]) -> Self {
        states
            .iter()
            .fold(Self::NONE, |set, state| set.with(*state))
    }

    /// The set and `state`. Numbers beyond the kernel's 32 bits are left out.
    #[must_use]
    pub fn with(self, state: TcpState) -> Self {
        Self(self.0 | Self::bits_of(state))
    }

    /// The set but for `state`.
    #[must_use]
    pub fn without(self, state: TcpState) -> Self {
        Self(self.0 & !Self::bits_of(state))
    }

    /// Whether `state` belongs to the set.
    #[must_use]
    pub fn contains(self, state: TcpState) -> bool {
        self.0 & Self::bits_of(state) != 0
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// A half-open connection is `NEW_SYN_RECV` in the table and `SYN_RECV` in the answer: the two go together.
    fn bits_of(state: TcpState) -> u32 {
        match state {
            TcpState::SynRecv | TcpState::NewSynRecv => 1 << 3 | 1 << 12,
            other => 1u32.checked_shl(u8::from(other).into()).unwrap_or(0),
        }
    }
}

/// A request for all sockets that pass every filter. The kernel filters, so what is left out costs almost nothing.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The families, both by default.
    pub families: Families,
    /// The states, [`States::ALL`] by default.
    pub states: States,
    /// Local ports in host order, in any order; empty: all. Since Linux 4.16. Neighbouring ports count as one; room is
    /// for 5461 that aren't neighbours, or fewer when `cgroups` takes some of it. Beyond that the dump fails with
    /// [`Error::FilterTooLong`](crate::Error::FilterTooLong).
    pub ports: &'a [u16],
    /// Ids of cgroups, version 2: the inode of the cgroup's directory; empty: all. Exact, so children need their own id.
    /// Since Linux 5.8, else [`Error::Unsupported`](crate::Error::Unsupported). Rows in `TIME_WAIT` and `SYN_RECV`
    /// have no cgroup in the kernel and never pass.
    pub cgroups: &'a [u64],
    /// Whether rows carry [`Info`](crate::Info); without it a dump takes about three quarters of the time.
    pub info: bool,
}

impl Default for Query<'_> {
    fn default() -> Self {
        Self {
            families: Families::Both,
            states: States::ALL,
            ports: &[],
            cgroups: &[],
            info: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{States, TcpState};

    #[test]
    fn half_open_connections_are_asked_for_by_both_numbers() {
        assert_eq!(States::of(&[TcpState::SynRecv]).bits(), 0x1008);
        assert_eq!(States::ALL.without(TcpState::NewSynRecv).bits(), 0x0ff6);
    }

    #[test]
    fn all_holds_every_known_state_but_the_bound_ones() {
        for number in 1..=12 {
            assert!(States::ALL.contains(TcpState::from(number)), "{number}");
        }
        assert!(!States::ALL.contains(TcpState::BoundInactive));
        assert_eq!(States::NONE.with(TcpState::Unknown(200)), States::NONE);
    }
}
