//! What is remembered of 100 000 connections takes less than 4 MB, however often they are looked at and others come. Bytes that were
//! asked of the allocator are counted; one test alone, since it counts for the whole process.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use drainctl::config::SettleSettings;
use drainctl::evidence::arrivals::{Arrival, Arrivals, Origin};
use drainctl::evidence::memory::Memory;
use drainctl::evidence::verdict::{Ages, Rule, Seen, Segments};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const CONNECTIONS: u64 = 100_000;
const MOST: usize = 4_000_000;
/// What is kept of arrivals, however many there were.
const MOST_OF_ARRIVALS: usize = 3_000_000;

fn grown(before: usize) -> usize {
    ALLOCATOR.current_usage().saturating_sub(before)
}

/// A look at the connections from `first` on; each has got a request since the look before.
fn seen(round: u32) -> Seen {
    Seen {
        received: u64::from(round) * 100,
        sent: u64::from(round) * 90,
        segments: Some(Segments {
            acks_sent: 3,
            acks_received: 2,
            payloads_received: 1,
        }),
        ages: Some(Ages {
            received: 40,
            sent: 20,
            ack: 20,
        }),
        ..Seen::default()
    }
}

#[test]
fn a_hundred_thousand_connections_take_less_than_4_mb() {
    let start = Instant::now();
    for rule in [Rule::Requests, Rule::Http2] {
        let before = ALLOCATOR.current_usage();
        let mut memory = Memory::new(start);
        for round in 0..8 {
            memory.begin();
            // One in a hundred is another one than before.
            let first = u64::from(round) * (CONNECTIONS / 100);
            for cookie in first..first + CONNECTIONS {
                memory.note(
                    start + Duration::from_millis(50),
                    cookie,
                    &seen(round),
                    rule,
                );
            }
            memory.end();
            assert_eq!(memory.len(), usize::try_from(CONNECTIONS).unwrap());
        }
        let state = grown(before);
        println!("{CONNECTIONS} connections, {rule:?}: {state} bytes");
        assert!(state < MOST, "{state} bytes");
    }

    // As many clients without a balancer in between, twice within a look, for a while.
    let before = ALLOCATOR.current_usage();
    let mut arrivals = Arrivals::new(SettleSettings::default());
    for round in 1_u32..=3 {
        let at = start + Duration::from_secs(1) * round;
        for client in 0..200_000 {
            arrivals.add(Arrival {
                from: Origin::Address(Ipv4Addr::from_bits(client).into()),
                port: 8000,
                size: round,
                cookie: client.into(),
                at,
                slack: Duration::ZERO,
                live: true,
            });
        }
        assert_eq!(arrivals.end_look(at), 200_000);
        // Nobody is silent yet.
        assert!(arrivals.judge(at).silent_at > Some(at));
    }
    let state = grown(before);
    println!("arrivals: {state} bytes");
    assert!(state < MOST_OF_ARRIVALS, "{state} bytes");
}
