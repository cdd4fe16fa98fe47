//! A little about each of many sockets, by the kernel's cookie, in as little memory as that takes. Pure.

/// Values by cookie. Those that are not touched from one [`Table::begin`] to the next [`Table::end`] are forgotten.
///
/// A map of the standard library takes up to twice the room: its slots are a power of two, and hold the values themselves. Here only
/// the index is sparse, 4 bytes a slot.
#[derive(Debug)]
pub(super) struct Table<V> {
    cookies: Vec<Cookie>,
    values: Vec<V>,
    /// Where a value is, at the place that its cookie's hash names, or in the next free one after it.
    index: Vec<u32>,
}

/// The low 47 bits, which a host that opens 100 000 sockets a second uses up in 44 years; and whether its value was touched in this
/// round.
#[derive(Clone, Copy, Debug)]
struct Cookie([u8; 6]);

impl Cookie {
    const TOUCHED: u8 = 1 << 7;

    /// Touched.
    fn of(cookie: u64) -> Self {
        let [_, _, mut low @ ..] = cookie.to_be_bytes();
        low[0] |= Self::TOUCHED;
        Self(low)
    }

    fn touch(&mut self, touched: bool) {
        if touched {
            self.0[0] |= Self::TOUCHED;
        } else {
            self.0[0] &= !Self::TOUCHED;
        }
    }

    fn is_touched(self) -> bool {
        self.0[0] & Self::TOUCHED != 0
    }

    fn is(mut self, mut other: Self) -> bool {
        self.touch(true);
        other.touch(true);
        self.0 == other.0
    }

    /// Cookies are counted up: multiples of the golden ratio then lie far apart (Fibonacci hashing), but for their low bits.
    fn hash(mut self) -> usize {
        self.touch(false);
        let [a, b, c, d, e, f] = self.0;
        let cookie = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let [high @ .., _, _, _, _] = cookie.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        usize::try_from(u32::from_be_bytes(high)).unwrap_or_default()
    }
}

const FREE: u32 = u32::MAX;
/// Places of the smallest index: a power of two.
const FEWEST: usize = 16;
/// Room is made for so many values at least.
const STEP: usize = 256;
/// And for one part in this many of those that are there.
const STEP_SHARE: usize = 64;

impl<V: Copy> Table<V> {
    pub(super) fn new() -> Self {
        Self {
            cookies: Vec::new(),
            values: Vec::new(),
            index: vec![FREE; FEWEST],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn get(&self, cookie: u64) -> Option<&V> {
        self.values.get(self.find(Cookie::of(cookie)).ok()?)
    }

    pub(super) fn get_mut(&mut self, cookie: u64) -> Option<&mut V> {
        let at = self.find(Cookie::of(cookie)).ok()?;
        self.values.get_mut(at)
    }

    /// The value, which is kept in this round.
    pub(super) fn touch(&mut self, cookie: u64) -> Option<&mut V> {
        let at = self.find(Cookie::of(cookie)).ok()?;
        self.cookies[at].touch(true);
        self.values.get_mut(at)
    }

    /// Adds the value of a cookie that has none, and touches it.
    pub(super) fn insert(&mut self, cookie: u64, value: V) {
        let cookie = Cookie::of(cookie);
        if self.len() == self.values.capacity() {
            let more = STEP.max(self.len() / STEP_SHARE);
            self.cookies.reserve_exact(more);
            self.values.reserve_exact(more);
        }
        self.cookies.push(cookie);
        self.values.push(value);
        // Seven of eight places are taken at most: a search must come upon a free one.
        if self.len() > self.index.len() / 8 * 7 {
            self.build_index(self.index.len() * 2);
        } else if let Err(free) = self.find(cookie) {
            self.index[free] = place(self.len() - 1);
        }
    }

    /// Begins a round.
    pub(super) fn begin(&mut self) {
        for cookie in &mut self.cookies {
            cookie.touch(false);
        }
    }

    /// Ends a round.
    pub(super) fn end(&mut self) {
        let before = self.len();
        let mut kept = 0;
        for at in 0..before {
            if self.cookies[at].is_touched() {
                self.cookies[kept] = self.cookies[at];
                self.values[kept] = self.values[at];
                kept += 1;
            }
        }
        self.cookies.truncate(kept);
        self.values.truncate(kept);
        if kept < before {
            self.build_index(self.index.len());
        }
    }

    fn build_index(&mut self, places: usize) {
        self.index.clear();
        self.index.reserve_exact(places);
        self.index.resize(places, FREE);
        for at in 0..self.len() {
            if let Err(free) = self.find(self.cookies[at]) {
                self.index[free] = place(at);
            }
        }
    }

    /// Where the value is, or the free place in the index where it would be found.
    fn find(&self, cookie: Cookie) -> Result<usize, usize> {
        let mut slot = cookie.hash() % self.index.len();
        loop {
            match usize::try_from(self.index[slot]) {
                Ok(at) if self.cookies.get(at).is_some_and(|one| one.is(cookie)) => return Ok(at),
                _ if self.index[slot] == FREE => return Err(slot),
                _ => slot = (slot + 1) % self.index.len(),
            }
        }
    }
}

fn place(at: usize) -> u32 {
    // Nobody has that many; one without a place is as one that was never seen.
    u32::try_from(at).unwrap_or(FREE)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_map_does(rounds in prop::collection::vec(prop::collection::vec(0_u64..400, 0..300), 1..6)) {
            let mut table = Table::new();
            let mut map: HashMap<u64, (usize, usize)> = HashMap::new();
            for (round, cookies) in rounds.iter().enumerate() {
                table.begin();
                for &cookie in cookies {
                    match table.touch(cookie) {
                        Some(value) => *value += 1,
                        None => table.insert(cookie, 0),
                    }
                    let entry = map.entry(cookie).and_modify(|(value, _)| *value += 1);
                    entry.or_insert((0, round)).1 = round;
                }
                table.end();
                map.retain(|_, (_, touched)| *touched == round);
                for cookie in 0..400 {
                    let value = map.get(&cookie).map(|(value, _)| value);
                    prop_assert_eq!(table.get(cookie), value);
                }
                prop_assert_eq!(table.len(), map.len());
            }
        }
    }
}
