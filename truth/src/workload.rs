//! What clients do. One row each; its file order is the order of the matrix.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::client::{self, Client};
use crate::dice::Dice;
use crate::plan::Plan;
use crate::proxy::Via;
use crate::server::spawn;

/// One way of using connections.
pub(crate) struct Workload {
    /// Its name in the matrix and on the command line.
    pub(crate) name: &'static str,
    /// What the default settings can't do here, if so; such rows fail no test.
    pub(crate) beyond: Option<&'static str>,
    /// The ways on which it runs.
    pub(crate) via: &'static [Via],
    /// How many clients at once.
    clients: u64,
    /// What one client does with one connection until it gives it up.
    connection: fn(SocketAddr, &mut Dice) -> Result<()>,
}

const EVERY: &[Via] = &[
    Via::V4,
    Via::V6,
    Via::Mapped,
    Via::Haproxy,
    Via::Nginx,
    Via::Envoy,
];
const PROXIED: &[Via] = &[Via::V4, Via::Haproxy, Via::Nginx, Via::Envoy];
const DIRECT: &[Via] = &[Via::V4, Via::V6];

/// Every workload.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "reuse",
        beyond: None,
        via: EVERY,
        clients: 24,
        connection: reuse,
    },
    Workload {
        name: "bodies",
        beyond: None,
        via: PROXIED,
        clients: 12,
        connection: bodies,
    },
    Workload {
        name: "pipelined",
        beyond: None,
        via: DIRECT,
        clients: 8,
        connection: |to, dice| pipelined(to, dice, 20, 300),
    },
    Workload {
        name: "pipelined-slow",
        beyond: Some("requests read ahead by the program can't be seen: pause"),
        via: DIRECT,
        clients: 4,
        connection: |to, dice| pipelined(to, dice, 1500, 4000),
    },
    Workload {
        name: "expect",
        beyond: None,
        via: &[Via::V4, Via::Haproxy],
        clients: 8,
        connection: expect,
    },
    Workload {
        name: "gaps",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: |to, dice| parts(to, dice, 50, 800),
    },
    Workload {
        name: "gaps-long",
        beyond: Some("an answer that pauses for longer than `pause`"),
        via: PROXIED,
        clients: 6,
        connection: |to, dice| parts(to, dice, 1500, 5000),
    },
    Workload {
        name: "header-first",
        beyond: None,
        via: PROXIED,
        clients: 6,
        connection: |to, dice| header_first(to, dice, 50, 800),
    },
    Workload {
        name: "header-first-long",
        beyond: Some("an answer that pauses for longer than `pause`"),
        via: PROXIED,
        clients: 4,
        connection: |to, dice| header_first(to, dice, 1500, 5000),
    },
    Workload {
        name: "long-poll",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: long_poll,
    },
    Workload {
        name: "early",
        beyond: Some("an upload that goes on after its answer looks like a request"),
        via: DIRECT,
        clients: 4,
        connection: early,
    },
    Workload {
        name: "half-closed",
        beyond: None,
        via: DIRECT,
        clients: 8,
        connection: half_closed,
    },
    Workload {
        name: "vanishing",
        beyond: None,
        via: PROXIED,
        clients: 8,
        connection: vanishing,
    },
    Workload {
        name: "pool",
        beyond: None,
        via: PROXIED,
        clients: 1,
        connection: pool,
    },
];

impl Workload {
    /// Starts the clients; they go on until the program ends.
    pub(crate) fn start(&'static self, to: SocketAddr) {
        for seed in 0..self.clients {
            spawn(move || {
                let mut dice = Dice::new(seed + u64::from(to.port()) * 1000);
                // Not all in the same tick.
                nap(&mut dice, 0, 1000);
                loop {
                    // A connection that breaks is opened again, as every client does.
                    if (self.connection)(to, &mut dice).is_err() {
                        nap(&mut dice, 20, 100);
                    }
                }
            });
        }
    }
}

fn nap(dice: &mut Dice, low: u64, high: u64) {
    sleep(Duration::from_millis(dice.between(low, high)));
}

