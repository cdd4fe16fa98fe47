//! A thousand hosts told to drain at once, on the slot logic alone: a registry that swaps one entry at a time, hosts that ask at its pace, and time
//! that is only counted. The figures are those of `docs/fleet.md`.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use super::semaphore::{Entry, Pace, Verdict};

/// One way to the registry and back.
const TRIP: u64 = 5;
/// What a host is out for: its drain, its reboot, its rejoin.
const OUT: (u64, u64) = (60_000, 30_000);
/// A dead holder's session ends so long after its last word.
const EXPIRE: u64 = 1_800_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Ask,
    Swap,
    Return,
    Expire,
}

struct Host {
    pace: Pace,
    seen: Option<(u64, Entry)>,
    enrolled: bool,
    dies: bool,
}

/// What came of it.
#[derive(Debug)]
struct Figures {
    /// When the last one was back, in ms.
    took: u64,
    requests: u64,
    /// The most in any one second, those of the first second apart.
    busiest: u64,
    first: u64,
    lost_swaps: u64,
    most_out: usize,
    /// The part of all slots' time in which they were held, in percent.
    used: u64,
}

fn dice(state: &mut u64) -> u32 {
    // xorshift: the same in every run.
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    u32::try_from(*state >> 33).unwrap_or_default()
}

fn simulate(hosts: usize, slots: u64, dead: usize) -> Figures {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let ids: Vec<String> = (0..hosts).map(|n| format!("{n:04}")).collect();
    let mut all: Vec<Host> = (0..hosts)
        .map(|n| Host {
            pace: Pace::new(),
            seen: None,
            enrolled: false,
            dies: n % hosts.max(1) < dead,
        })
        .collect();
    let mut alive: BTreeSet<String> = ids.iter().cloned().collect();
    let (mut entry, mut index) = (Entry::default(), 0u64);
    let mut queue = BinaryHeap::new();
    for n in 0..hosts {
        // Nobody's clock is exact, nor the tool that tells them all.
        queue.push(Reverse((u64::from(dice(&mut state)) % 1000, n, Act::Ask)));
    }
    let mut per_second = std::collections::BTreeMap::new();
    let mut figures = Figures {
        took: 0,
        requests: 0,
        busiest: 0,
        first: 0,
        lost_swaps: 0,
        most_out: 0,
        used: 0,
    };
    let (mut held, mut done) = (0u64, 0);
    while let Some(Reverse((now, n, act))) = queue.pop() {
        let mut request = |count: u64| {
            figures.requests += count;
            *per_second.entry(now / 1000).or_insert(0) += count;
        };
        match act {
            Act::Ask => {
                request(1);
                match entry.judge(&alive, &ids[n], slots) {
                    Verdict::Free(taken) => {
                        // A session and its entry come first, and it looks again.
                        request(if all[n].enrolled { 1 } else { 3 });
                        all[n].enrolled = true;
                        all[n].seen = Some((index, taken));
                        queue.push(Reverse((now + 3 * TRIP, n, Act::Swap)));
                    }
                    Verdict::Held | Verdict::Full => {
                        let pause = all[n].pace.next(dice(&mut state));
                        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                        queue.push(Reverse((now + pause, n, Act::Ask)));
                    }
                }
            }
            Act::Swap => {
                request(1);
                let (seen, taken) = all[n].seen.take().unwrap();
                if seen == index {
                    entry = taken;
                    index += 1;
                    let out = OUT.0 + u64::from(dice(&mut state)) % OUT.1;
                    held += out;
                    let act = if all[n].dies {
                        Act::Expire
                    } else {
                        Act::Return
                    };
                    let end = if all[n].dies { EXPIRE } else { out };
                    queue.push(Reverse((now + end, n, act)));
                } else {
                    figures.lost_swaps += 1;
                    let pause = all[n].pace.next(dice(&mut state));
                    let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    queue.push(Reverse((now + pause, n, Act::Ask)));
                }
            }
            Act::Return => {
                // Read, swap, end the session.
                request(3);
                entry = entry.without(&ids[n]).unwrap();
                index += 1;
                alive.remove(&ids[n]);
                done += 1;
                figures.took = now;
            }
            Act::Expire => {
                alive.remove(&ids[n]);
                done += 1;
                figures.took = figures.took.max(now);
            }
        }
        figures.most_out = figures.most_out.max(entry.living(&alive).count());
    }
    assert_eq!(done, hosts, "somebody never got a slot");
    figures.first = per_second.remove(&0).unwrap_or_default();
    figures.busiest = per_second.values().copied().max().unwrap_or_default();
    figures.used = held * 100 / (slots * figures.took);
    figures
}

#[test]
fn a_thousand_hosts_share_slots_and_the_registry_hardly_notices() {
    println!(
        "hosts slots dead | time | requests, a second: mean, first, busiest after | lost swaps | slots in use"
    );
    for (hosts, slots, dead) in [(20, 2, 0), (1000, 50, 0), (1000, 200, 0), (1000, 50, 5)] {
        let figures = simulate(hosts, slots, dead);
        let seconds = figures.took / 1000;
        let limit = Duration::from_millis(figures.took).as_secs_f64() / 60.0;
        println!(
            "{hosts:5} {slots:5} {dead:4} | {limit:6.1} min | {} = {}/s, {} {} | {} | {} %",
            figures.requests,
            figures.requests / seconds.max(1),
            figures.first,
            figures.busiest,
            figures.lost_swaps,
            figures.used
        );
        assert!(figures.most_out as u64 <= slots, "{figures:?}");
        assert!(figures.busiest < 2500, "{figures:?}");
        assert!(dead > 0 || figures.used > 70, "{figures:?}");
    }
}
