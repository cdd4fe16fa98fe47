//! The logic of slots, apart from where they are kept. Pure.
//!
//! The slots are one entry: the holders. It is changed only by comparing and swapping, so that of two who see the same free slot one gets it.
//! Who lives is known apart from it; a holder that does not is passed over, and dropped by the next one who takes a slot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The entry, as Consul's own semaphore writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    /// How many there were for whoever wrote it last.
    pub(super) limit: u64,
    #[serde(default)]
    pub(super) holders: BTreeMap<String, bool>,
}

/// What the entry means for one who wants a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds one.
    Held,
    /// One is free: swap the entry for this one.
    Free(Entry),
    /// All are held.
    Full,
}

impl Entry {
    /// Those who hold a slot and live.
    pub(super) fn living<'e>(
        &'e self,
        alive: &'e BTreeSet<String>,
    ) -> impl Iterator<Item = &'e String> {
        self.holders.keys().filter(|holder| alive.contains(*holder))
    }

    /// Whether `me` gets one of `slots`.
    pub(super) fn judge(&self, alive: &BTreeSet<String>, me: &str, slots: u64) -> Verdict {
        if self.holders.contains_key(me) {
            return Verdict::Held;
        }
        let holders: BTreeMap<String, bool> =
            self.living(alive).map(|id| (id.clone(), true)).collect();
        if u64::try_from(holders.len()).unwrap_or(u64::MAX) >= slots {
            return Verdict::Full;
        }
        let mut taken = Self {
            limit: slots,
            holders,
        };
        taken.holders.insert(me.to_owned(), true);
        Verdict::Free(taken)
    }

    /// The entry without `me`; nothing where it holds none.
    pub(super) fn without(&self, me: &str) -> Option<Self> {
        let mut rest = self.clone();
        rest.holders.remove(me).map(|_| rest)
    }
}

/// How many may be out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// So many.
    Count(u64),
    /// So many of a hundred hosts; at least one.
    Percent(u64),
}

impl Slots {
    /// How many of a fleet of `hosts`.
    #[must_use]
    pub fn of(self, hosts: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(share) => (hosts.saturating_mul(share) / 100).max(1),
        }
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

impl Serialize for Slots {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Read)
    }
}

struct Read;

impl de::Visitor<'_> for Read {
    type Value = Slots;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of hosts like 2, or a share like \"20%\"")
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<Slots, E> {
        match u64::try_from(count) {
            Ok(count) if count > 0 => Ok(Slots::Count(count)),
            _ => Err(E::invalid_value(de::Unexpected::Signed(count), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<Slots, E> {
        self.visit_i64(i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Slots, E> {
        let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n > 0);
        let read = match text.strip_suffix('%') {
            Some(share) => number(share).filter(|n| *n <= 100).map(Slots::Percent),
            None => number(text).map(Slots::Count),
        };
        read.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// When one who waits asks again: soon at first, then every eight seconds at the latest, never all at one moment. What many ask for is free only
/// as long as the next of them takes to ask, so that a thousand who wait lose no time by it.
#[derive(Clone, Copy, Debug)]
pub struct Pace(Duration);

impl Pace {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(8);

    /// Of one who has not asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The next pause; `dice` is any number that differs between hosts.
    pub fn next(&mut self, dice: u32) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(Self::LONGEST);
        whole / 2 + whole / 2 * (dice % 1024) / 1024
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_are_a_number_or_a_share() {
        let read = |text: &str| serde_json::from_str::<Slots>(text);
        assert_eq!(read("2").unwrap(), Slots::Count(2));
        assert_eq!(read("\"20%\"").unwrap(), Slots::Percent(20));
        assert_eq!(
            serde_json::to_string(&Slots::Percent(20)).unwrap(),
            "\"20%\""
        );
        assert_eq!(read("\"3\"").unwrap(), Slots::Count(3));
        for text in ["0", "-1", "\"0%\"", "\"101%\"", "\"x\"", "1.5"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(Slots::Percent(20).of(3), 1);
        assert_eq!(Slots::Percent(20).of(10), 2);
    }

    #[test]
    fn a_pause_grows_to_its_bound_and_differs() {
        let mut pace = Pace::new();
        let pauses: Vec<Duration> = (0..20).map(|dice| pace.next(dice * 97)).collect();
        assert!(pauses[0] >= Pace::FIRST / 2);
        assert!(pauses.iter().all(|pause| *pause <= Pace::LONGEST));
        assert!(pauses[19] >= Pace::LONGEST / 2);
    }

    /// What one of many hosts does next.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Read(usize),
        Swap(usize),
        GiveBack(usize),
        Die(usize),
        Expire(usize),
    }

    fn steps(hosts: usize) -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..hosts).prop_map(Step::Read),
            (0..hosts).prop_map(Step::Swap),
            (0..hosts).prop_map(Step::GiveBack),
            (0..hosts).prop_map(Step::Die),
            (0..hosts).prop_map(Step::Expire),
        ]
    }

    proptest! {
        /// Whatever is read when, and whoever dies: never more hold a slot and live than there are, and one that is free can be taken.
        #[test]
        fn never_more_than_there_are(steps in prop::collection::vec(steps(6), 1..200), slots in 1u64..4) {
            let ids: Vec<String> = (0..6).map(|n| format!("host{n}")).collect();
            let mut alive: BTreeSet<String> = ids.iter().cloned().collect();
            let (mut entry, mut index) = (Entry::default(), 0);
            let mut wants: Vec<Option<(u64, Entry)>> = vec![None; 6];
            let mut dead = [false; 6];
            for step in steps {
                match step {
                    Step::Read(n) if !dead[n] => {
                        wants[n] = match entry.judge(&alive, &ids[n], slots) {
                            Verdict::Free(taken) => Some((index, taken)),
                            Verdict::Held | Verdict::Full => None,
                        };
                    }
                    Step::Swap(n) if !dead[n] => {
                        if let Some((seen, taken)) = wants[n].take() && seen == index {
                            entry = taken;
                            index += 1;
                        }
                    }
                    Step::GiveBack(n) if !dead[n] => {
                        if let Some(rest) = entry.without(&ids[n]) {
                            entry = rest;
                            index += 1;
                        }
                    }
                    Step::Die(n) => dead[n] = true,
                    Step::Expire(n) if dead[n] => { alive.remove(&ids[n]); }
                    _ => {}
                }
                prop_assert!(entry.living(&alive).count() as u64 <= slots);
            }
            // Nobody who died blocks the others for ever.
            for (n, id) in ids.iter().enumerate() {
                if dead[n] {
                    alive.remove(id);
                }
            }
            for (n, id) in ids.iter().enumerate() {
                if !dead[n] && let Some(rest) = entry.without(id) {
                    entry = rest;
                }
            }
            prop_assert!(matches!(entry.judge(&alive, "another", slots), Verdict::Free(_)));
        }
    }
}