fn size(dice: &mut Dice, high: u64) -> usize {
    usize::try_from(dice.between(0, high)).unwrap_or_default()
}

/// How long a server works on a request: half of them are over within a tick.
fn work(dice: &mut Dice) -> u64 {
    match dice.between(1, 100) {
        1..=50 => 0,
        51..=70 => 20,
        71..=90 => 300,
        _ => dice.between(2000, 8000),
    }
}

/// What a client does before its next request: mostly nothing, so that it meets the last answer in one tick.
fn think(dice: &mut Dice) {
    match dice.between(1, 100) {
        1..=60 => {}
        61..=75 => nap(dice, 10, 60),
        76..=90 => nap(dice, 300, 1500),
        _ => nap(dice, 2000, 13_000),
    }
}

fn reuse(to: SocketAddr, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    // Now and then a first request, too.
    while !dice.percent(3) {
        let plan = Plan::after(work(dice), size(dice, 2000));
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn bodies(to: SocketAddr, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(3) {
        let largest = [1000, 20_000, 200_000][size(dice, 2)];
        let plan = Plan::after(work(dice), size(dice, largest));
        client.ask(&plan, size(dice, largest))?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn pipelined(to: SocketAddr, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plans = [0; 3].map(|_| Plan::after(dice.between(low, high), size(dice, 500)));
        let heads = plans.map(|plan| client::head(&plan, 0, ""));
        client.send(heads.concat().as_bytes())?;
        for _ in plans {
            client.answer()?;
        }
        think(dice);
    }
    Ok(())
}

fn expect(to: SocketAddr, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan::after(work(dice), size(dice, 500));
        let body = 1 + size(dice, 20_000);
        client.ask_and_wait(&plan, body)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn parts(to: SocketAddr, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan {
            wait: work(dice).min(300),
            size: 1 + size(dice, 5000),
            parts: dice.between(2, 6),
            gap: dice.between(low, high),
            early: false,
        };
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn header_first(to: SocketAddr, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan {
            gap: dice.between(low, high),
            ..Plan::after(work(dice).min(300), 1 + size(dice, 5000))
        };
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

fn long_poll(to: SocketAddr, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        client.ask(&Plan::after(dice.between(5000, 25_000), 100), 0)?;
        client.answer()?;
    }
    Ok(())
}

fn early(to: SocketAddr, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    let plan = Plan {
        early: true,
        ..Plan::after(0, 100)
    };
    client.ask_half(&plan, 20_000)?;
    client.answer()?;
    nap(dice, 500, 3000);
    client.send(&[b'.'; 10_000])?;
    nap(dice, 1000, 3000);
    Ok(())
}

fn half_closed(to: SocketAddr, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    let before = dice.between(0, 2);
    for _ in 0..before {
        client.ask(&Plan::after(0, 100), 0)?;
        client.answer()?;
    }
    client.ask(&Plan::after(work(dice), size(dice, 20_000)), 0)?;
    nap(dice, 0, 3);
    client.half_close()?;
    client.answer()?;
    nap(dice, 0, 2000);
    Ok(())
}

fn vanishing(to: SocketAddr, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(40) {
        client.ask(&Plan::after(work(dice).min(300), size(dice, 5000)), 0)?;
        client.answer()?;
        think(dice);
    }
    client.ask(&Plan::after(dice.between(200, 4000), 100), 0)?;
    nap(dice, 0, 1000);
    client.vanish()
}

/// How many connections a pool holds.
const POOL: usize = 1000;

/// A pool that was used by a crowd, then by quick requests, and then not at all.
fn pool(to: SocketAddr, dice: &mut Dice) -> Result<()> {
    let clients: Result<Vec<_>> = (0..POOL).map(|_| Client::connect(to)).collect();
    let mut clients = clients?;
    for wait in [1500, 0, 0] {
        for client in &mut clients {
            client.ask(&Plan::after(wait, 100), 0)?;
        }
        for client in &mut clients {
            client.answer()?;
        }
    }
    nap(dice, 25_000, 30_000);
    Ok(())
}
